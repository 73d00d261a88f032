"""Convert columns of decimals, in which databases store money, to dtypes of NumPy."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from builder.formats.arrow_modules import pa
from builder.formats.table import DType

_ROWS_AT_ONCE: Final = 2**16  # bounds the memory of their text


@dataclass(slots=True)
class TooLargeError(Exception):
    """Some whole numbers do not fit into the requested dtype."""

    row: int  # of the first of these numbers, from 0
    value: str  # the first of these numbers
    count: int  # how many there are


def plain_numbers(column: Any, dtype: DType | None = None) -> Any:
    """Return a pyarrow column of decimals as int64 or uint64 if `dtype` is an integer type, otherwise as float64.

    Numbers with a fraction always become float64, and `convert` refuses them later.

    Raises:
        TooLargeError: `dtype` is an integer type, the decimals have no fractions, and one does not fit.
    """
    if dtype is None or dtype.kind not in "iu":
        return _nearest_floats(column)
    try:
        return widen(column).cast(pa.uint64() if dtype == np.uint64 else pa.int64())
    except pa.ArrowInvalid:
        pass
    # With fractions, `convert` refuses what does not fit; but the nearest float of a large number can be whole.
    limits, values, scale = np.iinfo(dtype), column.to_pylist(), column.type.scale
    beyond = [
        row
        for row, value in enumerate(values)
        if value is not None
        and (not limits.min <= value <= limits.max if scale <= 0 else value != int(value) and float(value).is_integer())
    ]
    if beyond:
        raise TooLargeError(beyond[0], f"{values[beyond[0]]:f}", len(beyond))
    return _nearest_floats(column)


def widen(column: Any) -> Any:
    """Widen decimals to 76 digits, since pyarrow does not cast narrow ones to int64; return other types unchanged."""
    return column.cast(pa.decimal256(76, column.type.scale)) if pa.types.is_decimal(column.type) else column


def _nearest_floats(column: Any) -> Any:
    """Return the float64 nearest to each value."""
    # Via text, which is parsed to the nearest float; pyarrow's direct cast can be off by one bit.
    floats = [
        chunk.slice(start, _ROWS_AT_ONCE).cast(pa.string()).cast(pa.float64())
        for chunk in column.chunks
        for start in range(0, len(chunk), _ROWS_AT_ONCE)
    ]
    return pa.chunked_array(floats, pa.float64())
