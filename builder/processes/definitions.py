"""Find the source text of functions, and the names that their code reads and imports."""

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
    """A function in a source file."""

    text: str  # the whole definition, with decorators and comments
    code: CodeType  # its compiled code


def definitions_beside(function: FunctionType) -> dict[str, list[Definition]]:
    """Return the functions that are defined in the same file or notebook cell, by their qualified names.

    Empty if the source is not available. Lambdas that begin on the same line are left out, since they cannot be
    distinguished.
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
    definitions: dict[str, list[Definition]] = {}
    for code in nested(compiled):
        candidates = texts.get((code.co_firstlineno, code.co_name), [])
        if len(candidates) == 1:
            definitions.setdefault(code.co_qualname, []).append(Definition(candidates[0], code))
    return definitions


def nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a code object and those inside it: inner functions, lambdas, comprehensions, classes."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from nested(const)


def names_read(code: CodeType) -> set[str]:
    """Return the global names that code reads but does not set (it may set one, for example to load a model once)."""
    steps = [step for one in nested(code) for step in dis.get_instructions(one)]
    written = {step.argval for step in steps if step.opname in GLOBAL_WRITES}
    return {step.argval for step in steps if step.opname in GLOBAL_READS} - written


def all_names(code: CodeType) -> set[str]:
    """Return the names of globals and attributes in code."""
    return {name for one in nested(code) for name in one.co_names}


def imports(code: CodeType) -> Iterator[tuple[str, tuple[str, ...], int]]:
    """Yield the imports inside code: the name of the module, the imported names, and the number of leading dots."""
    for one in nested(code):
        steps = [step for step in dis.get_instructions(one) if step.opname != "EXTENDED_ARG"]
        for level, names, step in zip(steps, steps[1:], steps[2:], strict=False):
            if step.opname == "IMPORT_NAME":
                yield step.argval, names.argval or (), level.argval


def import_for(function: FunctionType, name: str, names: tuple[str, ...], level: int) -> ModuleType | None:
    """Import a module as a function does when it runs; return None if that fails."""
    try:
        return __import__(name, function.__globals__, None, names, level)
    except (Exception, SystemExit):  # noqa: BLE001  # running the function reports it
        return None
