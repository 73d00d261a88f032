"""What the page of a store says equals what loops over all of its rows say."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from builder import tabular
from builder.build import build
from builder.cli import main
from builder.inspection import ColumnStatistics, inspect, inspection_of, split_numbers
from builder.report.classes import SHOWN_CLASSES, balance_of
from builder.report.content import describe
from builder.report.drawings import SEQUENCES, Line, Ribbon, draw, spans_of
from builder.report.features import COUNTABLE, MOST_BINS, RUN, describe_features, distribute, still_share
from builder.report.notes import notes_on
from builder.report.page import html_of
from builder.report.sampling import Sample, sample_rows, table_blocks
from builder.report.splits import Compared, compare, drift_of, spread_of
from builder.twins import twins_of
from store_spec import Rows, Store, create_store, open_store
from store_spec.reading.splits import DEFAULT_SPLITS, position
from tests.builder.report_stores import hostile_store


def numbered(path: Path, lengths: list[int], *, retire: Collection[int] = (), chunk: int = 64) -> Store:
    """Make a store in which each row is a number of its own, in two places."""
    count = itertools.count()
    with create_store(
        path, inputs=("int64", (2, 1)), labels=("int32", ()), label_axis="sequence", chunk=chunk, shard=4 * chunk
    ) as writer:
        for number, length in enumerate(lengths):
            rows = np.array([[[next(count)], [0]] for _ in range(length)], np.int64).reshape(-1, 2, 1)
            writer.append(rows, np.int32(number), source=f"s{number}")
        writer.commit()
        for number in retire:
            writer.retire(f"s{number}")
    return open_store(path)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_sampled_rows_are_rows_of_the_store_with_their_sequences(tmp_path_factory, data: st.DataObject):
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    retire = data.draw(st.sets(st.integers(0, len(lengths) - 1)))
    most = data.draw(st.integers(1, 4000))
    store = numbered(tmp_path_factory.mktemp("n") / "n.zarr", lengths, retire=retire)
    sample = sample_rows(store, "inputs", most)
    steps = [(number, step, int(x[step, 0, 0])) for number, (x, _) in enumerate(store) for step in range(len(x))]
    by_value = {value: (number, step) for number, step, value in steps}
    found = [by_value[value] for value in sample.rows[:, 0, 0].tolist()]
    assert len(set(found)) == len(found)
    assert found == sorted(found)
    assert [number for number, _ in found] == sample.sequence.tolist()
    before = [None, *found[:-1]]
    assert sample.begins.tolist() == [
        one != (a[0], a[1] + 1) if a else True for a, one in zip(before, found, strict=False)
    ]
    assert sample.total == len(steps)
    assert bool(found) == bool(steps)
    # Whole chunks of 4 steps, and one at least.
    assert len(found) <= max(4, most // 16)
    if 16 * (int(store.snapshot.offsets[-1]) + 4) <= most:
        assert sample.whole


def test_labels_of_a_table_are_sampled_too(tmp_path: Path):
    store = numbered(tmp_path / "n.zarr", [3, 0, 5], retire={0})
    sample = sample_rows(store, "labels")
    assert (sample.rows.tolist(), sample.whole, sample.sequence.tolist()) == ([[[1]], [[2]]], True, [0, 1])


def test_rows_come_from_all_over_the_store(tmp_path: Path):
    store = numbered(tmp_path / "n.zarr", [1000])
    sample = sample_rows(store, "inputs", 1600)
    assert np.histogram(sample.rows[:, 0, 0], bins=5, range=(0, 1000))[0].min() >= 8


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(1, 2 * RUN), st.booleans()), max_size=9))
def test_what_stands_still_is_what_a_loop_finds(pieces: list[tuple[int, int, bool]]):
    rows = np.array([[value, 5] for value, count, _ in pieces for _ in range(count)], np.float64).reshape(-1, 2)
    begins = np.array([begin and not step for _, count, begin in pieces for step in range(count)], bool)
    begins[:1] = True
    runs: list[int] = []
    for number, row in enumerate(rows.tolist()):
        if number and not begins[number] and row == rows[number - 1].tolist():
            runs[-1] += 1
        else:
            runs.append(1)
    long = [run for run in runs if run >= RUN]
    expected = sum(long) / len(rows) if len(rows) else None
    assert still_share(rows, begins) == (expected, max(long, default=0))


def test_missing_values_do_not_stand_still():
    assert still_share(np.full((30, 1), np.nan), np.arange(30) == 0) == (0.0, 0)


@given(nps.arrays(st.sampled_from(["float32", "float64", "int8", "int64", "uint16", "bool"]), st.integers(0, 300)))
def test_every_value_lies_in_one_bin(values: np.ndarray):
    found = distribute(values[np.isfinite(values)] if values.dtype.kind == "f" else values)
    real = [float(value) for value in values if np.isfinite(value)]
    if found is None:
        assert not real
        return
    assert sum(found.counts) + found.below + found.above == len(real)
    assert found.below == sum(value < found.low for value in real)
    assert found.above == sum(value > found.high for value in real)
    assert found.below <= 0.1 * len(real) + 1
    assert found.above <= 0.1 * len(real) + 1


@given(
    st.lists(st.integers(-300, 300), min_size=1, max_size=300),
    st.sampled_from([1, 0.1, 0.01, 1e-4, 0.25, 1 / 3]),
    st.sampled_from(["float32", "float64", "int64"]),
    st.sampled_from([0, 20, -5]),
)
def test_values_that_lie_in_steps_are_counted_one_by_one_or_so_many_together(
    places: list[int], step: float, dtype: str, least: int
):
    if dtype == "int64":
        step = 1
    if dtype == "float32":
        step = max(step, 0.01)  # of which it has the digits
    places += [0, 1]  # neighbours, by which the step is seen
    values = ((np.array(places) + least / step) * step).astype(dtype)
    found = distribute(values)
    assert found is not None
    if not found.step:
        # More than can be counted: bins of one width do for these.
        assert max(places) - min(places) >= COUNTABLE
        return
    assert 1 <= len(found.counts) <= MOST_BINS
    # The steps that were found are those that were made, or several of these.
    assert abs(found.step / step - round(found.step / step)) < 0.01
    reach = round(found.step / step) * found.each
    low = round(found.low / step) - round(least / step)
    inside = [place for place in places if round(found.low / step) <= place + round(least / step)]
    inside = [place for place in inside if place + round(least / step) <= round(found.high / step)]
    expected = [
        sum(low + k * reach <= place < low + (k + 1) * reach for place in inside) for k in range(len(found.counts))
    ]
    assert list(found.counts) == expected
    assert (found.below, found.above) == (
        sum(place < low for place in places),
        len(places) - len(inside) - sum(place < low for place in places),
    )


def test_whole_numbers_that_come_equally_often_make_no_comb():
    for dtype in ("float64", "uint8"):
        found = distribute(np.tile(np.arange(90), 3).astype(dtype))
        assert found is not None
        assert found.counts == (9,) * 30
    apart = distribute(np.array([0.0, 2.0, -3.0]))  # none of them neighbours
    assert apart is not None
    assert (apart.counts, apart.step) == ((1, 0, 0, 1, 0, 1), 1.0)
    far = distribute(np.append(np.tile(np.arange(90), 3), -999).astype("float64"))
    assert far is not None
    assert (far.counts, far.below) == ((9,) * 30, 1)


def test_values_are_counted_in_the_bin_that_they_lie_in():
    found = distribute(np.arange(320, dtype=np.float64))
    assert found is not None
    assert (found.low, found.high, found.counts) == (0, 319, (10,) * 32)


def test_tails_lie_beyond_the_bins():
    found = distribute(np.concatenate([np.arange(1000.0), [1e30]]))
    assert found is not None
    assert found.high < 1000
    assert found.above == 1 + sum(value > found.high for value in range(1000))


def test_few_values_far_away_leave_more_than_one_bin_for_the_others():
    random = np.random.default_rng(0)
    values = np.concatenate([random.normal(size=9000), random.normal(1e6, 1e5, 700), random.normal(1e9, 1e8, 100)])
    found = distribute(values)
    assert found is not None
    assert found.high < 10
    assert np.count_nonzero(found.counts) > 20


def test_no_value_and_complex_ones_have_no_distribution():
    assert distribute(np.full(3, np.nan)) is None
    assert distribute(np.ones(3, np.complex64)) is None


@given(
    nps.arrays("float64", st.integers(0, 60), elements=st.just(np.nan) | st.integers(-9, 9).map(float)),
    st.integers(1, 30),
)
def test_a_line_has_the_least_and_largest_value_of_each_part(values: np.ndarray, points: int):
    spans = spans_of(values, points)
    if len(values) <= points:
        parts = [[value] for value in values.tolist()]
    else:
        cuts = [len(values) * number // points for number in range(points)]
        parts = [values[a:b].tolist() for a, b in zip(cuts, [*cuts[1:], len(values)], strict=True)]
    real = [[value for value in part if value == value] for part in parts]  # noqa: PLR0124  # NaN is not itself
    assert spans == tuple((min(part), max(part)) if part else None for part in real)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(hostile_store(tmp_path / "h.zarr"))


def test_missing_and_constant_are_exact(store: Store):
    statistics = inspection_of(store).statistics[:5]
    small = sample_rows(store, "inputs", 100)
    assert not small.whole
    for number, one in enumerate(describe_features(store, statistics, small, 5)):
        columns = [x[:, number] for x, _ in store]
        assert one.missing == sum(int(np.isnan(column).sum()) for column in columns)
        assert one.constant == sum(len(column) > 1 and float(np.ptp(column)) == 0 for column in columns)
    assert len(describe_features(store, statistics, small, 2)) == 2


def test_one_value_among_missing_ones_does_not_stand_still(tmp_path: Path):
    nan = np.nan
    sequences = [[1, nan, nan], [1, 1, nan], [nan, nan], [2, 2], [3], [1, 2], [nan, 4, nan, 4]]
    with create_store(
        tmp_path / "c.zarr", inputs=("float32", (1,)), labels=("float32", (1,)), missing="keep"
    ) as writer:
        for number, values in enumerate(sequences):
            rows = np.array(values, np.float32)[:, None]
            writer.append(rows, rows, source=f"s{number}")
    store = open_store(tmp_path / "c.zarr")
    (one,) = describe_features(store, inspection_of(store).statistics[:1], sample_rows(store, "inputs"), 1)
    assert one.constant == 3


def test_a_line_of_missing_values_has_none_to_tell(tmp_path: Path):
    with create_store(
        tmp_path / "l.zarr", inputs=("float32", (2,)), labels=("int8", ()), missing="keep", label_axis="sequence"
    ) as writer:
        writer.append(np.array([[0, np.nan], [1, np.nan]], np.float32), np.int8(0), source="a")
    content = describe(open_store(tmp_path / "l.zarr"))
    assert [line.missing for line in content.drawings[0].features] == [False, True]
    assert "feature 1 <small>all missing</small>" in html_of(content)


def test_splits_are_compared_as_the_rows_have_it(store: Store):
    numbers = split_numbers(store)
    found = compare(store, numbers, ("inputs", "labels"))
    distances = [one.distance for one in found]
    assert distances == sorted(distances, reverse=True)
    names = store.schema.inputs.names
    assert names is not None
    for one in found:
        array, column = (1, 0) if one.array == "labels" else (0, names.index(one.name))
        parts = [np.concatenate([pair[array][:, column] for pair in store.split(name)]) for name in DEFAULT_SPLITS]
        means = [np.nanmean(part.astype(np.float64)) for part in parts]
        stds = [np.nanstd(part.astype(np.float64)) for part in parts]
        assert [part.count for part in one.parts] == [int(np.sum(~np.isnan(part))) for part in parts]
        assert [part.mean for part in one.parts] == pytest.approx(means)
        assert [part.std for part in one.parts] == pytest.approx(stds, abs=1e-12)
        if one.drift is None:
            assert stds[0] == 0
            assert (one.spread, one.drifts, one.spreads, one.distance) == (None, False, False, -1)
        else:
            drift = max(abs(mean - means[0]) / stds[0] for mean in means[1:])
            spread = max((std / stds[0] for std in stds[1:]), key=lambda share: abs(np.log(share)))
            assert [one.drift, one.spread] == pytest.approx([drift, spread])
            assert (one.drifts, one.spreads) == (bool(drift >= 0.5), not 0.5 < spread < 2)


def column(mean: float | None, std: float | None, low: float | None = 0, high: float | None = 9) -> ColumnStatistics:
    return ColumnStatistics(array="inputs", column=0, name=None, count=9, mean=mean, std=std, min=low, max=high)


@pytest.mark.parametrize(
    ("others", "drift", "spread"),
    [
        ([column(1, 2)], 0.0, 1.0),
        ([column(2, 2), column(0.5, 2)], 0.5, 1.0),
        ([column(1, 3), column(1, 1)], 0.0, 0.5),
        ([column(1, 6), column(1, 1)], 0.0, 3.0),
        ([column(1, 1e-17, 1, 1), column(1, 2)], 0.0, 0.0),
        ([column(None, None, None, None), column(3, None)], 1.0, None),
        ([column(None, None, None, None)], None, None),
    ],
)
def test_drift_and_spread_are_beside_the_first_split(
    others: list[ColumnStatistics], drift: float | None, spread: float | None
):
    assert (drift_of((column(1, 2), *others)), spread_of((column(1, 2), *others))) == (drift, spread)
    for first in (column(1, 1e-17, 1, 1), column(None, None, None, None), column(1, 0)):
        assert (drift_of((first, *others)), spread_of((first, *others))) == (None, None)


def test_what_differs_is_worth_a_look():
    def compared(drift: float | None, spread: float | None) -> Compared:
        return Compared(array="inputs", name="a", parts=(), drift=drift, spread=spread)

    assert (compared(0.49, 1.9).drifts, compared(0.49, 1.9).spreads, compared(0.49, 1.9).distance < 1) == (
        False,
        False,
        True,
    )
    assert (compared(0.5, None).drifts, compared(0.5, None).spreads, compared(0.5, None).distance) == (True, False, 1)
    assert (compared(0.0, 2.0).spreads, compared(0.0, 0.5).spreads) == (True, True)
    assert compared(0.0, 0.25).distance == pytest.approx(2)
    assert compared(0.0, 0.0).distance == np.inf


def test_classes_are_counted_in_all_and_in_each_split(store: Store):
    found = describe(store).balances
    splits = [np.concatenate([y[:, 0] for _, y in store.split(name)]) for name in DEFAULT_SPLITS]
    (one,) = found
    assert one.whole
    assert one.totals == tuple(len(part) for part in splits)
    assert {each.code: each.splits for each in one.classes} == {
        code: tuple(int((part == code).sum()) for part in splits) for code in (0, 1, 2)
    }
    counts = [each.count for each in one.classes]
    assert counts == sorted(counts, reverse=True)


def test_classes_that_no_row_has_are_worth_a_look(tmp_path: Path):
    """A source that fails adds its classes before it does, and these stay."""
    source, store = tmp_path / "src", tmp_path / "s.zarr"
    source.mkdir()
    for name, row in (("a", "1,cat"), ("b", ",typo"), ("c", "1,dog")):
        (source / f"{name}.csv").write_text(f"x,l\n{row}\n")
    build(source, store, process=tabular(labels="l", missing="drop"), workers=0)
    notes = list(notes_on(describe(open_store(store))))
    assert ("labels", "1 class of l is the label of no row: typo.") in notes
    (source / "b.csv").write_text("x,l\n1,typo\n")
    build(source, store, workers=0)
    assert not any("of no row" in note for _, note in notes_on(describe(open_store(store))))


def test_many_classes_are_summed_up_and_numbers_are_no_classes(tmp_path: Path):
    def sample(labels: np.ndarray) -> Sample:
        rows = labels[:, None, None]
        return Sample(rows=rows, begins=np.ones(len(rows), bool), sequence=np.zeros(len(rows), np.int64), total=99)

    with create_store(tmp_path / "s.zarr", inputs=("int8", ()), labels=("int16", ())) as writer:
        writer.append(np.zeros(2, "int8"), np.zeros(2, "int16"), source="a")
    statistics = inspection_of(open_store(tmp_path / "s.zarr")).statistics[1:]
    split = np.zeros(1, np.int64)
    (one,) = balance_of(statistics, sample(np.append(np.arange(40), 39).astype(np.int16)), split, 3)
    assert (one.distinct, one.whole, len(one.classes)) == (40, False, SHOWN_CLASSES + 1)
    assert (one.classes[0].code, one.classes[0].count) == (39, 2)
    assert (one.classes[-1].code, one.classes[-1].count) == (None, 8)
    assert balance_of(statistics, sample(np.arange(100).astype(np.int16)), split, 3) == ()
    assert balance_of(statistics, sample(np.arange(3.0)), split, 3) == ()


def test_the_drawn_sequences_are_those_of_least_hash_and_stay_so(store: Store):
    splits = tuple("train" for _ in range(len(store)))
    drawn = draw(store, inspection_of(store).statistics, splits)
    with_steps = {source for source, length in zip(store.sources, store.lengths, strict=True) if length}
    assert [one.source for one in drawn] == sorted(with_steps, key=lambda source: position(source, 1))[:SEQUENCES]
    one = drawn[0]
    x, y = store.select(one.source)[0]
    assert (one.steps, one.shown) == (len(x), len(x))
    assert len(one.features) == 5
    assert isinstance(one.targets[0], Ribbon)
    codes = [code for start, stop, code in one.targets[0].pieces for _ in range(start, stop)]
    assert codes == y[:, 0].tolist()
    for number, line in enumerate(one.features):
        assert line.spans == spans_of(x[:, number].astype(np.float64))


def test_of_a_long_sequence_the_beginning_is_drawn(tmp_path: Path):
    rows = np.arange(300_000, dtype=np.float64)
    with create_store(tmp_path / "l.zarr", inputs=("float64", ()), labels=("float64", ())) as writer:
        writer.append(rows, rows, source="a")
    store = open_store(tmp_path / "l.zarr")
    (one,) = draw(store, inspection_of(store).statistics, ("train",))
    assert (one.steps, one.shown) == (300_000, 2**17)
    (line,) = one.targets
    assert isinstance(line, Line)
    assert (line.high, line.spans[-1]) == (2**17 - 1, (float(2**17 - 547), float(2**17 - 1)))


def test_files_of_the_same_bytes_on_two_sides_are_found(tmp_path: Path):
    names = [f"s{number}.npy" for number in range(60)]
    train = [name for name in names if position(name, 0) < 0.8]
    others = [name for name in names if position(name, 0) >= 0.8]
    folder = tmp_path / "files"
    folder.mkdir()
    for number, name in enumerate(names):
        value = 900 if name in {*train[:2], others[0]} else 901 if name in train[2:4] else number
        np.save(folder / name, np.full((3, 1), float(value)))
    build(folder, tmp_path / "t.zarr", workers=0)
    store = open_store(tmp_path / "t.zarr")
    found = inspection_of(store).twins
    assert found.count == 1
    (pair,) = found.named
    assert len({*pair} & {*train[:2]}) == 1
    assert others[0] in pair
    shown = CliRunner().invoke(main, ["inspect", str(tmp_path / "t.zarr")]).stdout
    told = f"The same bytes are in sources of different splits, 1 group of them: {pair[0]} = {pair[1]}."
    assert told in " ".join(shown.split())


def test_parts_of_one_file_are_no_twins_of_each_other(tmp_path: Path):
    folder = tmp_path / "files"
    folder.mkdir()
    rows = "".join(f"{number},{number}\n" for number in range(30))
    for name in ("a.csv", "b.csv"):
        (folder / name).write_text(f"unit,x\n{rows}")
    build(folder, tmp_path / "t.zarr", process=tabular(group_by="unit"), workers=0)
    found = inspect(tmp_path / "t.zarr", split_by="unit")
    assert all(split.sequences for split in found.splits)
    assert found.twins.count == 0
    by_part = np.arange(60) % 2
    twins = twins_of(open_store(tmp_path / "t.zarr"), by_part)
    assert twins.count == 0  # 30 parts: each with that of the same number in the other file
    assert twins_of(open_store(tmp_path / "t.zarr"), np.arange(60) // 30).named == (("a.csv", "b.csv"),)


def test_arrays_that_come_from_no_file_are_no_twins(tmp_path: Path):
    store = numbered(tmp_path / "n.zarr", [1] * 30)
    assert len(set(split_numbers(store))) == 3
    assert inspection_of(store).twins.count == 0


def test_tables_come_in_blocks_that_make_up_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("builder.report.sampling.BLOCK_VALUES", 3)
    store = numbered(tmp_path / "n.zarr", [1] * 10, retire={0, 4, 5})
    blocks = [block for _, (block,) in table_blocks(store, "labels", width=1)]
    assert [len(block) for block in blocks] == [3, 3, 1]
    assert np.concatenate(blocks).tolist() == [1, 2, 3, 6, 7, 8, 9]


def test_labels_that_repeat_the_inputs_are_told_of_once(tmp_path: Path):
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    for name, labels in (("same", rows), ("other", rows + 1)):
        with create_store(tmp_path / name, inputs=("float32", (2,)), labels=("float32", (2,))) as writer:
            for number in range(3):
                writer.append(rows, labels if number else rows, source=f"s{number}")
        content = describe(open_store(tmp_path / name))
        assert content.labels_are_inputs == (name == "same")
        assert len(content.targets) == (0 if name == "same" else 2)
        assert len(content.compared) == (2 if name == "same" else 4)
        assert len(content.drawings[0].targets) == (0 if name == "same" else 2)


def test_a_store_without_sequences_has_a_page(tmp_path: Path):
    with create_store(tmp_path / "e.zarr", inputs=Rows(np.dtype("int8"), (2,)), labels=("int8", ())):
        pass
    content = describe(open_store(tmp_path / "e.zarr"))
    assert (content.lengths, content.drawings, content.balances) == ((), (), ())
    assert "0 windows" in content.no_shuffle
    assert str(tmp_path) not in content.no_shuffle
