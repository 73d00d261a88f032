"""The arguments about rows that all readers have, and the columns that follow from them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.codec import crc32c_each
from store_spec.format.runs import Ints
from store_spec.reading.columns import Column, feature_positions
from store_spec.reading.normalization import (
    Normalization,
    Normalize,
    labels_are_numbers,
    resolve,
    scales_of,
    state_name,
)
from store_spec.reading.periods import moment_of
from store_spec.reading.read_ranges import read_ranges
from store_spec.reading.sequence_table import static_columns, static_parameter
from store_spec.reading.statistics import moments_of
from store_spec.schema import LabelAxis

if TYPE_CHECKING:
    from store_spec.store import Store

Targets = Literal["inputs", "labels"] | Sequence[str | int]
FEW = 16  # with more numbers, a state has their hash only
FLOATS = ("float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowOptions:
    """Arguments that mean the same for windows, padded sequences, packed sequences and streams.

    Args:
        normalize: How to normalise inputs, and targets that are floats or come from the inputs; other labels are
            regarded as classes. Padding stays zero, NaN stays NaN, and constant features become 0.

            * statistics, such as `train.stats()`, for mean 0 and standard deviation 1, or the result of
              `train.stats().minmax()` or `train.stats().robust()`: the same numbers for all rows.
            * those of groups, `train.stats_by("patient")`: the numbers of the group of each sequence.
            * `"sequence"`: each sequence's own mean and standard deviation, from the tables of the store. They are of
              the whole sequence, so they reveal something about the steps after a window.
            * `"window"`: the mean and standard deviation of each window's own input steps, for its features. Targets
              and `future` columns that are also features (by name, or by position if neither have names and rows have
              the same shape) are normalised by the same numbers; others are not.

            By numbers of groups, sequences or windows, labels of whole sequences are not normalised.
        features: The features of inputs, by name or number; None for all.
        targets: What a batch has as `labels`. `"labels"`: the labels of the store. `"inputs"`: the inputs, which are
            then read once for both. A list of names: targets of the labels if all are, otherwise features of the
            inputs; numbers are features of the inputs. None: the labels, or the inputs of a store without labels.
        static: Numeric columns of `store.sequences` to add, by name, in their common dtype; None for no such array.
        before: Use only steps before this moment: a date as text, such as "2020-01-01" or "2020-01-01T12:00", a
            datetime, a datetime64 or a pandas Timestamp; for elapsed times a number of the store's unit, or a
            timedelta64. The store needs `time`.
        after: Use only steps at or after this moment.
        dtype: The dtype of inputs, and of targets that are floats or come from the inputs: `"float32"` or `"float64"`.
            None: as stored, or as normalised.
        mask: Add a mask of steps, True for real ones.
        allow_later: Allow `normalize` to have statistics of later steps of these sequences than the period of `steps`
            and `before` has, which tell a model about its future. Those of other sequences, such as of a training
            split, are always allowed.
        value_mask: Add a mask of values of the selected features. It is False for values that were filled in, if the
            store records that (`--mask`, or `filled=True`); for NaN, in a store with missing values; and in padding.
    """

    normalize: Normalize | None = None
    features: Sequence[str | int] | None = None
    targets: Targets | None = None
    static: Sequence[str] | None = None
    before: Any = None
    after: Any = None
    dtype: DTypeLike | None = None
    allow_later: bool = False
    mask: bool = False
    value_mask: bool = False


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TargetColumns:
    """Where the targets of batches come from."""

    array: str  # `labels` or `inputs`
    take: tuple[int, ...] | None  # the positions on the last axis; None for all
    axis: LabelAxis  # the label axis of the targets: `step` if they come from the inputs


def target_columns(store: Store, targets: Targets | None) -> TargetColumns:
    """Return where targets come from."""
    schema, where = store.schema, store.path
    if targets is None:
        targets = "labels" if store.has_labels else "inputs"
    if isinstance(targets, str):
        if targets not in ("inputs", "labels"):
            raise WindowError(f'{where}: targets={targets!r:.80}; give "labels", "inputs", or a list of names')
        if targets == "labels" and not store.has_labels:
            raise WindowError(f'{where}: targets="labels", but this store has no labels; use targets="inputs"')
        return TargetColumns(array=targets, take=None, axis="step" if targets == "inputs" else schema.label_axis)
    names = schema.labels.names or ()
    if store.has_labels and targets and all(isinstance(name, str) and name in names for name in targets):
        take = feature_positions("targets", targets, schema.labels, where)
        return TargetColumns(array="labels", take=take, axis=schema.label_axis)
    try:
        take = feature_positions("targets", targets, schema.inputs, where)
    except WindowError as error:
        if not names or not store.has_labels:
            raise
        raise WindowError(f"{error}; the labels have targets named {', '.join(names[:20])}") from None
    return TargetColumns(array="inputs", take=take, axis="step")


Options = TypeVar("Options", bound=RowOptions)


class RowSelection(Generic[Options]):
    """`RowOptions`, checked and applied to a store. `Windows` and the readers of sequences inherit from it."""

    def __init__(self, store: Store, options: Options) -> None:
        self.store = store
        self.normalize: Normalization | None = resolve(options.normalize, store.path)
        self.options: Options = replace(
            options, normalize=self.normalize, mask=bool(options.mask), value_mask=bool(options.value_mask)
        )
        self.targets = target_columns(store, options.targets)
        self.columns = columns_of(store, self.options, self.targets, self.normalize)
        # The names of the columns that are masks of inputs; a value is real if all masks are True.
        self.masks = tuple(name for name, column in self.columns.items() if column.real)
        self.static = static_columns(store, options.static)  # (sequences, columns); None if there are none
        # `before` and `after` as numbers of the store's unit of time.
        self.moments = {name: moment_of(store, name, getattr(options, name)) for name in ("before", "after")}

    @property
    def static_bytes(self) -> int:
        """The bytes of the static columns of one sequence."""
        return 0 if self.static is None else self.static.shape[1] * self.static.itemsize

    def labels_of_sequences(self, sequences: Ints) -> NDArray[Any]:
        """Return the labels (sequences, *target shape) of whole sequences, each compared with its checksum."""
        store, column = self.store, self.columns["labels"]
        row = store.label_starts[sequences]
        labels = np.concatenate([column.rows.empty(0), *read_ranges(store.snapshot, "labels", row, row + 1)])
        crcs = np.array(crc32c_each(labels, range(len(labels) + 1)), np.uint32)
        store.snapshot.check_crcs("labels", store.selection[sequences], crcs)
        return column(labels)

    def parameters(self) -> dict[str, Any]:
        """Return the parameters of these rows, for a state, in types of JSON."""
        dtype = self.options.dtype
        return {
            "features": brief(self.columns["inputs"].take),
            "targets": [self.targets.array, brief(self.targets.take)],
            "dtype": None if dtype is None else np.dtype(dtype).name,
            "normalize": state_name(self.normalize),
            # This may change by appending: integer labels are normalised only while all of them equal the inputs.
            "normalizes_labels": self.columns["labels"].scale is not None,
            **self.moments,
            "static": static_parameter(self.options.static, self.static),
            "mask": self.options.mask,
            "value_mask": self.options.value_mask,
        }


def brief(numbers: tuple[int, ...] | None) -> list[int | str] | None:
    """Return numbers as they are in a state: their count and a hash if there are many."""
    if numbers is None:
        return None
    if len(numbers) <= FEW:
        return list(numbers)
    return [len(numbers), hashlib.sha256(np.asarray(numbers, "<i8").tobytes()).hexdigest()[:16]]


def features_of_targets(store: Store, targets: TargetColumns) -> Sequence[int] | None:
    """Return for each target the feature of inputs that it equals, or -1; None if targets are classes.

    Labels of steps equal features of the same name, or of the same position if neither have names and rows have the
    same shape.
    """
    inputs, labels = store.schema.inputs, store.schema.labels
    if targets.array == "inputs":
        each = list(range(inputs.features))
    elif targets.axis != "step" or not labels_are_numbers(store):
        return None
    elif inputs.names and labels.names:
        place = {name: at for at, name in enumerate(inputs.names)}
        each = [place.get(name, -1) for name in labels.names]
    elif not inputs.names and not labels.names and inputs.shape == labels.shape:
        each = list(range(labels.features))
    else:
        return None
    return each if targets.take is None else [each[at] for at in targets.take]


def columns_of(
    store: Store, options: RowOptions, targets: TargetColumns, normalize: Normalization | None
) -> dict[str, Column]:
    """Return how stored rows are converted to `inputs` and `labels`, and to masks of real values of the inputs."""
    rows, scales = store.schema.inputs, scales_of(store, normalize)
    take = feature_positions("features", options.features, rows, store.path)
    cast = None if options.dtype is None else _checked_dtype(store, options.dtype, "inputs")
    columns = {"inputs": Column(array="inputs", rows=rows, take=take, scale=scales["inputs"], cast=cast)}
    if targets.array == "inputs":
        columns["labels"] = Column(array="inputs", rows=rows, take=targets.take, scale=scales["inputs"], cast=cast)
    else:
        if cast is not None:
            cast = _checked_dtype(store, cast, "labels") if labels_are_numbers(store) else None
        labels = store.schema.labels
        columns["labels"] = Column(array="labels", rows=labels, take=targets.take, scale=scales["labels"], cast=cast)
    return columns | (_masks_of(store, take) if options.value_mask else {})


def _checked_dtype(store: Store, dtype: DTypeLike, array: str) -> np.dtype[Any]:
    """Return the dtype, which is float32 or float64 and can hold the values of an array."""
    try:
        cast = np.dtype(dtype)
    except TypeError:
        cast = None
    stored = store.schema.rows(array).dtype
    if cast is None or cast.name not in FLOATS or stored.kind == "c":
        raise WindowError(f"{store.path}: dtype={dtype!r:.80} for {stored} {array}; give one of {', '.join(FLOATS)}")
    if cast.itemsize < stored.itemsize:
        moments = moments_of(store, array)
        largest = float(np.nanmax(np.abs([moments.min, moments.max]), initial=0.0))
        if largest > float(np.finfo(cast).max):
            raise WindowError(
                f"{store.path}: dtype={cast.name} for {array} up to {largest:.6g}, but {cast.name} ends at "
                f"{np.finfo(cast).max:.6g}"
            )
    return cast


def _masks_of(store: Store, take: tuple[int, ...] | None) -> dict[str, Column]:
    """Return masks of the features `take`; a value is real if all masks are True for it."""
    schema, masks = store.schema, {}
    if schema.filled:
        masks["filled"] = Column(array="filled", rows=schema.rows("filled"), take=take, real=True)
    if schema.missing == "keep":
        masks["present"] = Column(array="inputs", rows=schema.inputs, take=take, real=True)
    if not masks:
        raise WindowError(
            f"{store.path}: value_mask=True, but this store does not say which values are real; build it with "
            "--missing keep, or with --mask beside a policy that fills, as --missing ffill (create_store has "
            "missing='keep' and filled=True)"
        )
    return masks
