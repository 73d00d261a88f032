"""Read the manifest, a table with one row per source, and match its rows with the sources."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.amounts import count_text, first_names
from builder.build_errors import SourceError, UsageError, of_source
from builder.formats import format_of, open_table, split_name
from builder.formats.arrow import ArrowTable, describe_type, is_numeric, is_text, numbers_of
from builder.formats.arrow_modules import pa, pc
from builder.formats.column_choice import column_list, select
from builder.formats.convert import stack
from builder.formats.table import Array, OpenTable, Table, array_of, reading, single_groups
from builder.formats.text_numbers import MISSING, ROUNDED, first_large, strip_blanks
from builder.formats.text_table import TextTable
from builder.labels.text_classes import CODES
from builder.manifest.manifest_columns import KeptColumn, SourceLabels, check_texts, keep_column
from builder.options.table_options import TableOptions
from builder.sources.fingerprints import State
from store_spec import SequenceColumn

# The forms in which keys name sources, in the order in which they are tried.
_RULES: Final[dict[str, Callable[[str], str]]] = {
    "path": lambda name: name,
    "file name": lambda name: name.rpartition("/")[2],
    "stem": lambda name: split_name(name)[0],
}
_NAME: Final = r"^\s*[+-]?0[0-9]"  # text such as 007, which is a name and not a number
_HEXADECIMAL: Final = r"^\s*0[xX]"  # pyarrow takes 0x10 for an integer
DEFAULT_KEY = "source"
# None is that of the suffix. A tab comes before blanks, which can be in names.
_DELIMITERS: Final = ("\t", None, ",", ";", "|")
_WITH_DELIMITER: Final = ("csv", "tsv", "blank")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Misfits:
    """The keys and sources that do not match under a rule."""

    ambiguous: Sequence[str]  # keys that fit several sources, each with two of the sources
    rowless: Sequence[str]  # sources without a row
    sourceless: Sequence[str]  # keys without a source

    def __str__(self) -> str:
        problems = [f"{_some(self.ambiguous, 'key')} fit more than one source"] * bool(self.ambiguous)
        problems += [f"{_some(self.rowless, 'source')} without a row"] * bool(self.rowless)
        problems += [f"{_some(self.sourceless, 'row')} without a source"] * bool(self.sourceless)
        return "; ".join(problems)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A table with one row per source."""

    path: Path
    key: str  # the column that names the source
    keys: tuple[str, ...]  # (rows,)
    opened: TextTable | ArrowTable  # the file; other columns are read when they are used
    state: State  # of the file before it was opened
    text: Sequence[str] = ()  # columns to read as text

    def __len__(self) -> int:
        return len(self.keys)

    def match(
        self,
        names: Sequence[str],
        *,
        only_listed: bool = False,
        strict: bool = False,
        stored_names: Collection[str] = (),
    ) -> tuple[dict[str, int], tuple[str, ...]]:
        """Return each source's row, from 0, in the order of the sources; and the keys of sources that do not exist.

        Keys are paths below the root, or file names, or stems: the rule under which most rows name a source. Each row
        names at most one, and every source has a row. Rows of sources that are in the store, but whose files are gone,
        are not returned.

        Args:
            names: The sources.
            only_listed: Leave out sources without a row instead of refusing them.
            strict: Refuse rows without a source. They are always refused if no row has a source.
            stored_names: The sources in the store.

        Raises:
            UsageError: No rule fits; the message is about the rule that fits best.
        """
        row_of = {key: row for row, key in enumerate(self.keys)}
        twice = [key for row, key in enumerate(self.keys) if row_of[key] != row]
        if twice:
            raise UsageError(
                f"{self.path}: {_some(twice, 'key')} in more than one row of column {self.key}; leave one row "
                "for each source"
            )
        gone = set(stored_names).difference(names)
        best, wrong = self._best_rule(names, gone, row_of, only_listed=only_listed)
        text_of = _RULES[best]
        matched = {name: row_of[text_of(name)] for name in names if text_of(name) in row_of}
        if not (wrong.ambiguous or wrong.rowless) and (not wrong.sourceless or (matched and not strict)):
            return matched, tuple(wrong.sourceless)
        advice = ""
        if not matched:
            advice += "; correct this column, or give --key with one that names sources"
        elif wrong.rowless:
            advice += "; --manifest-only takes only the sources that have a row"
        if matched and wrong.sourceless and strict:
            advice += "; remove the rows whose files do not exist"
        raise UsageError(
            f"{self.path}: column {self.key} does not fit the sources by path, file name or stem. "
            f"By {best}: {wrong}{advice}"
        )

    def labels(self, columns: Sequence[str], *, as_text: Sequence[str], order: NDArray[np.int64]) -> SourceLabels:
        """Return columns as labels: bool, whole numbers, or floats if a column has floats.

        If there are text columns, labels are whole numbers. The user named the classes of those in `as_text`; `order`
        (sources,) is the row of each source.
        """
        read, _ = self._read(columns)
        names = tuple(read.column_names)
        texts: dict[str, list[str]] = {}
        for name in names:
            if is_text(read[name].type):
                values = strip_blanks(read[name], MISSING if self.opened.is_text else ())
                self._refuse(values.is_null().to_numpy(), "missing", name)
                texts[name] = values.to_pylist()
                if self.opened.is_text and name not in as_text:
                    check_texts(values, name, self.path)
        no_codes = np.full(len(self), -1, CODES)
        try:
            table = Table(
                columns={name: no_codes if name in texts else self._values(read[name], name) for name in names}
            )
            labels = stack(table, names, dtype=CODES if texts else None)
        except SourceError as error:
            # The advice of `stack` is about options of sources, which a manifest does not have.
            advice = (
                f"labels beside classes ({next(iter(texts))}) must be whole numbers: write it as one, or leave one out"
                if texts
                else "write all numbers of the column as floats if it may be rounded, or leave one column out"
            )
            raise UsageError(f"{self.path}: {error.reason.partition(';')[0]}; {advice}") from None
        of_targets = tuple(tuple(texts[name]) if name in texts else None for name in names)
        return SourceLabels(labels, names, of_targets if texts else ())[order]

    def kept(self, columns: Sequence[str], known: Mapping[str, SequenceColumn]) -> tuple[KeptColumn, ...]:
        """Return columns to keep with each sequence, (rows,) each; `known` has those of an old store, by name."""
        table, texts = self._read(columns)
        return tuple(
            keep_column(name, _as_written(table[name], texts[name]), known.get(name), str(self.path))
            for name in table.column_names
        )

    def _read(self, columns: Sequence[str]) -> tuple[Any, Any]:
        try:
            with of_source(str(self.path)):
                read = _read(self.opened, select(columns, single_groups(tuple(self.opened.groups))), self.text)
        except SourceError as error:
            raise UsageError(str(error)) from None
        if not self.path.exists() or State.of(self.path.stat()) != self.state:
            raise UsageError(f"{self.path}: it was changed while it was read; start again")
        return read

    def _best_rule(
        self, names: Sequence[str], gone: Collection[str], row_of: Mapping[str, int], *, only_listed: bool
    ) -> tuple[str, _Misfits]:
        """Return the rule under which most rows have a source, or a source that is gone; and what does not match."""
        results: dict[str, tuple[int, int, _Misfits]] = {}  # rows with a source, rows with one that is gone, misfits
        for rule, text_of in _RULES.items():
            sources: dict[str, list[str]] = {}
            for name in names:
                sources.setdefault(text_of(name), []).append(name)
            known = set(map(text_of, gone)).difference(sources)
            wrong = _Misfits(
                ambiguous=[
                    f"{key} ({', '.join(same[:2])})" for key, same in sources.items() if key in row_of and same[1:]
                ],
                rowless=[name for name in names if text_of(name) not in row_of and not only_listed],
                sourceless=[key for key in row_of if key not in sources and key not in known],
            )
            fitting = sum(key in sources for key in self.keys)
            results[rule] = fitting, sum(key in known for key in self.keys), wrong
            if fitting == len(self.keys) and not (wrong.ambiguous or wrong.rowless):
                break
        best = max(results, key=lambda rule: results[rule][:2])
        return best, results[best][2]

    def _values(self, column: Any, name: str) -> Array:
        """Return one column of numbers (rows,) without missing values."""
        if not is_numeric(column.type):
            row = next((row for row in range(len(column)) if column[row].is_valid), 0)
            holds = describe_type(column.type)
            raise UsageError(
                f"{self.path}: row {row + 1:,}, column {name} holds {holds} ({column[row]}); labels are numbers, "
                "bool or text"
            )
        numbers = numbers_of(column)
        self._refuse(numbers.is_null(nan_is_null=True).to_numpy(), "missing", name)
        values, _ = array_of(numbers)
        self._refuse(np.isinf(values), "infinite", name)
        return values

    def _refuse(self, mask: NDArray[np.bool_], what: str, name: str) -> None:
        """Refuse the values of a label column that a mask (rows,) marks."""
        if mask.any():
            row = int(mask.argmax())
            raise UsageError(
                f"{self.path}: row {row + 1:,} ({self.keys[row]}), column {name}: {what} value ({int(mask.sum()):,} in "
                "all); every source needs its labels"
            )


