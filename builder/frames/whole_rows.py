"""Read all rows of a table without changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from builder.build_errors import NO_ROWS, EmptySourceError, SourceError
from builder.formats.convert import require_values, stack
from builder.formats.table import Array, DType, OpenTable, Table, for_each_column
from builder.frames.class_columns import read_numbers, stack_labels
from builder.frames.row_pipeline import SelectedColumns
from builder.sequence import Sequence as SourceSequence


def read_arrays(
    table: OpenTable, selection: SelectedColumns, dtype: DType | None, source: str, before: int = 0
) -> tuple[Array, Array | None]:
    """Read inputs and labels of all rows; `before` rows of the file precede them. No value may be missing."""

    def read(names: Sequence[str]) -> Table:
        rows = read_numbers(table, names, dtype)
        if not rows.rows:
            raise EmptySourceError(source, NO_ROWS)
        return replace(rows, numbers=np.arange(before + 1, before + 1 + rows.rows)) if before else rows

    try:
        rows = read(selection.columns)
    except EmptySourceError:
        raise
    except SourceError:
        # Columns that can be read may have missing values, which are reported at the same time.
        for_each_column(selection.columns, lambda name: require_values(read([name]), source), source)
        raise
    require_values(rows, source)
    x = stack(rows, selection.inputs, dtype=dtype, source=source)
    if not selection.labels:
        return x, x if selection.own else selection.other
    return x, stack_labels(rows, selection.labels, selection.classes, dtype=dtype, source=source)


def read_pieces(
    pieces: Sequence[OpenTable], selection: SelectedColumns, dtype: DType | None, source: str
) -> Iterator[SourceSequence]:
    """Read a file piece by piece."""
    before = 0
    for piece in pieces:
        x, y = read_arrays(piece, selection, dtype, source, before)
        before += len(x)
        yield SourceSequence(x, y)
