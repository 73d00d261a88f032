"""Further columns of sequences: their names and types, checks of their values, and their checksums."""

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import SchemaError, SequenceError
from store_spec.format.codec import crc32c
from store_spec.format.names import check_text

ColumnType = Literal["string", "int64", "float64", "bool"]
COLUMN_TYPES: tuple[ColumnType, ...] = get_args(ColumnType)
MISSING_VALUES: Mapping[str, Any] = {"string": "", "float64": math.nan}  # int64 and bool cannot express one
LARGEST_COLUMN_NAME = 128  # bytes of UTF-8: each name is the name of a folder
LARGEST_TEXT = 2**12  # bytes of UTF-8 of one value: this keeps a chunk of them below the limit for readers
# The format's own names below `sequences/`, and further names that `store.sequences` has.
RESERVED = (
    "source", "part", "source_size", "source_sha256", "inputs_crc32c", "labels_crc32c",
    "time_first", "time_last", "time_crc32c", "filled_crc32c", "length", "zarr.json",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class SequenceColumn:
    """A further column of `sequences/`.

    Args:
        name: 1 to 128 bytes of UTF-8. It has no slashes or unprintable characters, does not begin with two underscores,
            does not consist of dots alone, does not end with `.partial`, and is not, in upper or lower case, one of the
            format's own names.
        dtype: `string`, `int64`, `float64` or `bool`.
    """

    name: str
    dtype: ColumnType

    def __post_init__(self) -> None:
        if self.dtype not in COLUMN_TYPES:
            raise SchemaError(
                f"column {self.name!r:.80} is of {self.dtype!r:.80}; take one of {', '.join(COLUMN_TYPES)}"
            )
        if not isinstance(self.name, str):
            raise SchemaError(f"the column name {self.name!r:.80} is not text; names are strings")
        if not self.name:
            raise SchemaError("a column of sequences has an empty name; give it one")
        check_text(self.name, f"the column name {self.name!r:.80}", LARGEST_COLUMN_NAME, SchemaError)
        slashed = "/" in self.name or "\\" in self.name
        if slashed or not (self.name.isprintable() and self.name.strip(".")) or self.name.startswith("__"):
            raise SchemaError(
                f"the column name {self.name!r:.80} cannot be that of an array: leave out slashes, what "
                "cannot be printed, and two underscores at its beginning"
            )
        if folded(self.name) in RESERVED or folded(self.name).endswith(".partial"):
            raise SchemaError(f"the column name {self.name!r:.80} is one of the format's own; rename the column")

    @property
    def array(self) -> str:
        """The name of its array."""
        return f"sequences/{self.name}"


def folded(name: str) -> str:
    """Return a form that is equal for all names that a file system may treat as the same."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def as_columns(columns: Mapping[str, ColumnType] | Iterable[SequenceColumn]) -> tuple[SequenceColumn, ...]:
    """Return columns as a tuple, from a mapping of names to types or from columns; names differ in more than case.

    >>> as_columns({"site": "string", "age": "float64"})[1]
    SequenceColumn(name='age', dtype='float64')
    """
    if isinstance(columns, Mapping):
        result = tuple(SequenceColumn(name, dtype) for name, dtype in columns.items())
    else:
        result = tuple(columns)
    names: dict[str, str] = {}
    for column in result:
        other = names.setdefault(folded(column.name), column.name)
        if other is not column.name:
            raise SchemaError(f"columns {other!r:.80} and {column.name!r:.80} have the same name; rename one")
    return result


def column_type(value: Any) -> ColumnType | None:
    """Return the type of column for a value; None if no column can have it.

    >>> column_type("A"), column_type(np.int8(3)), column_type(True), column_type([1])
    ('string', 'int64', 'bool', None)
    """
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if isinstance(value, np.timedelta64):  # to NumPy it is an integer
        return None
    types: tuple[tuple[tuple[type, ...], ColumnType], ...] = (
        ((bool, np.bool_), "bool"),  # first, because to Python a bool is an int
        ((int, np.integer), "int64"),
        ((float, np.floating), "float64"),
        ((str,), "string"),
    )
    return next((dtype for classes, dtype in types if isinstance(value, classes)), None)


def checked_columns(
    columns: Sequence[SequenceColumn], values: Mapping[str, Any] | None, source: object
) -> dict[str, NDArray[Any]]:
    """Return the values of one sequence as they will be stored, (1,) each, by the names of their arrays.

    A value that is left out, or None, is stored as `""` or NaN; columns of whole numbers and bools need a value.
    """
    rest = {} if values is None else dict(values)
    arrays = {}
    for column in columns:
        value = _checked_value(column, rest.pop(column.name, None), source)
        array = np.empty(1, object if column.dtype == "string" else column.dtype)
        array[0] = value
        arrays[column.array] = array
    if rest:
        there = ", ".join(f"{column.name!r:.80}" for column in columns[:20]) or "none"
        raise SequenceError(
            f"{source}: column {next(iter(rest))!r:.80} is not one of those that this store keeps of a sequence: "
            f"{there}; leave it out, or make a store that has it"
        )
    return arrays


def _checked_value(column: SequenceColumn, value: Any, source: object) -> Any:
    """Return a value as the Python object to store; raise a SequenceError if the column cannot hold it."""
    where = f"{source}: column {column.name!r:.80}"
    if isinstance(value, np.ndarray) and not value.ndim:
        value = value[()]
    if value is None:
        if column.dtype in MISSING_VALUES:
            return MISSING_VALUES[column.dtype]
        raise SequenceError(f"{where}: no value, and {column.dtype} has none that stands for a missing one: give one")
    kind = column_type(value)
    if kind != column.dtype and (kind, column.dtype) != ("int64", "float64"):
        raise SequenceError(
            f"{where} is {value!r:.80} ({type(value).__name__}), where this store has {column.dtype}: convert it"
        )
    if kind == "string":
        check_text(value, f"{where}: {value!r:.80}", LARGEST_TEXT, SequenceError)
        return str(value)
    if kind == "bool":
        return bool(value)
    if column.dtype == "int64":
        if not -(2**63) <= int(value) < 2**63:
            raise SequenceError(f"{where} is {value!r:.80}, which int64 cannot hold")
        return int(value)
    return _float(value, where)


def _float(value: Any, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if math.isinf(number):
        raise SequenceError(f"{where} is {value!r:.80}; a store has finite numbers, or NaN for a missing one")
    if math.isnan(number):
        return math.nan  # always the same bits
    if number != value:
        raise SequenceError(f"{where} is {value!r:.80}, which float64 does not hold exactly: convert it yourself")
    return number


def columns_crc32c(columns: Sequence[SequenceColumn], values: Mapping[str, NDArray[Any]]) -> list[int]:
    """Return the crc32c of all columns of each sequence, as in SPEC.md, "Identity"."""
    each = [_bytes_of(column, values[column.array]) for column in columns]
    return [crc32c(b"".join(row)) for row in zip(*each, strict=True)]


def _bytes_of(column: SequenceColumn, values: NDArray[Any]) -> list[bytes]:
    if column.dtype == "string":
        encoded = (str(value).encode() for value in values)
        return [len(data).to_bytes(4, "little") + data for data in encoded]
    data = values.astype(values.dtype.newbyteorder("<")).tobytes()
    return [data[at : at + values.itemsize] for at in range(0, len(data), values.itemsize)]


def wrong_value(column: SequenceColumn, values: NDArray[Any]) -> tuple[int, str] | None:
    """Return the position of the first invalid value and what is wrong with it; None if all are valid."""
    if column.dtype == "string":
        wrong = np.fromiter((len(value.encode()) > LARGEST_TEXT for value in values), bool, len(values))
        what = f"text of more than {LARGEST_TEXT:,} bytes"
    else:
        wrong, what = np.isinf(values), "an infinite value"  # int64 and bool have none
    return (int(np.argmax(wrong)), what) if wrong.any() else None
