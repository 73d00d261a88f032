"""NPZ files: their inputs and labels are whole arrays, which become tables of numbered columns."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from builder.build_errors import SourceError
from builder.formats.arrays import read_npz
from builder.formats.files import check_file
from builder.formats.table import Array, Table


def read_tables(
    path: Path, input_key: str, label_key: str | None, whole: Callable[[Table], Array]
) -> tuple[Table, Table, Array | None]:
    """Return the inputs and the labels of an NPZ file as tables; or labels that are a single number as an array.

    The columns are `KEY 0`, `KEY 1`, ... The table of labels has none if they are a number, or if `label_key` is None.
    `whole` converts a table to an array.
    """
    check_file(path)
    keys = (input_key,) if label_key is None else (input_key, label_key)
    arrays = read_npz(path, keys=keys)
    inputs, no_columns = _as_table(arrays[input_key], input_key), Table(columns={})
    if label_key is None:
        return inputs, no_columns, None
    labels = arrays[label_key]
    if not labels.ndim:
        # An array of one row would look like the labels of a file with one step.
        return inputs, no_columns, np.asarray(whole(_as_table(labels[None], label_key))[0, 0])
    if len(labels) != inputs.rows:
        raise SourceError(
            f"{inputs.rows:,} rows of {input_key} but {len(labels):,} of {label_key}; there "
            "must be one label row per input row, or a single number"
        )
    return inputs, _as_table(labels, label_key), None


def _as_table(array: Array, key: str) -> Table:
    """Return an array (steps, ...) as a table."""
    if not array.ndim:
        raise SourceError(f"{key} holds a single value; an array of steps is needed")
    block = array[:, None] if array.ndim == 1 else array
    names = [f"{key} {number}" for number in range(block.shape[1])]
    if not names:
        raise SourceError(f"{key} has shape {array.shape}, so there are no columns")
    return Table.from_block(block, names)
