"""Compute a fingerprint of a process function: of its code and of the values that it uses.

A store records the fingerprint, so it depends only on code and values, and not on the process, the hash seed, line
numbers or the location of files. It covers everything that the function reaches by name: closures, defaults, bound
values, and the functions, classes and values of its module and of the user's other modules. Objects of installed
packages are represented by their module and name.

* A function is represented by the text of its definition, so that another version of Python gives the same fingerprint.
  If there is no text, or the file was edited since it was imported, so that its text does not compile to the running
  code, the function is represented by its bytecode, which differs between minor versions of Python.
* Any other object is represented by the values that pickle would save, but not by pickle's bytes, which depend on the
  order of sets, and on whether equal objects are identical. Lists and dictionaries keep their order, which can be that
  of columns; sets are sorted. An object that cannot be pickled is represented by its type, and the user is warned.

The user is also warned of a module that is used whole, as in `getattr(module, name)`. What a function finds by
`globals()[name]` or `importlib.import_module(name)` is not covered. A value that changes while sources are processed
in this process (workers=0), such as a cache, changes the fingerprint.
"""

import __future__

import ast
import copyreg
import dis
import enum
import hashlib
import linecache
import sys
import warnings
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, partial
from itertools import pairwise
from pathlib import Path, PurePath
from types import (
    CellType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any

from builder.frames.tabular import Tabular
from builder.processes.process import OWN_PACKAGES, ProcessFunction, is_installed, searching

UNKNOWN_CODE = "unknown"
ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...))
_CODE_TYPES = (FunctionType, type, ModuleType, classmethod, staticmethod, property)
GLOBAL_READS = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
GLOBAL_WRITES = ("STORE_GLOBAL", "DELETE_GLOBAL")


@dataclass(frozen=True, slots=True)
class ProcessCode:
    """The fingerprint of a process function."""

    # 64 hexadecimal digits; `UNKNOWN_CODE` if nothing can be compared; None for `tabular`, whose options are compared.
    sha256: str | None = None
    uncompared: str | None = None  # a message about values that cannot be compared; None: all can


def code_of(process: ProcessFunction) -> ProcessCode:
    """Return the fingerprint of a process function."""
    if isinstance(process, Tabular):
        return ProcessCode()
    walk = _Walk(process)
    try:
        with searching([str(Path.cwd())]):
            sha256, unknown = walk.digest(process).hex(), sorted(walk.unknown)
    except RecursionError:
        sha256, unknown = UNKNOWN_CODE, ["nested too deeply"]
    if not unknown:
        return ProcessCode(sha256)
    return ProcessCode(
        sha256,
        f"the process function uses values that cannot be compared between builds ({', '.join(unknown)}), so that "
        "their changes go unnoticed: create them inside the function, or pass plain values with arguments (--arg); "
        "after a change, name the sources in redo, or build to another path",
    )


def imported_object(process: ProcessFunction) -> FunctionType | type | None:
    """Return the function, or the class of an object, that other processes import by its name in the user's module.

    None if pickle sends the code itself, or if the module is installed.
    """
    while isinstance(process, partial):
        process = process.func
    found: Any = process if isinstance(process, FunctionType | type) else getattr(process, "__func__", type(process))
    module = found.__module__ or "__main__"
    by_name = module != "__main__" and not is_installed(module) and _leads_to(module, found.__qualname__, found)
    return found if by_name else None


def code_alone(imported: FunctionType | type | None) -> str | None:
    """Return a fingerprint of code without values, which can differ between processes; None if there is no code."""
    if imported is None:
        return None
    try:
        return _Walk(imported, values=False).digest(imported).hex()
    except RecursionError:
        return None


