"""The built-in process function, which takes columns of a table as inputs and labels."""

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from builder.build_errors import NO_ROWS, EmptySourceError, SourceError, of_source
from builder.formats import format_for, open_table
from builder.formats.arrays import read_npz_tables
from builder.formats.column_choice import select
from builder.formats.column_notes import Columns, columns_of
from builder.formats.convert import parse_dtype, require_values, stack
from builder.formats.joined import join_files, naming_file
from builder.formats.table import Array, OpenTable, Table, single_groups
from builder.frames.chosen_columns import select_inputs_and_labels
from builder.frames.class_columns import encode_labels, read_texts
from builder.frames.digits import DigitNotes, narrow
from builder.frames.groups import columns_to_group_by, read_groups
from builder.frames.label_join import LabelledTable, open_with_labels
from builder.frames.row_pipeline import RowPipeline
from builder.frames.transforms import in_other_units
from builder.labels.name_labels import parse_name_labels, target_names
from builder.labels.text_classes import CODES, classes_by_target, decode_classes, parse_classes
from builder.options.declaration import with_options, without_defaults
from builder.options.table_options import NO_LABELS, TableOptions
from builder.sequence import LongSequence, SourceReader, join_results, sequences_of
from builder.sequence import Sequence as SourceSequence
from builder.sources.label_files import LabelFilePattern
from store_spec import Classes, LabelAxis, Schema

LONG_BYTES = 2**27  # a file with more values, at 8 bytes each, is read piece by piece if its format allows it


