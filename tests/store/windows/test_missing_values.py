"""Windows with missing values are left out on request, by arithmetic: compared with a loop over every row.

`test_any_options` compares their values with loops.
"""

import itertools
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import FormatError
from store_spec.format.runs import missing_runs
from store_spec.windows import index as index_module
from store_spec.windows.index import Gaps, WindowIndex
from store_spec.windows.order import EpochOrder
from store_spec.windows.shape import Target, WindowShape
from store_spec.windows.units import Costs
from tests.store.damage import values
from tests.store.known import Known
from tests.store.oracle import store_of
from tests.store.window_oracle import (
    Listed,
    index_of_lengths,
    list_windows,
    shapes,
)
from tests.store.windows.test_index import TARGETS


@pytest.fixture
def with_gaps(known: Any) -> Known:
    found: Known = known("float64", "step")
    return found


def test_finding_windows_without_missing_values_reads_no_rows(with_gaps: Known, monkeypatch: pytest.MonkeyPatch):
    store = store_spec.open_store(with_gaps.store.path)
    monkeypatch.setattr(Snapshot, "rows", mock.Mock(side_effect=AssertionError("rows were read")))
    windows = store.windows(5, horizon=2, stride=2, missing="skip")
    assert 0 < len(windows) < len(store.windows(5, horizon=2, stride=2))
    assert [windows.index.locate(number) for number in (0, -1)]


def test_weights_are_of_sequences_with_their_remaining_steps(with_gaps: Known):
    windows = with_gaps.store.windows(6, missing="skip")
    counts = np.diff(windows.index.first)
    some = counts >= 5
    weights = np.where(some, 1 / np.maximum(counts, 1), 0)
    found = [
        sequence
        for epoch in range(20)
        for *_, index in windows.batches(16, shuffle=True, weights=weights, epoch=epoch, index=True)
        for sequence in windows.index.locate_many(index)[0].tolist()
    ]
    times = np.bincount(found, minlength=len(counts))
    assert (times[~some] == 0).all()
    expected = len(found) / some.sum()
    assert (np.abs(times[some] - expected) < 6 * np.sqrt(expected)).all()


@pytest.mark.parametrize(
    ("new", "text"),
    [
        ({0: -1}, "the run -1 to 5 begins before row 0, where"),
        ({1: 3}, "the run 3 to 3 is empty"),
        ({1: 1}, "the run 3 to 1 is empty"),
        ({2: 4}, "the run 4 to 10 begins before row 5, where the one before ends"),
        ({3: 11}, "the run 9 to 11 ends after row 10, the end of its sequence"),
        ({5: 16}, "the run 14 to 16 ends after row 15, the end of its sequence"),
    ],
)
def test_impossible_runs_are_refused(tmp_path: Path, new: dict[int, int], text: str):
    x = np.arange(15, dtype="f8")
    x[[3, 4, 9, 14]] = np.nan
    store = store_of(tmp_path / "s", [x[:10], x[10:]], missing="keep")
    assert store.snapshot.missing("inputs").tolist() == [[3, 5], [9, 10], [14, 15]]
    values("missing_inputs/c.0.0", new)(tmp_path / "s")
    store = store_spec.open_store(tmp_path / "s")
    assert len(store.windows(3)) > 0  # without missing="skip" the tables are not read
    with pytest.raises(FormatError, match=text):
        store.windows(3, missing="skip")


Row = tuple[bool, bool]  # whether a step lacks an input, and a label


def gaps_of(missing: list[list[Row]], which: int, use: Target) -> Gaps:
    """Return the gaps of inputs (0) or labels (1) of sequences of such steps."""
    found = [
        (number, *run)
        for number, rows in enumerate(missing)
        for run in missing_runs(np.array([np.nan if row[which] else 0.0 for row in rows])).tolist()
    ]
    sequence, start, stop = np.array(found, np.int64).reshape(-1, 3).T
    return Gaps(sequence=sequence, start=start, stop=stop, use=use)


def index_of(missing: list[list[Row]], shape: WindowShape, *, known: bool = False) -> WindowIndex:
    """Return the index without windows that use missing values."""
    gaps = [gaps_of(missing, 0, "aligned")]
    if shape.target != "sequence":
        gaps.append(gaps_of(missing, 1, shape.target))
    if known:
        gaps.append(gaps_of(missing, 0, "future"))
    plain = index_of_lengths([len(rows) for rows in missing], shape)
    return WindowIndex(start=plain.start, stop=plain.stop, shape=shape, gaps=tuple(gaps))


def list_complete(missing: list[list[Row]], shape: WindowShape, *, known: bool = False) -> list[Listed]:
    """Look at every row of every window."""
    return [
        window
        for window in list_windows([len(rows) for rows in missing], shape)
        if not any(missing[window.sequence][row][0] for row in window.rows)
        and not any(
            missing[window.sequence][row][1] or (known and missing[window.sequence][row][0]) for row in window.labels
        )
    ]


