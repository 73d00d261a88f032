"""Describe a store in one document, which is shown as text, as JSON, and as an HTML page."""

from builder.inspection.document import Inspection, inspect
from builder.inspection.shuffle import Shuffle
from builder.inspection.source import SourceInspection, inspect_source

__all__ = ["Inspection", "Shuffle", "SourceInspection", "inspect", "inspect_source"]
