"""Turn the rows of a file into sequences: transform, clean, and split them into parts, or take them all unchanged."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from builder.build_errors import NO_ROWS, EmptySourceError, SourceError
from builder.formats.column_choice import as_option, list_names, select
from builder.formats.convert import check_all, require_values, stack
from builder.formats.table import Array, DType, Table
from builder.frames.cleaning import CleanRows, clean, mark_missing, no_rows_left
from builder.frames.digits import narrow
from builder.frames.groups import Group, convert_group_values
from builder.frames.label_join import LabelledTable
from builder.frames.step_times import Stamps, Stretch, read_stamps, split_by_time
from builder.frames.transforms import apply_transforms
from builder.labels.text_classes import CODES
from builder.options.option_syntax import Policy, Transforms, parse_policies, parse_transform
from builder.options.table_options import COUNTS, TableOptions
from builder.sequence import Sequence as SourceSequence


@dataclass(frozen=True, eq=False, kw_only=True)
class RowPipeline:
    """Turns the rows of one file into sequences."""

    read: Callable[[Sequence[str]], Iterable[Group]]  # reads some columns of the file
    options: TableOptions
    inputs: tuple[str, ...]
    labels: tuple[str, ...]  # empty: the labels are `other`
    groups: Mapping[str, tuple[str, ...]]  # every column of the file with its elements, in file order
    other: Array | None = None  # labels that are not columns; None: they come from elsewhere
    own: bool = False  # whether the labels are the inputs
    time: tuple[str, ...] = ()  # the columns with the time of each row
    classes: tuple[str, ...] = ()  # the label columns that hold class codes
    dtype: DType | None = None  # of inputs and label columns; None: that to which NumPy promotes the columns
    text_dtype: str | None = None  # to which float64 is rounded
    types: Mapping[str, str] = field(default_factory=dict)  # of the columns of sequences in the store, if there is one
    decimal: str = "."  # the decimal mark of numbers in text
    joined: LabelledTable | None = None  # the file, if its labels are in a file beside it

    @property
    def columns(self) -> tuple[str, ...]:
        """Input and label columns, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.labels)))

    def arrays(self, before: int = 0) -> tuple[Array, Array | None]:
        """Return inputs and labels of all rows; `before` rows of the file precede them. No value may be missing."""

        def read(names: Sequence[str]) -> Table:
            ((_, rows),) = self.read(names)
            if not rows.rows:
                raise EmptySourceError(NO_ROWS)
            return replace(rows, numbers=np.arange(before + 1, before + 1 + rows.rows)) if before else rows

        try:
            rows = read(self.columns)
        except SourceError as error:
            self._check_others(error, lambda names: require_values(read(names)))
            raise
        require_values(rows)
        x, y = self._stack(rows)
        if y is None:
            return x, x if self.own else self.other
        return x, y

    def sequences(self) -> Iterator[SourceSequence]:
        """Yield the sequences of each group, in order; EmptySourceError if no row remains.

        If all steps of a group are dropped, they count with the next sequence, or with the last.
        """
        _ = self._policies, self._transforms  # refused before anything is read
        # The last sequence is held back: steps that are dropped after it count with it.
        last: SourceSequence | None = None
        dropped, rows, empty_table = 0, 0, None
        try:
            for values, stretch, table, cleaned in self._clean_stretches(self.columns):
                dropped += stretch.dropped
                rows += stretch.table.rows + stretch.dropped
                if not len(cleaned.lengths):
                    dropped += table.rows
                    empty_table = table
                    continue
                for sequence in self._parts(cleaned, values, stretch.stamps):
                    if last is not None:
                        yield last
                    elif self.joined is not None:
                        dropped += self.joined.dropped
                    last, dropped = _add_dropped(sequence, dropped), 0
        except SourceError as error:
            self._check_others(error, lambda names: deque(self._clean_stretches(names), maxlen=0))
            raise
        if last is not None:
            yield _add_dropped(last, dropped)
        elif empty_table is not None and rows:
            raise no_rows_left(empty_table, rows)
        else:
            raise EmptySourceError(NO_ROWS)

    def _check_others(self, error: SourceError, check: Callable[[list[str]], object]) -> None:
        """If some columns could not be read, check the others, to report all problems at once."""
        others = [name for name in self.columns if name not in error.columns]
        if error.columns and (self.time or any(name in self.inputs for name in others)):
            check_all(lambda: check(others), found=error)

    def _clean_stretches(self, names: Sequence[str]) -> Iterator[tuple[Mapping[str, Any], Stretch, Table, CleanRows]]:
        """Yield each stretch with its values of the `group_by` columns, its transformed rows, and its clean rows."""
        for group, rows in self.read(names):
            values = convert_group_values(group, self.types)
            for stretch in self._split(mark_missing(rows, self.options, self.classes)):
                yield values, stretch, *self._clean(stretch)

    def _split(self, table: Table) -> Iterator[Stretch]:
        """Yield the stretches of some rows; one without rows if no row has a time."""
        if not self.time:
            yield Stretch(table)
            return
        without = self._policies[self.time[0]].end
        try:
            stamps = read_stamps(table, self.time, self.options, self.decimal)
            stretches = split_by_time(table, stamps, self.options, without, name=",".join(self.time))
            first = next(stretches, None)
        except SourceError as error:
            # Problems of values are reported at the same time, if they depend neither on times nor on other rows.
            if (
                self.options.duplicates == "error"
                and without not in ("drop", "split")
                and not any(policy.fills for policy in self._policies.values())
                and all(transform.kind != "diff" for transform, _ in self._transforms)
            ):
                check_all(lambda: self._clean(Stretch(table)), found=error)
            raise
        yield first or Stretch(table.slice(0, 0), table.rows, stamps.take(np.zeros(0, np.int64)))
        yield from stretches

    def _clean(self, stretch: Stretch) -> tuple[Table, CleanRows]:
        """Return the transformed rows of a stretch, before and after cleaning."""
        table, first = apply_transforms(stretch.table, self._transforms)
        cleaned = clean(
            table,
            self._policies,
            limit=self.options.ffill_limit,
            first=first,
            time=None if stretch.stamps is None else stretch.stamps.values,
            why=(lambda _, __: "") if self.joined is None else self.joined.why_missing,
        )
        return table, cleaned

    def _stack(self, table: Table) -> tuple[Array, Array | None]:
        """Return the inputs and the label columns of rows as arrays; None if labels are not columns."""
        x = narrow(stack(table, self.inputs, dtype=self.dtype), self.text_dtype)
        if not self.labels:
            return x, None
        try:
            y = stack(table, self.labels, dtype=CODES if self.classes else self.dtype)
        except SourceError as error:
            if not self.classes:
                raise
            reason = error.reason.partition(";")[0]
            raise SourceError(
                f"{reason}; labels beside classes ({self.classes[0]}) must be whole numbers; leave one of them out"
            ) from None
        return x, narrow(y, self.text_dtype)

    def _parts(self, cleaned: CleanRows, values: Mapping[str, Any], stamps: Stamps | None) -> Iterator[SourceSequence]:
        """Yield each part of a stretch as a sequence."""
        inputs, labels = self._stack(cleaned.table)
        filled = None
        if self.options.mask:
            filled = np.zeros(inputs.shape, np.bool_)
            for number, name in enumerate(self.inputs):
                filled[:, number] = cleaned.fills.get(name, False)
        time = None if stamps is None else stamps.array[cleaned.rows]
        if time is not None and not len(time) and not self.options.elapsed:
            time = time.view(np.int64)  # without rows, unit and zone are unknown; int64 fits any store
        start = 0
        for number, stop in enumerate(accumulate(cleaned.lengths.tolist())):
            columns = dict(values)
            if self.options.counts:
                counts = int(cleaned.dropped[number]), int(cleaned.filled[number])
                columns |= zip(COUNTS, counts, strict=True)
            part_inputs = inputs[start:stop]
            part_labels = part_inputs if self.own else self.other
            yield SourceSequence(
                part_inputs,
                part_labels if labels is None else labels[start:stop],
                columns=columns,
                time=None if time is None else time[start:stop],
                zone=None if stamps is None else stamps.zone,
                filled=None if filled is None else filled[start:stop],
            )
            start = stop

    @cached_property
    def _transforms(self) -> Transforms:
        """Each transform with the columns that it changes."""
        transforms = [parse_transform(text) for text in self.options.transforms]
        selected = [(transform, self._select(transform.columns, transform.kind)) for transform in transforms]
        for transform, names in selected:
            for name in filter(self.classes.__contains__, names):
                raise SourceError(
                    f"--{transform.kind} names column {name}, which holds classes, not numbers; leave it out there"
                )
        if self.classes and self.options.duplicates == "mean":
            raise SourceError(
                f"--duplicates mean: column {self.classes[0]} holds classes, which have no mean; take the first or last"
            )
        return selected

    @cached_property
    def _policies(self) -> Mapping[str, Policy]:
        """The policy of each selected column, and of the time columns."""
        policies = parse_policies(self.options.missing)
        special: dict[str, Policy] = {}
        for columns, policy in policies.columns:
            for name in self._select(columns, "missing", also=self.time):
                if name in special:
                    raise SourceError(
                        f"--missing gives column {name} two policies, {special[name]} and {policy}; leave one out"
                    )
                special[name] = policy
        by_column = {name: special.get(name, policies.general) for name in (*self.columns, *self.time)}
        for name in self.classes:
            if by_column[name].gives_floats:
                raise SourceError(
                    f"column {name} holds classes, and --missing {by_column[name]} would give a value that is not a "
                    f"class; say --missing {as_option(name)}=drop, or error, split or ffill"
                )
        return by_column

    def _select(self, columns: Sequence[str], option: str, also: Sequence[str] = ()) -> tuple[str, ...]:
        """Return the columns that an option names; each must be an input, a label, or in `also`."""
        names, known = select(columns, self.groups), self.columns
        for name in names:
            if name not in known and name not in also:
                raise SourceError(
                    f"--{option} names column {name}, which is neither an input nor a label; those are "
                    f"{list_names(known)}; leave it out there, or name it in --inputs or --labels too"
                )
        return names


def _add_dropped(sequence: SourceSequence, steps: int) -> SourceSequence:
    if not steps:
        return sequence
    return replace(sequence, columns={**sequence.columns, "dropped": sequence.columns["dropped"] + steps})
