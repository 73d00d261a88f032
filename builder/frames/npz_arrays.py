"""NPZ files: their inputs and labels are whole arrays, which become tables of numbered columns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from builder.build_errors import SourceError
from builder.formats.arrays import read_npz
from builder.formats.convert import require_values, stack
from builder.formats.files import check_file
from builder.formats.table import Array, DType, Table, single_groups
from builder.frames.row_pipeline import SelectedColumns


@dataclass(frozen=True, slots=True, eq=False)
class WholeArrays:
    """The arrays of an NPZ file."""

    inputs: Table  # a column for each feature, `KEY 0`, `KEY 1`, ...
    labels: Table | None = None  # a column for each target, named likewise; None: labels come from elsewhere
    has_sequence_label: bool = False  # whether the labels are a single number

    @property
    def steps(self) -> Table:
        """All columns with one row per step, as one table."""
        if self.labels is None or self.has_sequence_label:
            return self.inputs
        return Table(columns={**self.inputs.columns, **self.labels.columns})

    def whole_inputs(self, source: str, dtype: DType | None) -> Array:
        """Return the inputs as one array; no value may be missing."""
        return _stack_all(self.inputs, source, dtype)

    def whole_labels(self, source: str, dtype: DType | None) -> Array | None:
        """Return the labels as one array, or None."""
        if self.labels is None:
            return None
        labels = _stack_all(self.labels, source, dtype)
        # A scalar: an array of one row would look like the labels of a file with one step.
        return np.asarray(labels[0, 0]) if self.has_sequence_label else labels


def read_whole_arrays(path: Path, source: str, input_key: str, label_key: str | None) -> WholeArrays:
    """Read the inputs of an NPZ file, and the labels if `label_key` is not None."""
    check_file(path, source)
    keys = (input_key,) if label_key is None else (input_key, label_key)
    arrays = read_npz(path, source=source, keys=keys)
    inputs = _as_table(arrays[input_key], input_key, source)
    if label_key is None:
        return WholeArrays(inputs)
    labels = arrays[label_key]
    if not labels.ndim:
        return WholeArrays(inputs, _as_table(labels[None], label_key, source), has_sequence_label=True)
    if len(labels) != inputs.rows:
        raise SourceError(
            source,
            f"{inputs.rows:,} rows of {input_key} but {len(labels):,} of {label_key}; there "
            "must be one label row per input row, or a single number",
        )
    return WholeArrays(inputs, _as_table(labels, label_key, source))


def select_arrays(
    arrays: WholeArrays, source: str, dtype: DType | None, by_name: Callable[[], Array | None]
) -> SelectedColumns:
    """Return the columns of an NPZ file; if it has no labels, take them from `by_name`."""
    inputs = tuple(arrays.inputs.columns)
    if arrays.labels is None:
        return SelectedColumns(inputs, (), single_groups(inputs), by_name())
    if arrays.has_sequence_label:
        return SelectedColumns(inputs, (), single_groups(inputs), arrays.whole_labels(source, dtype))
    labels = tuple(arrays.labels.columns)
    return SelectedColumns(inputs, labels, single_groups((*inputs, *labels)))


def _stack_all(table: Table, source: str, dtype: DType | None) -> Array:
    require_values(table, source)
    return stack(table, tuple(table.columns), dtype=dtype, source=source)


def _as_table(array: Array, key: str, source: str) -> Table:
    """Return an array (steps, ...) as a table."""
    if not array.ndim:
        raise SourceError(source, f"{key} holds a single value; an array of steps is needed")
    block = array[:, None] if array.ndim == 1 else array
    names = [f"{key} {number}" for number in range(block.shape[1])]
    if not names:
        raise SourceError(source, f"{key} has shape {array.shape}, so there are no columns")
    return Table.from_block(block, names)
