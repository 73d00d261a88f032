"""Columns as arrays, the protocol of open files, and checks that all formats share."""

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from builder.amounts import count_text
from builder.build_errors import BuildError, SourceError, of_source
from builder.formats.arrow_modules import pa, pc
from builder.formats.column_choice import as_option
from builder.formats.files import check_first_bytes, first_bytes, unreadable_file

Array: TypeAlias = NDArray[Any]
DType: TypeAlias = np.dtype[Any]
RowNumbers: TypeAlias = NDArray[np.int64] | slice  # from 0
# Rows of a source, a pyarrow.Table. Columns whose names begin with HIDDEN are not inputs or labels.
Frame: TypeAlias = Any

TIME_STAMPS: Final = "time stamps"  # contents of columns, in errors
DATES: Final = "dates"  # without a time of day
HIDDEN: Final = "\0"
ROW: Final = "\0row"  # the hidden column with the number of each row in the file, from 1

Result = TypeVar("Result")
_EXCLUDING: Final = re.compile(r",? ?(?:or )?leave (?:it|the column) out with --exclude")  # in the advice on a column
_NUMBER: Final = re.compile(r"(?P<sign>[+-]?)(?=[0-9.]*[0-9])0*(?P<whole>[0-9]*)([.](?P<fraction>[0-9]*?)0*)?")
_MOST_REASONS: Final = 5  # how many refused columns of a source a message explains
_MOST_COLUMNS: Final = 2**20  # each column gets a name in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Columns of numbers as NumPy arrays."""

    columns: Mapping[str, Array]  # each (rows, ...), numbers or bool
    block: Array | None = None  # the same columns as one array (rows, columns, ...), if they have one dtype
    # Masks of missing values, of the shape of the column; in floats, NaN is missing too.
    missing: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    numbers: NDArray[np.int64] | None = None  # (rows,) the number of each row in the file; None: 1, 2, 3, ...
    raw: Mapping[str, Any] = field(default_factory=dict)  # unconverted columns, of pyarrow

    @classmethod
    def of(cls, frame: Frame) -> "Table":
        """Convert a frame."""
        names = [name for name in frame.column_names if not name.startswith(HIDDEN)]
        numbers = frame[ROW].to_numpy() if ROW in frame.column_names else None
        hidden = [name for name in frame.column_names if name.startswith(HIDDEN) and name != ROW]
        raw = {name.removeprefix(HIDDEN): frame[name] for name in hidden}
        shown = frame.select(names) if len(names) < frame.num_columns else frame
        kinds = set(shown.schema.types)
        if len(kinds) == 1 and pa.types.is_floating(*kinds):
            return replace(cls.from_block(_block(shown, *kinds), names), numbers=numbers, raw=raw)
        values = {name: array_of(frame[name]) for name in names}
        missing = {name: absent for name, (_, absent) in values.items() if absent is not None}
        columns = {name: array for name, (array, _) in values.items()}
        return cls(columns=columns, missing=missing, numbers=numbers, raw=raw)

    @classmethod
    def from_block(cls, block: Array, names: Sequence[str]) -> "Table":
        """Make a table of the columns `block[:, i]`, without a copy."""
        return cls(columns={name: block[:, number] for number, name in enumerate(names)}, block=block)

    @property
    def rows(self) -> int:
        """The number of steps."""
        first = next(iter(self.columns.values()), self.numbers)
        return 0 if first is None else len(first)

    def slice(self, start: int, length: int) -> "Table":
        """Return consecutive rows without a copy, like `slice` of a frame."""
        raw = {name: column.slice(start, length) for name, column in self.raw.items()}
        return replace(self.take(slice(start, start + length)), raw=raw)

    def take(self, rows: RowNumbers) -> "Table":
        """Return some rows, without their unconverted columns."""
        numbers = np.arange(1, self.rows + 1)[rows] if self.numbers is None else self.numbers[rows]
        if self.block is not None:
            return replace(Table.from_block(self.block[rows], tuple(self.columns)), numbers=numbers)
        columns = {name: column[rows] for name, column in self.columns.items()}
        missing = {name: mask[rows] for name, mask in self.missing.items()}
        return Table(columns=columns, missing=missing, numbers=numbers)

    def number(self, row: int) -> int:
        """Return the number in the file, from 1, of the row with this index."""
        return row + 1 if self.numbers is None else int(self.numbers[row])

    def absent(self, name: str) -> NDArray[np.bool_] | None:
        """Return the mask (rows, ...) of the missing values of a column; None if there are none."""
        column, absent = self.columns[name], self.missing.get(name)
        if column.dtype.kind == "f":
            absent = np.isnan(column) if absent is None else np.isnan(column) | absent
        return absent if absent is not None and absent.any() else None

    @property
    def is_full(self) -> bool:
        """Whether every value is present and finite."""
        if self.missing:
            return False
        # One pass over a block is several times as fast as column by column.
        parts = [self.block] if self.block is not None else self.columns.values()
        return all(bool(np.isfinite(part).all()) for part in parts)

    def gaps(self) -> dict[str, NDArray[np.bool_]]:
        """Return the masks of all columns with missing values."""
        return {name: mask for name in self.columns if (mask := self.absent(name)) is not None}


