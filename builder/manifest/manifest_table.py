"""The manifest: a table with one row a source, and finding the row of each source."""

import contextlib
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError, UsageError
from builder.formats import format_of, open_table, stem_of
from builder.formats.arrow import ArrowTable, describe_type, is_numeric, is_text, numbers_of
from builder.formats.column_choice import column_list, parse_columns, select
from builder.formats.convert import EXACT_IN_FLOAT64, stack
from builder.formats.table import Array, OpenTable, Table, array_of, reading
from builder.formats.text_numbers import MISSING, ROUNDED, first_large, strip_blanks
from builder.formats.text_table import TextTable
from builder.labels.text_classes import CODES
from builder.manifest.kept import Kept, kept_column
from builder.manifest.label_classes import Texts, checked_texts
from builder.options.table_options import TableOptions
from store_spec import SequenceColumn

# In the order in which they are tried.
_RULES: Final[dict[str, Callable[[str], str]]] = {
    "path": lambda name: name,
    "file name": lambda name: name.rpartition("/")[2],
    "stem": stem_of,
}
_NAMED = 5
_NAME: Final = r"^\s*[+-]?0[0-9]"  # no number is written so
DEFAULT_KEY = "source"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Misfits:
    """In what way keys are not one for each source, under a rule."""

    ambiguous: Sequence[str]  # keys that fit more than one source, with two of these
    rowless: Sequence[str]  # sources
    sourceless: Sequence[str]  # keys

    def __bool__(self) -> bool:
        return bool(self.ambiguous or self.rowless or self.sourceless)

    def __str__(self) -> str:
        told = [
            self.ambiguous and f"{_some(self.ambiguous, 'key', 'keys')} fit more than one source",
            self.rowless and f"{_some(self.rowless, 'source', 'sources')} without a row",
            self.sourceless and f"{_some(self.sourceless, 'row', 'rows')} without a source",
        ]
        return "; ".join(str(one) for one in told if one)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestLabels:
    """Labels that stand in a table, a row a source.

    Args:
        path: CSV, TSV or Parquet; None: where an old store says it lies.
        key: The column that names the source; None: `source`, or as an old store says.
        columns: The columns that are the labels; None: the table only says which sources there are, or as an old
            store says.
        only_listed: Leave out sources that have no row.
        keep: The columns that are kept with each sequence; None: none, or as an old store says.
    """

    path: Path | None = None
    key: str | None = None
    columns: str | Sequence[str] | None = None
    only_listed: bool = False
    keep: str | Sequence[str] | None = None

    @property
    def kept(self) -> tuple[str, ...] | None:
        """The columns to keep, one by one."""
        return parse_columns(self.keep, "keep")

    @property
    def parts(self) -> tuple[str, ...] | None:
        """The columns, one by one."""
        return parse_columns(self.columns, "label_column")


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A table with one row a source."""

    path: Path
    key: str  # the column that names the source
    keys: tuple[str, ...]  # (rows,)
    table: Any  # pyarrow.Table, (rows, columns)
    is_text: bool = False  # whether it is CSV or the like, and no type says what a column is
    faults: Mapping[str, str] = field(default_factory=dict)  # of columns of such that nothing can use, what is wrong

    def __len__(self) -> int:
        return len(self.keys)

    def match(
        self,
        names: Sequence[str],
        *,
        only_listed: bool = False,
        misnamed: Sequence[str] = (),
        held: Callable[[], Collection[str]] = tuple,
    ) -> dict[str, int]:
        """Return each source's row, from 0, in the order of the sources.

        The keys are the sources' paths under the root, else their file names, else their stems: the first of
        these under which every row names exactly one source, and every source has a row. As many rows as there are
        misnamed files may name no source: they can be those of these files, under names that nobody can compare. So may
        rows of sources that a store has, whose files are gone: what becomes of them is not for the manifest to say.

        Args:
            names: The sources.
            only_listed: Leave sources without a row out, rather than refuse them.
            misnamed: Files that would be sources, if their names were valid UTF-8.
            held: Gives the sources that a store has; asked where a row has no source.

        Raises:
            UsageError: No rule fits; says what is wrong under the one that fits best.
        """
        row_of = {key: row for row, key in enumerate(self.keys)}
        twice = [key for row, key in enumerate(self.keys) if row_of[key] != row]
        if twice:
            raise UsageError(
                f"{self.path}: {_some(twice, 'key', 'keys')} in more than one row of column {self.key}; leave one row "
                "for each source"
            )
        best, wrong = self._best_rule(names, (), row_of, only_listed=only_listed, spare=len(misnamed))
        if wrong.sourceless:
            gone = set(held()).difference(names)
            best, wrong = self._best_rule(names, gone, row_of, only_listed=only_listed, spare=len(misnamed))
        text_of = _RULES[best]
        if not wrong:
            return {name: row_of[text_of(name)] for name in names if text_of(name) in row_of}
        advice = ""
        if wrong.rowless:
            advice += "; --manifest-only takes just the sources that have a row"
        if wrong.sourceless:
            advice += "; take out the rows whose files are not there"
        given = set(map(text_of, names))
        read = set(map(_as_read, given))
        if accents := [key for key in self.keys if key not in given and _as_read(key) in read]:
            advice += "; accents are other bytes than in the name of the file, and look the same (Unicode's NFC and "
            advice += f"NFD): {_some(accents, 'key', 'keys')}"
        if misnamed:
            advice += f"; rename first what has a name that is not UTF-8: {_some(misnamed, 'file', 'files')}"
        raise UsageError(
            f"{self.path}: column {self.key} does not fit the sources by path, file name or stem. "
            f"By {best}: {wrong}{advice}"
        )

    def labels(
        self, columns: Sequence[str], *, given: Sequence[str], order: NDArray[np.int64]
    ) -> tuple[Array, tuple[str, ...], Texts | None]:
        """Return columns as labels (sources, targets), their names, and of each that is text its texts, if one is.

        Labels are bool, whole numbers, or floats if a column is; beside text they are whole numbers, and text is -1.

        Args:
            columns: Which.
            given: Those whose classes are given: text, whatever it looks like.
            order: (sources,) the row of each.

        Raises:
            UsageError: No such column, a missing or infinite value, or what is no number and no text.
        """
        names = self._chosen(columns)
        texts: dict[str, list[str]] = {}
        for name in names:
            if is_text(self.table[name].type):
                values = strip_blanks(self.table[name], MISSING if self.is_text else ()).to_pylist()
                typed = not self.is_text or name in given
                texts[name] = checked_texts(values, self.keys, name, self.path, typed=typed)
        no_codes = np.full(len(self), -1, CODES)
        try:
            table = Table(columns={name: no_codes if name in texts else self._values(name) for name in names})
            labels = stack(table, names, dtype=CODES if texts else None, source=str(self.path))
        except SourceError as error:
            # The options of sources that it advises are not for a manifest.
            advice = (
                f"labels beside classes ({next(iter(texts))}) are whole numbers: write it as one, or leave one out"
                if texts
                else "write all numbers of the column as floats if it may be rounded, or leave one column out"
            )
            raise UsageError(f"{error.source}: {error.reason.partition(';')[0]}; {advice}") from None
        rows = order.tolist()
        found = tuple(tuple(texts[name][row] for row in rows) if name in texts else None for name in names)
        return labels[order], names, found if texts else None

    def kept(self, columns: Sequence[str], known: Mapping[str, SequenceColumn]) -> tuple[Kept, ...]:
        """Return columns that are kept with each sequence, (rows,) each.

        Args:
            columns: Their names, or ranges of them.
            known: What an old store keeps, by name.

        Raises:
            UsageError: No such column, or values that cannot be kept.
        """
        names = self._chosen(columns)
        return tuple(kept_column(name, self.table[name], known.get(name), str(self.path)) for name in names)

    def _chosen(self, columns: Sequence[str]) -> tuple[str, ...]:
        try:
            names = select(columns, {name: (name,) for name in self.table.column_names}, str(self.path))
        except SourceError as error:
            raise UsageError(str(error)) from None
        for name in names:
            if name in self.faults:
                raise UsageError(f"{self.path}: {self.faults[name]}")
        return names

    def _best_rule(
        self, names: Sequence[str], gone: Collection[str], row_of: Mapping[str, int], *, only_listed: bool, spare: int
    ) -> tuple[str, _Misfits]:
        """Return the rule under which most rows have a source that is there, or is gone; and what is wrong by it."""
        ruled: dict[str, tuple[int, int, _Misfits]] = {}  # how many rows have either, and what is wrong
        for rule, text_of in _RULES.items():
            sources: dict[str, list[str]] = {}
            for name in names:
                sources.setdefault(text_of(name), []).append(name)
            known = set(map(text_of, gone)).difference(sources)
            unknown = [key for key in row_of if key not in sources and key not in known]
            wrong = _Misfits(
                ambiguous=[
                    f"{key} ({', '.join(found[:2])})" for key, found in sources.items() if key in row_of and found[1:]
                ],
                rowless=[
                    name for key, found in sources.items() if key not in row_of and not only_listed for name in found
                ],
                sourceless=unknown if len(unknown) > spare else [],
            )
            fitting = sum(key in sources for key in self.keys)
            ruled[rule] = fitting, sum(key in known for key in self.keys), wrong
            if not wrong and fitting == len(self.keys):
                break
        best = max(ruled, key=lambda rule: ruled[rule][:2])
        return best, ruled[best][2]

    def _values(self, name: str) -> Array:
        """Return one column of numbers (rows,), whole."""
        column = self.table[name]
        if not is_numeric(column.type):
            row = next((row for row in range(len(column)) if column[row].is_valid), 0)
            holds = describe_type(column.type)
            raise UsageError(
                f"{self.path}: row {row + 1:,}, column {name} holds {holds} ({column[row]}); labels are numbers, "
                "bool or text"
            )
        values, absent = array_of(numbers_of(column))
        for what, mask in (
            ("missing", np.isnan(values) if values.dtype.kind == "f" else absent),
            ("infinite", np.isinf(values)),
        ):
            if mask is not None and mask.any():
                row = int(mask.argmax())
                raise UsageError(
                    f"{self.path}: row {row + 1:,} ({self.keys[row]}), column {name}: {what} value "
                    f"({int(mask.sum()):,} in all); every source needs its labels"
                )
        return values


def place_below(path: Path, root: Path) -> str | None:
    """Return where a manifest lies, as a POSIX path relative to the sources' root; None if it lies elsewhere."""
    try:
        place = path.resolve().relative_to(root.resolve()).as_posix()
        place.encode()
    except ValueError:  # not below it, or of bytes that a store cannot keep
        return None
    return place


