"""The columns of one source, as NumPy arrays, and how its file is opened to read them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import BuildError, SourceError
from builder.formats.column_choice import as_option
from builder.formats.files import check_is, first_bytes, unreadable
from store_spec.format.value_checks import surely_finite

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]
# Rows of a source, a pyarrow.Table: a column for each name, and beside them hidden ones, whose names begin with HIDDEN.
Frame: TypeAlias = Any

TIME_STAMPS: Final = "time stamps"  # what a column holds that is none of numbers, in words
DATES: Final = "dates"  # without a time of day
HIDDEN: Final = "\0"
ROW: Final = "\0row"  # the hidden column that says which row of the file, from 1, each is

_MOST_COLUMNS: Final = 2**20  # names are made of them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns of numbers as NumPy arrays: what is computed with, bit for bit as NumPy does it."""

    columns: Mapping[str, Array]  # each (rows, ...), numbers or bool
    block: Array | None = None  # the same columns as one array (rows, columns, ...), where they have one dtype
    # Where values are missing that the dtype cannot say, as NaN can: each of the column's shape.
    missing: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    numbers: NDArray[np.int64] | None = None  # (rows,) which row of the file each is, from 1; None: 1, 2, 3, ...

    @classmethod
    def of(cls, frame: Frame) -> "Table":
        """Return the columns of numbers of a frame; a table as it is."""
        import pyarrow as pa

        if isinstance(frame, cls):
            return frame
        names = [name for name in frame.column_names if not name.startswith(HIDDEN)]
        numbers = frame[ROW].to_numpy() if ROW in frame.column_names else None
        shown = frame.select(names) if len(names) < frame.num_columns else frame
        kinds = set(shown.schema.types)
        if len(kinds) == 1 and pa.types.is_floating(*kinds):
            return replace(cls.from_block(_block(shown, *kinds), names), numbers=numbers)
        values = {name: array_of(frame[name]) for name in names}
        missing = {name: absent for name, (_, absent) in values.items() if absent is not None}
        return cls(columns={name: array for name, (array, _) in values.items()}, missing=missing, numbers=numbers)

    @classmethod
    def from_block(cls, block: Array, names: Sequence[str]) -> "Table":
        """Make a table of the columns `block[:, i]`, without a copy."""
        return cls(columns={name: block[:, number] for number, name in enumerate(names)}, block=block)

    @property
    def frame(self) -> Frame:
        """The same as a frame."""
        import pyarrow as pa

        columns = {name: column_of(column, self.missing.get(name)) for name, column in self.columns.items()}
        numbers = np.arange(1, self.rows + 1) if self.numbers is None else self.numbers
        return pa.table({**columns, ROW: column_of(numbers)})

    @property
    def rows(self) -> int:
        """The number of steps."""
        return len(next(iter(self.columns.values())))

    def __len__(self) -> int:
        return self.rows

    def slice(self, start: int, length: int) -> "Table":
        """Return rows that follow one another, without a copy, as a frame gives them."""
        rows = slice(start, start + length)
        numbers = np.arange(1, self.rows + 1)[rows] if self.numbers is None else self.numbers[rows]
        if self.block is not None:
            return replace(Table.from_block(self.block[rows], tuple(self.columns)), numbers=numbers)
        columns = {name: column[rows] for name, column in self.columns.items()}
        missing = {name: mask[rows] for name, mask in self.missing.items()}
        return Table(columns=columns, missing=missing, numbers=numbers)

    def number(self, row: int) -> int:
        """Return which row of the file, from 1, the row with this index is."""
        return row + 1 if self.numbers is None else int(self.numbers[row])

    def absent(self, name: str) -> NDArray[np.bool_] | None:
        """Return where a column has no value, of its shape (rows, ...); None: nowhere."""
        column, absent = self.columns[name], self.missing.get(name)
        if column.dtype.kind == "f":
            absent = np.isnan(column) if absent is None else np.isnan(column) | absent
        return absent if absent is not None and absent.any() else None

    @property
    def is_full(self) -> bool:
        """Whether no value is missing, and none infinite."""
        if self.missing:
            return False
        # Along the rows, where they lie together: several times as fast as column by column.
        parts = [self.block] if self.block is not None else self.columns.values()
        return all(surely_finite(part) or bool(np.isfinite(part).all()) for part in parts)

    def gaps(self) -> dict[str, NDArray[np.bool_]]:
        """Return what `absent` does, of the columns that lack a value somewhere."""
        return {name: mask for name in self.columns if (mask := self.absent(name)) is not None}


def array_of(column: Any) -> tuple[Array, NDArray[np.bool_] | None]:
    """Turn a pyarrow column of numbers, bool, or lists of one length into an array (rows, ...).

    Returns:
        The values, and where they are missing, of the same shape; None where none is, or where NaN says so.
    """
    import pyarrow as pa

    # Only chunked arrays copy where they must.
    column = pa.chunked_array([column]) if isinstance(column, pa.Array) else column
    if pa.types.is_fixed_size_list(column.type):
        whole = column.combine_chunks()
        flat, absent = array_of(whole.flatten())
        present = whole.is_valid().to_numpy(zero_copy_only=False)
        shape = (-1, column.type.list_size, *flat.shape[1:])
        if absent is None and present.all():
            return flat.reshape(shape), None
        values = np.zeros((len(whole), *shape[1:]), flat.dtype)
        missing = np.ones(values.shape, np.bool_)
        values[present] = flat.reshape(shape)
        missing[present] = False if absent is None else absent.reshape(shape)
        return values, missing
    if not column.null_count or pa.types.is_floating(column.type):
        # A single chunk is not copied, but comes read-only.
        return column.to_numpy(), None
    absent = column.is_null().to_numpy()
    return column.fill_null(False if pa.types.is_boolean(column.type) else 0).to_numpy(), absent


