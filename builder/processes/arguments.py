"""Arguments of a process function: `--arg KEY=VALUE`, recorded with its name, and given to it for every source."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from builder.build_errors import UsageError

Argument = bool | int | float | str


def parse_arguments(texts: Iterable[str]) -> dict[str, Argument]:
    """Read `KEY=VALUE`: numbers as JSON writes them, true and false, and all else as text; in double quotes it is text.

    Raises:
        UsageError: One is not of that form, or given twice.

    >>> parse_arguments(["rate=8000", "gain=0.5", "mono=true", "name=007", 'id="7"'])
    {'rate': 8000, 'gain': 0.5, 'mono': True, 'name': '007', 'id': '7'}
    """
    found: dict[str, Argument] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"arg {text!r:.80} is not of the form KEY=VALUE, as rate=8000")
        if key.strip() in found:
            raise UsageError(f"arg {key.strip()} is given twice, as {found[key.strip()]!r:.80} and as {value!r:.80}")
        found[key.strip()] = _value(value.strip())
    return found


def checked_arguments(arguments: Mapping[str, Argument] | None) -> dict[str, Argument]:
    """Return arguments as a store records them, by name.

    Raises:
        UsageError: A name or a value cannot be.
    """
    for key, value in (arguments or {}).items():
        if not str(key).isidentifier():
            raise UsageError(f"argument {key!r:.80} of the process function (--arg) is no name in Python")
        if not can_be(value):
            raise UsageError(
                f"argument {key} of the process function is {value!r:.80} ({type(value).__name__}); a store records "
                "text, whole numbers, finite floats and bools"
            )
    return dict(sorted((arguments or {}).items()))


def can_be(value: object) -> bool:
    """Tell whether a store can record a value."""
    return type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def with_arguments(function: Callable[..., Any], arguments: Mapping[str, Argument]) -> Callable[[Path], Any]:
    """Return a process function that is given these arguments.

    Raises:
        UsageError: It takes no such argument, or lacks one.
    """
    if not arguments:
        return function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # not every callable tells
        return partial(function, **arguments)
    beside = list(signature.parameters.values())[1:]  # the first is given the path
    named = [one for one in beside if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    takes = ", ".join(one.name for one in named) or "none beside the path"
    unknown = [name for name in arguments if name not in [one.name for one in named]]
    if unknown and not any(one.kind == one.VAR_KEYWORD for one in beside):
        raise UsageError(f"the process function takes no argument {unknown[0]} (--arg); it takes {takes}")
    if lacking := [one.name for one in named if one.default is one.empty and one.name not in arguments]:
        given = ", ".join(arguments)
        raise UsageError(f"the process function needs the argument {lacking[0]} as well (--arg); given are {given}")
    return partial(function, **arguments)


def _value(text: str) -> Argument:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if can_be(value) else text