@dataclass(frozen=True, slots=True, kw_only=True)
class Tabular(SourceReader):
    r"""A process function for tables of numbers; make it with `tabular`.

    It can be pickled, and compares equal to one with the same options.

    >>> process = tabular(inputs="c1:c12", label_pattern=r"spk(\d+)")
    >>> process.options.label_source, process.options.inputs
    ('pattern', ('c1:c12',))
    """

    options: TableOptions
    # The columns that every source must have, in the order of the store; None: the columns of the source.
    store_inputs: tuple[str, ...] | None = None
    store_labels: tuple[str, ...] | None = None
    store_columns: tuple[tuple[str, str], ...] = ()  # names and types of the columns of sequences
    text_dtype: str | None = None  # of a store whose first source is text; None if the option dtype is given
    digits: DigitNotes | None = field(default=None, compare=False)  # where to note numbers that float32 does not keep
    # The options that the caller gave; only these are compared with those of an existing store. None: all.
    explicit: tuple[str, ...] | None = None

    is_custom = takes_file = False

    @property
    def has_labels_in_table(self) -> bool:
        """Whether labels are columns of tables."""
        return self.options.label_source in {"columns", "inputs"}

    @property
    def label_axis(self) -> LabelAxis | None:
        """The label axis, if the options determine it."""
        axes: dict[str, LabelAxis] = {"columns": "step", "none": "own"}
        return self.options.label_axis or axes.get(self.options.label_source)

    def __repr__(self) -> str:
        defaults = tabular().describe()
        arguments = [
            f"{name}={value!r}"
            for name, value in self.describe().items()
            if value != defaults[name] and name != "label_source"
        ]
        return f"tabular({', '.join(arguments)})"

    def sequences(self, path: Path) -> Iterator[SourceSequence]:
        """Yield the sequences of one source, for use in your own process function.

        Sequences have no names of features: without the option `inputs`, columns are in the order of each file.
        (`build` calls the object instead, which finds columns by name, and takes less time and memory.) The options
        `label_pattern` and `labels_from` apply to the name of the file, without folders.

        Args:
            path: The path of the source.

        Yields:
            Sequences, with inputs (steps, features) or (steps, *feature shape); labels (steps, targets), (targets,) if
            there is one row for the sequence, or None if they are in the manifest; and columns and times if the options
            request them. Labels that are text stay text (object), unless the option `classes` defines their codes;
            `--classes`, or `build(..., classes=...)`, then stores their names.

        Raises:
            SourceError: The source cannot be read, or has unsuitable values.

        >>> def read(path):
        ...     for sequence in tabular(inputs="c1:c12", missing="split").sequences(path):
        ...         yield replace(sequence, labels=sequence.inputs.mean(axis=0))
        """
        with self._naming(path):
            classes: Classes = ()
            if self.options.label_source == "columns" and not self.options.classes:
                classes = tuple(texts or None for texts in self.classes_in(path).values())
            process = self.with_classes(classes) if any(classes) else self
            for sequence in sequences_of(process(path)):
                if isinstance(sequence, LongSequence):
                    sequence = sequence.concatenate(labels_once=self.options.label_source == "pattern")  # noqa: PLW2901
                yield replace(sequence, labels=decode_classes(sequence.labels, classes)) if any(classes) else sequence

    def __call__(self, path: Path) -> Any:
        """Read one source for `build`; in your own process function, use `sequences`.

        Args:
            path: The path of the source.

        Returns:
            A pair: inputs (steps, features) or (steps, *feature shape); labels (steps, targets), (targets,) if there is
            one row for the sequence, () for the single number of an NPZ file, or None if they are in the manifest. If
            rows are changed or cleaned, an iterator of `builder.Sequence`, one for each part. For a large NPY or
            Parquet file whose rows are not changed, a `builder.LongSequence`.

        Raises:
            EmptySourceError: The source has no rows, or all are dropped.
            SourceError: The source cannot be read or lacks a column, or a value is missing, infinite, not a number, or
                does not fit into the dtype.
        """
        with self._naming(path):
            result = self._read(path)
        return self._named(path, result) if isinstance(result, Iterator) else result

    def _naming(self, path: Path) -> AbstractContextManager[None]:
        """Name the source in errors; if it has several files, those about a row name the file."""
        name = self._name(path)
        if not self.files:
            return of_source(name)
        return naming_file(name, lambda: join_files(self.root, self.files, self.options))

    def _named(self, path: Path, sequences: Iterator[SourceSequence]) -> Iterator[SourceSequence]:
        with self._naming(path):
            yield from sequences

    def _read(self, path: Path) -> Any:
        """Read one source; its errors do not name it."""
        source, dtype = self._name(path), parse_dtype(self.options.dtype)
        if self._is_npz(path):
            if self.files:
                if not self.takes_all_rows:
                    raise SourceError("rows of NPZ files that form one source cannot be changed")
                return join_results(self._read_npz_files())
            result = self._read_npz(path, source)
            if isinstance(result, tuple) and not len(result[0]):
                raise EmptySourceError(NO_ROWS)
            return result
        opened, inputs, labels = self._open(path, source)
        other = None if labels else self._labels_by_name(source)
        table, classes = encode_labels(opened, inputs, labels, self.store_classes, self.options)
        joined = table if isinstance(table, LabelledTable) else None
        # Before there is a store, only numbers in text are noted.
        digits = self.digits if dtype is None and (self.text_dtype or table.text_numbers) else None
        if joined is not None and self.options.label_axis == "own":
            other = narrow(joined.own_labels(labels, CODES if classes else dtype, digits), self.text_dtype)
            labels, classes = (), ()
        time = select(self.options.time, table.groups)
        by = columns_to_group_by(self.options.group_by, table.groups)
        read = partial(read_groups, dtype=dtype, by=by, raw=time, digits=digits)
        pipeline = RowPipeline(
            read=partial(read, table),
            options=self.options,
            inputs=inputs,
            labels=labels,
            groups=table.groups,
            other=other,
            own=self.options.label_source == "inputs",
            time=time,
            classes=classes,
            dtype=dtype,
            text_dtype=self.text_dtype,
            types=dict(self.store_columns),
            decimal=table.decimal,
            joined=joined,
        )
        if not self.takes_all_rows:
            return pipeline.sequences()
        pieces = table.pieces() if (table.rows or 0) * len(pipeline.columns) * 8 > LONG_BYTES else ()
        pieces = [piece for piece in pieces if piece.rows != 0]  # files or row groups without rows
        if len(pieces) <= 1:
            return pipeline.arrays()
        return LongSequence(_read_pieces([replace(pipeline, read=partial(read, piece)) for piece in pieces]))

    def columns(self, path: Path) -> tuple[Columns, Columns]:
        """Return the features and the targets of a source: their names, units and descriptions."""
        inputs = labels = Columns()
        if not self._is_npz(path):
            table, features, targets = self._open(path, self._name(path))
            changed = in_other_units(self.options.transforms, table.groups)
            own, beside = (table.inputs, table.labels) if isinstance(table, LabelledTable) else (table, table)
            targets = table.names_in_label_file(targets) if isinstance(table, LabelledTable) else targets
            inputs = columns_of(own, features, changed) if own.named else inputs
            labels = columns_of(beside, targets, changed) if beside.named and targets else labels
        if self.options.label_pattern is not None:
            labels = Columns(target_names(self.options.label_pattern))
        elif self.options.label_source == "inputs":
            labels = inputs
        return inputs, labels

    def label_file(self, source: str) -> str | None:
        """Return the name of the label file of a source, relative to the root; None without `labels_from`."""
        pattern = self.options.labels_from
        return None if pattern is None else LabelFilePattern.parse(pattern).label_file(source)

    def labels_in_name(self, source: str) -> None:
        """Return None: calling the object returns labels in names too."""

    def only(self, options: Iterable[str]) -> "Tabular":
        """Return a copy for which only these options count as given; a store determines the other options."""
        return replace(self, explicit=tuple(options))

    def is_explicit(self, option: str) -> bool:
        """Return whether the caller gave an option; in Python all options count as given."""
        return self.explicit is None or option in self.explicit

    def for_schema(self, schema: Schema) -> "Tabular":
        """Return a copy for a store with this schema.

        It finds the columns of a source by name and returns them in this order. A source with other columns is refused.
        """
        return replace(
            self,
            store_inputs=schema.inputs.names,
            store_labels=schema.labels.names if self.options.label_source == "columns" else None,
            store_columns=tuple((column.name, column.dtype) for column in schema.columns),
            store_classes=schema.labels.classes,
        )

    def classes_in(self, path: Path) -> dict[str, tuple[str, ...] | None]:
        """Return the classes of each label column, from the option `classes` or its texts; None for numbers."""
        if self._is_npz(path):
            return {}
        opened, _, labels = self._open(path, self._name(path))
        names = opened.names_in_label_file(labels) if isinstance(opened, LabelledTable) else labels
        listed = classes_by_target(parse_classes(self.options.classes), names)
        return {
            name: classes or read_texts(opened, column)
            for name, column, classes in zip(names, labels, listed, strict=True)
        }

    def describe(self) -> dict[str, Any]:
        """Return the normalised options in a form that JSON can represent."""
        return self.options.describe()

    def recorded(self) -> dict[str, Any]:
        """Return the options that a store records."""
        return without_defaults(TableOptions, self.describe())

    def _name(self, path: Path) -> str:
        """Return the name of a source: its path relative to the root."""
        text = path.as_posix()  # comparing pathlib's parts takes longer than reading a small file
        return text if self.root is None else text.removeprefix(f"{self.root.as_posix().removesuffix('/')}/")

    def _open(self, path: Path, source: str) -> tuple[OpenTable, tuple[str, ...], tuple[str, ...]]:
        """Open a source, with its label file if it has one; return the table and its input and label columns."""
        table: OpenTable
        root = self.root or path.parent
        if self.files:
            table, path = join_files(self.root, self.files, self.options), root / self.files[0]
        else:
            table = open_table(path, self.options)
        label_file = self.label_file(source if self.root is not None else path.name)
        if label_file is not None:
            table = open_with_labels(table, path, root, label_file, self.options)
        chosen = select_inputs_and_labels(table, self.options, self.store_inputs, self.store_labels)
        return table, *chosen

    @property
    def takes_all_rows(self) -> bool:
        """Whether all rows are used unchanged, so that no value may be missing."""
        changes = ("group_by", "time", "missing", "transforms", "on", "na_values")
        return not any(getattr(self.options, name) for name in changes)

    def _labels_by_name(self, source: str) -> Array | None:
        """Return the labels in the name of the source, or no rows if there are no labels; None: they are elsewhere."""
        if self.options.label_source == "none":
            return np.zeros(0, np.int8)
        if self.options.label_pattern is None:
            return None
        dtype = parse_dtype(self.options.dtype)
        name = source if self.root is not None else source.rpartition("/")[2]  # folders above the sources are no labels
        return parse_name_labels(
            name, self.options.label_pattern, dtype, self.store_classes, from_user=bool(self.options.classes)
        )

    def _is_npz(self, path: Path) -> bool:
        """Return whether the source is an NPZ file, or consists of such files."""
        return format_for(Path(self.files[0]) if self.files else path, self.options) == "npz"

    def _read_npz_files(self) -> Iterator[tuple[str, Any]]:
        """Yield the names and the contents of the NPZ files of a source."""
        for file in self.files:
            with of_source(file):
                yield file, self._read_npz((self.root or Path()) / file, file)

    def _read_npz(self, path: Path, source: str) -> Any:
        """Read one NPZ file: as a pair of arrays if its rows are not changed, otherwise as sequences."""
        columns = ("inputs", "labels", "exclude", "group_by", "time", "labels_from")
        if any(getattr(self.options, name) not in ((), None, NO_LABELS) for name in columns):
            advice = "name the arrays with --input-key and --label-key"
            raise SourceError(f"an NPZ file's inputs and labels are whole arrays, not columns; {advice}")
        label_key = self.options.label_key if self.options.label_source == "inputs" else None
        dtype = parse_dtype(self.options.dtype)

        def whole(table: Table) -> Array:
            require_values(table)
            return narrow(stack(table, tuple(table.columns), dtype=dtype), self.text_dtype)

        inputs, labels, other = read_npz_tables(path, self.options.input_key, label_key, whole)
        steps = Table(columns={**inputs.columns, **labels.columns})
        if self.digits is not None and self.text_dtype is not None:
            self.digits.add(steps)
        other = self._labels_by_name(source) if label_key is None else other
        if self.takes_all_rows:
            x = whole(inputs)
            return x, whole(labels) if labels.columns else other
        return RowPipeline(
            read=lambda _: [({}, steps)],
            options=self.options,
            inputs=tuple(inputs.columns),
            labels=tuple(labels.columns),
            groups=single_groups(tuple(steps.columns)),
            other=other,
            dtype=dtype,
            text_dtype=self.text_dtype,
            types=dict(self.store_columns),
        ).sequences()


def _read_pieces(pieces: Iterable[RowPipeline]) -> Iterator[SourceSequence]:
    """Read a file piece by piece."""
    before = 0
    for piece in pieces:
        x, y = piece.arrays(before)
        before += len(x)
        yield SourceSequence(x, y)


@with_options(TableOptions)
def tabular(options: TableOptions) -> Tabular:
    """Make a process function that takes columns of a table as inputs and labels.

    Columns are one text, `"a,b,c1:c12"`, or a list of names and ranges. They are found by name, so their order in the
    file does not matter. The name of a list column means all of its elements.

    Returns:
        A process function for `build`. In your own process function, `tabular(...).sequences(path)` yields the
        sequences of a file.

    Raises:
        UsageError: Options conflict, or a value is not possible.
    """
    return Tabular(options=options)
