"""What an inspection reports of features, splits, rows and shuffles equals what loops over all rows find."""

import itertools
import json
from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from obstore.store import MemoryStore
from zarr.storage import ObjectStore

from builder import UsageError, build, inspect, tabular
from builder.inspection import Shuffle
from builder.inspection.features import column_statistics
from builder.inspection.sampling import MOST_CLASSES, SEQUENCES, count_classes, row_sample, sample_rows, spans_of
from builder.inspection.split_sizes import duplicates_across_splits, split_numbers
from builder.inspection.values import BINS, COMMON, describe_column, histogram
from store_spec import FormatError, Store, create_store, open_store
from store_spec.reading.splits import DEFAULT_SPLITS, position
from store_spec.schema import LabelAxis
from store_spec.windows.mixing import measure
from tests.builder.command import run_inspect as run
from tests.builder.inspected_stores import HOSTILE, hostile_store
from tests.builder.source_files import write_files
from tests.campaigns.buckets import objects
from tests.store.oracle import Recipe, store_of


def numbered(path: Path, lengths: list[int], *, retire: Collection[int] = (), chunk: int = 64) -> Store:
    """Make a store in which each row is a different number, in two places."""
    count = itertools.count()
    rows = [np.array([[[next(count)], [0]] for _ in range(length)], np.int64).reshape(-1, 2, 1) for length in lengths]
    labels = [*np.arange(len(lengths), dtype=np.int32)]
    store_of(path, rows, labels, label_axis="sequence", chunk=chunk, shard=4 * chunk)
    with open_store(path, "a") as writer:
        for number in retire:
            writer.retire(f"s{number}")
    return open_store(path)


def test_rows_of_another_store_are_not_in_a_sample():
    memory = ObjectStore(MemoryStore())

    def write(first: int) -> None:
        obstore.delete(memory.store, list(objects(memory)))
        with create_store(memory, inputs=("float32", (1,)), labels=("float32", ())) as writer:
            for number in range(3):
                writer.append(np.full((4, 1), first + number, np.float32), np.zeros(4, np.float32), source=f"s{number}")

    write(0)
    store = open_store(memory)
    split_of, statistics = split_numbers(store), column_statistics(store)
    assert row_sample(store, statistics, split_of).inputs.rows == 12
    write(100)
    with pytest.raises(FormatError, match="another store was written here since this one was opened"):
        row_sample(store, statistics, split_of)


@pytest.mark.slow
@settings(max_examples=40)
@given(st.data())
def test_sampled_rows_are_rows_of_the_store_with_their_sequences(tmp_path_factory, data: st.DataObject):
    lengths = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=12))
    retire = data.draw(st.sets(st.integers(0, len(lengths) - 1)))
    most = data.draw(st.integers(1, 4000))
    store = numbered(tmp_path_factory.mktemp("n") / "n.zarr", lengths, retire=retire)
    rows, sequences = sample_rows(store, "inputs", most)
    steps = [(number, step, int(x[step, 0, 0])) for number, (x, _) in enumerate(store) for step in range(len(x))]
    by_value = {value: (number, step) for number, step, value in steps}
    places = [by_value[value] for value in rows[:, 0, 0].tolist()]
    assert len(set(places)) == len(places)
    assert places == sorted(places)
    assert [number for number, _ in places] == sequences.tolist()
    assert bool(places) == bool(steps)
    assert len(places) <= max(1, most // 16)  # bytes of a row
    if 16 * int(store.snapshot.bounds("inputs")[-1]) <= most:
        assert len(places) == len(steps)


def test_labels_of_a_table_are_sampled_too(tmp_path: Path):
    store = numbered(tmp_path / "n.zarr", [3, 0, 5], retire={0})
    rows, sequences = sample_rows(store, "labels")
    assert (rows.tolist(), sequences.tolist()) == ([[[1]], [[2]]], [0, 1])
    assert inspect(store.path, rows=True).to_json()["rows"]["labels"]["total"] == 2


@pytest.mark.parametrize("retire", [(), range(1, 50)])
def test_sampled_rows_come_from_all_over_the_store(tmp_path: Path, retire: Collection[int]):
    store = numbered(tmp_path / "n.zarr", [10] * 100, retire=retire)
    numbers = np.concatenate([x[:, 0, 0] for x, _ in store])
    rows, _ = sample_rows(store, "inputs", 1600)
    assert np.histogram(np.searchsorted(numbers, rows[:, 0, 0]), bins=5, range=(0, len(numbers)))[0].min() >= 8


@given(nps.arrays(st.sampled_from(["float32", "float64", "int8", "int64", "uint64", "bool"]), st.integers(0, 300)))
def test_every_value_is_in_one_bin(values: np.ndarray):
    bins = histogram(values)
    real = [float(value) for value in values if np.isfinite(value)]
    assert sum(count for _, _, count in bins) == len(real)
    if not real:
        assert bins == ()
        return
    assert (bins[0][0], bins[-1][1]) == (min(real), max(real))
    assert len(bins) <= BINS
    for number, (low, high, count) in enumerate(bins):
        whole, last = isinstance(low, int), number == len(bins) - 1
        assert count == sum(low <= value <= high if whole or last else low <= value < high for value in real)


@given(st.lists(st.integers(-300, 300), min_size=1))
def test_bins_of_integers_have_as_many_different_integers(values: list[int]):
    for dtype in ("int64", "float32"):
        bins = histogram(np.array(values, dtype))
        widths = [high - low + 1 for low, high, _ in bins]
        assert len(set(widths[:-1])) <= 1
        assert widths[-1] <= widths[0]
        assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(bins))
        if max(values) - min(values) < BINS:
            assert [(low, high, count) for low, high, count in bins] == [
                (value, value, values.count(value)) for value in range(min(values), max(values) + 1)
            ]


