"""The options of a process function: arguments, missing values, classes, and labels in the names of sources."""

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from builder.build_errors import UsageError
from builder.labels.name_labels import check_pattern
from builder.labels.text_classes import format_classes, parse_classes

Argument = bool | int | float | str


def parse_arguments(texts: Iterable[str]) -> dict[str, Argument]:
    """Parse `KEY=VALUE`. Values are numbers in JSON, true, false, or text, which may be in quotes.

    >>> parse_arguments(["rate=8000", "gain=0.5", "mono=true", "name=007", 'id="7"'])
    {'rate': 8000, 'gain': 0.5, 'mono': True, 'name': '007', 'id': '7'}
    """
    arguments: dict[str, Argument] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"arg {text!r:.80} is not of the form KEY=VALUE, as rate=8000")
        key = key.strip()
        if key in arguments:
            raise UsageError(f"arg {key} is given twice, as {arguments[key]!r:.80} and as {value!r:.80}")
        arguments[key] = _value(value.strip())
    return arguments


def check_arguments(arguments: Mapping[str, Argument]) -> dict[str, Argument]:
    """Return arguments sorted by name, as a store records them; refuse names and values that it cannot record."""
    for key, value in arguments.items():
        if not str(key).isidentifier():
            raise UsageError(f"argument {key!r:.80} of the process function (--arg) is not a valid name in Python")
        if not is_recordable(value):
            raise UsageError(
                f"argument {key} of the process function is {value!r:.80} ({type(value).__name__}); a store records "
                "text, whole numbers, finite floats and bools"
            )
    return dict(sorted(arguments.items()))


def is_recordable(value: object) -> bool:
    """Return whether a store can record a value."""
    return type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def bind_arguments(function: Callable[..., Any], arguments: Mapping[str, Argument]) -> Callable[[Path], Any]:
    """Bind arguments to a process function; refuse unknown arguments, and missing ones."""
    if not arguments:
        return function
    with suppress(TypeError, ValueError):  # some callables have no signature
        signature = inspect.signature(function)
        try:
            signature.bind(Path(), **arguments)
        except TypeError as error:
            given, takes = ", ".join(arguments), ", ".join(signature.parameters)
            raise UsageError(
                f"the process function cannot take the arguments {given} (--arg): {error}; it takes {takes:.300}"
            ) from None
    return partial(function, **arguments)


def _value(text: str) -> Argument:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if is_recordable(value) else text


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionOptions:
    """Options of a process function."""

    arguments: Mapping[str, Argument] = field(default_factory=dict)  # the store records them, and each call passes them
    missing: Literal["error", "keep"] | None = None  # keep: NaN means a missing value; error, the default, refuses NaN
    classes: Sequence[str] = ()  # the classes of labels that are text, normalised by `format_classes`
    label_pattern: str | None = None  # a regular expression that finds the labels in the names of sources
    labels_in_manifest: bool = False

    format = labels_from = None  # options of tables

    def __post_init__(self) -> None:
        lists = (self.classes,) if isinstance(self.classes, str) else tuple(self.classes)
        object.__setattr__(self, "arguments", check_arguments(self.arguments))
        object.__setattr__(self, "classes", format_classes(parse_classes(lists)))
        if self.missing not in (None, "error", "keep"):
            raise UsageError(
                f"missing={self.missing!r:.80} (--missing) is for tables; NaN from a process function is kept "
                "(--missing keep) or refused: drop, split or fill within the function"
            )
        if self.label_pattern is not None:
            check_pattern(self.label_pattern)

    @property
    def keeps_nan(self) -> bool:
        """Whether missing values are stored as NaN."""
        return self.missing == "keep"

    @property
    def label_source(self) -> Literal["pattern", "manifest", "function"]:
        """The origin of the labels."""
        if self.label_pattern is not None:
            return "pattern"
        return "manifest" if self.labels_in_manifest else "function"

    def given(self) -> dict[str, Any]:
        """Return the given options by their names, as values that can be compared with those of another build."""
        # By repr 1, 1.0 and True differ.
        arguments = {f"argument {name}": repr(value) for name, value in self.arguments.items()}
        others = {"missing": self.missing, "classes": list(self.classes), "label_pattern": self.label_pattern}
        return arguments | {name: value for name, value in others.items() if value}

    def to_record(self) -> dict[str, Any]:
        """Return the record for a store, which contains only given options."""
        record = {
            "arguments": dict(self.arguments),
            "missing": self.missing if self.keeps_nan else None,
            "classes": list(self.classes),
            "label_pattern": self.label_pattern,
        }
        return {name: value for name, value in record.items() if value}


def is_valid_record(process: Mapping[str, Any]) -> bool:
    """Return whether the record of a function in a store is valid."""
    given = {name: value for name, value in process.items() if value is not None and name != "function"}
    try:
        return FunctionOptions(**given).to_record() == given
    except (UsageError, TypeError, AttributeError):
        return False
