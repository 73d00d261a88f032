"""Columns of a manifest that are kept with the sequences of each source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import UsageError
from builder.formats.arrow import describe_type, is_text, numbers_of
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.table import array_of
from store_spec import ColumnType, SchemaError, SequenceColumn

_AS_TEXT: Final = "keep the column as text, which in CSV has a letter before each"


@dataclass(frozen=True, slots=True, eq=False)
class KeptColumn:
    """A column of the manifest.

    Args:
        column: Its name and type in the store.
        values: (sources,), as they will be stored.
    """

    column: SequenceColumn
    values: NDArray[Any]

    def __getitem__(self, rows: NDArray[np.int64]) -> KeptColumn:
        return KeptColumn(self.column, self.values[rows])


def keep_column(name: str, column: Any, known: SequenceColumn | None, where: str) -> KeptColumn:
    """Return a column of a table as a store keeps it.

    Text, dates and times become `string` (missing: `""`), floats and decimals `float64` (missing: NaN), bools `bool`;
    whole numbers become `int64`, or `float64` if some are missing.

    Args:
        name: The column.
        column: A pyarrow.ChunkedArray (rows,).
        known: The column of that name in an old store; None: it is new.
        where: Names the table in errors.

    Raises:
        UsageError: The column has values that cannot be kept, or do not have the type in the store.
    """
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    dtype = _type_of(column, where, name)
    if known is not None and dtype == "int64" and known.dtype == "float64":
        dtype = "float64"
    if known is not None and dtype != known.dtype:
        what = f"{dtype} with missing values" if column.null_count else dtype
        raise UsageError(
            f"{where}: column {name} holds {what}{_first_text(column, known.dtype)}, where the store keeps "
            f"{known.dtype} under that name; change the column back, or build to another path"
        )
    try:
        kept = SequenceColumn(name, dtype)
    except SchemaError as error:
        raise UsageError(f"{where}: {error}") from None
    if dtype == "string":
        values = np.empty(len(column), object)
        values[:] = ["" if text is None else text for text in column.cast(pa.string()).to_pylist()]
        return KeptColumn(kept, values)
    return KeptColumn(kept, _numbers(name, column, dtype, where))


def _type_of(column: Any, where: str, name: str) -> ColumnType:
    import pyarrow as pa

    types, kind = pa.types, column.type
    if types.is_null(kind):
        raise UsageError(f"{where}: column {name} holds no value in any row, so there is nothing to keep; leave it out")
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "float64" if column.null_count else "int64"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "float64"
    if types.is_temporal(kind) or is_text(kind):
        return "string"
    raise UsageError(f"{where}: column {name} holds {describe_type(kind)}; text, numbers and bools can be kept")


def _first_text(column: Any, known: ColumnType) -> str:
    """Name the first row that is not a number, if the store has numbers: it may be the only new text."""
    if known == "bool" or not is_text(column.type):
        return ""
    for row, text in enumerate(column.to_pylist()):
        try:
            float(text or "0")
        except ValueError:
            return f" ({text!r:.80} in row {row + 1:,})"
    return ""


def _numbers(name: str, column: Any, dtype: ColumnType, where: str) -> NDArray[Any]:
    values, absent = array_of(numbers_of(column))
    if dtype == "bool" and absent is not None:
        raise UsageError(
            f"{where}: row {int(absent.argmax()) + 1:,}, column {name}: missing value ({int(absent.sum()):,} in all); "
            "nothing stands for a missing bool, so fill it, or write numbers"
        )
    if values.dtype.kind in "iu" and dtype == "float64":
        beyond = np.abs(values.astype(np.float64)) >= EXACT_IN_FLOAT64
        if beyond.any():
            row = int(beyond.argmax())
            raise UsageError(
                f"{where}: row {row + 1:,}, column {name} is {values[row]}, which float64 does not hold exactly; it "
                f"is asked to, as values are missing or the store has floats: {_AS_TEXT}"
            )
    if values.dtype == np.uint64 and dtype == "int64":
        beyond = values > np.uint64(2**63 - 1)
        if beyond.any():
            row = int(beyond.argmax())
            raise UsageError(
                f"{where}: row {row + 1:,}, column {name} is {values[row]}, which int64 cannot hold: {_AS_TEXT}"
            )
    numbers = np.array(values, dtype)
    if dtype == "float64":
        if absent is not None:
            numbers[absent] = np.nan
        numbers[np.isnan(numbers)] = np.nan  # the same bits for every NaN
        if np.isinf(numbers).any():
            row = int(np.isinf(numbers).argmax())
            raise UsageError(f"{where}: row {row + 1:,}, column {name}: infinite value; finite numbers can be kept")
    return numbers
