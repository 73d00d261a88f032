"""What the argument `normalize` means: by which numbers inputs and labels of windows, padded sequences, streams go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import moments_of_each
from store_spec.reading.scaling import OfSequences, Scale, Scaler, normalized_dtype, standard, unchanged
from store_spec.reading.statistics import Statistics
from store_spec.schema import Rows

if TYPE_CHECKING:
    from store_spec.store import Store

Own = Literal["sequence", "window"]  # whose own mean and standard deviation
Normalize = Statistics | Scaler | Own
Scales = dict[str, Scale | OfSequences | None]


def resolved(normalize: Normalize | None, where: object) -> Scaler | Own | None:
    """Return what is meant: statistics stand for their mean and standard deviation.

    Raises:
        WindowError: It is nothing to normalise by.
    """
    if isinstance(normalize, Statistics):
        return normalize.standard()
    if normalize is None or isinstance(normalize, Scaler):
        return normalize
    given: object = normalize
    if isinstance(given, str) and given in get_args(Own):  # an array has no truth
        return normalize
    raise WindowError(
        f"{where}: normalize={normalize!r:.80}; give statistics, such as store.stats() or store.stats().minmax(), or "
        '"sequence" or "window" for their own mean and standard deviation'
    )


def named(normalize: Scaler | Own | None) -> str | None:
    """Return what stands for it in a state."""
    return normalize.digest() if isinstance(normalize, Scaler) else normalize


def scales_of(store: Store, normalize: Scaler | Own | None) -> Scales:
    """Return what stored rows of `inputs` and `labels` are normalised by; None for what is left as it is stored.

    Labels that are not floats, nor the inputs, are taken for classes, and left. So is a sequence's own label with
    `"sequence"`: a single value has no deviation.

    Raises:
        WindowError: It is of other features, or inputs are complex.
    """
    schema = store.schema
    if normalize is not None and schema.inputs.dtype.kind == "c":
        raise WindowError(f"{store.path}: inputs are {schema.inputs.dtype}; complex numbers cannot be normalised")
    if isinstance(normalize, Scaler):
        numbers = labels_are_numbers(store)
        _check(store, "inputs", schema.inputs, normalize.inputs)
        if numbers:
            _check(store, "labels", schema.labels, normalize.labels)
        return {"inputs": normalize.inputs, "labels": normalize.labels if numbers else None}
    if normalize != "sequence":
        return {"inputs": None, "labels": None}
    of_labels = (
        OfSequences(store.snapshot, "labels") if labels_are_numbers(store) and schema.label_axis != "sequence" else None
    )
    return {"inputs": OfSequences(store.snapshot, "inputs"), "labels": of_labels}


def labels_are_numbers(store: Store) -> bool:
    """Tell whether labels are floats, or the inputs, and not classes."""
    return store.schema.labels.dtype.kind == "f" or store.snapshot.labels_are_inputs()


def row_bytes(rows: Rows, scale: Scale | OfSequences | None) -> int:
    """Return the bytes that a row takes as it is stored and, where it is copied for that, as it is normalised."""
    dtype = rows.dtype if scale is None else normalized_dtype(rows.dtype)
    return rows.nbytes if dtype == rows.dtype else rows.nbytes // rows.dtype.itemsize * dtype.itemsize + rows.nbytes


def without_windows(normalize: Normalize | None, where: object) -> Scaler | Own | None:
    """Return what `resolved` does, where there are no windows to go by."""
    if normalize == "window":
        raise WindowError(f'{where}: normalize="window", but these are no windows; use "sequence", or statistics')
    return resolved(normalize, where)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfWindows:
    """Normalisation of each window by the mean and standard deviation of its own input steps.

    A target or a future column that is also a feature of these inputs goes by the numbers of that feature, so that
    what is to be predicted stays comparable with what is known. All others are left as they are.

    Args:
        labels: For each target, which feature it is, -1 for none; None to leave labels as they are stored.
        future: The same for future columns.
    """

    labels: tuple[int, ...] | None
    future: tuple[int, ...] | None

    @classmethod
    def plan(
        cls, inputs: Rows, labels: Rows | None, features: tuple[int, ...] | None, future: tuple[int, ...] | None
    ) -> OfWindows:
        """Find which targets and which future columns are features: by name, or where rows without names are alike.

        Args:
            inputs: What a row of inputs is.
            labels: What a row of labels is; None where they are classes.
            features: Which of these features windows have, None for all.
            future: Which of these features are future columns; None for none.
        """
        given = list(range(inputs.features) if features is None else features)
        known = {place: at for at, place in enumerate(given)}
        targets = [-1]
        if labels is None:
            pass
        elif inputs.names and labels.names:
            place = {name: at for at, name in enumerate(inputs.names)}
            targets = [known.get(place.get(name, -1), -1) for name in labels.names]
        elif inputs.shape == labels.shape:
            targets = [known.get(at, -1) for at in range(labels.features)]
        return cls(
            labels=tuple(targets) if max(targets) >= 0 else None,
            future=None if future is None else tuple(known.get(place, -1) for place in future),
        )

    def scale(self, inputs: NDArray[Any], real: NDArray[np.int64] | None = None) -> Scale:
        """Return the numbers of windows (windows, steps, *feature shape), the first `real` steps of which are real."""
        return standard(moments_of_each(inputs, real))

    def scale_of_labels(self, scale: Scale, targets: int) -> Scale:
        """Return the numbers of their labels."""
        return unchanged(targets) if self.labels is None else scale.take(self.labels)

    def __call__(
        self,
        inputs: NDArray[Any],
        labels: NDArray[Any],
        future: NDArray[Any] | None,
        real: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]:
        """Return inputs, labels and future columns of windows, all normalised; they may be overwritten."""
        scale = self.scale(inputs, real)
        if self.labels is not None:
            labels = scale.take(self.labels).apply(labels, "labels", inplace=True)
        if future is not None and self.future is not None:
            future = scale.take(self.future).apply(future, inplace=True)
        return scale.apply(inputs, inplace=True), labels, future

    def dtype(self, name: str, dtype: np.dtype[Any]) -> np.dtype[Any]:
        """Return the dtype of `inputs`, `labels` or `future` that are stored as that one."""
        return dtype if name == "labels" and self.labels is None else normalized_dtype(dtype)


def _check(store: Store, name: str, rows: Rows, scale: Scale) -> None:
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
