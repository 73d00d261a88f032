"""Describe one source of a store: its sequences, their statistics, a few rows, its file, its split."""

import math
from dataclasses import asdict, dataclass
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from builder.build_errors import UsageError
from builder.inspection.features import ColumnStatistics, column_statistics
from builder.inspection.split_sizes import split_numbers
from builder.planning.provenance import RecordedSkips, failures_in
from store_spec import DEFAULT_SPLITS, Store, open_store

LISTED_ROWS = 3  # at each end of a sequence
LISTED_VALUES = 64  # of a row
LISTED_PARTS = 10  # parts whose rows are listed
SUGGESTED = 5  # names of sources in a message

Value = bool | int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The first values of one row of `inputs` or `labels`; None for NaN."""

    step: int
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartInspection:
    """One sequence of a source."""

    part: int  # its number among the sequences of the source
    number: int  # its number in the store, where retired sequences count too
    retired: bool  # whether readers skip it
    steps: int
    label_rows: int
    times: tuple[str, str] | None  # of the first and the last step; None: the store has no times, or it has no steps
    columns: dict[str, Value]  # its further columns, by name; None for NaN
    inputs: tuple[Row, ...]  # the first and last rows; empty except for the first parts
    labels: tuple[Row, ...]  # likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInspection:
    """One source of a store. Its JSON has the same keys."""

    store: Path
    source: str
    split: str  # its default split, by a hash of its name with seed 0
    file_size: int | None  # of the file of its latest sequences; None: they do not come from a file
    file_sha256: str | None
    sequences: int
    retired: int
    steps: int  # of the sequences that are not retired
    classes: tuple[tuple[str, ...] | None, ...]  # the names of the classes of each target; None: the target is a number
    parts: tuple[PartInspection, ...]  # all its sequences, also retired ones, in the order of the store
    statistics: tuple[ColumnStatistics, ...]  # of the sequences that are not retired, or of all if all are retired

    def __repr__(self) -> str:
        counts = f"{self.sequences:,} sequences, {self.steps:,} steps, {self.retired:,} retired"
        return f"<source {self.source!r} in {self.store.name}: {counts}, split {self.split}>"

    def to_json(self) -> dict[str, Any]:
        """Return the document as JSON values."""
        return asdict(self) | {"store": str(self.store)}


def inspect_source(store: str | PathLike[str], source: str) -> SourceInspection:
    """Describe one source of a store, reading tables and a few rows.

    Args:
        store: Its path, or its URL as a str.
        source: The name of the source in the store.

    Raises:
        UsageError: The store has no such source.
        MissingStoreError: The store does not exist.
        FormatError: The path is not a store that this version can read.
        ChecksumError: A chunk is damaged.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((5, 2), "float32"), np.zeros((5, 1), "float32"), source="walk-0")
    >>> walk = inspect_source(path, "walk-0")
    >>> walk.steps, walk.split, walk.parts[0].inputs[-1]
    (5, 'train', Row(step=4, values=(1.0, 1.0)))
    """
    opened = open_store(store)
    names = opened.snapshot.sources()
    numbers = np.array([number for number, name in enumerate(names) if name == source], np.int64)
    if not len(numbers):
        for failure in failures_in(opened.provenance)[1]:
            if failure.source == source:
                raise UsageError(f"{opened.path}: no sequence of source {source!r}: it failed: {failure.reason}")
        if source in RecordedSkips.of(opened.provenance):
            raise UsageError(f"{opened.path}: no sequence of source {source!r}: it is empty, and was skipped")
        raise UsageError(f"{opened.path}: no sequence of source {source!r}; {_suggestion(names, source)}")
    every = Store(opened.snapshot, numbers)
    is_retired = np.isin(numbers, opened.selection, invert=True)
    current = every if is_retired.all() else Store(opened.snapshot, numbers[~is_retired])
    last = int(every.selection[-1])  # the latest sequence
    (size,), (sha256,) = (
        opened.snapshot.table(f"sequences/source_{name}", last, last + 1) for name in ("size", "sha256")
    )
    return SourceInspection(
        store=opened.path,
        source=source,
        split=tuple(DEFAULT_SPLITS)[split_numbers(every)[0]],
        file_size=int(size) if size >= 0 else None,
        file_sha256=sha256.tobytes().hex() if size >= 0 else None,
        sequences=int((~is_retired).sum()),
        retired=int(is_retired.sum()),
        steps=int(every.lengths[~is_retired].sum()),
        classes=opened.schema.labels.classes or (),
        parts=tuple(_part(every, place, retired=bool(is_retired[place])) for place in range(len(every))),
        statistics=column_statistics(current),
    )


def _suggestion(names: list[str], source: str) -> str:
    """Return text that names sources whose names contain the stem of `source`."""
    if not names:
        return "it has no sequences"
    stem = PurePosixPath(source).stem
    first = list(dict.fromkeys(name for name in names if stem and stem in name))[:SUGGESTED]
    return f"it has {', '.join(map(repr, first))}" if first else f"its sources are named like {names[0]!r}"


def _part(every: Store, place: int, *, retired: bool) -> PartInspection:
    steps = int(every.lengths[place])
    rows = {array: _rows(every, array, place) if place < LISTED_PARTS else () for array in ("inputs", "labels")}
    return PartInspection(
        part=int(every.parts[place]),
        number=int(every.selection[place]),
        retired=retired,
        steps=steps,
        label_rows=int(every.label_lengths[place]),
        times=_times(every, place) if steps else None,
        columns={one.name: _value(every.sequences[one.name].tolist()[place]) for one in every.schema.columns},
        **rows,
    )


def _times(every: Store, place: int) -> tuple[str, str] | None:
    time, number = every.schema.time, int(every.selection[place])
    if time is None:
        return None
    first, last = (every.snapshot.table(f"sequences/time_{end}", number, number + 1) for end in ("first", "last"))
    return time.shown(int(first[0])), time.shown(int(last[0]))


def _rows(every: Store, array: str, place: int) -> tuple[Row, ...]:
    """Return the first and last rows of a sequence, each once."""
    start, count = (int(each[place]) for each in every.places(array))
    both = [range(LISTED_ROWS), range(count - LISTED_ROWS, count)] if count > 2 * LISTED_ROWS else [range(count)]
    return tuple(
        Row(step=step, values=tuple(map(_value, row.reshape(-1)[:LISTED_VALUES].tolist())))
        for steps in both
        for step, row in zip(steps, every.snapshot.rows(array, start + steps.start, start + steps.stop), strict=True)
    )


def _value(value: Any) -> Value:
    if isinstance(value, complex) or (isinstance(value, float) and math.isinf(value)):
        return str(value)  # JSON cannot represent these
    return None if isinstance(value, float) and math.isnan(value) else value