def column_of(array: Array, absent: NDArray[np.bool_] | None = None) -> Any:
    """Turn an array (rows, ...) into a pyarrow column, with null where a value is absent."""
    import pyarrow as pa

    column = pa.array(np.ascontiguousarray(array).reshape(-1), mask=None if absent is None else absent.reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def _block(frame: Frame, kind: Any) -> Array:
    """Copy columns of one type of floats into one array (rows, columns); missing is NaN."""
    out = np.empty((frame.num_columns, frame.num_rows), kind.to_pandas_dtype()).T  # column by column, as they come
    start = 0
    for batch in frame.to_batches():
        stop = start + batch.num_rows
        for number, column in enumerate(batch.columns):
            out[start:stop, number] = column.to_numpy(zero_copy_only=False)
        start = stop
    return out


class OpenTable(Protocol):
    """A source of which the column names are known, and no more was read than that took."""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Each column's name and those of its elements, in file order: `emb` is `emb[0]`, `emb[1]`, ..."""

    @property
    def named(self) -> bool:
        """Whether the names come from the file or the user; if not, they are the numbers of the columns."""

    def read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str] = ()) -> Frame:
        """Read these columns (elements, not groups), as numbers or bool, with null where one is missing.

        Args:
            names: Which, in the order wanted.
            dtype: What they will be converted to: text is parsed so that nothing is lost on the way there.
            raw: Columns that are read as they are, those of text files as text, and hidden.

        Raises:
            SourceError: The file cannot be read, such a column is not made of numbers, or one of `raw` is of lists.
        """

    def pieces(self) -> Sequence["OpenTable"]:
        """Return the table cut into rows that are read on their own, one after another; often it is one piece."""

    @property
    def is_text(self) -> bool:
        """Whether it is text, in which no column has a type."""

    @property
    def decimal(self) -> str:
        """What stands before decimals of numbers where they are text."""

    @property
    def rows(self) -> int | None:
        """How many rows the file says that it has; None: reading it tells."""


def raw_columns(table: OpenTable, names: Sequence[str]) -> Frame:
    """Read columns of a table as they are, under their own names."""
    return hidden(table.read((), None, names), names)


def hidden(frame: Frame, names: Sequence[str]) -> Frame:
    """Return the columns of a frame that were read as they are, under their own names."""
    return frame.select([HIDDEN + name for name in names]).rename_columns(list(names))


@contextmanager
def reading(
    source: str,
    *,
    path: Path | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    advice: str = "is it whole?",
) -> Iterator[None]:
    """Turn whatever a library raises on a broken file into a SourceError.

    Args:
        source: What to call it in errors.
        path: Where it lies, to look at its first bytes if reading fails.
        format: What it should be.
        advice: What to look at.
    """
    try:
        yield
    except (BuildError, MemoryError):
        raise
    # What pyarrow, numpy and zipfile raise on hostile bytes is no closed list.
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable(source, error) from error
        if path is not None and format is not None:
            check_is(format, first_bytes(path, source, 64)[0], source)
        words = shortened(str(error) or type(error).__name__).replace('"', "'")
        raise SourceError(source, f'cannot be read: the reader says "{words}"; {advice}') from error


def not_numbers(  # noqa: PLR0917
    source: str, column: str, holds: str, value: object, row: int, advice: str = ""
) -> SourceError:
    """Say that a column is none of numbers, with a value in evidence, or None; `row` counts from 1."""
    evidence = "no value at its beginning" if value is None else f"{shortened(repr(value))} in row {row:,}"
    if holds in (TIME_STAMPS, DATES):
        advice = f"say --time {as_option(column)} if it tells when each row was"
    first = f"{advice}, " if advice else ""
    return SourceError(
        source,
        f"column {column} holds {holds}, not numbers ({evidence}); {first}leave it out with "
        f"--exclude {as_option(column)}, or name the columns to take with --inputs",
    )


@lru_cache(maxsize=16)
def alone(names: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return columns as groups, each with itself alone in its own."""
    return MappingProxyType({name: (name,) for name in names})


def check_width(width: int, source: str, where: str = "has") -> None:
    """Refuse more columns than anybody has: a few bytes can promise any number of them."""
    if width > _MOST_COLUMNS:
        raise SourceError(source, f"{where} {width:,} columns, but at most {_MOST_COLUMNS:,} are read; is it whole?")


def check_unique(source: str, names: Sequence[str], what: str = "columns") -> None:
    """Refuse two columns of one name, and names as hidden columns have them."""
    if concealed := [name for name in names if name.startswith(HIDDEN)]:
        raise SourceError(source, f"the name {concealed[0]!r} among its {what} begins with a NUL byte; rename it")
    if len(set(names)) == len(names):
        return
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in first:
            both = f"{first[name] + 1} and {number + 1}"
            raise SourceError(source, f"{what} {both} are both named {name!r}; rename one of them")
        first[name] = number


def shortened(text: str, most: int = 200) -> str:
    """Return the text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."