def found_below(place: str, root: Path) -> Path | None:
    """Return the file that `place_below` named, if it is there: never one outside of the root."""
    if Path(place).is_absolute() or ".." in Path(place).parts:
        return None
    try:
        path = (root / place).resolve()
        return path if path.is_relative_to(root.resolve()) and path.is_file() else None
    except (OSError, RuntimeError, ValueError):  # a name that no file can have, or a link round in a circle
        return None


def read_manifest(
    path: Path, *, key: str = DEFAULT_KEY, text: Sequence[str] = (), kept: Sequence[str] = ()
) -> Manifest:
    """Read a manifest: CSV, TSV or Parquet.

    Args:
        path: Where it lies.
        key: The column that names the source.
        text: Columns that are text, whatever they look like.
        kept: Columns that are kept. Of CSV, those of whole numbers are text if one begins with a zero: 007 is a name.

    Raises:
        UsageError: It is broken, has no such column (the error lists those it has), or a row lacks its key. What is
            wrong with other columns is said where they are taken.
    """
    if not path.exists():
        raise UsageError(f"manifest {path}: there is no such file")
    try:
        table, faults = _read(path, key, text, kept)
    except SourceError as error:
        raise UsageError(f"manifest {error}") from None
    keys = table[key].to_pylist()
    empty = [row + 1 for row, text in enumerate(keys) if text is None or not str(text).strip()]
    if empty:
        raise UsageError(
            f"{path}: row {empty[0]:,}, column {key}: names no source ({len(empty):,} in all); name its file, or leave "
            "the row out"
        )
    return Manifest(
        path=path,
        key=key,
        keys=tuple(str(text).strip() for text in keys),
        table=table,
        is_text=faults is not None,
        faults=faults or {},
    )