def test_the_ends_of_float64_have_bins_and_complex_numbers_have_none():
    assert histogram(np.array([-1.7e308, 1.7e308, 0.5]))[0][2] == 1
    least = histogram(np.array([0.0, 5e-324]))
    assert (least[0][0], least[-1][1], sum(count for _, _, count in least)) == (0, 5e-324, 2)
    assert sum(count for _, _, count in histogram(np.array([5e-324, 1e-323]))) == 2
    assert histogram(np.ones(3, np.complex64)) == ()


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


@given(st.lists(st.sampled_from(["", *"abcdefgh", HOSTILE[0]])))
def test_text_of_a_column_is_counted(values: list[str]):
    column = describe_column("site", "string", np.array(values, object))
    counts = Counter(value for value in values if value)
    assert (column.missing, column.distinct) == (values.count(""), len(counts))
    assert column.common == tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))[:COMMON]


@given(st.lists(st.just(np.nan) | st.integers(-5, 5).map(float)))
def test_a_column_of_numbers_is_summarised(values: list[float]):
    column = describe_column("age", "float64", np.array(values, np.float64))
    real = [value for value in values if not np.isnan(value)]
    assert (column.missing, column.distinct) == (len(values) - len(real), len(set(real)))
    assert (column.min, column.max) == (min(real, default=None), max(real, default=None))
    assert column.mean == (pytest.approx(sum(real) / len(real)) if real else None)
    assert (column.common, column.bins) == ((), histogram(np.array(real)))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(hostile_store(tmp_path / "h.zarr"))


