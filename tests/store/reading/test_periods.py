"""Periods: statistics of them and of windows, compared with plain loops; and what is refused because it would leak."""

import pickle
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import store_spec
from store_spec.errors import WindowError
from store_spec.windows.shape import WindowOptions, WindowShape
from store_spec.windows.windows import Windows
from tests.store.kinds import begin, every_kind
from tests.store.known import START, Known
from tests.store.oracle import assert_moments, store_of
from tests.store.window_oracle import rows_of_windows, same, selections, shapes


@pytest.fixture
def store(known: Any) -> store_spec.Store:
    found: store_spec.Store = known("float32", "step").store
    return found


@hypothesis.given(
    low=st.integers(0, 9), width=st.integers(1, 10), before=st.none() | st.integers(0, 110),
    after=st.none() | st.integers(-1, 60), selection=selections(),
)  # fmt: skip
@hypothesis.example(low=0, width=10, before=None, after=None, selection=[12, 6, 4])
@hypothesis.example(low=0, width=10, before=None, after=None, selection=[])
def test_statistics_of_a_selection_or_a_period_are_those_of_its_rows(store, low, width, before, after, selection):
    store, share = store.select(selection), (low / 10, min(10, low + width) / 10)
    given = {"before": before, "after": after}
    period: dict[str, Any] = {
        name: None if at is None else np.datetime64(START + at, "s") for name, at in given.items()
    }
    period["steps"] = None if share == (0, 1) else share
    rows: list[Any] = [[np.zeros((0, 4))], [np.zeros((0, 3))]]
    for x, y in store:
        start, stop = (int(round(len(x) * each, 6)) for each in share)
        start = start if after is None else max(start, min(len(x), after), 0)
        stop = stop if before is None else min(stop, before)
        for array, part in zip(rows, (x, y), strict=True):
            array.append(part[start : max(start, stop)])
    inputs, labels = (np.concatenate(each) for each in rows)
    if not len(inputs) and any(bound is not None for bound in period.values()):
        with pytest.raises(WindowError, match=f"there are no steps in this period, of {store.lengths.sum()} in all"):
            store.stats(**period)
        return
    stats = store.stats(**period)
    assert_moments(stats.inputs, inputs)
    assert_moments(stats.labels, labels)
    if stats.count.all():
        median = stats.robust().inputs.center
        assert np.allclose(median, np.nanmedian(inputs.astype(float), axis=0), rtol=1e-6)


@pytest.mark.parametrize("axis", ["step", "sequence"])
@hypothesis.given(
    shape=shapes(),
    least=st.none() | st.integers(1, 9),
    phase=st.sampled_from(["first", "random"]),
    targets=st.sampled_from([None, "inputs"]),
    missing=st.sampled_from(["keep", "skip"]),
    selection=selections(),
)
@hypothesis.example(
    shape=WindowShape(window=3, stride=7, target="last"),
    least=None,
    phase="first",
    targets=None,
    missing="keep",
    selection=[2, 6],
)
def test_statistics_of_windows_are_those_of_the_rows_that_they_use(
    known, axis, shape, least, phase, targets, missing, selection
):
    """At any of their lengths and in any epoch; each row counts once, also of a sequence that is selected twice."""
    one: Known = known("float64", axis)
    store = one.store.select(selection)
    shape = replace(shape, least_window=least and min(least, shape.window), phase=phase)
    if axis == "sequence" and targets is None:
        shape = replace(shape, target="sequence")
    options = WindowOptions(targets=targets, missing=missing)
    windows = Windows(store, shape, options)
    if not len(windows):
        with pytest.raises(WindowError, match="statistics of 0 windows"):
            windows.stats()
        return
    every = windows if phase == "first" else Windows(store, replace(shape, stride=1), options)
    used = rows_of_windows(every)
    of_epoch = windows.of_epoch(0, 1)
    assert all(some <= rows for some, rows in zip(rows_of_windows(of_epoch), used, strict=True))
    rows, label_rows = (sorted({(selection[at], row) for at, row in each}) for each in used)
    if targets == "inputs":
        rows = sorted({*rows, *label_rows})
    for stats in (windows.stats(), of_epoch.stats()):
        assert_moments(stats.inputs, np.array([one.x[at][row] for at, row in rows]))
        if axis == "step":
            labels = np.array([one.y[at][row] for at, row in label_rows])
            assert_moments(stats.labels, labels)
            if stats.labels.count.all():
                assert np.allclose(stats.quantiles(0.5).labels, np.nanmedian(labels, axis=0))


@pytest.mark.parametrize("axis", ["sequence", "own"])
def test_statistics_of_a_period_have_the_labels_of_its_sequences_alone(tmp_path: Path, axis: Any):
    inputs = [np.full((10, 1), label, "f4") for label in (1, 2, 3, 1000, 2000)]
    labels = [x[0] if axis == "sequence" else x[:1] for x in inputs]
    more = [{"time": np.arange(10) + (100 if number > 2 else 0)} for number in range(5)]
    store = store_of(tmp_path / "s", inputs, labels, more=more, label_axis=axis, time="s")
    for period, due in (({"before": 50}, [1, 2, 3]), ({"after": 50}, [1000, 2000]), ({"steps": (0, 0.5)}, None)):
        rows = np.array(due or [1, 2, 3, 1000, 2000], float)
        bounds: Any = {name: np.datetime64(at, "s") if isinstance(at, int) else at for name, at in period.items()}
        stats = store.stats(**bounds)
        assert (stats.labels.count.tolist(), stats.labels.max.tolist()) == ([len(rows)], [rows.max()])
        assert np.allclose(stats.labels.mean, rows.mean())
        assert stats.quantiles(0.5).labels.tolist() == [[np.median(rows)]]


