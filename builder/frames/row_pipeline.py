"""Turn the rows of a file into sequences: transform, clean, and split them into parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import NO_ROWS, EmptySourceError, SourceError
from builder.formats.column_choice import list_names, select
from builder.formats.convert import stack
from builder.formats.table import Array, DType, Table
from builder.frames.class_columns import refuse_policies, refuse_transforms, stack_labels
from builder.frames.cleaning import CleanRows, clean, mark_missing, no_rows_left
from builder.frames.groups import Group, convert_group_values
from builder.frames.stamps import Stamps
from builder.frames.step_times import read_stamps
from builder.frames.timeline import Stretch, split_by_time
from builder.frames.transforms import apply_transforms
from builder.options.policies import Policy, parse_policies
from builder.options.table_options import COUNTS, TableOptions
from builder.options.transform_syntax import parse_transform
from builder.sequence import Sequence as SourceSequence


@dataclass(frozen=True, slots=True, eq=False)
class SelectedColumns:
    """The columns that are read from a file."""

    inputs: tuple[str, ...]
    labels: tuple[str, ...]  # empty: the labels are `other`
    groups: Mapping[str, tuple[str, ...]]  # every column of the file with its elements, in file order
    other: Array | None = None  # labels that are not columns; None: they come from elsewhere
    own: bool = False  # whether the labels are the inputs
    time: tuple[str, ...] = ()  # the columns with the time of each row
    classes: tuple[str, ...] = ()  # the label columns that hold class codes

    @property
    def columns(self) -> tuple[str, ...]:
        """Input and label columns, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.labels)))


