"""Build stores for training jobs from folders of files, each a time series of its own length."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.build_errors import BuildError, SourceError, UsageError
    from builder.execution.build import build
    from builder.execution.preview import Preview, preview
    from builder.execution.report import Report
    from builder.frames.tabular import Tabular, tabular
    from builder.inspection import Inspection, SourceInspection, inspect, inspect_source
    from builder.inspection.as_html import write_report
    from builder.maintenance.compact import Compacted, compact
    from builder.maintenance.repair import Repair, repair
    from builder.maintenance.verification import verify
    from builder.sequence import LongSequence, Sequence

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

_MODULES = {
    "build_errors": ("BuildError", "SourceError", "UsageError"),
    "execution.build": ("build",),
    "execution.report": ("Report",),
    "frames.tabular": ("Tabular", "tabular"),
    "inspection": ("Inspection", "SourceInspection", "inspect", "inspect_source"),
    "inspection.as_html": ("write_report",),
    "maintenance.compact": ("Compacted", "compact"),
    "maintenance.repair": ("Repair", "repair"),
    "maintenance.verification": ("verify",),
    "execution.preview": ("Preview", "preview"),
    "sequence": ("LongSequence", "Sequence"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is used: all of them take half a second, and `seqzarr --help` needs none."""
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(importlib.import_module(f"builder.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
