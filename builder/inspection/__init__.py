"""What a store is, as one document: shown as text, as JSON, and as a page of HTML."""

from builder.inspection.document import Inspection, inspect
from builder.inspection.shuffle import Shuffle
from builder.inspection.source import SourceInspection, inspect_source

__all__ = ["Inspection", "Shuffle", "SourceInspection", "inspect", "inspect_source"]