def _read(path: Path, key: str, text: Sequence[str], kept: Sequence[str]) -> tuple[Any, dict[str, str] | None]:
    """Read all columns, the key and `text` as text; and what is wrong with any, where the file is text itself."""
    source = str(path)
    opened = _opened(path, source)
    if key not in opened.groups:
        raise SourceError(source, f"there is no column {key!r}; {column_list(list(opened.groups))}; name it with --key")
    with reading(source):
        if isinstance(opened, TextTable):
            table = _parse(opened, list(dict.fromkeys([key, *(name for name in text if name in opened.groups)])))
            return _with_names(table, opened, kept), _faults(table, opened)
        if isinstance(opened, ArrowTable):
            return opened.load(list(opened.groups)), None
    raise SourceError(source, "has no named columns; a manifest is a CSV, TSV or Parquet file")


def _opened(path: Path, source: str) -> OpenTable:
    """Open it: of CSV whose first line is one column by the comma, by what divides it instead, as spreadsheets write.

    Options on how text is read are those of sources.
    """
    found = format_of(path.name)
    if found is None:
        raise SourceError(
            source,
            f"no format has the suffix {path.suffix!r}; a manifest is a CSV, TSV or Parquet file: save it as one",
        )
    try:
        return open_table(path, source=source, options=TableOptions(header=True))
    except SourceError:
        if found == "csv":
            for delimiter in ";\t|":
                with contextlib.suppress(SourceError):
                    opened = open_table(path, source=source, options=TableOptions(header=True, delimiter=delimiter))
                    if len(opened.groups) > 1:
                        return opened
        raise


