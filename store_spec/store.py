"""The `Store` class: sequences by number, selections of them, their statistics, windows and batches."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from store_spec.errors import SequenceIndexError
from store_spec.format.codec import crc32c
from store_spec.reading.argument_checks import array_of, options_of
from store_spec.reading.classes import ClassCounts, class_counts, sequence_weights
from store_spec.reading.normalization import GroupStatistics, Normalize
from store_spec.reading.one_epoch import Transform
from store_spec.reading.row_options import Targets, target_columns
from store_spec.reading.selection import Pair, Selection
from store_spec.reading.splits import DEFAULT_SPLITS, folds, members
from store_spec.reading.statistics import Quantiles, Statistics, quantiles, stats_of
from store_spec.sequences.packed import PackedBatches, PackedOptions
from store_spec.sequences.padded import PaddedBatches
from store_spec.sequences.padded_order import PaddedOptions, Side
from store_spec.sequences.slices import SliceOptions
from store_spec.sequences.streams import StreamOptions, Streams
from store_spec.windows.shape import MissingValues, Phase, Short, Target, WindowOptions, WindowShape
from store_spec.windows.windows import Windows


class Store(Selection):
    """Sequences of one committed state of a store, or a selection of them. Get one from `open_store`.

    It shows the state when it was opened, regardless of later commits. It can be pickled, used in threads, and forked.
    """

    @overload
    def __getitem__(self, number: int) -> Pair: ...
    @overload
    def __getitem__(self, number: slice | Sequence[int] | NDArray[Any]) -> Store: ...
    def __getitem__(self, number: int | slice | Sequence[int] | NDArray[Any]) -> Pair | Store:
        """Read one whole sequence: inputs (steps, ...) and labels.

        A slice, a list of numbers or a mask selects sequences without reading them, as `select` does.
        """
        if isinstance(number, slice):
            return self._selected(number)
        if not isinstance(number, tuple) and array_of(number).ndim:
            return self._selected(self.numbers(number))
        return self.read(number)  # type: ignore[arg-type]  # which refuses anything but a number

    def __iter__(self) -> Iterator[Pair]:
        return (self.read(number) for number in range(len(self)))

    def read(self, number: int, start: int = 0, stop: int | None = None) -> Pair:
        """Read steps `start` to `stop` of one sequence.

        Returns:
            inputs (stop - start, *feature shape) and labels: on the `step` axis those of the same steps, otherwise all
            labels of the sequence: (*target shape) on the `sequence` axis, (rows, *target shape) on the `own` axis.

        Raises:
            SequenceIndexError: There is no such sequence, or it has no such steps.
            ChecksumError: The bytes on disk are not those that were written.
        """
        number, start, stop = self._steps_of(number, start, stop)
        inputs = self._rows("inputs", number, start, stop)
        bounds = (start, stop) if self.schema.label_axis == "step" else (0, int(self.label_lengths[number]))
        labels = self._rows("labels", number, *bounds)
        return inputs, labels[0] if self.schema.label_axis == "sequence" else labels

    def _rows(self, array: str, number: int, start: int, stop: int) -> NDArray[Any]:
        """Read rows of one sequence; all of its rows are compared with their checksum."""
        starts, lengths = self.places(array)
        first = int(starts[number])
        rows = self.snapshot.rows(array, first + start, first + stop, recent=True)
        if len(rows) == lengths[number]:
            self.snapshot.check_crc(array, int(self.selection[number]), crc32c(rows))
        self.snapshot.check_not_replaced()  # the checksums may be of another store, too
        return rows

    def times(self, number: int, start: int = 0, stop: int | None = None) -> NDArray[Any]:
        """Read the times of steps `start` to `stop` of one sequence.

        Returns:
            (stop - start,) datetime64 of the store's unit, or timedelta64 for elapsed times.

        Raises:
            SequenceIndexError: There is no such sequence, it has no such steps, or the store has no times.
            ChecksumError: The bytes on disk are not those that were written.
        """
        if self.schema.time is None:
            raise SequenceIndexError(f"{self.path}: this store keeps no time; create_store has time= for that")
        return self._rows("time", *self._steps_of(number, start, stop)).view(self.schema.time.dtype)

    def select(self, which: ArrayLike | str | Sequence[str]) -> Store:
        """Return a view of some sequences, in this order.

        Args:
            which: Numbers (negative ones count from the end), a bool mask (sequences,), or names of sources, which
                select all parts of each. In a name, `*` stands for any characters: `select("site-1/*")`.

        Raises:
            SequenceIndexError: There is no such sequence or source, or the mask has another length.
        """
        return self._selected(self.numbers(which))

    def _selected(self, which: slice | NDArray[np.int64]) -> Store:
        """Return the view that a user selected; warn if it is empty."""
        view = self.view(which)
        if not len(view) and len(self):
            warnings.warn(f"{self.path}: the selection has 0 of {len(self):,} sequences", stacklevel=3)
        return view

    def first(self, count: int) -> Store:
        """Return a view of the sequences that are among the first `count` of the whole store."""
        return self.view(self.selection < count)

    def splits(
        self,
        shares: Mapping[str, float] = DEFAULT_SPLITS,
        *,
        seed: int = 0,
        by: str | ArrayLike | None = None,
        allow_empty: bool = False,
    ) -> dict[str, Store]:
        """Return views of all splits, by name: each sequence is in exactly one.

        A hash of the source's name and the seed decides, never its position: a source stays in its split when files
        are added, and its parts stay together. The order of `shares` does not matter.

        Args:
            shares: Each split's share of the sources, 1 together. The range of the hash is divided in the order train,
                val, test, and then other splits by name.
            seed: Another seed gives other splits; at least 0.
            by: A column of `sequences`, `"sequence"` for each sequence on its own, or (sequences,): text or whole
                numbers. It is hashed instead of the source, so sequences with one value, a patient say, are in one
                split. If the values are names of the splits, each sequence is in the split that its value names, or in
                that of its source if its value is empty. Case does not matter in these names, and `valid` and
                `validation` are `val`.
            allow_empty: Return splits without any sequence instead of raising an error.

        Raises:
            WindowError: A split would be empty; two names in `shares` are the same; there is no such column, or it has
                values of another type; or only some of its values are names of splits.
        """
        sources = None if by is None else self.sources
        numbers_of = members(self.grouped(by), shares, shares, seed, sources=sources, allow_empty=allow_empty)
        return {name: self.view(numbers) for name, numbers in numbers_of.items()}

    def split(
        self,
        name: str,
        shares: Mapping[str, float] = DEFAULT_SPLITS,
        *,
        seed: int = 0,
        by: str | ArrayLike | None = None,
        allow_empty: bool = False,
    ) -> Store:
        """Return a view of one of the `splits`: by default `train` (0.8), `val` (0.1) or `test` (0.1).

        Other splits may be empty; if all of them are, there is a warning. All else is as for `splits`.
        """
        sources = None if by is None else self.sources
        numbers_of = members(self.grouped(by), [name], shares, seed, sources=sources, allow_empty=allow_empty)
        return self.view(numbers_of[name])

    def folds(self, count: int, *, seed: int = 0, by: str | ArrayLike | None = None) -> list[tuple[Store, Store]]:
        """Return pairs of views, to train on and to hold out; each source is held out once.

        A hash decides, as for `splits`: folds have about the same size, and no source changes its fold when files are
        added.

        Args:
            count: How many folds.
            seed: Another seed gives other folds; at least 0.
            by: As for `splits`, but names of splits have no special meaning.

        Raises:
            WindowError: An argument is not as above, or a fold would hold out nothing.
        """
        return [(self.view(~out), self.view(out)) for out in folds(self.grouped(by), count, seed)]

    def stats(self, *, steps: tuple[float, float] | None = None, before: Any = None, after: Any = None) -> Statistics:
        """Return exact statistics of all features and targets of these sequences, without reading rows.

        Args:
            steps: Use only a part of each sequence, such as `(0, 0.8)`, as for `windows`. Rows are read for this.
            before: Use only steps before this moment, as for `windows`. Rows of sequences that it divides are read.
            after: Use only steps at or after this moment.

        Raises:
            WindowError: There are no steps in this period, or an argument is impossible.
        """
        return stats_of(self, steps, before, after)

    def stats_by(self, by: str, **period: Any) -> GroupStatistics:
        """Return the statistics of each group of these sequences, by name, for `normalize`.

        Args:
            by: The column of `sequences` whose values are the groups, such as `"patient"`; or `"source"`.
            **period: `steps`, `before` and `after`, as for `stats`.

        Raises:
            WindowError: There is no such column, or it has values that are neither text nor whole numbers; or a group
                has no steps in the period.
        """
        return GroupStatistics(self, by, period)

    def quantiles(self, q: ArrayLike) -> Quantiles:
        """Return exact quantiles, such as `[0.25, 0.5, 0.75]`: see `store_spec.reading.statistics.quantiles`."""
        return quantiles(self, q)

    def class_counts(self, target: str | int | None = None) -> ClassCounts:
        """Return how many label rows have each class: see `store_spec.reading.classes.class_counts`."""
        return class_counts(self, target)

    def sequence_weights(self, target: str | int | None = None) -> NDArray[np.float64]:
        """Return a weight for each sequence by its class: see `store_spec.reading.classes.sequence_weights`."""
        return sequence_weights(self, target)

    def windows(
        self,
        window: int | tuple[int, int],
        *,
        stride: int = 1,
        horizon: int = 1,
        lead: int = 0,
        sampling_rate: int = 1,
        target: Target | None = None,
        targets: Targets | None = None,
        short: Short = "drop",
        pad_end: bool = False,
        steps: tuple[float, float] | None = None,
        phase: Phase = "first",
        normalize: Normalize | None = None,
        features: Sequence[str | int] | None = None,
        future: Sequence[str | int] | None = None,
        static: Sequence[str] | None = None,
        before: Any = None,
        after: Any = None,
        missing: MissingValues = "keep",
        context: bool = False,
        allow_later: bool = False,
        mask: bool = False,
        value_mask: bool = False,
        dtype: DTypeLike | None = None,
    ) -> Windows:
        """Return all windows of these sequences, without reading rows.

        `store_spec.windows.shape.WindowShape` and `store_spec.windows.windows.Windows` explain the arguments.

        `target` is by default `"sequence"` if targets are labels of whole sequences, and otherwise `"future"`. With
        `window=(16, 64)`, windows have random lengths from 16 to 64, other ones in each epoch, and a mask.

        A sequence shorter than a window has none, unless `short` says otherwise. No windows at all give a warning.
        """
        arguments = locals()
        axis = target_columns(self, targets).axis
        if isinstance(window, tuple) and len(window) == 2:
            arguments["least_window"], arguments["window"] = window
        arguments["target"] = target or ("sequence" if axis == "sequence" else "future")
        windows = Windows(self, options_of(WindowShape, arguments), options_of(WindowOptions, arguments))
        if not len(windows):
            span, most = windows.shape.least_span, int(self.lengths.max(initial=0))
            rest = "" if span > most else "; windows with missing values, or outside of the given times, are left out"
            warnings.warn(
                f"{self.path}: 0 windows: a window and its targets take {span:,} steps, and the longest of "
                f"{len(self):,} sequences has {most:,}{rest}",
                stacklevel=2,
            )
        return windows

    def padded(
        self,
        batch_size: int | None = None,
        *,
        max_steps: int | None = None,
        bucket: bool = False,
        side: Side = "end",
        truncate: int | None = None,
        truncate_side: Side = "end",
        lengths: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        memory: int | str = "256MB",
        index: bool = False,
        weights: ArrayLike | None = None,
        transform: Transform | None = None,
        steps: tuple[float, float] | None = None,
        normalize: Normalize | None = None,
        features: Sequence[str | int] | None = None,
        targets: Targets | None = None,
        static: Sequence[str] | None = None,
        before: Any = None,
        after: Any = None,
        allow_later: bool = False,
        dtype: DTypeLike | None = None,
        value_mask: bool = False,
    ) -> PaddedBatches:
        """Return padded batches of whole sequences: see `store_spec.sequences.padded.PaddedBatches`."""
        arguments = locals()
        return PaddedBatches(options_of(PaddedOptions, arguments), self, options_of(SliceOptions, arguments))

    def packed(
        self,
        tokens: int,
        *,
        batch_size: int = 1,
        max_steps: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        memory: int | str = "256MB",
        index: bool = False,
        weights: ArrayLike | None = None,
        transform: Transform | None = None,
        steps: tuple[float, float] | None = None,
        normalize: Normalize | None = None,
        features: Sequence[str | int] | None = None,
        targets: Targets | None = None,
        static: Sequence[str] | None = None,
        before: Any = None,
        after: Any = None,
        allow_later: bool = False,
        dtype: DTypeLike | None = None,
        value_mask: bool = False,
    ) -> PackedBatches:
        """Return batches of rows packed with several sequences: see `store_spec.sequences.packed.PackedBatches`."""
        arguments = locals()
        return PackedBatches(options_of(PackedOptions, arguments), self, options_of(SliceOptions, arguments))

    def streams(
        self,
        batch_size: int,
        window: int,
        *,
        align: bool = False,
        shuffle: bool = False,
        seed: int = 0,
        epoch: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
        memory: int | str = "256MB",
        index: bool = False,
        weights: ArrayLike | None = None,
        transform: Transform | None = None,
        steps: tuple[float, float] | None = None,
        normalize: Normalize | None = None,
        features: Sequence[str | int] | None = None,
        targets: Targets | None = None,
        static: Sequence[str] | None = None,
        before: Any = None,
        after: Any = None,
        allow_later: bool = False,
        dtype: DTypeLike | None = None,
        mask: bool = False,
        value_mask: bool = False,
    ) -> Streams:
        """Return batches that continue where the previous one ended: see `store_spec.sequences.streams.Streams`."""
        arguments = locals()
        return Streams(options_of(StreamOptions, arguments), self, options_of(SliceOptions, arguments))
