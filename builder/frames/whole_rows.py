"""Read all rows of a table without changes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from builder.build_errors import NO_ROWS, EmptySourceError, SourceError
from builder.formats.convert import check_all, require_values, stack
from builder.formats.table import Array, DType, OpenTable, Table
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
    except SourceError as error:
        # The other columns may have missing values, which are reported at the same time.
        others = [name for name in selection.columns if name not in error.columns]
        if error.columns and any(name in selection.inputs for name in others):
            check_all(source, lambda: require_values(read(others), source), found=error)
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
