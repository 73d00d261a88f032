"""NPZ files, whose inputs and labels are whole arrays and not columns: these as tables of numbered columns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from builder.build_errors import SourceError
from builder.formats import check_file
from builder.formats.convert import require_values, stack
from builder.formats.table import Array, DType, Table, alone
from builder.frames.row_pipeline import SelectedColumns


@dataclass(frozen=True, slots=True, eq=False)
class WholeArrays:
    """What an NPZ file holds.

    Args:
        inputs: A column for each feature, `KEY 0`, `KEY 1`, ...
        labels: The same of the labels; None: none were asked for.
        of_sequence: Whether the labels are a single number.
    """

    inputs: Table
    labels: Table | None = None
    of_sequence: bool = False

    @property
    def steps(self) -> Table:
        """All columns that have a row a step, as one table."""
        if self.labels is None or self.of_sequence:
            return self.inputs
        return Table(columns={**self.inputs.columns, **self.labels.columns})

    def whole_inputs(self, source: str, dtype: DType | None) -> Array:
        """Return the inputs as they are, converted; no value may be missing."""
        return _as_it_is(self.inputs, source, dtype)

    def whole_labels(self, source: str, dtype: DType | None) -> Array | None:
        """Return the labels in the same way, if there are any."""
        if self.labels is None:
            return None
        labels = _as_it_is(self.labels, source, dtype)
        # Without an axis, lest it looks like the row of a file of one step.
        return np.asarray(labels[0, 0]) if self.of_sequence else labels


def read_whole_arrays(path: Path, source: str, input_key: str, label_key: str | None) -> WholeArrays:
    """Read the inputs of an NPZ file, and the labels where their key is given.

    Raises:
        SourceError: It is broken, lacks an array, or the two do not fit together.
    """
    from builder.formats.arrays import read_npz

    check_file(path, source)
    keys = (input_key,) if label_key is None else (input_key, label_key)
    arrays = read_npz(path, source=source, keys=keys)
    inputs = _columns(arrays[input_key], input_key, source)
    if label_key is None:
        return WholeArrays(inputs)
    labels = arrays[label_key]
    if not labels.ndim:
        return WholeArrays(inputs, _columns(labels[None], label_key, source), of_sequence=True)
    if len(labels) != inputs.rows:
        raise SourceError(
            source,
            f"{inputs.rows:,} rows of {input_key} but {len(labels):,} of {label_key}; there "
            "must be one label row per input row, or a single number",
        )
    return WholeArrays(inputs, _columns(labels, label_key, source))


def wanted_of_arrays(
    arrays: WholeArrays, source: str, dtype: DType | None, by_name: Callable[[], Array | None]
) -> SelectedColumns:
    """Return what is taken of an NPZ file; where it has no labels, `by_name` gives them, or None."""
    inputs = tuple(arrays.inputs.columns)
    if arrays.labels is None:
        return SelectedColumns(inputs, (), alone(inputs), by_name())
    if arrays.of_sequence:
        return SelectedColumns(inputs, (), alone(inputs), arrays.whole_labels(source, dtype))
    labels = tuple(arrays.labels.columns)
    return SelectedColumns(inputs, labels, alone((*inputs, *labels)))


def _as_it_is(table: Table, source: str, dtype: DType | None) -> Array:
    require_values(table, source)
    return stack(table, tuple(table.columns), dtype=dtype, source=source)


def _columns(array: Array, key: str, source: str) -> Table:
    """Return an array (steps, ...) as a table."""
    if not array.ndim:
        raise SourceError(source, f"{key} holds a single value; an array of steps is needed")
    block = array[:, None] if array.ndim == 1 else array
    names = [f"{key} {number}" for number in range(block.shape[1])]
    if not names:
        raise SourceError(source, f"{key} has shape {array.shape}, so there are no columns")
    return Table.from_block(block, names)