def test_a_group_without_steps_in_the_period_is_named(tmp_path: Path):
    more = [{"time": np.arange(10) + 100 * number, "columns": {"site": "ab"[number]}} for number in range(2)]
    rows = [np.full((10, 1), number, "f4") for number in range(2)]
    store = store_of(tmp_path / "s", rows, more=more, columns={"site": "string"}, time="s")
    with pytest.raises(WindowError, match=r"no steps in this period, of 10 in all; .* with site='b'"):
        store.stats_by("site", before=np.datetime64(50, "s"))
    with pytest.raises(WindowError, match="give the name of a column"):
        store.stats_by(cast("Any", ["a", "b"]))


def test_labels_that_a_store_lacks_cannot_be_normalised(tmp_path: Path):
    rows = [np.arange(10.0, dtype="f4")[:, None]]
    store = store_of(tmp_path / "s", rows, [np.zeros((0, 1), "f4")], label_axis="own")
    windows = store.windows(3, normalize=store.stats())
    for undo in (store.stats().inverse, store.stats().minmax().inverse, store.stats().normalize_labels):
        with pytest.raises(WindowError, match=r"has no labels, .* windows\.scaler\(\)\.inverse"):
            undo(windows[0].labels)
    assert np.allclose(windows.scaler().inverse(windows[0].labels), store.windows(3)[0].labels)


@every_kind
def test_statistics_of_later_steps_are_refused_unless_they_are_allowed(store: store_spec.Store, kind: str):
    read, end = partial(begin, kind=kind), np.datetime64(START + 31, "s")
    later: tuple[Any, ...] = (store.stats(), store.stats().minmax(), "sequence", store.stats(steps=(0, 0.9)))
    for normalize in later:
        assert read(store, normalize=normalize)
        for period in ({"steps": (0, 0.8)}, {"before": end}):
            with pytest.raises(WindowError, match=r"statistics of later steps than are used: of sequence \d \(s"):
                read(store, normalize=normalize, **period)
            assert read(store, normalize=normalize, allow_later=True, **period)
    assert read(store, normalize=store.stats(steps=(0, 0.8)), steps=(0, 0.8))
    assert read(store, normalize=store.stats(before=end), before=end)
    assert read(store, normalize=store.stats(before=end), after=end)
    assert read(store, normalize=store.stats(steps=(0, 0.5)), steps=(0, 0.8))
    # Those of other sequences may be of all steps.
    assert read(store[:6], normalize=store[6:].stats(), steps=(0, 0.8))


def test_statistics_of_another_store_are_of_other_sequences(tmp_path: Path):
    rows = [np.arange(10.0, dtype="f4")[:, None] + number for number in range(3)]
    store, longer = store_of(tmp_path / "s", rows[:2]), store_of(tmp_path / "longer", rows)
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    assert len(store.windows(3, steps=(0, 0.8), normalize=longer.stats()))
    assert len(longer.windows(3, steps=(0, 0.8), normalize=store.stats()))
    with store_spec.open_store(tmp_path / "s", "a") as writer:
        writer.append(rows[2], rows[2], source="later")
    grown = store_spec.open_store(tmp_path / "s")
    for one, other in ((store, grown), (grown, store), (store, store_spec.open_store(tmp_path / "copy"))):
        with pytest.raises(WindowError, match="statistics of later steps than are used"):
            one.windows(3, steps=(0, 0.8), normalize=other.stats())


def test_statistics_of_windows_do_not_leak_into_them(store: store_spec.Store):
    windows = store.windows(3, steps=(0, 0.8))
    stats = windows.stats()
    assert len(store.windows(3, steps=(0, 0.8), normalize=stats)) == len(windows)
    with pytest.raises(WindowError, match="up to step 32, where 20 are used"):
        store.windows(3, steps=(0, 0.5), normalize=stats)
    pickled = pickle.loads(pickle.dumps(store.windows(3, steps=(0, 0.8), normalize=stats)))
    assert same(pickled[0], store.windows(3, steps=(0, 0.8), normalize=stats)[0])


BEFORE_ALL = np.datetime64("1900-01-01")


def test_empty_results_cause_warnings(store: store_spec.Store):
    with pytest.warns(UserWarning, match="0 windows: a window and its targets take 1,001 steps, .* of 18 .* has 100"):
        store.windows(1000)
    selections: list[Any] = [store.lengths > 1000, [], slice(60, None)]
    for which in selections:
        with pytest.warns(UserWarning, match="the selection has 0 of 18 sequences"):
            store[which]
    nothing = store.select(store.lengths == 0)
    none = nothing[:0]
    for call in (nothing.stats, none.stats, lambda: nothing.quantiles(0.5), lambda: none.stats_by("source")):
        with pytest.warns(UserWarning, match="statistics of 0 steps, in [03] sequences"):
            call()
    with pytest.warns(UserWarning, match="classes of 0 label rows"):
        nothing.class_counts("load")
    with pytest.warns(UserWarning, match="there are no steps in this period, of .* in all"):
        store.padded(4, before=BEFORE_ALL)
    with pytest.warns(UserWarning, match="there are no steps in this period, of .* in all"):
        store.streams(4, 2, before=BEFORE_ALL)
    for batches in (lambda: store.windows(4).batches(10**6, drop_last=True), lambda: store.padded(19, drop_last=True)):
        with pytest.warns(UserWarning, match="0 batches of .*, as drop_last=True leaves out the last"):
            assert len(batches()) == 0
