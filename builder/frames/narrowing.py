"""Round the sequences of a table to the default dtype of numbers in text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from builder.build_errors import SourceError
from builder.formats.table import Array
from builder.sequence import LongSequence, Sequence, map_sequence


def narrow_result(result: Any, dtype: str, source: str, *, labels: bool) -> Any:
    """Round the float64 inputs, and with `labels` also the labels, in a result of `Tabular`."""
    if isinstance(result, tuple):
        x, y = result
        inputs = _narrow(x, dtype, source)
        return inputs, inputs if y is x else _narrow(y, dtype, source) if labels else y
    narrow = partial(_narrow_sequence, dtype, source, labels)
    if isinstance(result, LongSequence):
        return map_sequence(result, narrow)
    return (map_sequence(one, narrow) for one in result)


def _narrow_sequence(dtype: str, source: str, labels: bool, sequence: Sequence) -> Sequence:  # noqa: FBT001
    inputs, rows = narrow_result((sequence.inputs, sequence.labels), dtype, source, labels=labels)
    return replace(sequence, inputs=inputs, labels=rows)


def _narrow(rows: Any, dtype: str, source: str) -> Any:
    if not isinstance(rows, np.ndarray) or rows.dtype != np.float64:
        return rows
    with np.errstate(over="ignore"):
        narrow: Array = rows.astype(dtype)
    lost = np.isinf(narrow) & np.isfinite(rows)
    if lost.any():
        value = float(rows[lost][0])
        raise SourceError(
            source,
            f"{value!r} does not fit into {dtype}, which this store has because the first source has smaller numbers; "
            "build to another path with --dtype float64",
        )
    return narrow