def read_manifest(path: Path, *, key: str = DEFAULT_KEY, text: Sequence[str] = ()) -> Manifest:
    """Open a manifest, CSV, TSV or Parquet, and read its keys; other columns are read when they are used.

    Raises:
        UsageError: The file cannot be read, the key column does not exist, or a row has no key.
    """
    if not path.exists():
        advice = "; a manifest is a local file, not a URL" if ":/" in str(path) else ""
        raise UsageError(f"manifest {path}: there is no such file{advice}")
    state = State.of(path.stat())
    try:
        with of_source(str(path)):
            opened = _open(path, key)
            keys = _read(opened, [key], [key])[0][key].to_pylist()
    except SourceError as error:
        raise UsageError(f"manifest {error}") from None
    empty = [row + 1 for row, text in enumerate(keys) if text is None or not str(text).strip()]
    if empty:
        raise UsageError(
            f"{path}: row {empty[0]:,}, column {key}: names no source ({len(empty):,} in all); name its file, or "
            "remove the row"
        )
    keys = tuple(str(text).strip() for text in keys)
    return Manifest(path=path, key=key, keys=keys, opened=opened, state=state, text=text)


def _open(path: Path, key: str) -> TextTable | ArrowTable:
    """Open a file with a key column. If text lacks it, other common delimiters are tried."""
    file_format = format_of(path.name)
    if file_format not in (*_WITH_DELIMITER, "parquet", "arrow"):
        raise SourceError(f"has the suffix {path.suffix!r}; a manifest is a CSV, TSV or Parquet file: save it as one")
    tables, errors = list[OpenTable](), dict[str | None, SourceError]()
    for delimiter in _DELIMITERS if file_format in _WITH_DELIMITER else (None,):
        try:
            tables.append(open_table(path, TableOptions(header=True, delimiter=delimiter)))
        except SourceError as error:
            errors[delimiter] = error
            continue
        if key in tables[-1].groups:
            break
    if not tables:
        raise errors[None]
    opened = max(tables, key=lambda table: (key in table.groups, len(table.groups)))
    if key not in opened.groups:
        raise SourceError(f"there is no column {key!r}; {column_list(list(opened.groups))}; name it with --key")
    assert isinstance(opened, TextTable | ArrowTable)
    return opened


