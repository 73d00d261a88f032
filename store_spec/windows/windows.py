"""All windows of a selection of sequences, by number. Nothing is stored, and rows are read when they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, get_args, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.runs import runs_of_sequences
from store_spec.reading.argument_checks import array_of, options_of
from store_spec.reading.columns import Column, feature_positions
from store_spec.reading.named_batch import Batch
from store_spec.reading.normalization import WindowScales, check_no_later_steps
from store_spec.reading.one_epoch import Transform
from store_spec.reading.periods import usable_steps
from store_spec.reading.row_options import RowSelection, brief, features_of_targets
from store_spec.reading.scaling import Scaler
from store_spec.reading.statistics import Statistics
from store_spec.windows.batches import Batches, BatchOptions
from store_spec.windows.index import Gaps, WindowIndex
from store_spec.windows.mixing import Mixing, measure
from store_spec.windows.overlay import Overlay, overlay
from store_spec.windows.rows_in_memory import RowCache
from store_spec.windows.samples import READ_TOGETHER, Place, place_of, read_samples, scaler_of
from store_spec.windows.shape import MissingValues, Target, WindowOptions, WindowShape
from store_spec.windows.used_rows import stats_of_windows

if TYPE_CHECKING:
    from store_spec.store import Store


class Windows(RowSelection[WindowOptions]):
    """The windows of a store, numbered sequence by sequence in the store's order. Get them from `store.windows`.

    Sample i is a `Batch`: a tuple of arrays with names. It has inputs and labels, and the others if you ask for them:

    * inputs (window, *feature shape), of the selected features,
    * labels, the targets: (horizon, *target shape) for `target="future"`, (*target shape) for `"last"` and
      `"sequence"`, (window, *target shape) for `"aligned"`,
    * mask, with `mask=True`, `short="pad"`, random lengths, or `pad_end=True` and another target than `"future"`: bool
      (window,), True for real steps; padded rows are zero, also in `"aligned"` labels,
    * label_mask, with `pad_end=True` and `target="future"`: bool (horizon,), True for real steps; padded rows of labels
      and `future` are zero,
    * value_mask, bool (window, *feature shape), True for real values,
    * future (horizon, *feature shape), input columns that are known in advance, at the steps of a `"future"` label,
    * static (columns,), columns of `store.sequences`, the same for all windows of a sequence.

    Windows can be pickled, and used as the dataset of a torch `DataLoader` or a Grain source. To train, use `batches`,
    which reads windows many times faster than one after another.

    Args:
        store: The sequences.
        shape: The shape of a window.
        normalize: As in `store_spec.reading.row_options.RowOptions`; so are `features`, `targets`, `static`, `dtype`,
            `mask` and `value_mask`. `scaler` returns the numbers, and its `inverse` undoes the normalisation.
        future: Features to add for the steps of a `"future"` label; None for no such array.
        before: Use only windows that are, with their labels, entirely before this moment; see `RowOptions`.
        after: Use only windows that are entirely at or after this moment.
        context: Let windows look back beyond the start of the period of `steps` and `after`: only their targets have to
            lie in it. So the first targets of a test period have windows too.
        missing: What to do with windows that have a missing value, in a store with missing values. `"keep"`: return
            them with NaN. `"skip"`: leave out windows with NaN in an input row or a label row (with `future` also in an
            input row of the label's steps), in any feature or target, selected or not. Rows between those of a window,
            by `sampling_rate` or `lead`, do not count. No rows are read for this, as the store lists rows with NaN.
            With `phase="random"`, a sequence with windows has at least one in each epoch.

    Raises:
        WindowError: The label axis does not fit the target, `normalize` is for other features, there is no such
            feature, column or time, the store has no information for a mask, or a sequence is too short and
            `short="error"`.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     writer.append(np.ones((9, 2), "float32"), np.ones((9, 1), "float32"), source="walk-0")
    ...     writer.append(np.ones((5, 2), "float32"), np.ones((5, 1), "float32"), source="walk-1")
    >>> windows = store_spec.open_store(path).windows(4, horizon=2)
    >>> x, y = windows[0]
    >>> len(windows), x.shape, y.shape
    (4, (4, 2), (2, 1))
    """

    def __init__(self, store: Store, shape: WindowShape, options: WindowOptions | None = None) -> None:
        options = WindowOptions() if options is None else options
        super().__init__(store, options)
        self.shape = shape
        shape.check_axis(self.targets.axis, store.path)
        if options.missing not in get_args(MissingValues):
            raise WindowError(f'{store.path}: missing={options.missing!r:.80}; it must be "keep" or "skip"')
        # Shared by the windows of all epochs: the index without random starts and lengths, and the cache.
        self.base, self.row_cache = self._index_of_period(), RowCache()
        self.index = self.base
        rows, where, inputs, future = store.schema.inputs, store.path, self.columns["inputs"], options.future
        if future is not None:
            if shape.target != "future":
                raise WindowError(f'{where}: future={future!r:.80} with target="{shape.target}"; use target="future"')
            in_advance = feature_positions("future", future, rows, where)
            self.columns["future"] = replace(inputs, take=in_advance)
        self.window_scales: WindowScales | None = None
        if self.normalize == "window":
            in_advance = self.columns["future"].take if "future" in self.columns else None
            features = range(rows.features) if inputs.take is None else inputs.take
            targets, cast = features_of_targets(store, self.targets), inputs.cast
            self.window_scales = scales = WindowScales.plan(features, targets, in_advance, cast)
            self.columns |= {name: scales.unrounded(name, column) for name, column in self.columns.items()}
        self._epoch: tuple[int, int] | None = None  # seed and epoch, if these are the windows of one epoch

    def _index_of_period(self) -> WindowIndex:
        """Return where the windows of the period start, leaving out those with gaps if `missing` is "skip"."""
        store, shape, options = self.store, self.shape, self.options
        start, stop = usable_steps(store, shape.steps, **self.moments)
        check_no_later_steps(store, self.normalize, stop, allow=options.allow_later)
        first = np.maximum(0, start - shape.context_span) if options.context else start
        index = WindowIndex(start=np.minimum(first, stop), stop=stop, shape=shape)
        if options.context and shape.short == "pad":
            # The label of a padded window ends with its sequence, so it may begin before the period.
            label_start = index.last_rows(np.arange(len(first)), first)
            label_start += shape.label_offset if shape.target == "future" else 0
            index = replace(index, start=np.where(label_start < start, stop, index.start))
        if options.missing == "keep":
            return index
        return replace(index, gaps=_gaps_of(store, shape, self.targets.array, future=options.future is not None))

    def __reduce__(self) -> tuple[Callable[..., Windows], tuple[Any, ...]]:
        return _unpickle, (self.store, self.shape, self.options, self._epoch)

    def of(self, store: Store) -> Windows:
        """Return the same windows of other sequences, without normalisation."""
        return Windows(store, self.shape, replace(self.options, normalize=None))

    def of_epoch(self, seed: int, epoch: int) -> Windows:
        """Return the windows of one epoch. They are these windows, unless starts or lengths are random.

        With `phase="random"`, all windows of a sequence are shifted by one random offset of less than the stride; a
        sequence that has windows keeps at least one.
        """
        if not self._varies_by_epoch:
            return self
        windows = object.__new__(Windows)
        windows.__dict__ |= self.__dict__  # nothing is read again
        windows._epoch = seed, epoch
        base = self.base
        index = replace(base, random=(seed, epoch)) if self.shape.least_window else base
        windows.index = index
        if self.shape.phase == "first":
            return windows
        room = np.minimum(self.shape.stride, base.stop - base.start - self.shape.least_span + 1)
        random = np.random.default_rng(np.random.SeedSequence((seed, epoch), spawn_key=(2,)))
        starts = base.start + (random.random(len(room)) * np.maximum(room, 1)).astype(np.int64)
        windows.index = replace(index, start=starts)
        # Between gaps there may be no room for a shifted window.
        lost = (np.diff(windows.index.first) == 0) & (np.diff(base.first) > 0)
        if lost.any():
            windows.index = replace(index, start=np.where(lost, base.start, starts))
        return windows

    @property
    def _varies_by_epoch(self) -> bool:
        """Whether each epoch has different windows."""
        return self.shape.phase == "random" or self.shape.least_window is not None

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of these windows, for a state, in types of JSON."""
        shape = self.shape
        return super().parameters() | {
            **{name: getattr(shape, name) for name in shape.__slots__ if name != "steps"},
            "steps": None if shape.steps is None else list(shape.steps),
            "future": brief(self.columns["future"].take) if "future" in self.columns else None,
            "missing": self.options.missing,
            "context": bool(self.options.context),
            "mask": self.has_mask,
        }

    @property
    def has_mask(self) -> bool:
        """Whether samples have a mask of steps."""
        return self.options.mask or self.shape.pads_inputs

    @property
    def loaded(self) -> dict[str, Column]:
        """The columns that are loaded: not labels of whole sequences, nor labels that are the same as the inputs."""
        same = self.targets.array == "inputs" and self.targets.take == self.columns["inputs"].take
        left_out = same or self.shape.target == "sequence"
        return {name: column for name, column in self.columns.items() if name != "labels" or not left_out}

    def row_bytes(self, name: str) -> int:
        """Return the bytes of a row of `inputs`, `labels` or `future` in a batch."""
        column = self.columns[name]
        dtype = column.dtype if self.window_scales is None else self.window_scales.dtype(name, column.dtype)
        return column.nbytes // column.dtype.itemsize * dtype.itemsize

    def scaler(self, index: ArrayLike | None = None) -> Scaler:
        """Return the normalisation of windows, to undo it: `windows.scaler(index).inverse(predictions)`.

        With random starts or lengths, call this on the `batches.windows` that the index is of.

        Args:
            index: (windows,), the numbers of the windows, from `batches(..., index=True)`, or one number. It is needed
                if `normalize` is `"sequence"` or `"window"`. Predictions then have windows as their first axis, except
                for a single number. With `"window"`, the inputs of these windows are read.

        Raises:
            WindowError: Windows are not normalised, `index` is needed, or its numbers are those of an unknown epoch.
            SequenceIndexError: There is no window with one of these numbers.

        >>> import tempfile, store_spec
        >>> path = tempfile.mkdtemp() + "/walk.zarr"
        >>> with store_spec.create_store(path, inputs=("float32", (1,)), labels=("float32", (1,))) as writer:
        ...     walk = np.arange(9, dtype="float32")[:, None]
        ...     writer.append(walk, walk, source="walk")
        >>> windows = store_spec.open_store(path).windows(3, normalize="window")
        >>> for x, y, index in windows.batches(2, index=True, drop_last=True):
        ...     print(windows.scaler(index).inverse(y).ravel().tolist())
        [3.0, 4.0]
        [5.0, 6.0]
        [7.0, 8.0]
        """
        if self.normalize is None:
            raise WindowError(f"{self.store.path}: these windows are not normalised; give normalize=...")
        if index is None and not isinstance(self.normalize, Scaler):
            how = f'"{self.normalize}"' if isinstance(self.normalize, str) else repr(self.normalize.statistics)
            raise WindowError(f"{self.store.path}: normalize={how}, so give the index of the windows")
        if index is not None:
            self.check_epoch()
        numbers = np.zeros(0, np.int64) if index is None else array_of(index)
        scaler = scaler_of(self, numbers.reshape(-1))
        return scaler if numbers.ndim else Scaler(inputs=scaler.inputs.of(0), labels=scaler.labels.of(0))

    def stats(self) -> Statistics:
        """Return statistics of exactly the rows that these windows use: inputs, and labels at the steps of targets.

        These rows are read. With random starts or lengths they are those of all epochs. Rows that only `future` columns
        use do not count.

        Raises:
            WindowError: There are no windows.
        """
        return stats_of_windows(self)

    def sequence_weights(self, target: str | int | None = None) -> NDArray[np.float64]:
        """Return weights for `batches(..., weights=...)`, so that windows of all classes are drawn equally often.

        They are those of `store.sequence_weights` for the sequences that have windows, divided by the number of
        windows, so that the length of a sequence does not matter. `target` and errors are those of
        `store.sequence_weights`.

        Returns:
            Float64 (sequences,), 0 where a sequence has no window.
        """
        counts = np.diff(self.index.first)
        weights = np.zeros(len(counts))
        some = np.flatnonzero(counts)
        weights[some] = self.store.view(some).sequence_weights(target) / counts[some]
        return weights

    def check_epoch(self) -> None:
        """Refuse to look up windows by number if numbers depend on the epoch, and these windows are not of one epoch.

        Raises:
            WindowError: With random starts or lengths these are not the windows of an epoch.
        """
        if self._varies_by_epoch and self._epoch is None:
            what = 'phase="random"' if self.shape.phase == "random" else "random lengths"
            raise WindowError(
                f"{self.store.path}: with {what} the numbers of windows differ between epochs; use batches.windows, of "
                "the batches that returned the numbers, or windows.of_epoch(seed, epoch)"
            )

    def locate(self, numbers: ArrayLike) -> Place:
        """Return where a window starts, or many windows as arrays of the shape of `numbers`; times are read.

        With random starts or lengths, call this on the `batches.windows` that the numbers are of.

        Raises:
            SequenceIndexError: There is no window with one of these numbers.
            WindowError: With random starts or lengths these are not the windows of an epoch.
        """
        self.check_epoch()
        return place_of(self, numbers)

    def __repr__(self) -> str:
        every = [(one.name, getattr(self.options, one.name), one.default) for one in fields(WindowOptions)]
        options = "".join(f", {name}={_shown(value)}" for name, value, default in every if value is not default)
        return f"<{len(self):,} windows of {self.store.path.name}: {self.shape}{options}>"

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Batch]:
        """Yield all windows in order, reading some at a time."""
        for start in range(0, len(self), READ_TOGETHER):
            yield from self.__getitems__(range(start, min(start + READ_TOGETHER, len(self))))

    @overload
    def __getitem__(self, number: int) -> Batch: ...
    @overload
    def __getitem__(self, number: slice) -> list[Batch]: ...
    def __getitem__(self, number: int | slice) -> Batch | list[Batch]:
        """Read one window, or a slice of them as a list.

        With random starts or lengths, these are the longest windows from the first step on, as in no epoch. Those of an
        epoch come from `batches.windows`, or from `of_epoch`.

        Args:
            number: A negative one counts from the end.

        Raises:
            SequenceIndexError: There is no such window.
            ChecksumError: The bytes on disk are not those that were written.
        """
        if isinstance(number, slice):
            return self.__getitems__(range(len(self))[number])
        return self.__getitems__([number])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Batch]:
        """Read many windows, in this order, each chunk once; arguments and errors are those of `[number]`."""
        return read_samples(self, numbers)

    def batches(
        self,
        batch_size: int,
        *,
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
    ) -> Batches:
        """Return an iterator over one epoch of these windows in batches: see `store_spec.windows.batches.Batches`."""
        arguments = locals()
        return Batches(self, options_of(BatchOptions, arguments))

    def mixing(self, batch_size: int, *, seed: int = 0, epoch: int = 0, memory: int | str = "256MB") -> Mixing:
        """Measure how well an epoch of shuffled batches mixes: see `store_spec.windows.mixing.measure`."""
        return measure(self, batch_size, seed=seed, epoch=epoch, memory=memory)

    def overlay(self, predictions: ArrayLike, index: ArrayLike, *, inverse: bool = False) -> Overlay:
        """Average predictions for each step of their sequences: see `store_spec.windows.overlay.overlay`."""
        return overlay(self, predictions, index, inverse=inverse)


def _gaps_of(store: Store, shape: WindowShape, targets: str, *, future: bool) -> tuple[Gaps, ...]:
    """Return the steps of these sequences with a missing value, by what windows would use them for.

    `targets` is the array of the targets, and with `future` windows also have input rows of the horizon.
    """
    uses: list[tuple[str, Target]] = [("inputs", "aligned"), (targets, shape.target)]
    if future:
        uses.append(("inputs", "future"))
    gaps = []
    for array, use in uses:
        starts, lengths = store.places(array)
        sequence, runs = runs_of_sequences(store.snapshot.missing(array), starts, starts + lengths)
        gaps.append(Gaps(sequence=sequence, start=runs[:, 0], stop=runs[:, 1], use=use))
    return tuple(gaps)


def _unpickle(store: Store, shape: WindowShape, options: WindowOptions, epoch: tuple[int, int] | None) -> Windows:
    windows = Windows(store, shape, options)
    return windows if epoch is None else windows.of_epoch(*epoch)


def _shown(value: object) -> str:
    """Return an option as text: the first items of a list, and only the type of objects such as statistics."""
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return f"{list(value)!r:.200}"
    return f"{value!r:.80}" if isinstance(value, str | bool | int | float | np.generic) else type(value).__name__
