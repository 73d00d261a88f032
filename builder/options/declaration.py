"""Declare options once: flags, signatures, documentation and the record of a store are made from the declarations.

Each field of a dataclass declares an option: the field is the argument in Python, and an `Option` has everything else.
This module imports nothing slow, so that `--help` answers at once.
"""

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from functools import lru_cache, wraps
from typing import Any, Literal, ParamSpec, TypeVar

from builder.build_errors import UsageError

Kind = Literal["text", "number", "switch", "path", "list", "columns", "object"]
Arguments = ParamSpec("Arguments")
Declared = TypeVar("Declared")
Result = TypeVar("Result")

_KEY = "option"
_LINE = 120  # letters in a line of a docstring


@dataclass(frozen=True, slots=True)
class Option:
    """The properties of an option besides its type.

    Args:
        name: The name of the field.
        default: The default of the field.
        help: A description for the command line, Python and the README. Other options are written as flags, such as
            `--missing`.
        section: The title under which the help shows its flag; None: it has no flag.
        kind: The kind of its value. A `list` is one text or several; `columns` are parsed by `parse_columns`; a `path`
            is checked by the command line; an `object` is only for Python.
        metavar: The placeholder for its value in the help.
        choices: The possible values, if they are few.
        repeated: Whether its flag can be given several times.
        flag: The name of the flag, if it differs from `name`.
        parts: Options of the command line that together form this one, which then has no flag.
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
    parts: tuple["Option", ...] = ()
    record: Literal["always", "if given", "never"] = "always"
    null: bool = False

    @property
    def flags(self) -> tuple["Option", ...]:
        """Its options on the command line."""
        return self.parts or ((self,) if self.section is not None else ())

    @property
    def written(self) -> str:
        """Its flag, such as `--max-gap`."""
        return f"--{(self.flag or self.name).replace('_', '-')}"

    @property
    def flag_help(self) -> str:
        """Its help for the command line and the README."""
        return f"{self.help} Can be repeated." if self.repeated else self.help

    def normalize(self, value: Any, parse: Callable[[Any], Any] | None = None) -> Any:
        """Check a value and return its normalised form; None means the default. Impossible values are a UsageError.

        `parse` does this for values that are not None or the default.
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
            raise UsageError(f"{self.name}={value!r:.80} is not one of {', '.join(self.choices)}")
        return value if parse is None else parse(value)

    def to_json(self, value: Any) -> Any:
        """Return a value in a form that JSON can represent."""
        if self.kind in ("list", "columns") and value is not None:
            return list(value) or (None if self.null else [])
        return value

    def can_be_recorded(self, value: Any) -> bool:
        """Return whether a value has the type that a store records."""
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


def option(default: Any, **what: Any) -> Any:
    """Return a field of a dataclass that declares an option, by the arguments of `Option`."""
    return field(default=default, metadata={_KEY: Option(**what)})


@lru_cache(maxsize=8)
def options_of(declaration: Callable[..., Any]) -> Mapping[str, Option]:
    """Return the options that a dataclass declares, by name."""
    return {
        one.name: replace(one.metadata[_KEY], name=one.name, default=one.default)
        for one in fields(declaration)  # type: ignore[arg-type]
        if _KEY in one.metadata
    }


def parse_fields(options: Any, parsers: Mapping[str, Callable[[Any], Any]]) -> None:
    """Normalise the fields of a frozen dataclass in its `__post_init__`, some by functions of their own."""
    for name, option in options_of(options.__class__).items():
        object.__setattr__(options, name, option.normalize(getattr(options, name), parsers.get(name)))


def describe(options: Any) -> dict[str, Any]:
    """Return the options that stores record, in a form that JSON can represent."""
    every = options_of(options.__class__).items()
    return {name: one.to_json(getattr(options, name)) for name, one in every if one.record != "never"}


def without_defaults(declaration: type, described: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out defaults of options with `record="if given"`, which older versions did not have."""
    every = options_of(declaration)
    return {
        name: value
        for name, value in described.items()
        if name not in every or every[name].record != "if given" or value != every[name].to_json(every[name].default)
    }


def differences(before: Mapping[str, Any], now: Mapping[str, Any], names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the options that differ, with their values before and now."""
    for name in names:
        if before.get(name) != now[name]:
            yield f"{name} {value_text(before.get(name))}", f"{name} {value_text(now[name])}"


def value_text(value: Any) -> str:
    """Return the value of an option as a user would write it."""
    if value is None or value == []:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def with_options(
    declaration: Callable[Arguments, Declared],
) -> Callable[[Callable[[Declared], Result]], Callable[Arguments, Result]]:
    """Return a decorator for a function of declared options: they become its arguments and part of its docstring."""

    def decorate(function: Callable[[Declared], Result]) -> Callable[Arguments, Result]:
        @wraps(function)
        def wrapper(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
            signature.bind(*args, **kwargs)  # raises TypeError for an unknown name, as for any function
            return function(declaration(*args, **kwargs))

        signature = inspect.signature(declaration).replace(return_annotation=function.__annotations__["return"])
        wrapper.__signature__ = signature  # type: ignore[attr-defined]
        wrapper.__doc__ = _insert_arguments(function.__doc__ or "", options_of(declaration))
        return wrapper

    return decorate


def _insert_arguments(docstring: str, options: Mapping[str, Option]) -> str:
    """Insert the section `Args:` into a docstring, before `Returns:`."""
    before, heading, after = inspect.cleandoc(docstring).partition("\nReturns:\n")
    lines = [
        textwrap.fill(f"{name}: {in_python(option.help)}", _LINE, initial_indent="    ", subsequent_indent=" " * 8)
        for name, option in options.items()
    ]
    return "\n".join([f"{before}\nArgs:", *lines, f"{heading}{after}"])


def in_python(text: str) -> str:
    """Replace the flags in a help text by the names of arguments.

    >>> in_python("relative to SOURCES; see --max-gap")
    'relative to `sources`; see `max_gap`'
    """
    text = re.sub(r"--([a-z][a-z-]*[a-z])", lambda match: f"`{match[1].replace('-', '_')}`", text)
    return text.replace("SOURCES", "`sources`")
