"""The process function behind the command line: columns of a file in, inputs and labels out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from builder.build_errors import SourceError
from builder.formats import format_for, open_table
from builder.formats.column_choice import in_order_of_store, select
from builder.formats.convert import parse_dtype, require_values, stack
from builder.formats.table import Array, DType, OpenTable
from builder.frames.class_columns import CategoricalTable, numbers_in, stacked_labels, texts_in, with_classes
from builder.frames.groups import Group, columns_to_group_by, groups_in
from builder.frames.label_join import WithLabels, with_labels
from builder.frames.npz_arrays import WholeArrays, read_whole_arrays, wanted_of_arrays
from builder.frames.row_pipeline import RowPipeline, SelectedColumns
from builder.labels.name_labels import labels_in, target_names
from builder.labels.text_classes import CODES, of_targets, parse_classes, texts_of
from builder.options.declaration import takes, without_defaults
from builder.options.table_options import LabelSource, TableOptions
from builder.sequence import LongSequence, Parts, sequences_of
from builder.sequence import Sequence as SourceSequence
from builder.sources.label_files import label_file_pattern
from store_spec import Classes, LabelAxis

LONG_BYTES = 2**27  # of values, counted with 8 bytes each: a file that has more is read piece by piece if it can be


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabular:
    r"""A process function for tables of numbers; make it with `tabular`.

    It pickles, and two of the same options are equal.

    >>> process = tabular(inputs="c1:c12", label_pattern=r"spk(\d+)")
    >>> process.label_source, process.options.inputs
    ('pattern', ('c1:c12',))
    """

    options: TableOptions
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
        return self.options.format

    @property
    def labels_from(self) -> str | None:
        """The pattern of the files of labels beside the sources; None: there are none."""
        return self.options.labels_from

    @property
    def label_pattern(self) -> str | None:
        """The regular expression that finds labels in names; None: they are elsewhere."""
        return self.options.label_pattern

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that are given, as `classes_text` writes them."""
        return tuple(self.options.classes)

    @property
    def label_source(self) -> LabelSource:
        """Where the labels come from."""
        return self.options.label_source

    @property
    def label_axis(self) -> LabelAxis | None:
        """The label axis, if the options tell."""
        return self.options.label_axis or ("step" if self.label_source == "columns" else None)

    @property
    def keeps(self) -> bool:
        """Whether NaN stands for missing values."""
        return self.options.keeps

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
        source, dtype = self._name(path), parse_dtype(self.options.dtype)
        if format_for(path, source, self.options) == "npz":
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
            given, na_values = self.classes, tuple(self.options.na_values)
            table, classes = with_classes(
                opened, inputs, labels, self.store_classes, given, source=source, na_values=na_values
            )
            opened = table if isinstance(table, WithLabels) else opened
            if isinstance(opened, WithLabels) and self.options.label_axis == "own":
                other, labels, classes = opened.own_labels(labels, CODES if classes else dtype), (), ()
            when = select(self.options.time, opened.groups, source)
            own = self.label_source == "inputs"
            wanted = SelectedColumns(inputs, labels, opened.groups, other, own=own, time=when, classes=classes)
            if self._is_plain:
                pieces = table.pieces() if (table.rows or 0) * len(wanted.columns) * 8 > LONG_BYTES else ()
                if len(pieces) <= 1:
                    return self._plain(table, wanted, source)
                return LongSequence(self._plain_pieces(pieces, wanted, source))
            by, as_text = columns_to_group_by(self.options.group_by, opened.groups, source)
            groups, beside = groups_in(table, wanted.columns, dtype, source, by=by, as_text=as_text, raw=when)
        types = dict(self.store_columns)
        decimal = "." if opened is None else opened.decimal
        taken = RowPipeline(wanted, self.options, source, dtype, types, decimal)
        taken = replace(taken, why=opened.why_missing) if isinstance(opened, WithLabels) else taken
        found = taken.sequences(groups)
        found = opened.counted(found) if self.options.on and isinstance(opened, WithLabels) else found
        return Parts(found, beside)

    def _plain(
        self, table: OpenTable | CategoricalTable, wanted: SelectedColumns, source: str, before: int = 0
    ) -> tuple[Array, Array | None]:
        """Return inputs and labels of rows that are taken as they are; so many come before them in the file."""
        dtype = parse_dtype(self.options.dtype)
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
        if format_for(path, source, self.options) == "npz":
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
        return (
            None
            if self.options.labels_from is None
            else label_file_pattern(self.options.labels_from).label_file(source)
        )

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
        if format_for(path, source, self.options) == "npz":
            return {}
        opened, _, labels = self._opened(path, source)
        names = opened.plain(labels) if isinstance(opened, WithLabels) else labels
        given = of_targets(parse_classes(self.classes), names)
        return {
            name: known or texts_in(opened, column, source, self.options.na_values)
            for name, column, known in zip(names, labels, given, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Return the options as JSON can hold them, one form for all ways to write the same."""
        return self.options.describe()

    def recorded(self) -> dict[str, Any]:
        """Return what a store records of the options."""
        return without_defaults(TableOptions, self.describe())

    def _name(self, path: Path) -> str:
        """Return what the source is called."""
        text = path.as_posix()  # whole paths as text: pathlib's own comparisons take longer than reading a small file
        return text if self.root is None else text.removeprefix(f"{self.root.as_posix().removesuffix('/')}/")

    def _opened(self, path: Path, source: str) -> tuple[OpenTable, tuple[str, ...], tuple[str, ...]]:
        """Open a source, and its labels where they are beside it; return it with its input and label columns."""
        table, root = open_table(path, source=source, options=self.options), self.root or path.parent
        beside = self.label_file(source if self.root is not None else path.name)
        opened = table if beside is None else with_labels(table, path, source, root, beside, self.options)
        return opened, *self._choose(opened, source)

    def _choose(self, table: OpenTable, source: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the input and label columns, in order."""
        options, beside = self.options, table if isinstance(table, WithLabels) else None
        groups: Mapping[str, tuple[str, ...]] = table.groups if beside is None else beside.inputs.groups
        exclude, on = tuple(options.exclude), tuple[str, ...]()
        if beside is not None:
            exclude, on = beside.of_source(exclude), beside.on
        # A list column of unknown width can be left out all the same.
        excluded = set(select([part for part in exclude if groups.get(part) != ()], groups, source))
        found = select(options.labels, groups, source) if beside is None else ()
        labels = [name for name in found if name not in excluded]
        if options.inputs:
            inputs = [name for name in select(options.inputs, groups, source) if name not in excluded]
        else:
            others = [name for name in groups if name not in exclude]
            by, _ = columns_to_group_by(options.group_by, groups, source)
            without = excluded.union(labels, by, on, select(options.time, groups, source))
            inputs = [name for name in select(others, groups, source) if name not in without]
        for option, names in (("inputs", inputs), ("labels", labels)):
            if not names and (option == "inputs" or (options.labels and beside is None)):
                raise SourceError(source, f"no column is left for the {option}, after labels and exclude")
        x, y = tuple(inputs), tuple(labels)
        if table.named:
            x = in_order_of_store(x, self.store_inputs, "inputs", source)
            y = in_order_of_store(y, self.store_labels, "labels", source) if beside is None else y
        if beside is None:
            return x, y
        return x, beside.targets(tuple(options.labels) or None, self.store_labels, tuple(options.exclude))

    @property
    def _is_plain(self) -> bool:
        """Whether rows are taken as they are, and none may have a missing value."""
        return not self.options.changes_rows

    def _labels_by_name(self, source: str, dtype: DType | None) -> Array | None:
        """Return the labels in the source's name, if there they are."""
        if self.label_pattern is None:
            return None
        return labels_in(source, self.label_pattern, dtype, self.store_classes, given=bool(self.classes))

    def _read_npz(self, path: Path, source: str) -> WholeArrays:
        """Read the two arrays of an NPZ file."""
        columns = ("inputs", "labels", "exclude", "group_by", "time", "labels_from")
        if any(getattr(self.options, name) for name in columns):
            advice = "name the arrays with --input-key and --label-key"
            raise SourceError(source, f"an NPZ file's inputs and labels are whole arrays, not columns; {advice}")
        return read_whole_arrays(
            path, source, self.options.input_key, self.options.label_key if self.label_source == "inputs" else None
        )


@takes(TableOptions)
def tabular(options: TableOptions) -> Tabular:
    """Make a process function that takes columns of a table as inputs and labels.

    Columns are given as one text, `"a,b,c1:c12"`, or as a list of names and ranges. They are found by name, so their
    order in the file does not matter. A list column stands for its elements.

    Returns:
        A process function, for `build`. In one of your own, `tabular(...).sequences(path)` gives the sequences of a
        file.

    Raises:
        UsageError: Options clash, or one cannot be.
    """
    return Tabular(options=options)
