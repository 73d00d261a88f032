"""Make the process function `tabular(...)` from the options that a store records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.build_errors import UsageError
from builder.frames.tabular import Tabular, tabular
from builder.options.declaration import options_of
from builder.options.table_options import TableOptions


def tabular_from_json(recorded: Mapping[str, Any]) -> Tabular:
    """Return the process function whose `describe()` is `recorded`.

    >>> process = tabular(inputs="a,b", dtype="float32")
    >>> tabular_from_json(process.describe()) == process
    True
    """
    process = tabular(**options_from_json(recorded))
    defaults = tabular().describe()
    for name, value in process.describe().items():
        if value != recorded.get(name, defaults[name]):
            raise UsageError(f"{name} is {recorded.get(name)!r:.80}, which conflicts with the other options")
    return process


def options_from_json(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `tabular` for options as `Tabular.describe` returns them."""
    arguments: dict[str, Any] = {}
    for name, value in recorded.items():
        option = options_of(TableOptions).get(name)
        if name == "label_source":
            arguments["labels_in_manifest"] = value == "manifest"
        elif option is None or option.record == "never":
            raise UsageError(f"option {name!r:.80} is not known to this version of seqzarr; update it")
        elif not option.can_be_recorded(value):
            raise UsageError(f"{name} is {value!r:.80}, which is not a valid value")
        else:
            arguments[name] = value
    return arguments