class _Walk:
    """Computes the digest of each object that a process function reaches from the digests of the objects inside it.

    Without `values` only functions, classes and modules count.
    """

    def __init__(self, process: Any, *, values: bool = True) -> None:
        self._values = values
        self.unknown = set[str]()  # names of objects that cannot be compared
        self._done: dict[int, tuple[object, bytes]] = {}  # by id; the object is kept, so that its id stays unique
        self._open: dict[int, int] = {}  # the ids of the objects being walked, outermost first
        self._open_names = set[tuple[int, str]]()  # of modules being walked: the module's id and the name
        self._definitions: dict[str, dict[str, list[tuple[str, CodeType]]]] = {}  # by file
        self._installed = {"__main__": False}  # by package; the code of installed packages is not walked
        while isinstance(process, partial):
            process = process.func
        package = (getattr(process, "__module__", None) or type(process).__module__).partition(".")[0]
        if package not in {*sys.stdlib_module_names, *OWN_PACKAGES, "numpy"}:
            self._installed[package] = False  # the package of the process function counts as the user's own

    def digest(self, value: Any) -> bytes:
        """Return the digest of any object."""
        if type(value) in ATOMS:
            return _hash([type(value).__name__, hex(value) if type(value) is int else repr(value)])
        key = id(value)
        if key in self._open:  # a function that calls itself, a list that contains itself
            return _hash(["open", str(len(self._open) - self._open[key])])
        if key not in self._done:
            self._open[key] = len(self._open)
            try:
                self._done[key] = value, _hash([type(value).__name__, *self._parts(value)])
            finally:
                del self._open[key]
        return self._done[key][1]

    def _parts(self, value: Any) -> Iterable[bytes | str]:
        match value:
            case type():
                return self._of_class(value)
            case FunctionType():
                return self._of_function(value)
            case ModuleType():  # as a value, so that it is unknown which of its names are used
                return self._of_module(value, None)
            case set() | frozenset():
                return [self.digest(type(value)), *self._sorted(value), self.digest(_state(value))]
        parts = _parts_of(value)
        return self._of_pickled(value) if parts is None else map(self.digest, parts)

    def _sorted(self, values: Iterable[Any]) -> list[bytes]:
        """Return the sorted digests of the elements of a set, independent of their order."""
        done, digests = self._done, []
        for value in values:
            self._done = {}
            digests.append(self.digest(value))
        self._done = done
        return sorted(digests)

    def _of_pickled(self, value: Any) -> Iterable[bytes | str]:
        """Return the digests of the values that pickle would save for an object."""
        kind = type(value)
        try:
            if hasattr(value, "untyped_storage"):  # a tensor of torch: pickle saves addresses of it
                return [self._unknown(f"{kind.__module__}.{kind.__qualname__}")]
            if "__wrapped__" in _state(value) and self._is_installed(kind.__module__):  # such as lru_cache
                return map(self.digest, (kind, value.__wrapped__))
            reducer: Any = copyreg.dispatch_table.get(kind)
            saved = value.__reduce_ex__(4) if reducer is None else reducer(value)
            if not isinstance(saved, str):
                return map(self.digest, [list(part) if isinstance(part, Iterator) else part for part in saved])
            module = getattr(value, "__module__", None) or kind.__module__
        except Exception:  # noqa: BLE001  # the user's objects can raise anything
            return [self._unknown(f"{kind.__module__}.{kind.__qualname__}")]
        is_known = self._is_installed(module) and _leads_to(module, saved, value)
        return [f"{module}:{saved}" if is_known else self._unknown(f"{module}.{saved}")]

    def _of_function(self, function: FunctionType) -> Iterator[bytes | str]:
        code, module = function.__code__, function.__globals__.get("__name__", "")
        cells = zip(code.co_freevars, function.__closure__ or (), strict=True)
        values = {name: cell.cell_contents for name, cell in cells if cell != CellType()}
        names = {name for one in nested(code) for name in one.co_names}  # of globals and attributes
        if self._is_installed(module):
            yield f"{module}:{code.co_qualname}"
            if _leads_to(module, function.__qualname__, function):
                return
        else:
            yield self._definition(function)
            known = names_read(code).intersection(function.__globals__)
            values |= {name: function.__globals__[name] for name in known if not _is_dunder(name)}
            for name, members, level in imports(code):
                if level or not self._is_installed(name):
                    yield from (name, _hash(self._of_module(import_for(function, name, members, level), names)))
        yield from self._named(values, names, modules_used_whole(code))
        yield from self._named(vars(function), names)
        if self._values:
            yield from map(self.digest, (function.__defaults__, function.__kwdefaults__))

    def _definition(self, function: FunctionType) -> bytes | str:
        """Return the text of a function, or the digest of its bytecode if no text compiles to it."""
        code = function.__code__
        if code.co_filename not in self._definitions:
            self._definitions[code.co_filename] = definitions_beside(function)
        bytecode = self.digest(code)
        for text, compiled in self._definitions[code.co_filename].get(code.co_qualname, ()):
            if self.digest(compiled) == bytecode:
                return text
        return bytecode

    def _of_class(self, kind: type) -> Iterator[bytes | str]:
        if self._is_installed(kind.__module__):
            yield f"{kind.__module__}:{kind.__qualname__}"
            return
        yield from (kind.__name__, self.digest((type(kind), *kind.__bases__)))
        if self._values and issubclass(kind, enum.Enum):
            yield self.digest({name: member.value for name, member in kind.__members__.items()})
        if self._values and is_dataclass(kind):
            yield from (self.digest((one.name, one.default, one.default_factory)) for one in fields(kind))
        own = vars(kind)
        yield from self._named({name: own[name] for name in own if _is_written(kind, name, own[name])}, set(), own)

    def _of_module(self, module: ModuleType | None, names: set[str] | None) -> Iterator[bytes | str]:
        """Yield the digests of a module's objects with these names; None: the names are unknown."""
        if module is None or self._is_installed(module.__name__):
            yield "" if module is None else module.__name__
        elif names is None:
            yield self._unknown(f"the module {module.__name__}")
        else:
            new = {(id(module), name) for name in names.intersection(vars(module))} - self._open_names
            self._open_names |= new
            yield from self._named({name: vars(module)[name] for _, name in new}, names)
            self._open_names -= new

    def _named(self, values: dict[str, Any], names: set[str], whole: Collection[str] = ()) -> Iterator[bytes | str]:
        """Yield names and digests of values; of modules that are not in `whole`, only the objects called `names`."""
        for name, value in sorted(values.items()):
            if not self._values and not isinstance(value, _CODE_TYPES):
                continue
            yield name
            of_module = self._of_module(value, None if name in whole else names)
            yield _hash(of_module) if isinstance(value, ModuleType) else self.digest(value)

    def _is_installed(self, module: str | None) -> bool:
        package = (module or "").partition(".")[0]
        if package not in self._installed:
            self._installed[package] = is_installed(package)
        return self._installed[package]

    def _unknown(self, what: str) -> str:
        self.unknown.add(what)
        return what


