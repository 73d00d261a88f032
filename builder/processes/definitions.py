"""What the code of a function says: the text of its definition, and the names that it reads and imports."""

from __future__ import annotations
import __future__

import ast
import dis
import linecache
import warnings
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import NamedTuple

GLOBAL_READS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
GLOBAL_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL")


class Definition(NamedTuple):
    """A function as its source has it."""

    text: str  # of the whole definition, decorators and comments included
    code: CodeType  # that it compiles to


def definitions_beside(function: FunctionType) -> dict[str, list[Definition]]:
    """Return the functions that are defined in the same file or notebook cell, by their qualified names.

    Empty where there is no source. Several lambdas that begin on one line are left out: nothing tells one from another.
    """
    name = function.__code__.co_filename
    linecache.checkcache(name)
    lines = linecache.getlines(name, function.__globals__)
    text = "".join(lines)
    flags = function.__code__.co_flags & __future__.annotations.compiler_flag  # an earlier notebook cell can set it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            compiled = compile(tree, name, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError):
        return {}
    texts: dict[tuple[int, str], list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Lambda):
            texts.setdefault((node.lineno, "<lambda>"), []).append(ast.get_source_segment(text, node) or "")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min(one.lineno for one in (node, *node.decorator_list))
            whole = "".join(lines[first - 1 : node.end_lineno])
            texts.setdefault((first, node.name), []).append(whole)
    found: dict[str, list[Definition]] = {}
    for code in nested(compiled):
        written = texts.get((code.co_firstlineno, code.co_name), [])
        if len(written) == 1:
            found.setdefault(code.co_qualname, []).append(Definition(written[0], code))
    return found


def nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and all that lie in it: inner functions, lambdas, comprehensions, classes."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from nested(const)


def names_read(code: CodeType) -> set[str]:
    """Return the global names that code reads; without those that it sets itself, as where it loads a model once."""
    steps = [step for one in nested(code) for step in dis.get_instructions(one)]
    written = {step.argval for step in steps if step.opname in GLOBAL_WRITES}
    return {step.argval for step in steps if step.opname in GLOBAL_READS} - written


def all_names(code: CodeType) -> set[str]:
    """Return the names of globals and attributes that code has."""
    return {name for one in nested(code) for name in one.co_names}


def imports(code: CodeType) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Yield what code imports when it runs: the name of the module, the names taken from it, and the dots before it."""
    for one in nested(code):
        steps = [step for step in dis.get_instructions(one) if step.opname != "EXTENDED_ARG"]
        for level, taken, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                yield step.argval, taken.argval or (), level.argval


def imported(function: FunctionType, name: str, taken: tuple[str, ...], level: int) -> ModuleType | None:
    """Import a module as a function does when it runs; None: it cannot be."""
    try:
        return __import__(name, function.__globals__, None, taken, level)
    except (Exception, SystemExit):  # noqa: BLE001  # the function finds it out itself
        return None