def array_of(column: Any) -> tuple[Array, NDArray[np.bool_] | None]:
    """Convert a pyarrow column of numbers, bool, or lists of one length to an array (rows, ...).

    Returns:
        The values, and a mask of missing values; None if only NaN is missing, or nothing.
    """
    # `to_numpy` of a chunked array copies only if necessary.
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
        # A single chunk is not copied; the result is read-only.
        return column.to_numpy(), None
    absent = column.is_null().to_numpy()
    return column.fill_null(False if pa.types.is_boolean(column.type) else 0).to_numpy(), absent


def column_of(array: Array, absent: NDArray[np.bool_] | None = None) -> Any:
    """Convert an array (rows, ...) to a pyarrow column, with nulls for absent values."""
    column = pa.array(np.ascontiguousarray(array).reshape(-1), mask=None if absent is None else absent.reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def _block(frame: Frame, kind: Any) -> Array:
    """Copy columns of one float type into one array (rows, columns); missing values are NaN."""
    out = np.empty((frame.num_columns, frame.num_rows), kind.to_pandas_dtype()).T  # in column order, like the frame
    start = 0
    for batch in frame.to_batches():
        stop = start + batch.num_rows
        for number, column in enumerate(batch.columns):
            out[start:stop, number] = column.to_numpy(zero_copy_only=False)
        start = stop
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTable:
    """An open source; only as much has been read as its column names require."""

    groups: Mapping[str, tuple[str, ...]]  # the elements of each column: `emb` consists of `emb[0]`, `emb[1]`, ...
    named: bool  # whether the file or the user names the columns; otherwise their names are numbers
    is_text: bool = False  # whether the file is text, so that columns have no types
    text_numbers: bool = False  # whether all numbers are written as text
    decimal: str = "."  # the decimal mark of numbers in text
    rows: int | None = None  # according to the header; None: unknown before reading
    file: str | None = None  # its name, if it is one of several files of a source, or a label file
    na_values: Sequence[str] = ()  # further words and numbers that mean a missing value

    def read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str] = ()) -> Frame:
        """Read columns as numbers or bool, with nulls for missing values.

        Args:
            names: The columns (elements, not groups), in order.
            dtype: What they will be converted to, so that text is parsed without loss.
            raw: Columns to read unconverted, under hidden names, with nulls for `na_values`; those of text files are
                text.

        Raises:
            SourceError: The file cannot be read, a column is not numeric, or one of `raw` holds lists.
        """
        with of_source(self.file):
            frame = self._read(names, dtype, raw)
        if self.na_values:
            missing = "|".join(_pattern(word, self.decimal) for word in self.na_values)
            for name in raw:
                place = frame.column_names.index(HIDDEN + name)
                frame = frame.set_column(place, HIDDEN + name, _without(f"^({missing})$", frame[place]))
        return frame

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Do the work of `read`."""
        raise NotImplementedError

    @property
    def types(self) -> object:
        """The types of the columns, which can be compared; None if they are unknown before reading."""
        return None

    def pieces(self) -> Sequence["OpenTable"]:
        """Split the table into consecutive pieces that can be read separately; often into one."""
        return (self,)

    def properties(self, **others: Any) -> dict[str, Any]:
        """Return the properties that all tables have, for a table that reads this one; `others` replace some."""
        return {one.name: getattr(self, one.name) for one in fields(OpenTable)} | others


def _pattern(word: str, decimal: str) -> str:
    """Return a regular expression for a word, or for all ways to write the same number without an exponent."""
    number = _NUMBER.fullmatch(word.replace(decimal, "."))
    if number is None:
        return re.escape(word)
    sign, whole, fraction = number["sign"], number["whole"], number["fraction"] or ""
    mark = "[.,]" if decimal == "," else r"\."  # numbers that are not written as text have a point
    if not whole and not fraction:
        return f"[+-]?0+({mark}0*)?"
    return f"{'-' if sign == '-' else '[+]?'}0*{whole}" + (f"{mark}{fraction}0*" if fraction else f"({mark}0*)?")


def _without(missing: str, column: Any) -> Any:
    """Return a pyarrow column with nulls for values whose text matches a regular expression."""
    with suppress(pa.ArrowInvalid, pa.ArrowNotImplementedError):  # types that have no text are refused elsewhere
        texts = column.cast(pa.string())
        column = texts if pa.types.is_string_view(column.type) else column
        return pc.if_else(pc.match_substring_regex(pc.utf8_trim_whitespace(texts), missing), None, column)
    return column


def read_raw(table: OpenTable, names: Sequence[str]) -> Frame:
    """Read columns of a table unconverted, under their own names."""
    return hidden_columns(table.read((), None, names), names)


def hidden_columns(frame: Frame, names: Sequence[str]) -> Frame:
    """Return the hidden, unconverted columns of a frame under their own names."""
    return frame.select([HIDDEN + name for name in names]).rename_columns(list(names))


class reading:  # noqa: N801 - named like a function
    """Convert any exception of a library that reads a broken file to a SourceError.

    Args:
        path: The path of the file; if reading fails, its first bytes are checked.
        format: The format that the file should have.
        advice: What the user should check.
    """

    __slots__ = ("_advice", "_format", "_path")

    def __init__(
        self,
        *,
        path: Path | None = None,
        format: str | None = None,  # noqa: A002 - the option's name
        advice: str = "is it whole?",
    ) -> None:
        self._path, self._format, self._advice = path, format, advice

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        # pyarrow, numpy and zipfile raise exceptions of many classes for hostile bytes.
        if not isinstance(error, Exception) or isinstance(error, BuildError | MemoryError):
            return
        if isinstance(error, OSError) and error.errno is not None:
            raise unreadable_file(error) from error
        if self._path is not None and self._format is not None:
            check_first_bytes(self._format, first_bytes(self._path, 64)[0])
        words = shorten(str(error) or type(error).__name__).replace('"', "'")
        raise SourceError(f'cannot be read: the reader says "{words}"; {self._advice}') from error


def for_each_column(names: Sequence[str], read: Callable[[str], Result]) -> dict[str, Result]:
    """Call a function for each column and return the results; its SourceErrors become one for all columns."""
    results: dict[str, Result] = {}
    errors: dict[str, SourceError] = {}
    for name in names:
        try:
            results[name] = read(name)
        except SourceError as error:
            errors[name] = error
    if not errors:
        return results
    first, *others = errors.values()
    if others:
        reasons = {name: error.reason.partition("; ")[::2] for name, error in errors.items()}
        first = SourceError(_together(reasons))
    first.columns = tuple(errors)
    raise first


def _together(reasons: Mapping[str, tuple[str, str]]) -> str:
    """Return the message that several columns cannot be used, from the reason and advice for each."""
    more = f"; and {len(reasons) - _MOST_REASONS:,} more" * (len(reasons) > _MOST_REASONS)
    if len(same := {advice for _, advice in reasons.values()}) == 1:
        texts, advice = [what for what, _ in reasons.values()], same.pop()
    else:
        hints = {name: _EXCLUDING.split(advice)[0] for name, (_, advice) in reasons.items()}
        texts = [what + (f": {hints[name]}" if hints[name] else "") for name, (what, _) in reasons.items()]
        excluded = ",".join(map(as_option, reasons))
        advice = f"leave them out with --exclude {excluded}, or name the columns to take with --inputs"
    return f"{len(reasons):,} columns cannot be used: {'; '.join(texts[:_MOST_REASONS])}{more}; {advice}"


def not_numbers(column: str, holds: str, value: object, row: int, advice: str = "") -> SourceError:
    """Return the error for a column that is not numeric, quoting its first value (or None); `row` counts from 1."""
    evidence = "no value at its beginning" if value is None else f"{shorten(repr(value))} in row {row:,}"
    if holds in (TIME_STAMPS, DATES):
        advice = f"say --time {as_option(column)} if it is the time of each row"
    first = f"{advice}, " if advice else ""
    return SourceError(
        f"column {column} holds {holds}, not numbers ({evidence}); {first}leave it out with "
        f"--exclude {as_option(column)}, or name the columns to take with --inputs"
    )


@lru_cache(maxsize=16)
def single_groups(names: tuple[str, ...]) -> Mapping[str, tuple[str, ...]]:
    """Return a group of its own for each column."""
    return MappingProxyType({name: (name,) for name in names})


def check_width(width: int, where: str = "has") -> None:
    """Refuse an absurd number of columns, which a few bytes of a header can claim."""
    if width > _MOST_COLUMNS:
        raise SourceError(f"{where} {width:,} columns, but at most {_MOST_COLUMNS:,} are read; is it whole?")


def check_names_given(names: Sequence[str], columns: int) -> None:
    """Refuse more or fewer names from the user than a file has columns."""
    if len(names) != columns:
        given = count_text(len(names), "column name was", "column names were")
        raise SourceError(f"has {count_text(columns, 'column')}, but {given} given")


def check_unique(names: Sequence[str], what: str = "columns") -> None:
    """Refuse two columns with the same name, and names that mean hidden columns."""
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if name.startswith(HIDDEN):
            raise SourceError(f"the name {name!r} among its {what} begins with a NUL byte; rename it")
        if (before := first.setdefault(name, number)) < number:
            both = f"{before + 1} and {number + 1}"
            raise SourceError(f"{what} {both} are both named {name!r}; rename one of them")


def shorten(text: str, most: int = 200) -> str:
    """Return the text on one line, truncated to `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[:most]}..."
