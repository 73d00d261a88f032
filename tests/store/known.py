"""Stores with everything that inputs and labels can have, and what options of the reader make of their sequences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.reading.scaling import Scale, Scaler
from store_spec.windows.batches import Batches
from store_spec.windows.shape import WindowShape
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    LENGTHS,
    Listed,
    Sample,
    all_same,
    center_and_scale,
    list_windows,
    normalise,
    rows_used,
    sample_of,
    unbatched,
    usable,
    used_by,
)

NAMES = ("open", "high", "still", "close")
TARGETS = ("close", "load", "open")
SECOND_PART = 6  # the sequence that is of the same source as the one before it
SOURCES = [f"s{number - (number == SECOND_PART)}" for number in range(len(LENGTHS))]
START = 10**9  # seconds, of the first step of each sequence
KEPT: dict[str, dict[str, Any]] = {  # by dtype of the inputs
    "float32": {"missing": "keep", "filled": True},
    "float64": {"missing": "keep"},
    "int16": {"filled": True},
    "int64": {"filled": True},
}
Rows = NDArray[Any]


@dataclass(frozen=True, repr=False)
class Known:
    """Sequences of LENGTHS: inputs, labels, masks of real values, and columns; and the store of them."""

    x: list[Rows]
    y: list[Rows]
    real: list[Rows]
    static: dict[str, list[float]]
    store: store_spec.Store


def write_known(path: Path, dtype: str, axis: Any, chunk: int) -> Known:
    """Write walks far from 0 with a constant feature, and with NaN in floats; two of the targets are features.

    On the `own` axis there are no labels.
    """
    has_nan = "missing" in KEPT[dtype]
    rng = np.random.default_rng(0)
    xs, ys, filled = [], [], []
    for number, length in enumerate(LENGTHS):
        x = rng.normal(size=(length, 4)).cumsum(axis=0) * 3 + 1000
        x[:, 2] = 0.1
        x[(rng.random(x.shape) < 0.05) & has_nan] = np.nan if has_nan else 0
        x = x.astype(dtype)
        y = np.stack([x[:, 3], rng.normal(size=length), x[:, 0]], axis=1).astype("float64")
        y[(rng.random(y.shape) < 0.02) & has_nan] = np.nan
        of_sequence = np.array([number, np.nan if has_nan and number % 5 == 3 else 1, 7.0])
        xs.append(x)
        ys.append({"step": y, "sequence": of_sequence, "own": y[:0]}[axis])
        filled.append((rng.random(x.shape) < 0.2) & ~np.isnan(x) & ("filled" in KEPT[dtype]))
    numbers = range(len(xs))
    static: dict[str, list[float]] = {
        "visits": [at % 3 for at in numbers],
        "age": [at / 4 for at in numbers],
        "left": [at % 2 == 0 for at in numbers],
    }
    more: list[dict[str, Any]] = [
        {"time": np.arange(len(mask)) + START, "columns": {name: each[number] for name, each in static.items()}}
        | ({"filled": mask} if "filled" in KEPT[dtype] else {})
        for number, mask in enumerate(filled)
    ]
    options: dict[str, Any] = KEPT[dtype] | {
        "inputs": store_spec.Rows(np.dtype(dtype), (4,), NAMES),
        "labels": store_spec.Rows(np.dtype("float64"), (3,), TARGETS),
        "columns": {"visits": "int64", "age": "float64", "left": "bool"},
        "label_axis": axis,
        "time": "s",
    }
    store = store_of(path, xs, ys, sources=SOURCES, more=more, chunk=chunk, shard=5 * chunk, **options)
    real = [~np.isnan(x) & ~mask for x, mask in zip(xs, filled, strict=True)]
    return Known(xs, ys, real, static | {"length": list(LENGTHS)}, store)


named = st.lists(st.sampled_from(NAMES), min_size=1, unique=True)
numbered = st.lists(st.integers(-2, 1), min_size=1, unique=True)
dtypes = st.sampled_from([None, "float32", "float64"])
moments = st.none() | st.integers(-2, 70)
# What windows and all batches of sequences take.
common: dict[str, Any] = {
    "features": st.none() | named | numbered,
    "targets": st.none() | st.just("inputs") | named | numbered,
    "static": st.none() | st.lists(st.sampled_from(["visits", "age", "left", "length"]), min_size=1, unique=True),
    "value_mask": st.booleans(),
    "before": moments,
    "after": moments,
}
NOTHING: dict[str, Any] = dict.fromkeys(common) | {"value_mask": False}
NORMALIZATIONS = ("standard", "minmax", "robust", "nothing", "groups", "sequence")


def asked_of(given: dict[str, Any]) -> dict[str, Any]:
    """Return drawn options as the reader takes them."""
    period = {name: given[name] for name in ("before", "after")}
    return given | {name: None if at is None else np.datetime64(START + at, "s") for name, at in period.items()}


def normalization(known: Known, how: str | None) -> Any:
    """Return the argument `normalize`: by statistics of some sequences, of groups, or by numbers that are NaN."""
    if how == "groups":
        return known.store.stats_by("visits")
    if how == "nothing":
        inputs, labels = (Scale(center=np.full(n, np.nan), scale=np.ones(n)) for n in (4, 3))
        return Scaler(inputs=inputs, labels=labels)
    return getattr(known.store.select([6, 2, 13]).stats(), how)() if how in ("standard", "minmax", "robust") else how


def scaled(known: Known, number: int, normalize: Any) -> tuple[Rows, Rows]:
    """Return the inputs and the labels of a sequence, normalised by statistics, by its group or by the sequence.

    By a group or by the sequence, the label of a whole sequence is not normalised.
    """
    x, y = known.x[number], known.y[number]
    if normalize is None:
        return x, y
    if normalize == "sequence":
        numbers = [center_and_scale(rows) for rows in ((x, y) if y.ndim == 2 else (x,))]
    else:
        by_group = not isinstance(normalize, Scaler)
        if by_group:
            visits = known.static["visits"]
            members = [at for at, value in enumerate(visits) if value == visits[number]]
            normalize = known.store.select(members).stats().standard()
        each = (normalize.inputs, normalize.labels)[: 1 if by_group and y.ndim == 1 else 2]
        numbers = [(scale.center, scale.scale) for scale in each]
    return normalise(x, *numbers[0]), normalise(y, *numbers[1]) if len(numbers) == 2 else y


def positions(some: Sequence[str | int], names: Sequence[str]) -> list[int]:
    return [names.index(one) if isinstance(one, str) else one % len(names) for one in some]


def are_inputs(known: Known, targets: Any) -> bool:
    """Return whether targets are inputs: if they are named like labels, they are labels."""
    if known.store.schema.label_axis == "own":
        return True
    return targets is not None and (targets == "inputs" or not set(targets) <= set(TARGETS))


def targets_of(known: Known, targets: Any) -> list[int]:
    """Return the positions of targets among the inputs or the labels."""
    names = NAMES if are_inputs(known, targets) else TARGETS
    return positions(names if targets in (None, "inputs") else targets, names)


def static_of(known: Known, number: int, static: list[str] | None) -> Rows:
    """Return the static columns of a sequence, in the dtype that holds them all."""
    return np.array([known.static[name][number] for name in static or ()])


def rows_of(
    known: Known,
    sequence: int,
    normalize: Any,
    dtype: Any,
    asked: dict[str, Any],
    window: tuple[list[int], int] = ([], 0),
) -> tuple[Rows, Rows, Rows]:
    """Return the inputs, the targets and the `future` of a sequence, normalised and converted.

    With `normalize="window"` by the real rows of a window, padded to its number of rows.
    """
    take, of_inputs = positions(asked["features"] or NAMES, NAMES), are_inputs(known, asked["targets"])
    x, y = (known.x[sequence], known.y[sequence]) if normalize == "window" else scaled(known, sequence, normalize)
    y, ahead = x if of_inputs else y, x
    if normalize == "window":
        if dtype is not None:  # values are rounded last
            x, y = (rows.astype(np.promote_types(rows.dtype, dtype)) for rows in (x, y))
        real, steps = window
        missing = np.full((steps - len(real), len(NAMES)), np.nan)
        center, scale = center_and_scale(np.concatenate([x[real].astype(float), missing]))
        numbers = {NAMES[at]: (center[at], scale[at]) for at in take}
        of_features, of_targets = (
            np.transpose([numbers.get(name, (0, 1)) for name in names]) for names in (NAMES, TARGETS)
        )
        if y.ndim == 2:
            y = normalise(y, *(of_features if of_inputs else of_targets))
        x, ahead = normalise(x, center, scale), normalise(x, *of_features)
    found = (
        x[:, take],
        y[..., targets_of(known, asked["targets"])],
        ahead[:, positions(asked.get("future") or (), NAMES)],
    )
    inputs, targets, future = found if dtype is None else (rows.astype(dtype) for rows in found)
    return inputs, targets, future


@dataclass(frozen=True)
class Loops:
    """The windows of selected sequences, and their samples, by loops."""

    known: Known
    selection: list[int]
    shape: WindowShape
    normalize: Any
    dtype: Any
    asked: dict[str, Any]

    def windows(self, starts: list[int] | None = None) -> list[Listed]:
        """Return all windows; `starts` has the first step of those of each sequence, if it is random."""
        asked, lengths = self.asked, [LENGTHS[number] for number in self.selection]
        period = {name: asked[name] for name in ("after", "before", "context")}
        every = list_windows(lengths, self.shape, **period, starts=starts)
        return every if asked["missing"] == "keep" else [window for window in every if not self.lacks_values(window)]

    def lacks_values(self, window: Listed) -> bool:
        """Return whether an input, a label or a `future` is missing at any length of a window."""
        shape, asked, sequence, most = self.shape, self.asked, self.selection[window.sequence], len(window.rows)
        x = self.known.x[sequence]
        y = x if are_inputs(self.known, asked["targets"]) else self.known.y[sequence]
        _, end = usable(len(x), shape.steps, asked["after"], asked["before"])
        for real in range(min(shape.least_window or most, most), most + 1):
            rows, after = rows_used(window.start, real, shape)
            labels = [row for row in after if row < end]
            used = [x[rows], y if shape.target == "sequence" else y[labels], x[labels if asked["future"] else []]]
            if any(np.isnan(each).any() for each in used):
                return True
        return False

    def sample(self, window: Listed) -> Sample:
        """Return the sample of a window, which is cut out, normalised and converted on its own."""
        known, shape, asked, sequence = self.known, self.shape, self.asked, self.selection[window.sequence]
        x, y, ahead = rows_of(known, sequence, self.normalize, self.dtype, asked, (window.rows, shape.window))
        sample = sample_of(x, y, window, shape)
        if asked["mask"] and not shape.pads_inputs:
            sample = (*sample[:2], np.ones(shape.window, bool), *sample[2:])
        if asked["value_mask"]:
            real = known.real[sequence][:, positions(asked["features"] or NAMES, NAMES)]
            sample = (*sample, sample_of(real, y, window, shape)[0])
        if asked["future"]:
            sample = (*sample, sample_of(x, ahead, window, shape)[1])
        if asked["static"]:
            sample = (*sample, static_of(known, sequence, asked["static"]))
        return sample

    def assert_epoch(self, batches: Batches, every: list[Listed], size: int, *, shuffle: bool) -> None:
        """Check that the batches of an epoch have each of these windows once, at one of its lengths, and its place."""
        found, now = list(batches), batches.windows
        assert len(batches) == len(found) == -(-len(every) // size)
        assert all(len(batch.index) == size for batch in found[:-1])
        assert all(array.flags.c_contiguous and array.flags.writeable for batch in found for array in batch)
        order = [int(number) for batch in found for number in batch.index]
        assert (sorted(order) if shuffle else order) == list(range(len(every)))
        used = [used_by(now, number) for number in order]
        for window, number in zip(used, order, strict=True):
            most = len(every[number].rows)
            assert window[:2] == every[number][:2]
            assert min(self.shape.least_window or most, most) <= len(window.rows) <= most
        wanted = [self.sample(window) for window in used]
        assert all_same([sample[:-1] for sample in unbatched(found)], wanted)
        assert all_same(now.__getitems__(order), wanted)
        place, taken = now.locate(order), [self.selection[window.sequence] for window in used]
        assert place.source.tolist() == [SOURCES[number] for number in taken]
        assert place.part.tolist() == [int(number == SECOND_PART) for number in taken]
        assert np.array_equal(place.time, np.array([START + window.start for window in used], "datetime64[s]"))
