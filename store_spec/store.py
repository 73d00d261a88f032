"""A store that is open for reading: sequences by number, selections of them, their statistics, windows and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec import retired
from store_spec.errors import SequenceIndexError
from store_spec.layout import Counts
from store_spec.moments import Moments, merge
from store_spec.schema import MOMENTS, Schema
from store_spec.snapshot import Snapshot, kept
from store_spec.splits import DEFAULT_SPLITS, members

if TYPE_CHECKING:
    from store_spec.index import Short, Target
    from store_spec.padded import PaddedBatches
    from store_spec.statistics import Statistics
    from store_spec.windows import Windows

Pair = tuple[NDArray[Any], NDArray[Any]]


class Store:
    """Sequences of one committed state of a store, or a selection of them. Get one from `open_store`.

    It goes on showing the state that it was opened with, whatever is appended meanwhile. It can be pickled, and used
    in other threads and after a fork.
    """

    def __init__(self, snapshot: Snapshot, selection: NDArray[np.int64] | None = None) -> None:
        self._snapshot = snapshot
        self._selection = None if selection is None else kept(selection)  # None: all that are not retired

    def __repr__(self) -> str:
        schema, what = self.schema, "" if self._selection is None else f" of {self._live:,}"
        return (
            f"<seqzarr store {self.path.name}: {len(self):,}{what} sequences, {int(self.lengths.sum()):,} steps, "
            f"inputs {schema.inputs.shape} {schema.inputs.dtype}, "
            f"labels {schema.labels.shape} {schema.labels.dtype} per {schema.label_axis}>"
        )

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self._snapshot.storage.root

    @property
    def schema(self) -> Schema:
        """What every sequence is: dtypes, shapes, names, the label axis."""
        return self._snapshot.root.schema

    @property
    def counts(self) -> Counts:
        """How much the whole store holds, whatever is selected here, retired sequences among it."""
        return self._snapshot.root.counts

    @property
    def provenance(self) -> dict[str, Any]:
        """What the builder wrote down of the build: options, process, failures."""
        return self._snapshot.root.provenance

    @property
    def identity(self) -> str:
        """64 hexadecimal digits that stand for every sequence of the store, and change with any of them."""
        return self._snapshot.root.whole_identity

    @property
    def snapshot(self) -> Snapshot:
        """The committed state that this shows."""
        return self._snapshot

    @cached_property
    def selection(self) -> NDArray[np.int64]:
        """Int64 (sequences,): which sequences of the store these are, by their number, retired ones counted."""
        if self._selection is not None:
            return self._selection
        every = len(self._snapshot.offsets) - 1  # checked against the files, unlike the count
        return kept(retired.others(self._snapshot.root.retired, every))

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the row of `inputs` at which each sequence begins."""
        return kept(self._snapshot.offsets[:-1][self.selection])

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the steps of each sequence."""
        return kept(np.diff(self._snapshot.offsets)[self.selection])

    @cached_property
    def label_starts(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the row of `labels` at which each sequence's labels begin."""
        return kept(self._snapshot.label_offsets[:-1][self.selection])

    @cached_property
    def label_lengths(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the label rows of each sequence."""
        return kept(np.diff(self._snapshot.label_offsets)[self.selection])

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The name of each sequence's source."""
        names = self._snapshot.sources()
        if self._selection is None and not self._snapshot.root.retired:
            return tuple(names)
        return tuple(names[number] for number in self.selection)

    @cached_property
    def parts(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the part of its source that each sequence is: 0, 1, ..."""
        return kept(self._snapshot.table("sequences/part")[self.selection])

    def __len__(self) -> int:
        return self._live if self._selection is None else len(self._selection)

    @property
    def _live(self) -> int:
        return self.counts.sequences - retired.count(self._snapshot.root.retired)

    @overload
    def __getitem__(self, number: int) -> Pair: ...
    @overload
    def __getitem__(self, number: slice) -> Store: ...
    def __getitem__(self, number: int | slice) -> Pair | Store:
        """Return one whole sequence: inputs (steps, ...) and labels, read and decompressed now.

        A slice selects sequences, and reads nothing.
        """
        if isinstance(number, slice):
            return Store(self._snapshot, self.selection[number])
        return self.read(number)

    def __iter__(self) -> Iterator[Pair]:
        return (self.read(number) for number in range(len(self)))

    def read(self, number: int, start: int = 0, stop: int | None = None) -> Pair:
        """Return steps `start` to `stop` of one sequence, without the rest of it.

        Returns:
            inputs (stop - start, *feature shape) and labels: of the same steps on the `step` axis, otherwise the
            sequence's own, whole: (*target shape) on the `sequence` axis, (rows, *target shape) on the `own` axis.

        Raises:
            SequenceIndexError: There is no such sequence, or it has no such steps.
            ChecksumError: The bytes on disk are not those that were written.
        """
        number = self._number(number)
        length = int(self.lengths[number])
        stop = length if stop is None else stop
        if not 0 <= start <= stop <= length:
            raise SequenceIndexError(
                f"{self.path}: sequence {number} has {length:,} steps; {start:,} to {stop:,} are not in it"
            )
        first, label_first = int(self.starts[number]), int(self.label_starts[number])
        inputs = self._snapshot.rows("inputs", first + start, first + stop)
        if self.schema.label_axis == "step":
            labels = self._snapshot.rows("labels", first + start, first + stop)
        else:
            labels = self._snapshot.rows("labels", label_first, label_first + int(self.label_lengths[number]))
        for name, rows, expected in (
            ("inputs", inputs, length),
            ("labels", labels, int(self.label_lengths[number])),
        ):
            if len(rows) == expected:
                self._snapshot.check(name, int(self.selection[number]), rows)
        return inputs, labels[0] if self.schema.label_axis == "sequence" else labels

    def select(self, which: ArrayLike | str | Sequence[str]) -> Store:
        """Return a view of some sequences, in the order given.

        Args:
            which: Numbers (negative ones count from the end), a mask of bool (one a sequence), or names of sources:
                all parts of each.

        Raises:
            SequenceIndexError: There is no such sequence or source, or the mask has another length.
        """
        names = [which] if isinstance(which, str) else which
        wanted = np.asarray(names)
        if wanted.dtype.kind in "UO" and wanted.size:
            return Store(self._snapshot, self.selection[self._named([str(name) for name in wanted.reshape(-1)])])
        if wanted.dtype == bool:
            if wanted.shape != (len(self),):
                raise SequenceIndexError(f"{self.path}: a mask of shape {wanted.shape} for {len(self):,} sequences")
            return Store(self._snapshot, self.selection[wanted])
        numbers = wanted.astype(np.int64).reshape(-1)
        if not np.array_equal(numbers, wanted.reshape(-1)):
            raise SequenceIndexError(f"{self.path}: sequences are selected by whole numbers, not by {wanted.dtype}")
        bad = (numbers < -len(self)) | (numbers >= len(self))
        if bad.any():
            raise self._no_sequence(int(numbers[bad][0]))
        return Store(self._snapshot, self.selection[numbers])

    def split(self, name: str, shares: Mapping[str, float] = DEFAULT_SPLITS, *, seed: int = 0) -> Store:
        """Return a view of the sequences of one split: by a hash of the source's name and a seed, never by position.

        A source stays in its split when files are added, and its parts stay together.

        Args:
            name: One of `shares`: by default `train` (0.8), `val` (0.1) or `test` (0.1).
            shares: Each split's share of the sources, 1 together.
            seed: Another seed deals the sources anew.
        """
        return Store(self._snapshot, self.selection[members(self.sources, name, shares, seed)])

    def stats(self) -> Statistics:
        """Return exact statistics of all features and targets of these sequences, from moments: no row is read."""
        from store_spec.statistics import Statistics

        return Statistics(inputs=self._moments("inputs"), labels=self._moments("labels"))

    def windows(
        self,
        window: int,
        *,
        stride: int = 1,
        horizon: int = 1,
        lead: int = 0,
        sampling_rate: int = 1,
        target: Target = "future",
        short: Short = "drop",
        steps: tuple[float, float] | None = None,
        normalize: Statistics | None = None,
    ) -> Windows:
        """Return all windows of these sequences; `Windows` says what each argument means. Nothing is read."""
        from store_spec.index import WindowShape
        from store_spec.windows import Windows

        shape = WindowShape(
            window=window,
            stride=stride,
            horizon=horizon,
            lead=lead,
            sampling_rate=sampling_rate,
            target=target,
            short=short,
            steps=steps,
        )
        return Windows(self, shape, normalize)

    def padded(self, size: int, *, shuffle: bool = False, seed: int = 0, epoch: int = 0) -> PaddedBatches:
        """Return batches of `size` whole sequences, padded at the end: see `PaddedBatches`."""
        from store_spec.padded import PaddedBatches

        return PaddedBatches(self, size, shuffle=shuffle, seed=seed, epoch=epoch)

    def _moments(self, name: str) -> Moments:
        columns = [self._snapshot.table(f"stats/{name}_{moment}")[self.selection] for moment in MOMENTS]
        return merge(Moments(*columns))

    def _named(self, names: list[str]) -> NDArray[np.int64]:
        numbers: dict[str, list[int]] = {}
        for number, source in enumerate(self.sources):
            numbers.setdefault(source, []).append(number)
        missing = [name for name in names if name not in numbers]
        if missing:
            raise SequenceIndexError(
                f"{self.path}: no sequence of source {missing[0]!r} ({len(missing):,} of {len(names):,} unknown); "
                f"sources are named like {self.sources[0]!r}"
                if len(self)
                else f"{self.path}: no sequences at all"
            )
        return np.array([number for name in names for number in numbers[name]], np.int64)

    def _number(self, number: int) -> int:
        if not -len(self) <= number < len(self):
            raise self._no_sequence(number)
        return number % len(self)

    def _no_sequence(self, number: int) -> SequenceIndexError:
        last = f"so the last is {len(self) - 1:,}" if len(self) else "so none can be read"
        return SequenceIndexError(f"{self.path}: sequence {number:,} asked for, but there are {len(self):,}, {last}")
