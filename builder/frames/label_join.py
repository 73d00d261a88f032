"""A table of inputs and the table of its labels, as one: row by row, or joined by columns of both."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy as np

from builder.build_errors import SourceError
from builder.formats import format_of, open_table
from builder.formats.column_choice import in_order_of_store, select
from builder.formats.convert import require_values, stack
from builder.formats.table import HIDDEN, ROW, Array, DType, Frame, OpenTable, Table, column_of, hidden
from builder.frames.join_keys import key_text, label_rows
from builder.options.table_options import Join, TableOptions
from builder.sequence import Sequence as SourceSequence

PREFIX: Final = "labels:"  # of a column of labels that is named as one of the source's


class WithLabels:
    """An `OpenTable` of the columns of a source and of its labels.

    Args:
        inputs: The source.
        labels: Its labels.
        source: What the source is called in errors.
        label_file: What its file of labels is called.
        on: Columns of both by whose values rows are paired, as `time` or `time=date`; none: row by row.
        join: What becomes of rows of the source without labels: `inner` leaves them out, and of `left` the labels are
            missing there.
    """

    def __init__(  # noqa: PLR0917  # it makes one thing of all of these
        self,
        inputs: OpenTable,
        labels: OpenTable,
        source: str,
        label_file: str,
        on: Sequence[str] = (),
        join: Join = "inner",
    ) -> None:
        self.inputs, self.labels, self._join = inputs, labels, join
        self.dropped = 0  # rows of the source that are left out, without labels; known when something was read
        self._source, self.label_file = source, label_file
        sides = [_sides(part, inputs.groups) for part in on]
        self.on = select([left for left, _ in sides], inputs.groups, source)
        self._label_on = select([right for _, right in sides], labels.groups, label_file)
        taken = {*inputs.groups, *(name for names in inputs.groups.values() for name in names)}
        self._names = {
            f"{PREFIX}{name}" if name in taken else name: name
            for group, names in labels.groups.items()
            for name in dict.fromkeys((group, *names))
        }

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """Each column's name and those of its elements, those of the labels last."""
        ours = {name: one for one, name in self._names.items()}
        of_labels = {ours[group]: tuple(ours[name] for name in names) for group, names in self.labels.groups.items()}
        return {**self.inputs.groups, **of_labels}

    @property
    def named(self) -> bool:
        """Whether the names of the inputs come from the file or the user."""
        return self.inputs.named

    @property
    def is_text(self) -> bool:
        """Whether the source is text."""
        return self.inputs.is_text

    @property
    def decimal(self) -> str:
        """What stands before decimals of the columns that are read as they are: those of the source."""
        return self.inputs.decimal

    def of_source(self, columns: Sequence[str]) -> tuple[str, ...]:
        """Return those of some columns, as they are chosen, that are not of the labels alone."""
        ours = {*self.inputs.groups, *(name for names in self.inputs.groups.values() for name in names)}
        theirs = {*self._names.values()}
        return tuple(part for part in columns if part in ours or part not in theirs)

    def targets(
        self, wanted: Sequence[str] | None, of_store: tuple[str, ...] | None, exclude: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return the columns of labels that are chosen: all but those that rows are paired by, if none is named.

        Raises:
            SourceError: One is not there, none is left, or they are not those of the store.
        """
        groups = self.labels.groups
        names = select(wanted or [name for name in groups if name not in exclude], groups, self.label_file)
        without = {*exclude, *(self._label_on if wanted is None else ())}
        names = tuple(name for name in names if name not in without)
        if not names:
            raise SourceError(self.label_file, "no column is left for the labels, after those of --on and --exclude")
        if self.labels.named:
            names = in_order_of_store(names, of_store, "labels", self.label_file)
        ours = {name: one for one, name in self._names.items()}
        return tuple(ours[name] for name in names)

    def plain(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Return what the file of labels calls these columns: their names, or numbers where it names none."""
        return tuple(self._names[name] for name in targets)

    def with_table(self, labels: OpenTable) -> WithLabels:
        """Return the same, whose labels are read by another table of the same file."""
        found = copy(self)
        found.labels = labels
        return found

    def own_labels(self, targets: Sequence[str], dtype: DType | None) -> Array:
        """Return all rows of the labels, (label steps, targets), which have a length of their own."""
        names = self.plain(targets)
        table = Table.of(self.labels.read(names, dtype))
        require_values(table, self.label_file)
        return stack(table, names, dtype=dtype, source=self.label_file)

    def read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str] = ()) -> Frame:
        """Read columns of both; see `OpenTable`.

        Raises:
            SourceError: A file cannot be read, or rows cannot be paired.
        """
        own = [name for name in names if name not in self._names]
        others = [name for name in names if name in self._names]
        frame = self.inputs.read(own, dtype, tuple(dict.fromkeys((*raw, *self.on))))
        frame = frame.append_column(ROW, column_of(np.arange(1, len(frame) + 1)))
        labels = self.labels.read([self._names[name] for name in others], dtype, self._label_on)
        if self.on:
            frame, labels = self._paired(frame, labels)
        elif others and len(frame) != len(labels):
            raise SourceError(
                self._source,
                f"it has {len(frame):,} rows, and its labels {self.label_file} have {len(labels):,}; pair rows by a "
                "column of both with --on, or say --label-axis own where labels have a length of their own",
            )
        for name in others:
            frame = frame.append_column(name, labels[self._names[name]])
        return frame.select([*names, *(HIDDEN + name for name in raw), ROW])

    def _paired(self, frame: Frame, labels: Frame) -> tuple[Frame, Frame]:
        """Return the rows that are not left out, and of each its labels, which may be missing."""
        self._keys = hidden(frame, self.on)
        names, decimals = (self._source, self.label_file), (self.inputs.decimal, self.labels.decimal)
        self._theirs = label_rows(self._keys, hidden(labels, self._label_on), names, decimals)
        rows = np.arange(len(frame)) if self._join == "left" else np.flatnonzero(self._theirs >= 0)
        self.dropped = len(frame) - len(rows)
        theirs = self._theirs[rows]
        return frame.take(column_of(rows)), labels.take(column_of(theirs, theirs < 0))

    def pieces(self) -> Sequence[OpenTable]:
        """Return the whole: a row's labels can lie anywhere in their file."""
        return [self]

    @property
    def rows(self) -> int | None:
        """None: how many have labels is not known before both files are read."""
        return None

    def counted(self, sequences: Iterable[SourceSequence]) -> Iterator[SourceSequence]:
        """Give the sequences, of which the first counts the rows that have no labels among those left out."""
        for number, sequence in enumerate(sequences):
            more = self.dropped if not number else 0
            columns = {**sequence.columns, "dropped": sequence.columns["dropped"] + more}
            yield replace(sequence, columns=columns) if more else sequence

    def why_missing(self, name: str, row: int) -> str:
        """Say why a value is missing, if it is since no row of labels has the key of that row of the source, from 1."""
        if self._join == "inner" or name not in self._names or self._theirs[row - 1] >= 0:
            return ""
        key = key_text(self._keys, row - 1)
        return f", since no row of its labels {self.label_file} has {','.join(self._label_on)} {key}"


