"""The process function `tabular(...)` again, from the options that a store records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.build_errors import UsageError
from builder.frames.tabular import Tabular, tabular
from builder.options.declaration import options_of
from builder.options.table_options import TableOptions


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
    arguments: dict[str, Any] = {}
    for name, value in described.items():
        option = options_of(TableOptions).get(name)
        if name == "label_source":
            arguments["labels_in_manifest"] = value == "manifest"
        elif option is None or option.record == "never":
            raise UsageError(f"option {name!r:.80} is not known to this version of seqzarr; update it")
        elif not option.can_be_recorded(value):
            raise UsageError(f"{name} is {value!r:.80}, which cannot be")
        else:
            arguments[name] = value
    return arguments
