"""The columns of one source, as NumPy arrays, and how its file is opened to read them."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from builder.errors import BuildError, SourceError
from builder.formats.files import check_is, first_bytes, unreadable

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]

_MOST_COLUMNS: Final = 2**20  # names are made of them all


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns of one source, in the order in which they were asked for."""

    columns: Mapping[str, Array]  # each (rows, ...), numbers or bool
    block: Array | None = None  # the same columns as one array (rows, columns, ...), where they have one dtype
    # Where values are missing that the dtype cannot say, as NaN can: (rows,) each.
    missing: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = {len(column) for column in self.columns.values()}
        if len(lengths) != 1:
            raise ValueError(f"a table needs columns of one length, not of {sorted(lengths)}")

    @property
    def rows(self) -> int:
        """The number of steps."""
        return len(next(iter(self.columns.values())))

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


def not_numbers(source: str, column: str, holds: str, value: object, row: int) -> SourceError:
    """Say that a column is none of numbers, with a value in evidence; `row` counts from 1."""
    return SourceError(
        source,
        f"column {column} holds {holds}, not numbers ({shortened(repr(value))} in row {row:,}); leave it out "
        f"with --exclude {column}, or name the columns to take with --inputs",
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
