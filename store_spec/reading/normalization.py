"""Normalisation of inputs and labels: the argument `normalize`, and the statistics of groups that it may be."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import moments_of_each
from store_spec.reading.columns import Column
from store_spec.reading.scaling import Scale, Scaler, SequenceScales, normalized_dtype, standard
from store_spec.reading.statistics import Statistics, unchecked_stats, warn_without_steps

if TYPE_CHECKING:
    from store_spec.store import Store


class GroupStatistics(dict[str, Statistics]):
    """The statistics of each group, by its name. From `store.stats_by("patient")`.

    As `normalize=`, each sequence is normalised by the statistics of its group.
    """

    def __init__(self, store: Store, by: str, options: Mapping[str, Any]) -> None:
        if not isinstance(by, str):
            raise WindowError(f'{store.path}: by={by!r:.80}; give the name of a column of sequences, or "source"')
        self.by = by
        if not len(store):
            warn_without_steps(store, stacklevel=4)
        members: dict[str, list[int]] = {}
        for number, name in enumerate(store.grouped(by)):
            members.setdefault(name, []).append(number)
        for name, numbers in members.items():
            try:
                self[name] = unchecked_stats(store.view(np.array(numbers)), **options)
            except WindowError as error:
                raise WindowError(f"{error}; these are the sequences with {by}={name!r:.80}") from None
        store.snapshot.check_not_replaced()

    def __repr__(self) -> str:
        return f"<statistics of {len(self):,} groups by {self.by!r}: {', '.join(self):.200}>"

    def standard(self) -> GroupScaler:
        """Return the normalisation of each group to mean 0 and standard deviation 1, as `Statistics.standard`."""
        return self._scaler(Statistics.standard)

    def minmax(self) -> GroupScaler:
        """Return the normalisation of each group to minimum 0 and maximum 1, as `Statistics.minmax`."""
        return self._scaler(Statistics.minmax)

    def robust(self, low: float = 0.25, high: float = 0.75) -> GroupScaler:
        """Return the normalisation of each group to median 0 and inter-quartile range 1, as `Statistics.robust`."""
        return self._scaler(lambda statistics: statistics.robust(low, high))

    def _scaler(self, scale: Callable[[Statistics], Scaler]) -> GroupScaler:
        return GroupScaler(groups={name: scale(each) for name, each in self.items()}, statistics=self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupScaler:
    """Normalisation of each sequence by the numbers of its group. From `GroupStatistics`.

    `windows.scaler(index)` returns the numbers of windows, to undo it.
    """

    groups: Mapping[str, Scaler]  # the normalisation of each group, by its name
    statistics: GroupStatistics  # the statistics that it is made of

    def digest(self) -> str:
        """Return a hash of all groups and numbers, as 16 hexadecimal digits."""
        digest = hashlib.sha256(self.statistics.by.encode())
        for name, scaler in sorted(self.groups.items()):
            digest.update(f"\0{name}\0{scaler.digest()}".encode())
        return digest.hexdigest()[:16]

    def stop_of_each(self, store: Store) -> NDArray[np.int64]:
        """Return (sequences,): the step after the last that the statistics are of, or 0."""
        stop = np.zeros(len(store), np.int64)
        for scaler in self.groups.values():
            np.maximum(stop, scaler.stop_of_each(store), out=stop)
        return stop

    def scales(self, store: Store, name: str) -> SequenceScales:
        """Return the numbers of each sequence for `inputs` or `labels`."""
        each = [getattr(scaler, name) for scaler in self.groups.values()]
        for scale in each:
            _check(store, name, scale)
        by, number_of = self.statistics.by, {group: number for number, group in enumerate(self.groups)}
        groups = [number_of.get(group, -1) for group in store.grouped(by)]
        if -1 in groups:
            sequence = groups.index(-1)
            raise WindowError(
                f"{store.path}: sequence {sequence:,} has {by}={store.grouped(by)[sequence]!r:.80}, and "
                f"normalize has statistics of {len(self.groups):,} groups without it: {', '.join(self.groups):.200}"
            )
        group_of_each = np.full(store.counts.sequences, -1, np.int64)
        group_of_each[store.selection] = groups
        shape = len(each), store.schema.rows(name).features
        numbers = Scale(
            center=np.reshape([scale.center for scale in each], shape),
            scale=np.reshape([scale.scale for scale in each], shape),
        )
        return SequenceScales(snapshot=store.snapshot, name=name, groups=numbers, group_of_each=group_of_each)


Own = Literal["sequence", "window"]  # each one's own mean and standard deviation
Normalization = Scaler | GroupScaler | Own
Normalize = Statistics | GroupStatistics | Normalization
Scales = dict[str, Scale | SequenceScales | None]


def resolve(normalize: Normalize | None, where: object) -> Normalization | None:
    """Check the argument, and replace statistics by their mean and standard deviation."""
    if isinstance(normalize, Statistics | GroupStatistics):
        return normalize.standard()
    if normalize is None or isinstance(normalize, Scaler | GroupScaler):
        return normalize
    value: object = normalize
    if isinstance(value, str) and value in get_args(Own):  # checked first, as an array cannot be compared like this
        return normalize
    raise WindowError(
        f"{where}: normalize={normalize!r:.80}; give statistics, such as store.stats() or store.stats().minmax(), or "
        '"sequence" or "window" for their own mean and standard deviation'
    )


def state_name(normalize: Normalization | None) -> str | None:
    """Return what a state records of the normalisation: a hash, the name of an option, or None."""
    return normalize.digest() if isinstance(normalize, Scaler | GroupScaler) else normalize


def scales_of(store: Store, normalize: Normalization | None) -> Scales:
    """Return how stored rows of `inputs` and `labels` are normalised; None for rows that are not.

    Labels that are neither floats nor the inputs are regarded as classes, and not normalised. With numbers for each
    sequence or group, labels of whole sequences are not normalised either.
    """
    schema = store.schema
    if normalize is not None and schema.inputs.dtype.kind == "c":
        raise WindowError(f"{store.path}: inputs are {schema.inputs.dtype}; complex numbers cannot be normalised")
    if not isinstance(normalize, Scaler) and normalize in (None, "window"):
        return {"inputs": None, "labels": None}
    numbers = labels_are_numbers(store) and (isinstance(normalize, Scaler) or schema.label_axis != "sequence")
    scales: Scales = {"inputs": None, "labels": None}
    for name in ("inputs", "labels") if numbers else ("inputs",):
        if isinstance(normalize, Scaler):
            scales[name] = scale = getattr(normalize, name)
            _check(store, name, scale)
        elif isinstance(normalize, GroupScaler):
            scales[name] = normalize.scales(store, name)
        else:
            scales[name] = SequenceScales(snapshot=store.snapshot, name=name)
    return scales


def labels_are_numbers(store: Store) -> bool:
    """Return whether labels are floats or the inputs; otherwise they are classes."""
    return store.schema.labels.dtype.kind == "f" or store.snapshot.labels_are_inputs()


def check_no_later_steps(
    store: Store, normalize: Normalization | None, stop: NDArray[np.int64], *, allow: bool
) -> None:
    """Refuse statistics that cover steps of a sequence after its last used one, unless `allow`.

    `stop` is (sequences,), the step after the last one that is used.
    """
    cut = stop < store.lengths
    if allow or not cut.any() or normalize is None or normalize == "window":
        return
    used = store.lengths if isinstance(normalize, str) else normalize.stop_of_each(store)
    later = cut & (used > stop)
    if later.any():
        number = int(np.argmax(later))
        raise WindowError(
            f"{store.path}: normalize has statistics of later steps than are used: of sequence {number:,} "
            f"({store.sources[number]}) up to step {used[number]:,}, where {stop[number]:,} are used; give "
            "stats(steps=...) or stats(before=...) of the same period, or allow_later=True"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowScales:
    """Normalisation of each window by the mean and standard deviation of its own input steps.

    A target or a future column that is also a feature is normalised by the numbers of that feature, so that predictions
    and inputs stay comparable. Other targets and columns are not normalised.
    """

    # For each target the feature that it equals, -1 if there is none; None to leave labels unchanged.
    labels: tuple[int, ...] | None
    future: tuple[int, ...] | None  # the same for future columns
    cast: np.dtype[Any] | None  # the dtype of the result; None for the one that normalised values have

    @classmethod
    def plan(
        cls,
        features: Sequence[int],
        targets: Sequence[int] | None,
        future: tuple[int, ...] | None,
        cast: np.dtype[Any] | None,
    ) -> WindowScales:
        """Find the targets and future columns that are features of the windows.

        `targets` has for each target the feature of the store that it equals, or -1; it is None if targets are classes.
        """
        position = {feature: at for at, feature in enumerate(features)}
        labels = tuple(position.get(feature, -1) for feature in targets or ())
        return cls(
            labels=labels if max(labels, default=-1) >= 0 else None,
            future=None if future is None else tuple(position.get(place, -1) for place in future),
            cast=cast,
        )

    def unrounded(self, name: str, column: Column) -> Column:
        """Return the column with a dtype that does not round values before they are normalised."""
        if column.real or column.cast is None or (name == "labels" and self.labels is None):
            return column
        return replace(column, cast=np.promote_types(column.cast, normalized_dtype(column.rows.dtype)))

    def scale(self, inputs: NDArray[Any], real: NDArray[np.int64] | None = None) -> Scale:
        """Return the numbers of windows (windows, steps, *feature shape), whose first `real` steps are real."""
        return standard(moments_of_each(inputs, real))

    def __call__(
        self,
        inputs: NDArray[Any],
        labels: NDArray[Any],
        future: NDArray[Any] | None,
        real: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """Return inputs, labels and future columns of windows, normalised; the arguments may be overwritten."""
        scale = self.scale(inputs, real)
        if self.labels is not None:
            labels = self._cast(scale.take(self.labels).apply(labels, "labels", inplace=True))
        if future is not None and self.future is not None:
            future = self._cast(scale.take(self.future).apply(future, inplace=True))
        return self._cast(scale.apply(inputs, inplace=True)), labels, future

    def _cast(self, values: NDArray[Any]) -> NDArray[Any]:
        return values if self.cast is None else values.astype(self.cast, copy=False)

    def dtype(self, name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of `inputs`, `labels` or `future` whose stored dtype is `dtype`."""
        if name == "labels" and self.labels is None:
            return dtype
        return normalized_dtype(dtype) if self.cast is None else self.cast


def _check(store: Store, name: str, scale: Scale) -> None:
    """Check that a scale is for the features or the targets of a store."""
    rows = store.schema.rows(name)
    if scale.center.ndim != 1 or scale.features != rows.features:
        samples = f" of each of {len(scale.center):,} samples" if scale.center.ndim > 1 else ""
        raise WindowError(
            f"{store.path}: {name} have {rows.features:,} features, but normalize is of {scale.features:,}{samples}; "
            "take the statistics of a store of this schema"
        )
    if rows.names and scale.names and rows.names != scale.names:
        at = next(place for place, names in enumerate(zip(rows.names, scale.names, strict=True)) if len({*names}) > 1)
        raise WindowError(
            f"{store.path}: {name} have {rows.names[at]!r:.80} in place {at:,}, but normalize has "
            f"{scale.names[at]!r:.80} there; take the statistics of a store of this schema"
        )
