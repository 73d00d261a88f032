"""The process function behind the command line: columns of a file in, inputs and labels out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike

from builder.build_errors import SourceError, UsageError
from builder.formats import ReadOptions, format_for, open_table
from builder.formats.column_choice import in_order_of_store, parse_columns, select
from builder.formats.convert import parse_dtype, require_values, stack
from builder.formats.table import Array, DType, OpenTable
from builder.frames.class_columns import CategoricalTable, numbers_in, stacked_labels, texts_in, with_classes
from builder.frames.cleaning import missing_words
from builder.frames.groups import Group, columns_to_group_by, groups_in
from builder.frames.iso_times import Unit
from builder.frames.label_join import WithLabels, with_labels
from builder.frames.npz_arrays import WholeArrays, read_whole_arrays, wanted_of_arrays
from builder.frames.row_options import Duplicates, RowOptions, float_dtype_needed
from builder.frames.row_pipeline import RowPipeline, SelectedColumns
from builder.labels.label_source import Join, LabelSource, label_source_of
from builder.labels.name_labels import labels_in, target_names
from builder.labels.text_classes import CODES, classes_text, of_targets, parse_classes, texts_of
from builder.sequence import LongSequence, Parts, sequences_of
from builder.sequence import Sequence as SourceSequence
from builder.sources.label_files import pairing_of
from store_spec.format.class_names import Classes
from store_spec.schema import LabelAxis

LONG_BYTES = 2**27  # of values, counted with 8 bytes each: a file that has more is read piece by piece if it can be

# What is usual, and then not recorded: stores that were built before there was such an option keep their bytes.
_NOT_RECORDED = {"decimal": ".", "skip_after_header": 0, "encoding": None, "comment": None, "time_zone": None}
_NO_OPTIONS = ("root", "store_inputs", "store_labels", "store_columns", "store_classes", "given")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabular:
    """A process function for tables of numbers; make it with `tabular`.

    It pickles, and two of the same options are equal.
    """

    inputs: tuple[str, ...] | None
    labels: tuple[str, ...] | None
    exclude: tuple[str, ...]
    dtype: str | None
    read: ReadOptions
    rows: RowOptions
    input_key: str
    label_key: str
    label_pattern: str | None
    label_source: LabelSource
    classes: tuple[str, ...] = ()  # as `classes_text` writes them
    # Where the sources lie: names in errors, and what `label_pattern` sees, are relative to it.
    root: Path | None = field(default=None)
    # The columns that every source must give, in the order of the store; None: the source's own.
    store_inputs: tuple[str, ...] | None = field(default=None)
    store_labels: tuple[str, ...] | None = field(default=None)
    store_columns: tuple[tuple[str, str], ...] = field(default=())  # of sequences: names and types
    store_classes: Classes | None = field(default=None)  # of each target
    # The options that an old store must have been built with; the others are as it records them. None: all.
    given: tuple[str, ...] | None = field(default=None)

    is_custom = False

    @property
    def format(self) -> str | None:
        """The format that all sources have; None: it goes by the suffix."""
        return self.read.format

    @property
    def labels_from(self) -> str | None:
        """The pattern of the files of labels beside the sources; None: there are none."""
        return self.rows.labels_from

    @property
    def label_axis(self) -> LabelAxis | None:
        """The label axis, if the options tell."""
        return self.rows.label_axis or ("step" if self.label_source == "columns" else None)

    @property
    def keeps(self) -> bool:
        """Whether NaN stands for missing values."""
        return self.rows.keeps

    def __repr__(self) -> str:
        usual = tabular().describe()
        given = {name: value for name, value in self.describe().items() if value != usual[name]}
        return f"tabular({', '.join(f'{name}={value!r}' for name, value in given.items() if name != 'label_source')})"

    def sequences(self, path: Path) -> Iterator[SourceSequence]:
        """Read one source in a process function of your own: whatever the options and the file, give its sequences.

        (What calling it returns is for `build`, and is what takes least time and memory.)

        Args:
            path: Where it lies.

        Yields:
            Of each sequence inputs (steps, features) or (steps, *feature shape); labels (steps, targets), (targets,)
            where there is one row for the sequence, or None where the manifest has them; and further columns and
            times, where the options ask for them. Labels that are text in a column are text here too (object), unless
            `classes` gives their codes: so that `--classes`, or `build(..., classes=...)`, has their names stored.

        Raises:
            SourceError: As calling it.

        >>> def read(path):
        ...     for sequence in tabular(inputs="c1:c12", missing="split").sequences(path):
        ...         yield replace(sequence, labels=sequence.inputs.mean(axis=0))
        """
        names: Classes = ()
        if self.label_source == "columns" and not self.classes:
            names = tuple(found or None for found in self.classes_in(path).values())
        coded = self.with_classes(names) if any(names) else self
        for given in sequences_of(coded(path)):
            once = self.label_source == "pattern"
            sequence = given.whole(labels_once=once) if isinstance(given, LongSequence) else given
            yield replace(sequence, labels=texts_of(sequence.labels, names)) if any(names) else sequence

    def __call__(self, path: Path) -> Any:
        """Read one source, as `build` does; a process function of your own has `sequences`.

        Args:
            path: Where it lies.

        Returns:
            A pair: inputs (steps, features) or (steps, *feature shape); labels (steps, targets), (targets,)
            where there is one row for the sequence, () of an NPZ file's single number, or None where the manifest has
            them. Where rows are changed or cleaned, an iterator of such a `builder.Sequence` for each part. Of a large
            NPY or Parquet file whose rows are taken as they are, a `builder.LongSequence`.

        Raises:
            SourceError: It cannot be read, lacks a column, or has values that are missing, infinite, no
                numbers, or not of the dtype that was asked for.
        """
        source, dtype = self._name(path), parse_dtype(self.dtype)
        if format_for(path, source, self.read) == "npz":
            arrays = self._read_npz(path, source)
            if self._is_plain:
                x, y = arrays.whole_inputs(source, dtype), arrays.whole_labels(source, dtype)
                return x, self._labels_by_name(source, dtype) if y is None else y
            wanted = wanted_of_arrays(arrays, source, dtype, lambda: self._labels_by_name(source, dtype))
            groups: Iterator[Group] = iter([({}, arrays.steps)])
            beside, opened = None, None
        else:
            opened, inputs, labels = self._opened(path, source)
            other = None if labels else self._labels_by_name(source, dtype)
            given, na_values = self.classes, self.read.na_values
            table, classes = with_classes(
                opened, inputs, labels, self.store_classes, given, source=source, na_values=na_values
            )
            opened = table if isinstance(table, WithLabels) else opened
            if isinstance(opened, WithLabels) and self.rows.label_axis == "own":
                other, labels, classes = opened.own_labels(labels, CODES if classes else dtype), (), ()
            when = select(self.rows.time, opened.groups, source)
            own = self.label_source == "inputs"
            wanted = SelectedColumns(inputs, labels, opened.groups, other, own=own, time=when, classes=classes)
            if self._is_plain:
                pieces = table.pieces() if (table.rows or 0) * len(wanted.columns) * 8 > LONG_BYTES else ()
                if len(pieces) <= 1:
                    return self._plain(table, wanted, source)
                return LongSequence(self._plain_pieces(pieces, wanted, source))
            by, as_text = columns_to_group_by(self.rows.group_by, opened.groups, source)
            groups, beside = groups_in(table, wanted.columns, dtype, source, by=by, as_text=as_text, raw=when)
        types = dict(self.store_columns)
        decimal = "." if opened is None else opened.decimal
        # A number among them is one in every file, whatever stands before decimals of text.
        words = [word.replace(self.read.decimal, ".") for word in self.read.na_values]
        taken = RowPipeline(wanted, self.rows, source, dtype, words, types, decimal)
        taken = replace(taken, why=opened.why_missing) if isinstance(opened, WithLabels) else taken
        found = taken.sequences(groups)
        found = opened.counted(found) if self.rows.on and isinstance(opened, WithLabels) else found
        return Parts(found, beside)

    def _plain(
        self, table: OpenTable | CategoricalTable, wanted: SelectedColumns, source: str, before: int = 0
    ) -> tuple[Array, Array | None]:
        """Return inputs and labels of rows that are taken as they are; so many come before them in the file."""
        dtype = parse_dtype(self.dtype)
        rows = numbers_in(table, wanted.columns, dtype)
        if before:
            rows = replace(rows, numbers=np.arange(before + 1, before + 1 + rows.rows))
        require_values(rows, source)
        x = stack(rows, wanted.inputs, dtype=dtype, source=source)
        if not wanted.labels:
            return x, x if wanted.own else wanted.other
        return x, stacked_labels(rows, wanted.labels, wanted.classes, dtype=dtype, source=source)

    def _plain_pieces(
        self, pieces: Sequence[OpenTable | CategoricalTable], wanted: SelectedColumns, source: str
    ) -> Iterator[SourceSequence]:
        """Give the same of a file that is read piece by piece."""
        before = 0
        for piece in pieces:
            x, y = self._plain(piece, wanted, source, before)
            before += len(x)
            yield SourceSequence(x, y)

    def columns(self, path: Path) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """Return the names of the features and of the targets of a source; None where they have no names.

        Raises:
            SourceError: As calling it would, as far as the file's header tells.
        """
        source = self._name(path)
        if format_for(path, source, self.read) == "npz":
            inputs, labels = None, None
        else:
            table, *chosen = self._opened(path, source)
            inputs, labels = chosen if table.named else (None, None)
            if labels and isinstance(table, WithLabels):
                labels = table.plain(labels) if table.labels.named else None
        if self.label_pattern is not None:
            labels = target_names(self.label_pattern)
        elif self.label_source == "inputs":
            labels = inputs
        return inputs, labels or None

    def label_file(self, source: str) -> str | None:
        """Return the name of a source's file of labels, relative to the root; None where labels are not beside it.

        Raises:
            SourceError: Its name does not fit `labels_from`.
        """
        return None if self.rows.labels_from is None else pairing_of(self.rows.labels_from).label_file(source)

    def labels_in_name(self, source: str) -> None:  # of the protocol
        """Return None: labels in names come with the rows."""
        del source

    def under(self, root: Path) -> "Tabular":
        """Return the same, for sources named relative to `root`."""
        return replace(self, root=root)

    def only(self, given: Iterable[str]) -> "Tabular":
        """Return the same, of which only these options are held against those of an old store, which has the rest."""
        return replace(self, given=tuple(given))

    def has_given(self, option: str) -> bool:
        """Tell whether the caller gave an option; one of Python gives all of them."""
        return self.given is None or option in self.given

    def with_classes(self, classes: Classes | None) -> "Tabular":
        """Return the same for labels with these classes."""
        return replace(self, store_classes=classes)

    def for_store(
        self,
        inputs: tuple[str, ...] | None,
        labels: tuple[str, ...] | None,
        columns: Sequence[tuple[str, str]] = (),
    ) -> "Tabular":
        """Return the same for a store whose features and targets have these names, and columns these types.

        A source's columns are then found by name and taken in this order, whatever theirs is; where they are
        others, the source does not fit.
        """
        labels = labels if self.label_source == "columns" else None
        return replace(self, store_inputs=inputs, store_labels=labels, store_columns=tuple(columns))

    def classes_in(self, path: Path) -> dict[str, tuple[str, ...] | None]:
        """Return the classes of each label column: those given, else its texts in order; None: it is no text.

        Raises:
            SourceError: They cannot be read.
        """
        source = self._name(path)
        if format_for(path, source, self.read) == "npz":
            return {}
        opened, _, labels = self._opened(path, source)
        names = opened.plain(labels) if isinstance(opened, WithLabels) else labels
        given = of_targets(parse_classes(self.classes), names)
        return {
            name: known or texts_in(opened, column, source, self.read.na_values)
            for name, column, known in zip(names, labels, given, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Return the options as JSON can hold them, one form for all ways to write the same."""
        options = asdict(self)
        for not_an_option in _NO_OPTIONS:
            del options[not_an_option]
        options |= options.pop("read") | options.pop("rows")
        return {name: list(value) if isinstance(value, tuple) else value for name, value in sorted(options.items())}

    def recorded(self) -> dict[str, Any]:
        """Return what a store records of the options."""
        return {name: value for name, value in self.describe().items() if value != _NOT_RECORDED.get(name, ...)}

    def _name(self, path: Path) -> str:
        """Return what the source is called."""
        text = path.as_posix()  # whole paths as text: pathlib's own comparisons take longer than reading a small file
        return text if self.root is None else text.removeprefix(f"{self.root.as_posix().removesuffix('/')}/")

    def _opened(self, path: Path, source: str) -> tuple[OpenTable, tuple[str, ...], tuple[str, ...]]:
        """Open a source, and its labels where they are beside it; return it with its input and label columns."""
        table, root = open_table(path, source=source, options=self.read), self.root or path.parent
        beside = self.label_file(source if self.root is not None else path.name)
        opened = (
            table
            if beside is None
            else with_labels(table, path, source, root, beside, self.read, self.rows.on, self.rows.join)
        )
        return opened, *self._choose(opened, source)

    def _choose(self, table: OpenTable, source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the input and label columns, in order."""
        beside = table if isinstance(table, WithLabels) else None
        groups: Mapping[str, tuple[str, ...]] = table.groups if beside is None else beside.inputs.groups
        exclude, on = (self.exclude, ()) if beside is None else (beside.of_source(self.exclude), beside.on)
        # A list column of unknown width can be left out all the same.
        excluded = set(select([part for part in exclude if groups.get(part) != ()], groups, source))
        found = select(self.labels or (), groups, source) if beside is None else ()
        labels = [name for name in found if name not in excluded]
        if self.inputs is not None:
            inputs = [name for name in select(self.inputs, groups, source) if name not in excluded]
        else:
            others = [name for name in groups if name not in exclude]
            by, _ = columns_to_group_by(self.rows.group_by, groups, source)
            without = excluded.union(labels, by, on, select(self.rows.time, groups, source))
            inputs = [name for name in select(others, groups, source) if name not in without]
        for option, names in (("inputs", inputs), ("labels", labels)):
            if not names and (option == "inputs" or (self.labels is not None and beside is None)):
                raise SourceError(source, f"no column is left for the {option}, after labels and exclude")
        x, y = tuple(inputs), tuple(labels)
        if table.named:
            x = in_order_of_store(x, self.store_inputs, "inputs", source)
            y = in_order_of_store(y, self.store_labels, "labels", source) if beside is None else y
        return x, y if beside is None else beside.targets(self.labels, self.store_labels, self.exclude)

    @property
    def _is_plain(self) -> bool:
        """Whether rows are taken as they are, and none may have a missing value."""
        return not self.rows.changes and not self.read.na_values

    def _labels_by_name(self, source: str, dtype: DType | None) -> Array | None:
        """Return the labels in the source's name, if there they are."""
        if self.label_pattern is None:
            return None
        return labels_in(source, self.label_pattern, dtype, self.store_classes, given=bool(self.classes))

    def _read_npz(self, path: Path, source: str) -> WholeArrays:
        """Read the two arrays of an NPZ file."""
        if self.inputs or self.labels or self.exclude or self.rows.group_by or self.rows.time or self.rows.labels_from:
            advice = "name the arrays with --input-key and --label-key"
            raise SourceError(source, f"an NPZ file's inputs and labels are whole arrays, not columns; {advice}")
        return read_whole_arrays(
            path, source, self.input_key, self.label_key if self.label_source == "inputs" else None
        )


def tabular(
    *,
    inputs: str | Sequence[str] | None = None,
    labels: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    dtype: DTypeLike | None = None,
    format: str | None = None,  # noqa: A002 - the option's name
    delimiter: str | None = None,
    decimal: str = ".",
    skip_lines: int = 0,
    skip_after_header: int = 0,
    encoding: str | None = None,
    comment: str | None = None,
    header: bool | None = None,
    column_names: str | Sequence[str] | None = None,
    input_key: str = "inputs",
    label_key: str = "labels",
    label_pattern: str | None = None,
    labels_in_manifest: bool = False,
    labels_from: str | None = None,
    on: str | Sequence[str] | None = None,
    join: Join = "inner",
    label_axis: Literal["step", "own"] | None = None,
    group_by: str | Sequence[str] | None = None,
    time: str | Sequence[str] | None = None,
    time_format: str | Sequence[str] | None = None,
    time_unit: Unit | None = None,
    time_zone: str | None = None,
    elapsed: bool = False,
    sort_time: bool = False,
    duplicates: Duplicates = "error",
    max_gap: str | None = None,
    every: str | None = None,
    missing: str | Sequence[str] | None = None,
    ffill_limit: int | None = None,
    mask: bool = False,
    na_values: str | Sequence[str] | None = None,
    transforms: str | Sequence[str] | None = None,
    classes: str | Sequence[str] | None = None,
) -> Tabular:
    r"""Make a process function that takes columns of a table as inputs and labels.

    Columns are named "a,b,c1:c12" (a range is in file order, both ends included), or as a list; by number
    from 0 ("0:23") where a file has no names. Names with commas stand in double quotes. A list column stands
    for its elements. Columns are found by name, so their order in the file does not matter. Without `labels` or
    another source of them, the labels are the inputs, as forecasting the next step needs.

    Args:
        inputs: Columns of the inputs; None takes all but labels and excluded ones.
        labels: Columns of the labels, one row per step.
        exclude: Columns to leave out of either.
        dtype: Of inputs and labels. None keeps what binary files hold, and gives float64 for text and decimals.
        format: One of `builder.formats.FORMATS`; None goes by the suffix.
        delimiter: One character between the fields of text.
        decimal: `","` where numbers in text are written `1,5`; the numbers of options have a point all the same, but
            for those of `na_values`.
        skip_lines: Lines of text before its header, or before its first row, that are left out of every source.
        skip_after_header: Lines that are left out behind the header, as one of units.
        encoding: Of text, as `latin-1` or `utf-16`. None: UTF-8.
        comment: One character, as `#`: lines of text that begin with it are left out, and not counted as lines.
        header: Whether text starts with the column names; None: CSV and TSV do, blank-separated does not.
        column_names: Names for text without a header, and for NPY files.
        input_key: The array of an NPZ file that holds the inputs.
        label_key: The array of an NPZ file that holds the labels: a row per step, or a single number.
        label_pattern: A regular expression, searched in the source's name (relative to its root, where that
            is known); each of its groups is a number or a class, a target of the whole sequence.
        labels_in_manifest: The labels come from elsewhere, and None is returned in their place.
        labels_from: A file of labels for each source: `"labels/{stem}.csv"`, with `{stem}`, `{name}`, `{parent}` or
            `{path}` of the source, relative to the root; or `r"in/(\d+)_.* -> out/{1}.csv"`, with the groups of a
            regular expression. `labels` are then columns of that file; by default all. It is read as the sources are
            if it has their suffix. Files in the root that are named so are no sources.
        on: Columns of both by which rows are paired, as `"time"` or `"time=date"`: rows without labels are left out,
            and counted, unless `join` says otherwise; windows span them, unless `max_gap` ends a sequence there.
            Without `on` each row of the file is the label of the row of its number.
        join: `left`: of rows without labels these are missing, and `missing` says what becomes of that.
        label_axis: `own`: labels have lengths of their own.
        group_by: Columns by whose values the rows of a file are sequences of their own, in the order in which they
            first appear; the values are kept in columns of the same names, whole numbers as int64, or as text where
            it is `"k:text"`. They are no inputs unless named there.
        time: The column that tells when each row was: time stamps, text of ISO 8601 or of `time_format`, or numbers of
            `time_unit` since 1970; or two of text, a date and a time of day; or `"year,month,day,hour"` of whole
            numbers. With a zone it is UTC, without it is a local time. It is no input unless named there.
        time_format: One format of `datetime.strptime` or several.
        time_unit: `s`, `ms`, `us` or `ns`: what numbers count, and what time stamps are stored in, as whole numbers of
            binary files are. Numbers in text and floats are stored in `ns`, since any of them may have a fraction.
        time_zone: Of times that are written without a zone, as `Europe/Berlin`; they become UTC. An hour that clocks
            show twice is told apart by the order of the rows, or refused.
        elapsed: The numbers do not count from 1970, but from some beginning.
        sort_time: Sort the rows of a sequence by time; otherwise they must be in that order.
        duplicates: Of rows of one time, `error` refuses them; or take the `first`, the `last`, or the `mean`.
        max_gap: A longer time between two rows, as `"2h"`, ends the sequence; another begins. Rows count that `missing`
            drops.
        every: The time between any two rows, as `"10s"`; a row that is off it is refused.
        missing: What becomes of missing values: `"drop"`, or a list of such, of which each `"COLS=POLICY"` is for
            some columns alone. `error` refuses the source, and is the default; `drop` leaves the step out, so that
            windows span it; `split` ends the sequence there, and another begins after it; `keep` stores NaN; `ffill`
            and `interpolate` (in time, if there is one) fill, and `"ffill+drop"` says what becomes of what they leave,
            as leading gaps. Columns are filled before steps are left out. Whole numbers become float64 where they are
            kept or interpolated.
        ffill_limit: How many steps in a row `ffill` fills at most.
        mask: Keep which values of inputs were filled in, so that `windows(..., mask=True)` can tell.
        na_values: What counts as missing beside what usually does, as `"-999,?"`; numbers among them are compared as
            numbers, in files of any format. Of decimals with a comma, `'"-999,0",?'`, or a list.
        transforms: Changes to columns, one after another, before `missing`: `"scale flow=0.001"`, `"clip flow=0:"`,
            `"diff level"` (the first row, which has none before it, is left out), `"log flow"`.
        classes: Of labels that are text: `"cat,dog"`, whose codes are 0 and 1, or a list of `"COL=cat,dog"` where there
            are several targets; text that is none of them is refused. Without it, the texts of label columns are
            classes in the order in which they first appear, and later builds add others behind them.

    Returns:
        A process function, for `build`. In one of your own, `tabular(...).sequences(path)` gives the sequences of a
        file.

    Raises:
        UsageError: Options clash, or one cannot be.

    >>> process = tabular(inputs="c1:c12", label_pattern=r"spk(\d+)")
    >>> process.label_source, process.inputs
    ('pattern', ('c1:c12',))
    """
    label_source = label_source_of(labels, label_pattern, labels_from, in_manifest=labels_in_manifest)
    parsed = parse_dtype(dtype)
    rows = RowOptions(
        group_by=parse_columns(group_by, "group_by") or (),
        time=parse_columns(time, "time") or (),
        time_format=_each(time_format),
        time_unit=time_unit,
        time_zone=time_zone,
        elapsed=elapsed,
        sort_time=sort_time,
        duplicates=duplicates,
        max_gap=max_gap,
        every=every,
        missing=_each(missing),
        ffill_limit=ffill_limit,
        mask=mask,
        transforms=_each(transforms),
        labels_from=labels_from,
        on=parse_columns(on, "on") or (),
        join=join,
        label_axis=label_axis,
    )
    float_dtype_needed(rows, parsed)
    missing_too = missing_words(na_values, decimal)
    if classes and label_source == "inputs":
        raise UsageError("classes (--classes) are of labels that are text, and no labels are named; say which they are")
    return Tabular(
        inputs=parse_columns(inputs, "inputs"),
        labels=parse_columns(labels, "labels"),
        exclude=parse_columns(exclude, "exclude") or (),
        dtype=None if parsed is None else parsed.name,
        read=ReadOptions(
            format=format,
            delimiter=delimiter,
            decimal=decimal,
            skip_lines=skip_lines,
            skip_after_header=skip_after_header,
            encoding=encoding,
            comment=comment,
            header=header,
            column_names=parse_columns(column_names, "column_names"),
            na_values=missing_too,
        ),
        rows=rows,
        input_key=input_key,
        label_key=label_key,
        label_pattern=label_pattern,
        label_source=label_source,
        classes=classes_text(parse_classes(_each(classes), missing_too)),
    )


def _each(given: str | Sequence[str] | None) -> tuple[str, ...]:
    return () if given is None else (given,) if isinstance(given, str) else tuple(given)
