"""Build stores for training jobs from folders of files, each a time series of its own length."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from builder.build_errors import BuildError as BuildError
    from builder.build_errors import SourceError as SourceError
    from builder.build_errors import UsageError as UsageError
    from builder.execution.build import build as build
    from builder.execution.preview import Preview as Preview
    from builder.execution.preview import preview as preview
    from builder.execution.report import Report as Report
    from builder.frames.tabular import Tabular as Tabular
    from builder.frames.tabular import tabular as tabular
    from builder.inspection import Inspection as Inspection
    from builder.inspection import SourceInspection as SourceInspection
    from builder.inspection import inspect as inspect
    from builder.inspection import inspect_source as inspect_source
    from builder.inspection.as_html import write_report as write_report
    from builder.maintenance.checks import verify as verify
    from builder.maintenance.compact import Compacted as Compacted
    from builder.maintenance.compact import compact as compact
    from builder.maintenance.repair import Repair as Repair
    from builder.maintenance.repair import repair as repair
    from builder.sequence import LongSequence as LongSequence
    from builder.sequence import Sequence as Sequence

_MODULES = {
    "build_errors": ("BuildError", "SourceError", "UsageError"),
    "execution.build": ("build",),
    "execution.report": ("Report",),
    "frames.tabular": ("Tabular", "tabular"),
    "inspection": ("Inspection", "SourceInspection", "inspect", "inspect_source"),
    "inspection.as_html": ("write_report",),
    "maintenance.compact": ("Compacted", "compact"),
    "maintenance.repair": ("Repair", "repair"),
    "maintenance.checks": ("verify",),
    "execution.preview": ("Preview", "preview"),
    "sequence": ("LongSequence", "Sequence"),
}
__all__ = sorted(name for names in _MODULES.values() for name in names)  # noqa: PLE0605


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
