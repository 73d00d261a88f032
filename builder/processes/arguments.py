"""Arguments of a process function: `--arg KEY=VALUE`. The store records them, and each call passes them."""

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


def check_arguments(arguments: Mapping[str, Argument] | None) -> dict[str, Argument]:
    """Return arguments sorted by name, as a store records them; refuse names and values that it cannot record."""
    for key, value in (arguments or {}).items():
        if not str(key).isidentifier():
            raise UsageError(f"argument {key!r:.80} of the process function (--arg) is not a valid name in Python")
        if not is_recordable(value):
            raise UsageError(
                f"argument {key} of the process function is {value!r:.80} ({type(value).__name__}); a store records "
                "text, whole numbers, finite floats and bools"
            )
    return dict(sorted((arguments or {}).items()))


def is_recordable(value: object) -> bool:
    """Return whether a store can record a value."""
    return type(value) in (bool, int, str) or (type(value) is float and math.isfinite(value))


def bind_arguments(function: Callable[..., Any], arguments: Mapping[str, Argument]) -> Callable[[Path], Any]:
    """Bind arguments to a process function; refuse unknown arguments, and missing ones."""
    if not arguments:
        return function
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some callables have no signature
        return partial(function, **arguments)
    others = list(signature.parameters.values())[1:]  # the first one is the path
    named = {one.name: one for one in others if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    unknown = [name for name in arguments if name not in named]
    if unknown and not any(one.kind == one.VAR_KEYWORD for one in others):
        takes = ", ".join(named) or "only the path"
        raise UsageError(f"the process function takes no argument {unknown[0]} (--arg); it takes {takes}")
    lacking = [name for name, one in named.items() if one.default is one.empty and name not in arguments]
    if lacking:
        given = ", ".join(arguments)
        raise UsageError(f"the process function also needs the argument {lacking[0]} (--arg); given are {given}")
    return partial(function, **arguments)


def _value(text: str) -> Argument:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if is_recordable(value) else text
