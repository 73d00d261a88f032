"""The process function `tabular(...)` again, from the options that a store records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.build_errors import UsageError
from builder.frames.tabular import Tabular, tabular

_LISTS = ("inputs", "labels", "column_names")  # None: not given
_EMPTY_LISTS = (
    "exclude",
    "group_by",
    "time",
    "time_format",
    "na_values",
    "missing",
    "transforms",
    "on",
    "classes",
)  # [] if not given


def tabular_as_described(described: Mapping[str, Any]) -> Tabular:
    """Make the process function that `Tabular.describe` described.

    Raises:
        UsageError: An option is not known to this version, or has a value that cannot be.

    >>> process = tabular(inputs="a,b", dtype="float32")
    >>> tabular_as_described(process.describe()) == process
    True
    """
    made = tabular(**described_options(described))
    usual = tabular().describe()
    for name, value in made.describe().items():
        if value != described.get(name, usual[name]):
            raise UsageError(f"{name} is {described.get(name)!r:.80}, which does not go with the other options")
    return made


def described_options(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `tabular` that `Tabular.describe` described.

    Raises:
        UsageError: An option is not known to this version, or has a value of another type.
    """
    options: dict[str, Any] = dict(described)
    usual = tabular().describe()
    for name, value in options.items():
        if name not in usual:
            raise UsageError(f"option {name!r:.80} is not known to this version of seqzarr; update it")
        if not _can_be(name, value):
            raise UsageError(f"{name} is {value!r:.80}, which cannot be")
    labels_in_manifest = options.pop("label_source", None) == "manifest"
    options |= {name: options.get(name) or None for name in _EMPTY_LISTS}
    return options | {"labels_in_manifest": labels_in_manifest}


def _can_be(name: str, value: Any) -> bool:
    """Tell whether an option can have a value of that type."""
    if name in (*_LISTS, *_EMPTY_LISTS):
        return value is None or (isinstance(value, list) and all(isinstance(one, str) for one in value))
    if name in ("elapsed", "sort_time", "mask"):
        return isinstance(value, bool)
    if name in ("input_key", "label_key", "duplicates", "join", "decimal"):
        return isinstance(value, str)
    if name in ("skip_lines", "skip_after_header"):
        return isinstance(value, int) and not isinstance(value, bool)
    if name == "ffill_limit":
        return value is None or (isinstance(value, int) and not isinstance(value, bool))
    return value is None or isinstance(value, bool if name == "header" else str)
