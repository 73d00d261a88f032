"""Columns of a manifest that are kept with the sequences of each source: `--keep`."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import UsageError
from builder.formats.arrow import describe_type, is_text, numbers_of
from builder.formats.arrow_modules import pa
from builder.formats.table import array_of
from builder.formats.text_numbers import first_cast_failure
from store_spec import ColumnType, SchemaError, SequenceColumn


@dataclass(frozen=True, slots=True, eq=False)
class KeptColumn:
    """A column of the manifest."""

    column: SequenceColumn  # its name and type in the store
    values: NDArray[Any]  # (sources,) as they will be stored

    def __getitem__(self, rows: NDArray[np.int64]) -> "KeptColumn":
        return KeptColumn(self.column, self.values[rows])


def keep_column(name: str, column: Any, known: SequenceColumn | None, where: str) -> KeptColumn:
    """Convert a column of a table to the values that a store keeps.

    Text, dates and times become `string` (missing: `""`), floats and decimals `float64` (missing: NaN), bools `bool`;
    whole numbers become `int64`, or `float64` if some are missing.

    Args:
        name: The name of the column.
        column: A pyarrow.ChunkedArray (rows,).
        known: The column of that name in an old store, whose type it must have; None: it is new.
        where: The name of the table.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    dtype = _type_of(column, where, name)
    if known is not None and dtype == "int64" and known.dtype == "float64":
        dtype = "float64"
    if known is not None and dtype != known.dtype:
        what = f"{dtype} with missing values" if column.null_count else dtype
        raise UsageError(
            f"{where}: column {name} holds {what}{_first_text(column, known.dtype)}, but in the store it is "
            f"{known.dtype}; change the column back, or build to another path"
        )
    try:
        kept = SequenceColumn(name, dtype)
    except SchemaError as error:
        raise UsageError(f"{where}: {error}") from None
    if dtype == "string":
        return KeptColumn(kept, column.cast(pa.string()).fill_null("").to_numpy())
    return KeptColumn(kept, _numbers(name, column, dtype, where))


def _type_of(column: Any, where: str, name: str) -> ColumnType:
    types, kind = pa.types, column.type
    if types.is_null(kind):
        raise UsageError(f"{where}: column {name} has no values, so there is nothing to keep; leave it out")
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
    """Return the first text that is not a number, if the store has numbers: it may be a single mistake."""
    if known == "bool" or not is_text(column.type):
        return ""
    for row, text in enumerate(column.to_pylist()):
        try:
            float(text or "0")
        except ValueError:
            return f" ({text!r:.80} in row {row + 1:,})"
    return ""


def _numbers(name: str, column: Any, dtype: ColumnType, where: str) -> NDArray[Any]:
    plain = numbers_of(column)
    kind = {"bool": pa.bool_(), "int64": pa.int64(), "float64": pa.float64()}[dtype]
    try:
        values, absent = array_of(plain.cast(kind))
    except pa.ArrowInvalid:
        row = first_cast_failure(plain, kind)
        since = (
            "; the column is float64, since values are missing or the store has floats" if dtype == "float64" else ""
        )
        raise UsageError(
            f"{where}: row {row + 1:,}, column {name} is {plain[row]}, which {dtype} does not hold exactly{since}; "
            "keep the column as text, in CSV by writing a letter before each number"
        ) from None
    if dtype == "bool" and absent is not None:
        raise UsageError(
            f"{where}: row {int(absent.argmax()) + 1:,}, column {name}: missing value ({int(absent.sum()):,} in all); "
            "bools have no missing value: fill it in, or write numbers"
        )
    if dtype != "float64":
        return values
    numbers = np.where(np.isnan(values), np.nan, values)  # the same bits for every NaN
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        raise UsageError(f"{where}: row {row + 1:,}, column {name}: infinite value; finite numbers can be kept")
    return numbers