def _parse(opened: TextTable, text: Sequence[str]) -> Any:
    """Parse text, each column but those as what it looks like: unlike sources, there is only one."""
    import pyarrow as pa

    try:
        return opened.parse({name: pa.string() if name in text else None for name in opened.groups})
    except pa.ArrowInvalid:
        raise opened.not_utf8(text) from None


def _faults(table: Any, opened: TextTable) -> dict[str, str]:
    """Say what is wrong with columns that nothing can use: ids, say, are no fault before someone takes them."""
    import pyarrow as pa

    faults: dict[str, str] = {}
    for name in table.column_names:
        if pa.types.is_binary(table[name].type):
            faults[name] = opened.not_utf8([name]).reason
        elif pa.types.is_floating(table[name].type):
            values = table[name].to_numpy()
            if not (np.abs(values) >= EXACT_IN_FLOAT64).any():
                continue
            found = first_large(opened.parse({name: pa.string()})[name], values)
            if found is not None:
                row, number = found
                faults[name] = (
                    f"row {row + 1:,}, column {name}: {number} {ROUNDED}; write a letter before each if they are names "
                    "or classes, or a decimal point behind it if it may be rounded"
                )
    return faults


def _with_names(table: Any, opened: TextTable, kept: Sequence[str]) -> Any:
    """Return the table with text for those of these columns whose whole numbers are names, such as 007."""
    import pyarrow as pa
    import pyarrow.compute as pc

    with contextlib.suppress(SourceError):  # of a column that is not there, which whoever takes it says
        for name in select(kept, {name: (name,) for name in table.column_names}, opened.source):
            if pa.types.is_integer(table[name].type):
                text = opened.parse({name: pa.string()})[name]
                if pc.any(pc.match_substring_regex(text, _NAME)).as_py():
                    table = table.set_column(table.column_names.index(name), name, text)
    return table


def _as_read(text: str) -> str:
    """Return text with its accents in one of the two ways in which Unicode has them."""
    return unicodedata.normalize("NFC", text)


def _some(names: Sequence[str], one: str, many: str) -> str:
    """Count the names, and show the first few."""
    shown = ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
    return f"{len(names):,} {one if len(names) == 1 else many} ({shown})"