def _parts_of(value: Any) -> Iterable[Any] | None:
    """Return the objects inside an object whose pickled form has too little or too much; None for other types."""
    match value:
        case CodeType():  # everything but its location
            counts = value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags
            names = value.co_name, value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars
            return value.co_code, counts, names, value.co_consts, value.co_exceptiontable
        case MethodType() | classmethod() | staticmethod():
            return value.__func__, getattr(value, "__self__", None)
        case property():
            return value.fget, value.fset, value.fdel
        case cached_property():  # it has a lock
            return (value.func,)
        case Tabular():
            return (value.recorded(),)
        case enum.Enum():
            return type(value), value.name, value.value
        case PurePath():  # the name of its class differs between versions of Python
            return (str(value),)
        case list() | tuple() if type(value) in {list, tuple}:
            return value
        case MappingProxyType():
            return (dict(value),)
        case dict() if type(value) is dict:
            return [part for item in value.items() for part in item]
    return None


def _is_written(kind: type, name: str, member: object) -> bool:
    """Return whether the user wrote an attribute of a class, not Python, `dataclass` or `Enum`."""
    if issubclass(kind, enum.Enum):
        return isinstance(member, FunctionType | property | classmethod | staticmethod) and not name.endswith("_")
    if isinstance(member, MemberDescriptorType | GetSetDescriptorType) or name == "_abc_impl":
        return False
    inner = getattr(member, "__wrapped__", member)
    if is_dataclass(kind) and isinstance(inner, FunctionType):
        made_by = inner.__globals__.get("__name__"), inner.__code__.co_qualname.partition(".")[0]
        return "dataclasses" not in made_by and "__create_fn__" not in made_by
    return not _is_dunder(name) or callable(member) or isinstance(member, classmethod | property)


def _is_dunder(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def _state(value: object) -> dict[str, Any]:
    return getattr(value, "__dict__", {})


def _leads_to(module: str, name: str, value: object) -> bool:
    """Return whether a module has this object under this name."""
    member: object = sys.modules.get(module)
    for part in name.split("."):
        member = getattr(member, part, None)
    return member is value


def _hash(parts: Iterable[bytes | str]) -> bytes:
    sha256 = hashlib.sha256()
    for part in parts:
        data = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        sha256.update(len(data).to_bytes(8, "big") + data)
    return sha256.digest()


def definitions_beside(function: FunctionType) -> dict[str, list[tuple[str, CodeType]]]:
    """Return the functions that are defined in the same file or notebook cell, by their qualified names.

    Each has its whole text, with decorators and comments, and its compiled code. The result is empty if the source is
    not available. Lambdas that begin on the same line are left out, since they cannot be distinguished.
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
    definitions: dict[str, list[tuple[str, CodeType]]] = {}
    for code in nested(compiled):
        candidates = texts.get((code.co_firstlineno, code.co_name), [])
        if len(candidates) == 1:
            definitions.setdefault(code.co_qualname, []).append((candidates[0], code))
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


def modules_used_whole(code: CodeType) -> set[str]:
    """Return the global names that code uses other than by an attribute, as in `getattr(module, name)`."""
    steps = [step for one in nested(code) for step in dis.get_instructions(one) if step.opname != "EXTENDED_ARG"]
    reads = [(step.argval, after.opname) for step, after in pairwise(steps) if step.opname in GLOBAL_READS]
    return {name for name, after in reads if after not in ("LOAD_ATTR", "LOAD_METHOD")}


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