def draw_missing(lengths: list[int], share: float, seed: int) -> list[list[Row]]:
    """Draw which steps of sequences lack values: single ones, or a few in a row."""
    rng = np.random.default_rng(seed)
    missing = []
    for length in lengths:
        rows = np.zeros((length + 4, 2), bool)
        for start, column in np.argwhere(rng.random((length, 2)) < share).tolist():
            rows[start : start + int(rng.choice([1, 1, 1, 2, 3, 4])), column] = True
        missing.append([(bool(x), bool(y)) for x, y in rows[:length].tolist()])
    return missing


def small_shapes() -> st.SearchStrategy[WindowShape]:
    """Shapes with many windows between gaps."""
    few = st.integers(1, 4)
    return st.builds(
        WindowShape,
        window=few,
        stride=few,
        horizon=few,
        lead=st.integers(-1, 3),
        sampling_rate=few,
        target=st.sampled_from(TARGETS),
        short=st.sampled_from(["drop", "pad"]),
        steps=st.sampled_from([None, None, (0.1, 0.9)]),
    )


sequences_of_rows = st.builds(
    draw_missing,
    st.lists(st.integers(0, 60), max_size=6),
    st.sampled_from([0, 0.01, 0.05, 0.2]),
    st.integers(0, 10**6),
)
any_shape = small_shapes() | small_shapes() | shapes(TARGETS)


@settings(max_examples=40)
@given(missing=sequences_of_rows, shape=any_shape, known=st.booleans())
@example(
    missing=[[(False, False)] * 3 + [(True, False)] + [(False, False)] * 9],
    shape=WindowShape(window=4, sampling_rate=3),
    known=False,
)
def test_remaining_windows_equal_those_of_a_loop_over_rows(missing, shape, known):
    known = known and shape.target == "future"
    index, expected = index_of(missing, shape, known=known), list_complete(missing, shape, known=known)
    places = [(window.sequence, window.start) for window in expected]
    assert len(index) == len(places)
    assert [index.locate(number) for number in range(len(index))] == places
    numbers = np.arange(-len(places), len(places))
    found, starts = index.locate_many(numbers)
    assert list(zip(found.tolist(), starts.tolist(), strict=True)) == places + places
    assert index.real_rows(found, starts).tolist() == [len(window.rows) for window in expected] * 2
    assert index.last_rows(found, starts).tolist() == [window.rows[-1] for window in expected] * 2
    counts = [sum(place[0] == number for place in places) for number in range(len(missing))]
    assert np.diff(index.first).tolist() == counts


@given(sequences_of_rows, any_shape)
def test_stretches_are_as_few_as_possible(missing: list[list[Row]], shape: WindowShape) -> None:
    """Between two of one sequence, at least one window was left out."""
    left = index_of(missing, shape).stretches
    if left.sequence is None:
        return
    counts = np.diff(left.first)
    assert (counts > 0).all()
    for one, other in itertools.pairwise(range(len(counts))):
        if left.sequence[one] == left.sequence[other]:
            assert left.start[one] + counts[one] * shape.stride < left.start[other]


@given(sequences_of_rows, any_shape)
def test_many_gaps_are_processed_in_parts_with_the_same_result(missing: list[list[Row]], shape: WindowShape) -> None:
    whole = index_of(missing, shape).stretches
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "TOGETHER", 2)
        parts = index_of(missing, shape).stretches
    for name in ("start", "first"):
        assert getattr(whole, name).tolist() == getattr(parts, name).tolist()


@given(missing=sequences_of_rows, shape=any_shape.filter(lambda shape: not shape.pad_end))
def test_runs_of_windows_cost_at_least_their_rows(missing: list[list[Row]], shape: WindowShape) -> None:
    """And no more than without gaps: a pool holds as many as memory allows."""
    index, lengths = index_of(missing, shape), np.array([len(rows) for rows in missing], np.int64)
    starts = np.cumsum(lengths) - lengths
    costs = Costs(row=1, window=0)
    order = EpochOrder(index, starts, chunk=4, costs=costs, budget=40, random=None)
    rows, until = order._row_bounds(np.diff(order._before))
    _, _, each = order._unit_costs(rows, until, np.zeros_like(rows), costs)
    for number, cost in enumerate(each.tolist()):
        taken: dict[int, set[int]] = {}
        for window in range(number * order._unit, min(len(index), (number + 1) * order._unit)):
            sequence, start = index.locate(window)
            last = int(index.last_rows(sequence, start)) + shape.label_span
            taken.setdefault(sequence, set()).update(range(start, last + 1))
        ends = sum(max(rows) + 1 - min(rows) for rows in taken.values())
        assert sum(map(len, taken.values())) <= cost <= ends


def test_without_gaps_no_stretches_are_stored() -> None:
    lengths = np.full(1000, 50)
    plain = index_of_lengths(lengths, WindowShape(window=4))
    none = Gaps(sequence=np.zeros(0, np.int64), start=np.zeros(0, np.int64), stop=np.zeros(0, np.int64), use="aligned")
    index = WindowIndex(start=plain.start, stop=plain.stop, shape=plain.shape, gaps=(none,))
    assert index.stretches.sequence is None
    assert index.stretches.start is index.start
