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

from builder.errors import BuildError, SourceError
from builder.formats.columns import as_option
from builder.formats.files import check_is, first_bytes, unreadable
from store_spec.format.records import surely_finite

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]

TIME_STAMPS: Final = "time stamps"  # what a column holds that is none of numbers, in words
DATES: Final = "dates"  # without a time of day

_MOST_COLUMNS: Final = 2**20  # names are made of them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns of one source, in the order in which they were asked for."""

    columns: Mapping[str, Array]  # each (rows, ...), numbers or bool
    block: Array | None = None  # the same columns as one array (rows, columns, ...), where they have one dtype
    # Where values are missing that the dtype cannot say, as NaN can: (rows,) each, or of the column's shape.
    missing: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    numbers: NDArray[np.int64] | None = None  # (rows,) which row of the file each is, from 1; None: 1, 2, 3, ...

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"a table needs columns of one length, not of {sorted(lengths)}")

    @property
    def rows(self) -> int:
        """The number of steps."""
        return len(next(iter(self.columns.values())))

    def number(self, row: int) -> int:
        """Return which row of the file, from 1, the row with this index is."""
        return row + 1 if self.numbers is None else int(self.numbers[row])

    def absent(self, name: str) -> NDArray[np.bool_] | None:
        """Return where a column has no value, of its shape (rows, ...); None: nowhere."""
        column, mask = self.columns[name], self.missing.get(name)
        found = np.isnan(column) if column.dtype.kind == "f" else None
        if mask is not None:
            mask = mask.reshape(len(mask), *[1] * (column.ndim - mask.ndim), *mask.shape[1:])
            found = np.broadcast_to(mask, column.shape) if found is None else found | mask
        return found if found is not None and found.any() else None

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

    def taken(self, rows: NDArray[np.int64]) -> "Table":
        """Return the rows with these indices, in that order, copied."""
        numbers = rows + 1 if self.numbers is None else self.numbers[rows]
        missing = {name: mask[rows] for name, mask in self.missing.items()}
        if self.block is not None:
            return replace(Table.from_block(self.block[rows], tuple(self.columns)), missing=missing, numbers=numbers)
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Table(columns=columns, missing=missing, numbers=numbers)

    @classmethod
    def joined(cls, tables: Sequence["Table"]) -> "Table":
        """Return tables of the same columns, one below the other; each knows which rows of the file it has."""
        if len(tables) == 1:
            return tables[0]
        columns = {name: np.concatenate([table.columns[name] for table in tables]) for name in tables[0].columns}
        gaps = {name for table in tables for name in table.missing}
        missing = {
            name: np.concatenate([table.missing.get(name, np.zeros(table.rows, np.bool_)) for table in tables])
            for name in columns
            if name in gaps
        }
        numbers = [np.arange(1, table.rows + 1) if table.numbers is None else table.numbers for table in tables]
        return cls(columns=columns, missing=missing, numbers=np.concatenate(numbers))

    @classmethod
    def from_block(cls, block: Array, names: Sequence[str]) -> "Table":
        """Make a table of the columns `block[:, i]`, without a copy."""
        return cls(columns={name: block[:, number] for number, name in enumerate(names)}, block=block)


class OpenTable(Protocol):
    """A source of which the column names are known, and no more was read than that took."""

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Each column's name and those of its elements, in file order: `emb` is `emb[0]`, `emb[1]`, ..."""

    @property
    def named(self) -> bool:
        """Whether the names come from the file or the user; if not, they are the numbers of the columns."""

    def read(self, names: Sequence[str], dtype: DType | None) -> Table:
        """Read these columns (elements, not groups).

        Args:
            names: Which, in the order wanted; at least one.
            dtype: What they will be converted to: text is parsed so that nothing is lost on the way there.

        Raises:
            SourceError: The file cannot be read, or such a column is not made of numbers.
        """

    def raw(self, names: Sequence[str]) -> Any:
        """Read these columns as they are, as a pyarrow.Table: those of text files as text.

        Raises:
            SourceError: The file cannot be read, or a column is one of lists.
        """

    def pieces(self) -> Sequence["OpenTable"]:
        """Return the table cut into rows that are read on their own, one after another; often it is one piece."""

    @property
    def decimal(self) -> str:
        """What stands before decimals of numbers where they are text."""

    @property
    def rows(self) -> int | None:
        """How many rows the file says that it has; None: reading it tells."""


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
    """Refuse two columns of one name."""
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
