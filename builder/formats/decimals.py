"""Columns of decimals, as databases keep money, as numbers that NumPy has."""

from typing import Any, Final

import numpy as np

from builder.formats.table import DType

_AT_ONCE: Final = 2**16  # rows, whose text takes memory beside them


class TooLargeError(Exception):
    """Whole numbers that the dtype asked for does not hold.

    Args:
        row: The first of them, from 0.
        value: It, as text.
        count: How many there are.
    """

    def __init__(self, row: int, value: str, count: int) -> None:
        super().__init__(value)
        self.row, self.value, self.count = row, value, count


def plain_numbers(column: Any, dtype: DType | None = None) -> Any:
    """Return a pyarrow column of decimals as int64 or uint64, exactly, where that is asked for; else as float64.

    Args:
        column: A pyarrow.ChunkedArray.
        dtype: What the numbers will be converted to. Of whole numbers: those with a fraction become float64 all the
            same, and who converts them refuses them.

    Raises:
        TooLargeError: Whole numbers were asked for, the type has no fractions, and one does not fit.
    """
    import pyarrow as pa

    if dtype is None or dtype.kind not in "iu":
        return _nearest_floats(column)
    try:
        return widest(column).cast(pa.uint64() if dtype == np.uint64 else pa.int64())
    except pa.ArrowInvalid:
        pass
    if column.type.scale <= 0:
        limits, values = np.iinfo(dtype), column.to_pylist()
        beyond = [
            row for row, value in enumerate(values) if value is not None and not limits.min <= value <= limits.max
        ]
        if beyond:
            raise TooLargeError(beyond[0], f"{values[beyond[0]]:f}", len(beyond))
    return _nearest_floats(column)


def widest(column: Any) -> Any:
    """Return decimals as those of the most digits, others as they are: of narrow ones pyarrow makes no int64."""
    import pyarrow as pa

    return column.cast(pa.decimal256(76, column.type.scale)) if pa.types.is_decimal(column.type) else column


def _nearest_floats(column: Any) -> Any:
    """Return the float64 nearest to each value."""
    import pyarrow as pa

    # By way of text, which is read to the nearest: pyarrow's own cast to floats is off by a bit.
    floats = [
        chunk.slice(start, _AT_ONCE).cast(pa.string()).cast(pa.float64())
        for chunk in column.chunks
        for start in range(0, len(chunk), _AT_ONCE)
    ]
    return pa.chunked_array(floats, pa.float64())
