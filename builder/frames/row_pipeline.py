"""What happens to rows between their file and the sequences: changed, cleaned, cut into parts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError
from builder.formats.column_choice import listed, select
from builder.formats.convert import stack
from builder.formats.table import Array, DType, Table
from builder.frames.class_columns import refuse_changes, refuse_policies, stacked_labels
from builder.frames.cleaning import CleanRows, clean, mark_missing, nothing_left
from builder.frames.groups import Group, of_types
from builder.frames.stamps import Stamps
from builder.frames.step_times import stamps_in
from builder.frames.timeline import Stretch, split_by_time
from builder.frames.transforms import apply_transforms
from builder.options.policies import Policy, parse_policies
from builder.options.table_options import COUNTS, TableOptions
from builder.options.transform_syntax import parse_transform
from builder.sequence import Sequence as SourceSequence


@dataclass(frozen=True, slots=True, eq=False)
class SelectedColumns:
    """What is taken of a file.

    Args:
        inputs: Its columns that are the inputs.
        labels: Those that are the labels; none: the labels are `other`.
        other: Labels that are no columns; None: they come from elsewhere.
        own: Whether the labels are the inputs.
        time: The columns that tell when each row was.
        groups: Every column of the file with its elements, in file order.
        classes: Those labels that are classes, as codes.
    """

    inputs: tuple[str, ...]
    labels: tuple[str, ...]
    groups: Mapping[str, tuple[str, ...]]
    other: Array | None = None
    own: bool = False
    time: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.labels)))


@dataclass(frozen=True, slots=True, eq=False)
class RowPipeline:
    """From the rows of one file to its sequences.

    Args:
        wanted: What is taken of the file.
        options: What is done to its rows.
        source: Its name, for errors.
        dtype: Of inputs and labels; None: what holds the columns' own.
        decimal: What stands before decimals of numbers of the file that are text.
        types: Of the columns of sequences that the store has; none: there is no store yet.
        why: Says why a value is missing, by its column and its row of the file.
    """

    wanted: SelectedColumns
    options: TableOptions
    source: str
    dtype: DType | None
    types: Mapping[str, str]
    decimal: str = "."
    why: Callable[[str, int], str] = lambda _, __: ""

    def sequences(self, groups: Iterable[Group]) -> Iterator[SourceSequence]:
        """Give the sequences that groups of rows become: those of each group, one after another.

        Steps that are left out of a group of which nothing is left count with the next sequence, or the last.

        Raises:
            SourceError: A column is not there, a value is missing that must not be, or nothing is left of the file.
        """
        policies = self._policies()
        transforms = [parse_transform(text) for text in self.options.transforms]
        names = [self._among(transform.columns, transform.kind) for transform in transforms]
        refuse_changes(transforms, names, self.options.duplicates, self.wanted.classes, self.source)
        waiting: SourceSequence | None = None
        lost, nothing = 0, None
        for values, stretch in chain.from_iterable(self._stretches(group, policies) for group in groups):
            table, first = apply_transforms(Table.of(stretch.frame), transforms, names, self.source)
            left = clean(
                table,
                policies,
                self.source,
                limit=self.options.ffill_limit,
                first=first,
                time=None if stretch.stamps is None else stretch.stamps.values,
                why=self.why,
            )
            lost += stretch.dropped
            if table.rows + stretch.dropped and not len(left.lengths):
                lost, nothing = lost + table.rows, table
                continue
            for sequence in self._parts(left, values, stretch.stamps):
                if waiting is not None:
                    yield waiting
                waiting, lost = _more_dropped(sequence, lost), 0
        if waiting is not None:
            yield _more_dropped(waiting, lost)
        elif nothing is not None:
            raise nothing_left(nothing, lost, self.source)
        else:
            raise SourceError(self.source, "has no rows, and so no group of them; remove the file")

    def _stretches(self, group: Group, policies: Mapping[str, Policy]) -> Iterator[tuple[Mapping[str, Any], Stretch]]:
        """Give the rows of a group that follow one another, with the values of the columns that it is grouped by."""
        values = of_types(group[0], self.types, self.source)
        frame = mark_missing(group[1], self._words_of_missing, self.wanted.classes)
        if not self.wanted.time:
            yield values, Stretch(frame)
            return
        stamps = stamps_in(frame, self.wanted.time, self.options, self.source, self.decimal)
        name = ",".join(self.wanted.time)
        without = policies[self.wanted.time[0]].end
        stretches = split_by_time(frame, stamps, self.options, without, name=name, source=self.source)
        none = Stretch(frame.slice(0, 0), len(frame), stamps.taken(np.zeros(0, np.int64)))
        for one in chain((next(stretches, none),), stretches):
            yield values, one

    def _parts(self, left: CleanRows, values: Mapping[str, Any], stamps: Stamps | None) -> Iterator[SourceSequence]:
        """Give each part of what is left of a stretch."""
        wanted = self.wanted
        inputs = stack(left.table, wanted.inputs, dtype=self.dtype, source=self.source)
        labels = None
        if wanted.labels:
            labels = stacked_labels(left.table, wanted.labels, wanted.classes, dtype=self.dtype, source=self.source)
        filled = _stacked_fills(left, wanted.inputs, inputs.shape) if self.options.mask else None
        when = None if stamps is None else stamps.array[left.rows]
        if when is not None and not len(when) and not self.options.elapsed:
            when = when.view(np.int64)  # nothing tells the unit and the zone: it goes with those of any store
        ends = list(accumulate(left.lengths.tolist())) or [0]  # a file without rows is a sequence without steps
        for number, (begin, end) in enumerate(zip([0, *ends], ends, strict=False)):
            own = inputs[begin:end]
            columns = dict(values)
            if self.options.counts:
                counted = zip(COUNTS, (left.dropped, left.filled), strict=True)
                columns |= {name: int(counts[number]) if len(counts) else 0 for name, counts in counted}
            yield SourceSequence(
                own,
                labels[begin:end] if labels is not None else own if wanted.own else wanted.other,
                columns=columns,
                time=None if when is None else when[begin:end],
                zone=None if stamps is None else stamps.zone,
                filled=None if filled is None else filled[begin:end],
            )

    @property
    def _words_of_missing(self) -> list[str]:
        """What also means that a value is missing; numbers are written with a point."""
        return [word.replace(self.options.decimal, ".") for word in self.options.na_values]

    def _policies(self) -> Mapping[str, Policy]:
        """Return the policy of each column that is wanted, and of those that tell the time."""
        policies = parse_policies(self.options.missing)
        special: dict[str, Policy] = {}
        for columns, policy in policies.columns:
            for name in self._among(columns, "missing", also=self.wanted.time):
                if name in special:
                    raise SourceError(
                        self.source,
                        f"column {name} has two policies by --missing, {special[name]} and {policy}; give one",
                    )
                special[name] = policy
        found = {name: special.get(name, policies.general) for name in (*self.wanted.columns, *self.wanted.time)}
        refuse_policies(found, self.wanted.classes, self.source)
        return found

    def _among(self, columns: Sequence[str], option: str, also: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the columns that an option chooses, all of which must be wanted, or among some others."""
        names = select(columns, self.wanted.groups, self.source)
        for name in names:
            if name not in self.wanted.columns and name not in also:
                raise SourceError(
                    self.source,
                    f"--{option} is for column {name}, which is neither an input nor a label; those are "
                    f"{listed(self.wanted.columns)}; leave it out there, or name it in --inputs or --labels as well",
                )
        return names


def _stacked_fills(left: CleanRows, names: Sequence[str], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return where values were filled in, of columns as `stack` makes an array of this shape of them."""
    filled = np.zeros(shape, np.bool_)
    for number, name in enumerate(names):
        if name in left.fills:
            filled[:, number] = left.fills[name]
    return filled


def _more_dropped(sequence: SourceSequence, steps: int) -> SourceSequence:
    if not steps:
        return sequence
    return replace(sequence, columns={**sequence.columns, "dropped": sequence.columns["dropped"] + steps})
