"""Tables whose numbers are text: recognise them, and note numbers with many digits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from builder.formats.joined import JoinedTable
from builder.formats.json_lines import JsonTable
from builder.formats.table import DType, Frame, OpenTable, WrappedTable
from builder.frames.class_columns import CategoricalTable
from builder.frames.digits import DigitNotes
from builder.frames.label_join import LabelledTable


def has_text_numbers(table: OpenTable) -> bool:
    """Return whether all numbers of a source, and of its label file, are written as text."""
    if isinstance(table, LabelledTable):
        return has_text_numbers(table.inputs) and has_text_numbers(table.labels)
    if isinstance(table, CategoricalTable):
        return has_text_numbers(table.inner)
    if isinstance(table, JoinedTable):
        return all(has_text_numbers(one) for _, one in table.tables)
    return table.is_text or isinstance(table, JsonTable)


@dataclass(frozen=True, slots=True, kw_only=True)
class NotedTable(WrappedTable):
    """An `OpenTable` that notes numbers with many digits when they are read."""

    notes: DigitNotes

    def pieces(self) -> Sequence[OpenTable]:
        """Return the pieces of the table."""
        return tuple(replace(self, inner=piece, rows=piece.rows) for piece in self.inner.pieces())

    def read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str] = ()) -> Frame:
        """Read columns, and note their numbers."""
        frame = self.inner.read(names, dtype, raw)
        if names:
            self.notes.add(frame.select(list(names)), self.source)
        return frame
