"""The builder: from a folder of files, each a time series of its own length, to a store that training jobs read."""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.build import Report, build
    from builder.compact import Compacted, compact
    from builder.errors import BuildError, SourceError, UsageError
    from builder.frames.tabular import Tabular, tabular
    from builder.inspection import Inspection, SourceInspection, inspect, inspect_source
    from builder.inspection.as_html import write_report
    from builder.preview import Preview, preview
    from builder.repair import Repair, repair
    from builder.sequence import LongSequence, Sequence
    from builder.verification import verify

__all__ = [
    "BuildError",
    "Compacted",
    "Inspection",
    "LongSequence",
    "Preview",
    "Repair",
    "Report",
    "Sequence",
    "SourceError",
    "SourceInspection",
    "Tabular",
    "UsageError",
    "build",
    "compact",
    "inspect",
    "inspect_source",
    "preview",
    "repair",
    "tabular",
    "verify",
    "write_report",
]

_HOMES = {
    "BuildError": "builder.errors",
    "Compacted": "builder.compact",
    "Inspection": "builder.inspection",
    "LongSequence": "builder.sequence",
    "Preview": "builder.preview",
    "Repair": "builder.repair",
    "Report": "builder.build",
    "Sequence": "builder.sequence",
    "SourceError": "builder.errors",
    "SourceInspection": "builder.inspection",
    "Tabular": "builder.frames.tabular",
    "UsageError": "builder.errors",
    "build": "builder.build",
    "compact": "builder.compact",
    "inspect": "builder.inspection",
    "inspect_source": "builder.inspection",
    "preview": "builder.preview",
    "repair": "builder.repair",
    "tabular": "builder.frames.tabular",
    "verify": "builder.verification",
    "write_report": "builder.inspection.as_html",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is: `seqzarr --help` needs none of it, and all of it takes half a second."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """Keeps `builder.build` a function: importing the module of that name would set the attribute to the module."""

    def __setattr__(self, name: str, value: object) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
