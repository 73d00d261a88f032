"""Windows with all of their options together, compared with loops over the arrays that were written."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from store_spec.windows.shape import WindowOptions, WindowShape
from store_spec.windows.windows import Windows
from tests.store.known import (
    KEPT,
    NAMES,
    NORMALIZATIONS,
    NOTHING,
    TARGETS,
    Known,
    are_inputs,
    asked_of,
    common,
    dtypes,
    named,
    normalization,
    numbered,
    positions,
    scaled,
    static_of,
    targets_of,
)
from tests.store.window_oracle import (
    LENGTHS,
    Sample,
    assert_windows_are,
    center_and_scale,
    list_windows,
    normalise,
    sample_of,
    shapes,
)


def samples_by_loops(
    known: Known, shape: WindowShape, normalize: Any, dtype: Any, asked: dict[str, Any]
) -> list[Sample]:
    """Return the samples of all windows: each is cut out, normalised and converted on its own."""
    of_inputs, targets = are_inputs(known, asked["targets"]), targets_of(known, asked["targets"])
    take, future = positions(asked["features"] or NAMES, NAMES), positions(asked["future"] or (), NAMES)
    samples = []
    for window in list_windows(LENGTHS, shape, after=asked["after"], before=asked["before"]):
        x, real = known.x[window.sequence], known.real[window.sequence]
        y = x if of_inputs else known.y[window.sequence]
        labels = y if shape.target == "sequence" else y[window.labels]
        used = [x[window.rows], labels, x[window.labels if future else []]]
        if asked["missing"] == "skip" and any(np.isnan(rows).any() for rows in used):
            continue
        ahead = x
        if normalize == "window":
            if dtype is not None:  # values are rounded last
                x, y = (rows.astype(np.promote_types(rows.dtype, dtype)) for rows in (x, y))
            center, scale = center_and_scale(x[window.rows])
            numbers = {NAMES[at]: (center[at], scale[at]) for at in take}
            of_features, of_targets = (
                np.transpose([numbers.get(name, (0, 1)) for name in names]) for names in (NAMES, TARGETS)
            )
            ahead = normalise(x, *of_features)
            if y.ndim == 2:
                y = normalise(y, *(of_features if of_inputs else of_targets))
            x = normalise(x, center, scale)
        elif normalize is not None:
            x, y = scaled(known, window.sequence, normalize)
            y, ahead = x if of_inputs else y, x
        y = y[..., targets]
        if dtype is not None:
            x, y, ahead = x.astype(dtype), y.astype(dtype), ahead.astype(dtype)
        sample = sample_of(x[:, take], y, window, shape)
        if asked["mask"] and not shape.pads_inputs:
            sample = (*sample[:2], np.ones(shape.window, bool), *sample[2:])
        if asked["value_mask"]:
            sample = (*sample, sample_of(real[:, take], y, window, shape)[0])
        if future:
            sample = (*sample, sample_of(x, ahead[:, future], window, shape)[1])
        if asked["static"]:
            sample = (*sample, static_of(known, window.sequence, asked["static"]))
        samples.append(sample)
    return samples


@settings(max_examples=100)
@given(
    kind=st.sampled_from(sorted(KEPT)),
    axis=st.sampled_from(["step", "sequence", "own"]),
    shape=shapes(),
    how=st.sampled_from([None, *NORMALIZATIONS, "window"]),
    dtype=dtypes,
    drawn=st.fixed_dictionaries(
        common
        | {"future": st.none() | named | numbered, "missing": st.sampled_from(["keep", "skip"]), "mask": st.booleans()}
    ),
)
@example(
    kind="float32",
    axis="sequence",
    shape=WindowShape(window=3, target="last"),
    how="groups",
    dtype=None,
    drawn=NOTHING | {"future": None, "missing": "keep", "mask": False},  # labels are not normalised by groups
)
@example(
    kind="float64",
    axis="step",
    shape=WindowShape(window=4, horizon=3, lead=1, stride=2, short="pad"),
    how=None,
    dtype=None,
    drawn=NOTHING | {"future": ["open"], "missing": "skip", "mask": False},  # NaN in other features counts too
)
@example(
    kind="float32",
    axis="step",
    shape=WindowShape(window=3, horizon=2),
    how="window",
    dtype=None,
    drawn=NOTHING | {"future": ["open"], "missing": "keep", "mask": False},  # these are normalised like the inputs
)
def test_windows_with_any_options_equal_those_of_loops(known, kind, axis, shape, how, dtype, drawn):
    """By number, in order, and shuffled, bit for bit."""
    one: Known = known(kind, axis)
    if axis == "sequence" and not are_inputs(one, drawn["targets"]):
        shape = replace(shape, target="sequence", pad_end=False)
    if shape.target != "future":
        drawn = drawn | {"future": None}
    normalize = normalization(one, how)
    options = WindowOptions(**asked_of(drawn), normalize=normalize, dtype=dtype, allow_later=True)
    wanted = samples_by_loops(one, shape, normalize, dtype, drawn)
    assert_windows_are(Windows(one.store, shape, options), wanted, memory="120kB")