def _read(opened: TextTable | ArrowTable, names: Sequence[str], text: Sequence[str]) -> tuple[Any, Any]:
    """Return columns as pyarrow.Tables: with a type that suits all their values, and as they are in the file.

    In a text file the latter are text, and so are the columns in `text`.
    """
    with reading():
        if isinstance(opened, ArrowTable):
            return (opened.load(list(names)),) * 2
        texts = opened.texts(names)
        if set(names) <= set(text):
            return texts, texts
        table = opened.parse({name: pa.string() if name in text else None for name in names})
    for place, name in enumerate(names):
        if pa.types.is_integer(table[name].type) and _any_matches(texts[name], _HEXADECIMAL):
            table = table.set_column(place, name, texts[name])
        if pa.types.is_floating(table[name].type) and (large := first_large(texts[name], table[name].to_numpy())):
            row, number = large
            raise SourceError(
                f"row {row + 1:,}, column {name}: {number} {ROUNDED}; write a letter before each if they are names or "
                "classes, or a decimal point after it if it may be rounded",
            )
    return table, texts


def _any_matches(texts: Any, pattern: str) -> bool:
    return bool(pc.any(pc.match_substring_regex(texts, pattern)).as_py())


def _as_written(column: Any, texts: Any) -> Any:
    """Return the texts of a column of times, and of whole numbers that are names, since one is like 007.

    A later build reads them as text, and would find other values if times were written in another form here.
    """
    is_name = pa.types.is_integer(column.type) and column.type != texts.type and _any_matches(texts, _NAME)
    return texts if is_name or pa.types.is_temporal(column.type) else column


def _some(names: Sequence[str], noun: str) -> str:
    """Return the number of names, and the first names, as text."""
    return f"{count_text(len(names), noun)} ({first_names(names)})"