def _sides(part: str, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    """Return the names of a column in the source and in the labels: `time`, or `time=date`."""
    left, equals, right = part.partition("=")
    return (part, part) if not equals or part in groups else (left.strip(), right.strip())


def with_labels(  # noqa: PLR0917  # it makes one thing of all of these
    table: OpenTable, path: Path, source: str, root: Path, label_file: str, options: TableOptions
) -> WithLabels:
    """Return an open source together with its labels.

    Args:
        table: The source.
        path: Where it lies.
        source: What it is called in errors.
        root: What `label_file` is relative to.
        label_file: The file of its labels.
        options: How sources are read; labels of another suffix are read as that says.

    Raises:
        SourceError: The labels cannot be read.
    """
    other = root / label_file
    alike = _options_of_labels(options, has_same_suffix=other.suffix == path.suffix, format=format_of(other.name))
    opened = open_table(other, source=label_file, options=alike)
    return WithLabels(table, opened, source, label_file, options.on, options.join)


@lru_cache(maxsize=8)
def _options_of_labels(options: TableOptions, *, has_same_suffix: bool, format: str | None) -> TableOptions:  # noqa: A002
    """Return how files of labels are read."""
    if has_same_suffix:
        return replace(options, column_names=(), skip_lines=0, skip_after_header=0)
    return TableOptions(
        na_values=options.na_values,
        # Where commas stand between fields, none can stand before decimals.
        decimal="." if format == "csv" else options.decimal,
        encoding=options.encoding,
        comment=options.comment,
    )
