"""All windows of a selection of sequences, by number; nothing is stored, and rows are read when asked for."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceIndexError, WindowError
from store_spec.notebook import option_text, table_html
from store_spec.reading.columns import Column, feature_positions
from store_spec.reading.normalization import (
    Normalize,
    Own,
    WindowScales,
    labels_are_numbers,
    resolve,
    scales_of,
    state_name,
)
from store_spec.reading.scaling import Scaler
from store_spec.reading.sequence_table import static_columns, static_parameter
from store_spec.windows.missing_values import gaps_of, masks_of
from store_spec.windows.pools import Batch
from store_spec.windows.row_cache import RowCache
from store_spec.windows.samples import READ_TOGETHER, read_samples
from store_spec.windows.scaler import scaler_of
from store_spec.windows.shape import WindowShape
from store_spec.windows.state import brief
from store_spec.windows.targets import check_target, index_of, moment_of

if TYPE_CHECKING:
    from store_spec.reading.classes import ByClass
    from store_spec.store import Store
    from store_spec.windows.batches import Batches
    from store_spec.windows.epoch import Transform
    from store_spec.windows.mixing import Mixing
    from store_spec.windows.overlay import Overlay

MissingValues = Literal["keep", "skip"]


class Place(NamedTuple):
    """Where windows lie.

    Args:
        source: The name of the source, or an array of names.
        part: Int64, which part of it.
        step: Int64, the step of the sequence at which the window starts.
    """

    source: Any
    part: Any
    step: Any


class Windows:
    """The windows of a store, numbered sequence by sequence in the store's order. Get them from `store.windows`.

    Sample i is `(inputs, labels)`, with `short="pad"` or `mask=True` a mask, with `future=` and `static=` these:

    * inputs (window, *feature shape), of the features asked for,
    * labels (horizon, *target shape) for `target="future"`, (*target shape) for `"last"` and `"sequence"`,
      (window, *target shape) for `"aligned"`,
    * mask, bool (window,), True where a row is real. Those that are not are zeros, also in `"aligned"` labels. With
      `mask=True` bool (window, *feature shape), True where a value is real,
    * future (horizon, *feature shape), input columns that are known in advance, of the steps of a `"future"` label,
    * static (columns,), columns of `store.sequences`, the same for all windows of a sequence.

    It has what a torch `DataLoader` and a Grain source ask for, and can be pickled. To train, use `batches`: it reads
    the same windows many times faster than one after another.

    Args:
        store: Whose windows.
        shape: What a window takes from a sequence.
        normalize: What to normalise inputs by, and labels too where these are floats, or the inputs: other labels are
            taken for classes. Padding stays zero, NaN stays NaN, constants become 0.

            * statistics, such as `train.stats()`, for mean 0 and standard deviation 1, or what `train.stats().minmax()`
              and `train.stats().robust()` return: the same numbers for all windows.
            * `"sequence"`: each sequence's own mean and standard deviation, as the store keeps them of its inputs and
              of its labels. They are of the whole sequence, so a window knows them from steps after it.
            * `"window"`: the mean and standard deviation of each window's own input steps, of the features that it has.
              Targets and `future` columns that are also features (by name, or where rows without names have the same
              shape) go by the same numbers; all others are left as they are.

            `scaler` gives the numbers, and its `inverse` undoes it.
        features: Which features inputs hold, by name or number, on their last axis; None for all.
        future: Which features are also given for the steps of a `"future"` label; None for no such array.
        static: Which numeric columns of `store.sequences` are given along, by name, in the dtype that holds them all;
            None for no such array.
        before: Only windows that lie, with their labels, wholly before that moment: the text of a date, as
            "2020-01-01" or "2020-01-01T12:00", or a datetime64; of elapsed times a number of the store's unit, or a
            timedelta64. The store needs `time`.
        after: Only windows that lie wholly at or after that moment.
        missing: What becomes of windows that touch a missing value, in a store that keeps them as NaN. `"keep"`: they
            are given with it. `"skip"`: they are left out, each of which an input row or a label row (and with `future`
            an input row of the label's steps) has NaN in any feature or target, asked for or not; rows that lie
            between those of a window, by `sampling_rate` or `lead`, do not count. The store says where NaN is, so no
            rows are read for that. With `phase="random"` a sequence with windows keeps one each epoch.
        mask: Give the mask value by value, of the features asked for: False where a value of inputs was filled in, as
            a store built with `--mask` (or of `filled=True`) keeps it; False where it is NaN, in a store that keeps
            missing values; and False in rows of padding.

    Raises:
        WindowError: The label axis cannot give such labels, `normalize` is of other features, there is no such
            feature, column or time, the store knows nothing for a mask, or a sequence is too short and `short="error"`.

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

    def __init__(
        self,
        store: Store,
        shape: WindowShape,
        *,
        normalize: Normalize | None = None,
        features: Sequence[str | int] | None = None,
        future: Sequence[str | int] | None = None,
        static: Sequence[str] | None = None,
        before: Any = None,
        after: Any = None,
        missing: MissingValues = "keep",
        mask: bool = False,
    ) -> None:
        check_target(store, shape)
        if missing not in get_args(MissingValues):
            raise WindowError(f'{store.path}: missing={missing!r:.80}; it must be "keep" or "skip"')
        self.store = store
        self.shape = shape
        self.normalize = resolve(normalize, store.path)
        scales = scales_of(store, self.normalize)
        self.static = static_columns(store, static)  # (sequences, columns)
        self._options: dict[str, Any] = {
            "normalize": self.normalize,
            "features": features,
            "future": future,
            "static": static,
            "before": before,
            "after": after,
            "missing": missing,
            "mask": bool(mask),
        }
        self._moments = {name: moment_of(store, name, self._options[name]) for name in ("before", "after")}
        self.index = index_of(store, shape, self._moments["before"], self._moments["after"])
        if missing == "skip":
            self.index = replace(self.index, gaps=gaps_of(store, shape, future=future is not None))
        rows, where = store.schema.inputs, store.path
        take = feature_positions("features", features, rows, where)
        self.columns = {
            "inputs": Column(array="inputs", rows=rows, take=take, scale=scales["inputs"]),
            "labels": Column(array="labels", rows=store.schema.labels, scale=scales["labels"]),
        }
        if future is not None:
            if shape.target != "future":
                raise WindowError(f'{where}: future={future!r:.80} with target="{shape.target}"; use target="future"')
            known = feature_positions("future", future, rows, where)
            self.columns["future"] = Column(array="inputs", rows=rows, take=known, scale=scales["inputs"])
        if mask:
            self.columns |= masks_of(store, take)
        self.of_windows: WindowScales | None = None
        if self.normalize == "window":
            known = self.columns["future"].take if "future" in self.columns else None
            labels = store.schema.labels if labels_are_numbers(store) else None
            self.of_windows = WindowScales.plan(rows, labels, take, known)
        self.base = self.index  # the same for the windows of each epoch, as what keeps rows for them
        self.row_cache = RowCache()
        self._epoch: tuple[int, int] | None = None  # seed and epoch, of windows that start elsewhere in each

    def __reduce__(self) -> tuple[partial[Windows], tuple[Any, ...]]:
        return partial(_again, **self._options), (self.store, self.shape, self._epoch)

    def of(self, store: Store, normalize: Scaler | Own | None) -> Windows:
        """Return the same windows of other sequences, normalised by that."""
        return Windows(store, self.shape, **(self._options | {"normalize": normalize}))

    def of_epoch(self, seed: int, epoch: int) -> Windows:
        """Return the windows of one epoch: these, or with `phase="random"` ones that start elsewhere.

        Each sequence has an offset of its own, below the stride, and such that a sequence with windows keeps one.
        """
        if self.shape.phase == "first":
            return self
        room = np.minimum(self.shape.stride, self.index.end - self.index.begin - self.shape.span + 1)
        random = np.random.default_rng(np.random.SeedSequence((seed, epoch), spawn_key=(2,)))
        begin = self.index.begin + (random.random(len(room)) * np.maximum(room, 1)).astype(np.int64)
        windows = object.__new__(Windows)
        windows.__dict__ |= self.__dict__  # nothing is read again
        windows._epoch = seed, epoch
        windows.index = replace(self.index, begin=begin)
        # Between gaps there may be room for the first phase alone.
        none = (np.diff(windows.index.first) == 0) & (np.diff(self.index.first) > 0)
        if none.any():
            windows.index = replace(self.index, begin=np.where(none, self.index.begin, begin))
        return windows

    def parameters(self) -> dict[str, Any]:
        """Return what these windows are, as JSON can hold it."""
        shape = self.shape
        return {
            **{name: getattr(shape, name) for name in shape.__slots__ if name != "steps"},
            "steps": None if shape.steps is None else list(shape.steps),
            "features": None if (take := self.columns["inputs"].take) is None else brief(take),
            "future": brief(self.columns["future"].take or ()) if "future" in self.columns else None,
            "normalize": state_name(self.normalize),
            **self._moments,
            "static": static_parameter(self._options["static"], self.static),
            "missing": self._options["missing"],
            "mask": self._options["mask"],
        }

    @property
    def masks(self) -> tuple[str, ...]:
        """The columns that tell which values of inputs are real: all of them have to."""
        return tuple(name for name, column in self.columns.items() if column.real)

    def row_bytes(self, name: str) -> int:
        """Return the bytes of a row of `inputs`, `labels` or `future` in a batch."""
        column = self.columns[name]
        dtype = column.dtype if self.of_windows is None else self.of_windows.dtype(name, column.dtype)
        return column.nbytes // column.dtype.itemsize * dtype.itemsize

    def scaler(self, index: ArrayLike | None = None) -> Scaler:
        """Return what windows are normalised by, to undo it: `windows.scaler(index).inverse(predictions)`.

        With `phase="random"`, `batches.windows` are those that the index is of.

        Args:
            index: (windows,), the numbers of the windows, as `batches(..., index=True)` gives them, or one number. They
                are needed where `normalize` is `"sequence"` or `"window"`: predictions then have windows as their first
                axis, as batches have them, but for one number. With `"window"` the inputs of these windows are read.

        Raises:
            WindowError: Windows are not normalised, `index` is needed, or it is of an epoch's windows, and these not.
            SequenceIndexError: There is no window of one of these numbers.

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
            raise WindowError(f'{self.store.path}: normalize="{self.normalize}", so give the index of the windows')
        if index is not None:
            self.check_epoch()
        numbers = np.zeros(0, np.int64) if index is None else np.asarray(index)
        found = scaler_of(self, numbers.reshape(-1))
        return found if numbers.ndim else Scaler(inputs=found.inputs.of(0), labels=found.labels.of(0))

    def sequence_weights(self, classes: ByClass = "balanced", target: str | int | None = None) -> NDArray[np.float64]:
        """Return weights for `batches(..., weights=...)` by which windows of all classes are drawn equally often.

        They are those of `store.sequence_weights` for the sequences that have windows, each over their number, so that
        it does not matter how long a sequence is. The arguments and errors are those of that.

        Returns:
            Float64 (sequences,), 0 where a sequence has no window.
        """
        counts = np.diff(self.index.first)
        weights = np.zeros(len(counts))
        some = np.flatnonzero(counts)
        weights[some] = self.store.select(some).sequence_weights(classes, target) / counts[some]
        return weights

    def check_epoch(self) -> None:
        """Refuse numbers of windows where these may be those of an epoch, whose windows start elsewhere.

        Raises:
            WindowError: They start elsewhere in each epoch, and these are of none.
        """
        if self.shape.phase == "random" and self._epoch is None:
            raise WindowError(
                f'{self.store.path}: with phase="random" the numbers of windows are those of one epoch; take '
                "batches.windows, of the batches that gave them, or windows.of_epoch(seed, epoch)"
            )

    def locate(self, numbers: ArrayLike) -> Place:
        """Return source, part and first step of a window, or of many: arrays of the shape of `numbers`.

        With `phase="random"`, `batches.windows` are those that the numbers are of.

        Raises:
            SequenceIndexError: There is no window of one of these numbers.
            WindowError: They are of an epoch's windows, and these not.
        """
        self.check_epoch()
        sequences, steps = self.index.locate_many(numbers)
        parts = self.store.parts[sequences]
        if not sequences.ndim:
            return Place(self.store.sources[int(sequences)], int(parts), int(steps))
        names = np.array([self.store.sources[number] for number in sequences.ravel().tolist()], object)
        return Place(names.reshape(sequences.shape), parts, steps)

    def __repr__(self) -> str:
        options = "".join(f", {name}={text}" for name, text in self._given().items())
        return f"<{len(self):,} windows of {self.store.path.name}: {self.shape}{options}>"

    def _given(self) -> dict[str, str]:
        """Return the options beside the shape that are not as usual, as short text."""
        usual = {"missing": "keep", "mask": False}
        return {
            name: option_text(value)
            for name, value in self._options.items()
            if value is not None and not (name in usual and value == usual[name])
        }

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        shape, inputs = self.shape, self.columns["inputs"]
        labels = self.columns["labels"]
        steps = () if shape.label_steps is None else (shape.label_steps,)
        pairs = [
            ("windows", f"{len(self):,} of {len(self.store):,} sequences"),
            ("inputs", f"{inputs.dtype} {(shape.window, *inputs.shape)}"),
            ("labels", f"{labels.dtype} {(*steps, *labels.shape)}, {shape.target}"),
            *((name, f"{getattr(shape, name)}") for name in ("stride", "sampling_rate", "lead", "short")),
            ("normalized", "no" if self.normalize is None else "yes"),
            *((name, text) for name, text in self._given().items() if name != "normalize"),
        ]
        return table_html(self.store.path.name, pairs)

    def __len__(self) -> int:
        return len(self.index)

    def __iter__(self) -> Iterator[Batch]:
        """Yield all windows in order; a few are read at a time."""
        for start in range(0, len(self), READ_TOGETHER):
            yield from self.__getitems__(range(start, min(start + READ_TOGETHER, len(self))))

    def __getitem__(self, number: int) -> Batch:
        """Read one window.

        Args:
            number: A negative one counts from the end.

        Raises:
            SequenceIndexError: There is no such window.
            ChecksumError: The bytes on disk are not those that were written.
        """
        try:
            wanted = operator.index(number)
        except TypeError:
            raise SequenceIndexError(
                f"{self.store.path}: window {number!r:.80} asked for; windows go by whole numbers from 0, and batches "
                "gives many at once"
            ) from None
        return self.__getitems__([wanted])[0]

    def __getitems__(self, numbers: Sequence[int]) -> list[Batch]:
        """Read many windows, in the order given, each chunk once; the arguments and errors are those of `[number]`."""
        try:
            sequences, first = self.index.locate_many(np.asarray(numbers))
        except SequenceIndexError as error:
            raise SequenceIndexError(f"{self.store.path}: {error}") from None
        return read_samples(self, sequences, first)

    def batches(
        self,
        size: int,
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
        """Return an iterator over one epoch of these windows in batches: `Batches` says what each argument means."""
        from store_spec.windows.batches import Batches

        return Batches(
            self,
            size,
            shuffle=shuffle,
            seed=seed,
            epoch=epoch,
            rank=rank,
            world_size=world_size,
            drop_last=drop_last,
            memory=memory,
            index=index,
            weights=weights,
            transform=transform,
        )

    def mixing(self, size: int, *, seed: int = 0, epoch: int = 0, memory: int | str = "256MB") -> Mixing:
        """Measure how well an epoch of shuffled batches mixes, reading no rows: see `mixing.measure`."""
        from store_spec.windows.mixing import measure

        return measure(self, size, seed=seed, epoch=epoch, memory=memory)

    def overlay(self, predictions: ArrayLike, index: ArrayLike, *, inverse: bool = False) -> Overlay:
        """Lay predictions back over the steps of their sequences, mean and count for each: see `overlay.overlay`."""
        from store_spec.windows.overlay import overlay

        return overlay(self, predictions, index, inverse=inverse)


def _again(store: Store, shape: WindowShape, epoch: tuple[int, int] | None, **options: Any) -> Windows:
    """Make the windows that were pickled."""
    windows = Windows(store, shape, **options)
    return windows if epoch is None else windows.of_epoch(*epoch)