@dataclass(frozen=True, slots=True, eq=False)
class RowPipeline:
    """Turns the rows of one file into sequences."""

    selection: SelectedColumns
    options: TableOptions
    source: str
    dtype: DType | None  # of inputs and labels; None: the dtype to which NumPy promotes the columns
    types: Mapping[str, str]  # of the columns of sequences in the store; empty: there is no store yet
    decimal: str = "."  # the decimal mark of numbers in text
    why: Callable[[str, int], str] = lambda _, __: ""  # explains a missing value, from its column and row of the file

    def sequences(self, groups: Iterable[Group]) -> Iterator[SourceSequence]:
        """Yield the sequences of each group, in order; EmptySourceError if no row remains.

        If all steps of a group are dropped, they count with the next sequence, or with the last.
        """
        policies = self._policies()
        transforms = [parse_transform(text) for text in self.options.transforms]
        names = [self._select(transform.columns, transform.kind) for transform in transforms]
        refuse_transforms(transforms, names, self.options.duplicates, self.selection.classes, self.source)
        # The last sequence is held back: steps that are dropped after it count with it.
        last: SourceSequence | None = None
        dropped, rows, empty_table = 0, 0, None
        for values, stretch in chain.from_iterable(self._stretches(group, policies) for group in groups):
            table, first = apply_transforms(Table.of(stretch.frame), transforms, names, self.source)
            cleaned = clean(
                table,
                policies,
                self.source,
                limit=self.options.ffill_limit,
                first=first,
                time=None if stretch.stamps is None else stretch.stamps.values,
                why=self.why,
            )
            dropped += stretch.dropped
            rows += len(stretch.frame) + stretch.dropped
            if not table.rows or not len(cleaned.lengths):
                dropped += table.rows
                empty_table = table
                continue
            for sequence in self._parts(cleaned, values, stretch.stamps):
                if last is not None:
                    yield last
                last, dropped = _add_dropped(sequence, dropped), 0
        if last is not None:
            yield _add_dropped(last, dropped)
        elif empty_table is not None and rows:
            raise no_rows_left(empty_table, rows, self.source)
        else:
            raise EmptySourceError(self.source, NO_ROWS)

    def _stretches(self, group: Group, policies: Mapping[str, Policy]) -> Iterator[tuple[Mapping[str, Any], Stretch]]:
        """Yield the stretches of a group, each with the values of the `group_by` columns."""
        values = convert_group_values(group[0], self.types, self.source)
        na_values = [word.replace(self.options.decimal, ".") for word in self.options.na_values]
        frame = mark_missing(group[1], na_values, self.selection.classes)
        if not self.selection.time:
            yield values, Stretch(frame)
            return
        stamps = read_stamps(frame, self.selection.time, self.options, self.source, self.decimal)
        name = ",".join(self.selection.time)
        without = policies[self.selection.time[0]].end
        is_empty = True
        for stretch in split_by_time(frame, stamps, self.options, without, name=name, source=self.source):
            is_empty = False
            yield values, stretch
        if is_empty:
            yield values, Stretch(frame.slice(0, 0), len(frame), stamps.take(np.zeros(0, np.int64)))

    def _parts(self, cleaned: CleanRows, values: Mapping[str, Any], stamps: Stamps | None) -> Iterator[SourceSequence]:
        """Yield each part of a stretch as a sequence."""
        selection = self.selection
        inputs = stack(cleaned.table, selection.inputs, dtype=self.dtype, source=self.source)
        labels = None
        if selection.labels:
            labels = stack_labels(
                cleaned.table, selection.labels, selection.classes, dtype=self.dtype, source=self.source
            )
        filled = _stack_fills(cleaned, selection.inputs, inputs.shape) if self.options.mask else None
        time = None if stamps is None else stamps.array[cleaned.rows]
        if time is not None and not len(time) and not self.options.elapsed:
            time = time.view(np.int64)  # without rows, unit and zone are unknown; int64 fits any store
        start = 0
        for number, stop in enumerate(accumulate(cleaned.lengths.tolist())):
            columns = dict(values)
            if self.options.counts:
                for name, counts in zip(COUNTS, (cleaned.dropped, cleaned.filled), strict=True):
                    columns[name] = int(counts[number]) if len(counts) else 0
            part_inputs = inputs[start:stop]
            part_labels = part_inputs if selection.own else selection.other
            if labels is not None:
                part_labels = labels[start:stop]
            yield SourceSequence(
                part_inputs,
                part_labels,
                columns=columns,
                time=None if time is None else time[start:stop],
                zone=None if stamps is None else stamps.zone,
                filled=None if filled is None else filled[start:stop],
            )
            start = stop

    def _policies(self) -> Mapping[str, Policy]:
        """Return the policy of each selected column, and of the time columns."""
        policies = parse_policies(self.options.missing)
        special: dict[str, Policy] = {}
        for columns, policy in policies.columns:
            for name in self._select(columns, "missing", also=self.selection.time):
                if name in special:
                    raise SourceError(
                        self.source,
                        f"--missing gives column {name} two policies, {special[name]} and {policy}; leave one out",
                    )
                special[name] = policy
        by_column = {
            name: special.get(name, policies.general) for name in (*self.selection.columns, *self.selection.time)
        }
        refuse_policies(by_column, self.selection.classes, self.source)
        return by_column

    def _select(self, columns: Sequence[str], option: str, also: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the columns that an option names; each must be an input, a label, or in `also`."""
        names = select(columns, self.selection.groups, self.source)
        for name in names:
            if name not in self.selection.columns and name not in also:
                raise SourceError(
                    self.source,
                    f"--{option} names column {name}, which is neither an input nor a label; those are "
                    f"{list_names(self.selection.columns)}; leave it out there, or name it in --inputs or --labels too",
                )
        return names


def _stack_fills(cleaned: CleanRows, names: Sequence[str], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the mask of filled values in the array that `stack` makes from these columns."""
    filled = np.zeros(shape, np.bool_)
    for number, name in enumerate(names):
        if name in cleaned.fills:
            filled[:, number] = cleaned.fills[name]
    return filled


def _add_dropped(sequence: SourceSequence, steps: int) -> SourceSequence:
    if not steps:
        return sequence
    return replace(sequence, columns={**sequence.columns, "dropped": sequence.columns["dropped"] + steps})
