"""One declaration for each option: from it come flags, signatures, documentation, and what a store records.

The fields of a dataclass declare options: each one is an argument of Python, and an `Option` says the rest. This module
imports nothing that takes long, so that `--help` answers at once.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from functools import lru_cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar

from builder.build_errors import UsageError

Kind = Literal["text", "number", "switch", "path", "list", "columns", "object"]
Arguments = ParamSpec("Arguments")
Declared = TypeVar("Declared")
Result = TypeVar("Result")

_KEY = "option"
_LINE = 120  # of a docstring


@dataclass(frozen=True, slots=True)
class Option:
    """What there is to say of an option beside its type.

    Args:
        name: Of a field, its name.
        default: Of a field, its default.
        help: What it does, for the command line, Python and the README; flags of other options are written as
            `--missing`.
        section: Under which title the help shows its flag; None: it has none.
        kind: What its value is. A `list` is one text or several; `columns` are read by `parse_columns`; a `path` is
            checked by the command line; an `object` is only for Python.
        metavar: What the help shows for its value.
        choices: The only values that it can have.
        repeated: Whether its flag can be given several times.
        flag: The name of the flag, if that is not the option's.
        parts: Options of the command line that together are this one; it has no flag then.
        parse: Checks a value, given with the option's name, and returns it in one form for all ways to write the same.
        record: Whether a store records it: always, only if it is not the default, or never.
        null: Whether an empty list is recorded as null.
    """

    name: str = ""
    default: Any = None
    _: KW_ONLY
    help: str
    section: str | None = None
    kind: Kind = "text"
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    repeated: bool = False
    flag: str | None = None
    parts: tuple[Option, ...] = ()
    parse: Callable[[Any, str], Any] | None = None
    record: Literal["always", "if given", "never"] = "always"
    null: bool = False

    @property
    def flags(self) -> tuple[Option, ...]:
        """The options that the command line has for it."""
        return self.parts or ((self,) if self.section is not None else ())

    @property
    def written(self) -> str:
        """Its flag, as users write it."""
        return f"--{(self.flag or self.name).replace('_', '-')}"

    @property
    def flag_help(self) -> str:
        """What the help of the command line and the README say of its flag."""
        return f"{self.help} Can be repeated." if self.repeated else self.help

    def parsed(self, value: Any) -> Any:
        """Return a value in one form for all ways to write the same; None is the default.

        Raises:
            UsageError: It cannot be.
        """
        if self.kind == "object":
            return value
        if value is None:
            return self.default
        if self.kind == "columns":
            from builder.formats.column_choice import parse_columns

            value = parse_columns(value, self.name) if isinstance(value, str) or value else ()
        elif self.kind == "list":
            value = (value,) if isinstance(value, str) else tuple(value)
        if value == self.default:
            return value
        if self.choices and value not in self.choices:
            raise UsageError(f"{self.name}={value!r:.80} is none of {', '.join(self.choices)}")
        return value if self.parse is None else self.parse(value, self.name)

    def described(self, value: Any) -> Any:
        """Return a value as JSON can hold it."""
        if self.kind in ("list", "columns"):
            return list(value) or (None if self.null else [])
        return value

    def can_be_recorded(self, value: Any) -> bool:
        """Tell whether a store can record this value, as far as its type tells."""
        if value is None:
            return self.default is None or self.kind in ("list", "columns")
        match self.kind:
            case "list" | "columns":
                return isinstance(value, list) and all(isinstance(one, str) for one in value)
            case "switch":
                return isinstance(value, bool)
            case "number":
                return isinstance(value, int) and not isinstance(value, bool)
        return isinstance(value, str)


def option(**what: Any) -> dict[str, Option]:
    """Return the metadata of a field of a dataclass that declares an option."""
    return {_KEY: Option(**what)}


@lru_cache(maxsize=8)
def options_of(declaration: Callable[..., Any]) -> Mapping[str, Option]:
    """Return the options that a dataclass declares, by name."""
    return {
        one.name: replace(one.metadata[_KEY], name=one.name, default=one.default)
        for one in fields(declaration)  # type: ignore[arg-type]
        if _KEY in one.metadata
    }


def parse_fields(options: Any) -> None:
    """Parse the fields of a frozen dataclass when it is created.

    Raises:
        UsageError: One cannot be.
    """
    for name, option in options_of(options.__class__).items():
        object.__setattr__(options, name, option.parsed(getattr(options, name)))


def describe(options: Any) -> dict[str, Any]:
    """Return the options that stores record as JSON can hold them."""
    every = options_of(options.__class__).items()
    return {name: one.described(getattr(options, name)) for name, one in every if one.record != "never"}


def without_defaults(declaration: type, described: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the options that are recorded only if given: older versions did not know them."""
    every = options_of(declaration)
    return {
        name: value
        for name, value in described.items()
        if name not in every or every[name].record != "if given" or value != every[name].described(every[name].default)
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the options that differ: what each was, and what it is now."""
    for name in names:
        if before.get(name) != now[name]:
            yield f"{name} {value_text(before.get(name))}", f"{name} {value_text(now[name])}"


def value_text(value: Any) -> str:
    """Write the value of an option as its user would."""
    if value is None or value == []:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def takes(
    declaration: Callable[Arguments, Declared],
) -> Callable[[Callable[[Declared], Result]], Callable[Arguments, Result]]:
    """Give a function of declared options their names as its arguments, and their texts in its documentation."""

    def decorate(function: Callable[[Declared], Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def taking(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            signature.bind(*args, **kwargs)  # a name that is wrong is one of this function
            return function(declaration(*args, **kwargs))

        signature = inspect.signature(declaration).replace(return_annotation=function.__annotations__["return"])
        taking.__signature__ = signature  # type: ignore[attr-defined]
        taking.__doc__ = _with_arguments(function.__doc__ or "", options_of(declaration))
        return taking

    return decorate


def _with_arguments(docstring: str, options: Mapping[str, Option]) -> str:
    """Put the section `Args:` into a docstring, before `Returns:`."""
    before, heading, after = inspect.cleandoc(docstring).partition("\nReturns:\n")
    lines = [
        textwrap.fill(f"{name}: {in_python(option.help)}", _LINE, initial_indent="    ", subsequent_indent=" " * 8)
        for name, option in options.items()
    ]
    return "\n".join([f"{before}\nArgs:", *lines, f"{heading}{after}"])


def in_python(text: str) -> str:
    """Write the flags in a help text as arguments.

    >>> in_python("relative to SOURCES; see --max-gap")
    'relative to `sources`; see `max_gap`'
    """
    flags = re.sub(r"--([a-z][a-z-]*[a-z])", lambda found: f"`{found[1].replace('-', '_')}`", text)
    return flags.replace("SOURCES", "`sources`")