def test_missing_and_constant_are_exact(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("builder.inspection.features.BLOCK_VALUES", 20)  # 4 sequences at a time
    for number, one in enumerate(inspect(store.path).statistics[:5]):
        columns = [x[:, number] for x, _ in store]
        assert one.missing == sum(int(np.isnan(column).sum()) for column in columns)
        assert one.constant == sum(len(column) > 1 and float(np.ptp(column)) == 0 for column in columns)


def test_equal_values_have_no_deviation_despite_rounding(tmp_path: Path):
    store = store_of(tmp_path / "c.zarr", [np.full(length, 518.67) for length in range(1, 60)])
    assert store.stats().std[0] > 0
    assert inspect(tmp_path / "c.zarr").statistics[0].std == 0


def test_one_value_among_missing_ones_is_not_constant(tmp_path: Path):
    nan = np.nan
    sequences = [[1, nan, nan], [1, 1, nan], [nan, nan], [2, 2], [3], [1, 2], [nan, 4, nan, 4]]
    store_of(tmp_path / "c.zarr", [np.array(values, np.float32) for values in sequences], missing="keep")
    assert inspect(tmp_path / "c.zarr").statistics[0].constant == 3


def test_splits_are_compared_as_the_rows_have_it(store: Store):
    for one in inspect(store.path).statistics:
        array = 1 if one.array == "labels" else 0
        parts = [np.concatenate([pair[array][:, one.column] for pair in store.split(name)]) for name in DEFAULT_SPLITS]
        means = [np.nanmean(part.astype(np.float64)) for part in parts]
        stds = [np.nanstd(part.astype(np.float64)) for part in parts]
        assert one.split_means == pytest.approx(means)
        assert one.split_stds == pytest.approx(stds, abs=1e-12)


def rows_in(path: Path) -> Any:
    """Return what an inspection reports of the rows of a store."""
    return inspect(path, rows=True).rows


def test_classes_are_counted_in_all_and_in_each_split(store: Store):
    labels = rows_in(store.path).labels
    assert labels.rows == labels.total == int(store.lengths.sum())
    splits = [np.concatenate([y[:, 0] for _, y in store.split(name)]) for name in DEFAULT_SPLITS]
    (column,) = labels.columns
    assert {one.code: one.splits for one in column.classes} == {
        code: tuple(int((part == code).sum()) for part in splits) for code in (0, 1, 2)
    }
    counts = [one.count for one in column.classes]
    assert counts == sorted(counts, reverse=True)


def test_inputs_have_no_classes(tmp_path: Path):
    rows = rows_in(numbered(tmp_path / "n.zarr", [3, 2]).path)
    assert [len(array.columns[0].classes) for array in (rows.inputs, rows.labels)] == [0, 2]


def test_numbers_are_no_classes():
    labels = np.arange(MOST_CLASSES + 1)[:, None]
    splits = np.zeros(len(labels), np.int64)
    assert len(count_classes(labels[1:], splits[1:])) == MOST_CLASSES
    assert count_classes(labels, splits) == []
    assert count_classes(labels[:3].astype(np.float64), splits[:3]) == []


def test_the_drawn_sequences_have_the_smallest_hashes(store: Store):
    drawn = rows_in(store.path).sequences
    with_steps = {source for source, length in zip(store.sources, store.lengths, strict=True) if length}
    assert [one.source for one in drawn] == sorted(with_steps, key=lambda source: position(source, 1))[:SEQUENCES]
    first = drawn[0]
    x, y = store.select(first.source)[0]
    assert (first.steps, first.drawn, first.label_rows) == (len(x), len(x), len(y))
    assert all(one.source in store.split(one.split).sources for one in drawn)
    assert len({one.split for one in drawn}) > 1
    assert [line.array for line in first.lines] == ["inputs"] * 5 + ["labels"]
    for line, values in zip(first.lines, [*x.T, y[:, 0]], strict=True):
        assert line.spans == spans_of(values.astype(np.float64))
        real = values[~np.isnan(values)]
        assert (line.low, line.high) == (real.min(), real.max())


def test_only_the_start_of_a_long_sequence_is_drawn(tmp_path: Path):
    rows = np.arange(300_000, dtype=np.float64)
    store_of(tmp_path / "l.zarr", [rows], [rows + 1])
    (one,) = rows_in(tmp_path / "l.zarr").sequences
    assert (one.steps, one.drawn) == (300_000, 2**17)
    line = one.lines[1]
    assert (line.high, line.spans[-1]) == (2**17, (float(2**17 - 546), float(2**17)))


def test_the_first_features_that_change_are_drawn(tmp_path: Path):
    rows = np.ones((5, 9), np.float32)
    rows[:, [2, 4, 8]] = np.arange(5)[:, None]
    store_of(tmp_path / "f.zarr", [rows], [np.zeros(5, np.int8)])
    titles = [line.title for line in rows_in(tmp_path / "f.zarr").sequences[0].lines]
    assert titles == [*(f"feature {number}" for number in (0, 1, 2, 3, 4, 8)), "target 0"]


def test_files_of_the_same_bytes_in_two_splits_are_found(tmp_path: Path):
    names = [f"s{number}.npy" for number in range(60)]
    train = [name for name in names if position(name, 0) < 0.8]
    others = [name for name in names if position(name, 0) >= 0.8]
    middle = others[len(others) // 2]
    # Three files of the same bytes are one group, though both others are in another split than the second.
    alike = dict.fromkeys((train[0], middle, train[-1]), 900.0) | dict.fromkeys(train[2:4], 901.0)
    arrays = {name: np.full((3, 1), alike.get(name, number), float) for number, name in enumerate(names)}
    build(write_files(tmp_path / "files", arrays), tmp_path / "t.zarr", workers=0)
    duplicates = inspect(tmp_path / "t.zarr").duplicates
    assert duplicates.count == 1
    (pair,) = duplicates.examples
    assert pair == (train[0], middle)
    shown = run(tmp_path / "t.zarr").stdout
    assert f"so test data are in training data (1 group): {pair[0]} = {pair[1]}." in " ".join(shown.split())


def test_parts_of_one_file_are_no_duplicates_of_each_other(tmp_path: Path):
    text = "unit,x\n" + "".join(f"{number},{number}\n" for number in range(30))
    folder = write_files(tmp_path / "files", {"a.csv": text, "b.csv": text})
    build(folder, tmp_path / "t.zarr", process=tabular(group_by="unit"), workers=0)
    document = inspect(tmp_path / "t.zarr", split_by="unit")
    assert all(split.sequences for split in document.splits)
    assert document.duplicates.count == 0
    store = open_store(tmp_path / "t.zarr")
    # 30 parts: each has the rows of the part with the same number in the other file.
    assert duplicates_across_splits(store, np.arange(60) % 2).count == 0
    assert duplicates_across_splits(store, np.arange(60) // 30).examples == (("a.csv", "b.csv"),)


def test_arrays_that_come_from_no_file_are_no_duplicates(tmp_path: Path):
    store = numbered(tmp_path / "n.zarr", [1] * 30)
    assert len(set(split_numbers(store))) == 3
    assert inspect(store.path).duplicates.count == 0


def test_labels_that_repeat_the_inputs_are_inspected_once(tmp_path: Path):
    rows = np.arange(12, dtype=np.float32).reshape(6, 2)
    for name, labels in (("same", rows), ("other", rows + 1)):
        store_of(tmp_path / name, [rows] * 3, [rows, labels, labels])
        document: Any = inspect(tmp_path / name, rows=True)
        assert document.labels_are_inputs == (name == "same")
        assert (document.rows.labels is None) == (name == "same")
        arrays = {line.array for line in document.rows.sequences[0].lines}
        assert arrays == ({"inputs"} if name == "same" else {"inputs", "labels"})


def test_rows_are_read_only_when_requested(store: Store, monkeypatch: pytest.MonkeyPatch):
    def refuse(*arguments: object, **_: object) -> None:
        raise AssertionError(arguments)

    with monkeypatch.context() as patch:
        patch.setattr("store_spec.disk.snapshot.Snapshot.rows", refuse)
        assert inspect(store.path).rows is None
        with pytest.raises(AssertionError):
            inspect(store.path, rows=True)
    plain, whole = inspect(store.path), inspect(store.path, rows=True)
    assert replace(whole, rows=None) == plain
    assert json.loads(json.dumps(whole.to_json(), allow_nan=False))["rows"]["inputs"]["rows"] == plain.steps


def made(path: Path, *, label_axis: LabelAxis = "step") -> Path:
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    labels = {"step": rows, "sequence": rows[0], "own": rows[:3]}[label_axis]
    store_of(path, [rows] * 60, [labels] * 60, label_axis=label_axis, chunk=400, shard=4000)
    return path


@pytest.fixture(scope="module")
def shuffled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("shuffled") / "s.zarr")


def test_without_the_option_no_shuffle_is_shown(shuffled: Path):
    assert inspect(shuffled).shuffle is None
    assert "Shuffle" not in run(shuffled).stdout
    assert json.loads(run(shuffled, "--json").stdout)["shuffle"] is None


@pytest.mark.parametrize(
    ("arguments", "window", "mixed"),
    [
        pytest.param(
            "--shuffle 8 --stride 2 --batch 32 --memory 64kB --seed 5",
            {"stride": 2},
            {"memory": "64kB", "seed": 5},
            marks=pytest.mark.slow,
        ),
        (
            "--shuffle 60 --horizon 3 --lead 2 --sampling-rate 4 --target future --short pad --epoch 6 --batch 32",
            {"horizon": 3, "lead": 2, "sampling_rate": 4, "short": "pad"},
            {"epoch": 6},
        ),
        ("--shuffle 200 --target last --batch 32", {"target": "last"}, {}),
        ("--shuffle 8", {}, {"batch_size": 256}),
    ],
)
def test_the_command_shows_what_the_reader_measures(shuffled: Path, arguments: str, window: Any, mixed: Any):
    result = run(shuffled, *arguments.split(), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)["shuffle"]
    windows = open_store(shuffled).windows(found["shuffle"]["window"], **window)
    assert found["mixing"] == asdict(measure(windows, **({"batch_size": 32} | mixed)))
    if "memory" in mixed:
        assert found["mixing"]["pools"] > 2
        assert found["shuffle"] == asdict(Shuffle(window=8, stride=2, batch=32, memory="64kB", seed=5))
    if "short" in window:
        assert len(windows) == 60  # one of each: they are longer than their sequences
        said = "Shuffle window 60, stride 1, horizon 3, lead 2, sampling rate 4, target future, short pad, batch 32, "
        assert said in " ".join(run(shuffled, *arguments.split()).stdout.split())


@pytest.mark.slow
def test_the_text_fits_80_columns_and_has_words_for_figures(shuffled: Path):
    result = run(shuffled, "--shuffle", 8, "--batch", 32, "--memory", "64kB")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    begin = lines.index("Shuffle")
    mixing = measure(open_store(shuffled).windows(8), 32, memory="64kB")
    text = " ".join(" ".join(lines[begin:]).split())
    assert f"{mixing.windows:,} windows; {mixing.pools:,} pools of" in text
    assert f"sequences in a batch {mixing.ours.sequences:.1f} {mixing.ideal.sequences:.1f}" in text
    assert f"A batch has {100 * mixing.sequences:.0f} % of the sequences that a global shuffle gives." in text
    assert f"make 1/{mixing.pools} of the epoch" in text


def test_a_shuffle_in_one_pool_is_reported_as_global(shuffled: Path):
    text = " ".join(run(shuffled, "--shuffle", 8, "--batch", 32).stdout.split())
    assert "1 pool of" in text
    assert "All windows fit into memory. A batch has" in text
    assert "More --memory" not in text


def test_a_store_with_one_label_for_a_sequence_is_shuffled_too(tmp_path: Path):
    path = made(tmp_path / "q.zarr", label_axis="sequence")
    found: Any = inspect(path, shuffle=Shuffle(window=8, batch=32)).shuffle
    assert found.mixing == measure(open_store(path).windows(8, target="sequence"), 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shuffle", 201), "s.zarr: windows of 201 steps fit nowhere: the longest of 60 sequences has 200 steps"),
        (("--shuffle", 0), "window is 0; it must be a whole number of at least 1"),
        (("--shuffle", 8, "--batch", 0), "batch_size is 0; it must be a whole number of at least 1"),
        (("--shuffle", 8, "--seed", -1), "seed is -1; it must be a whole number of at least 0"),
        (("--shuffle", 8, "--memory", "1kB"), "s.zarr: memory=1,000 bytes is too little"),
        (("--shuffle", 8, "--memory", "much"), "'much' is not a size in bytes"),
        (("--shuffle", 8, "--target", "sequence"), "target="),
        (("--shuffle", 198, "--horizon", 3), "windows of 198 steps fit nowhere"),
        (("--shuffle", "eight"), "'eight' is not a valid integer"),
    ],
)
def test_an_impossible_shuffle_is_wrong_usage_and_shows_no_traceback(shuffled: Path, arguments, message: str):
    result = run(shuffled, *arguments, status=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_labels_that_belong_to_no_step_have_no_windows(tmp_path: Path):
    with pytest.raises(UsageError, match="labels on the 'own' axis belong to no step"):
        inspect(made(tmp_path / "o.zarr", label_axis="own"), shuffle=Shuffle(window=8))


def test_an_empty_store_is_refused(tmp_path: Path):
    Recipe().create(tmp_path / "e.zarr").commit()
    assert "0 windows" in run(tmp_path / "e.zarr", "--shuffle", 8, status=2).stderr


@pytest.mark.filterwarnings("ignore:.*0 windows")
def test_windows_of_each_split_are_counted_also_if_there_are_none(tmp_path: Path):
    rows = np.arange(200, dtype=np.float32)[:, None]
    names = [f"s{number:02}" for number in range(60)]
    # Those of the test split are shorter.
    store = store_of(tmp_path / "s.zarr", [rows[: 8 if position(one, 0) >= 0.9 else 9] for one in names], sources=names)
    found = inspect(tmp_path / "s.zarr", shuffle=Shuffle(window=8))
    assert [split.windows for split in found.splits] == [len(store.split(one.name).windows(8)) for one in found.splits]
    assert found.splits[2].windows == 0
    text = run(tmp_path / "s.zarr", "--shuffle", 8).stdout
    assert "Look at this first\n  Windows of 8 steps fit into no sequence of test.\n" in text
    assert "Look at this first" not in run(tmp_path / "s.zarr", "--shuffle", 7).stdout
    assert all(split.windows is None for split in inspect(tmp_path / "s.zarr").splits)
