"""What `inspect` reports of a store equals what a loop over all its rows finds."""

import json
from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import build, inspect, tabular
from builder.inspection.values import TimeRange, length_bins
from store_spec import Rows, open_store
from store_spec.format.times import Time
from tests.builder.command import run_inspect as run
from tests.builder.source_files import write_files
from tests.store.oracle import Recipe, store_of


def shown(*arguments):
    result = run(*arguments)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture
def store(tmp_path):
    """A store of 40 sequences, two of them empty, with NaN, and with a hostile feature name."""
    generator = np.random.default_rng(3)
    rows = [generator.normal(size=(number % 20, 3)).astype(np.float32) for number in range(40)]
    for each in rows:
        each[:, 1] = np.nan
    names, sources = ("a", "b", "[red]\x1b[2J"), [f"source-{number // 2}" for number in range(40)]
    options: Any = {"inputs": Rows(np.dtype("float32"), (3,), names), "label_axis": "sequence", "missing": "keep"}
    packing: Any = {"chunk": 300, "shard": 1200, "codec": "lz4:1"}
    store_of(tmp_path / "s.zarr", rows, [*np.arange(40, dtype="int16")], sources=sources, **options, **packing)
    return tmp_path / "s.zarr"


def test_counts_lengths_and_sizes_are_those_of_the_store(store):
    found, opened = inspect(store), open_store(store)
    lengths = [len(x) for x, _ in opened]
    assert (found.sequences, found.sources, found.steps) == (40, 20, sum(lengths))
    assert found.lengths is not None
    assert [found.lengths.median, found.lengths.mean] == [np.median(lengths), np.mean(lengths)]
    assert (found.lengths.min, found.lengths.max, found.lengths.empty) == (0, 19, 2)
    files = [path for path in store.rglob("*") if path.is_file()]
    assert (found.files, found.stored_bytes) == (len(files), sum(path.stat().st_size for path in files))
    arrays = {array.name: array for array in found.arrays}
    assert arrays["inputs"].decoded_bytes == sum(x.nbytes for x, _ in opened)
    assert arrays["labels"].decoded_bytes == 40 * 2
    assert arrays["inputs"].files == len(list((store / "inputs").iterdir()))
    assert found.decoded_bytes == sum(array.decoded_bytes for array in found.arrays)
    assert (found.inputs["dtype"], found.inputs["shape"]) == ("float32", [3])
    assert (found.label_axis, found.missing) == ("sequence", "keep")
    assert (found.codec, found.chunk_steps, found.shard_steps) == ("lz4:1", 16, 96)
    assert (found.chunk_bytes, found.shard_bytes) == (192, 1152)


def test_statistics_equal_those_of_the_rows_and_are_null_without_values(store):
    a, b, _, label = inspect(store).statistics
    rows = np.concatenate([x for x, _ in open_store(store)]).astype(np.float64)
    assert (a.array, a.column, a.name, a.count) == ("inputs", 0, "a", len(rows))
    assert [a.mean, a.std] == pytest.approx([rows[:, 0].mean(), rows[:, 0].std()])
    assert [a.min, a.max] == [rows[:, 0].min(), rows[:, 0].max()]
    assert (b.count, b.mean, b.std, b.min, b.max) == (0, None, None, None, None)
    assert (label.array, label.name, label.count, label.mean, label.min, label.max) == ("labels", None, 40, 19.5, 0, 39)


def test_json_holds_all_and_no_nan(store):
    def refuse(text):
        raise AssertionError(text)

    found = json.loads(shown(store, "--json"), parse_constant=refuse)
    assert found["sequences"] == 40
    assert found["statistics"][1]["mean"] is None
    assert [array["name"] for array in found["arrays"]][:3] == ["inputs", "labels", "offsets"]
    assert found["build"] is None


def test_the_text_fits_80_columns_and_no_name_commands_the_terminal(store):
    text = shown(store)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert all(line == line.rstrip() for line in lines)
    assert text.count("[red]\\x1b[2J") == 2  # among the features, and their statistics
    assert "\x1b" not in text
    assert "min 0, median 9.5, mean 9.5, max 19, 2 empty" in text
    for heading in ("Lengths", "Arrays", "Default splits", "Statistics"):
        assert sum(line.startswith(heading) for line in lines) == 1


@pytest.mark.parametrize("asked", [(), ("--sequence", "source-3"), ("--shuffle", "2")])
def test_no_number_is_cut_in_a_narrow_terminal(store, asked):
    wide = numbers(run(store, *asked).stdout)
    for width in (66, 60, 40):
        assert numbers(run(store, *asked, columns=width).stdout) == wide


def numbers(text):
    """Return the words that end in a digit, on any line, except in a name, which may be wrapped."""
    return Counter(word for word in text.split() if word[-1].isdigit() and not word.startswith("[red]"))


def test_a_store_without_sequences_can_be_inspected(tmp_path):
    Recipe().create(tmp_path / "e.zarr").commit()
    found = inspect(tmp_path / "e.zarr")
    assert (found.sequences, found.steps, found.lengths) == (0, 0, None)
    assert all(one.mean is None for one in found.statistics)
    assert "holds       0 sequences, 0 steps" in shown(tmp_path / "e.zarr")


def test_labels_with_lengths_of_their_own_and_complex_numbers_can_be_inspected(tmp_path):
    store_of(tmp_path / "o.zarr", [np.ones((3, 2), np.complex64)], [np.ones(5, bool)], label_axis="own")
    found = inspect(tmp_path / "o.zarr")
    assert (found.steps, found.label_steps) == (3, 5)
    assert [one.mean for one in found.statistics] == [None, None, 1.0]
    assert "1 sequence, 3 steps, 5 label steps" in shown(tmp_path / "o.zarr")


def test_the_first_of_many_statistics_are_shown_and_json_has_all(tmp_path):
    write_files(tmp_path / "arrays", {"good.npy": np.zeros((2, 30)), **{f"bad{at:02}.npy": b"" for at in range(25)}})
    build(tmp_path / "arrays", tmp_path / "t.zarr", workers=0)
    text = shown(tmp_path / "t.zarr")
    assert "and 40 more, see --json" in text
    assert "Failures (25 sources in the last build)" in text
    assert "bad19.npy: is empty" in text
    assert "bad20.npy" not in text
    assert "and 5 more; --json lists 25" in text
    found = json.loads(shown(tmp_path / "t.zarr", "--json"))
    assert len(found["statistics"]) == 60
    assert len(found["failures_listed"]) == found["failures"] == 25
    assert found["build"]["process"]["tabular"]["label_source"] == "inputs"


@given(st.lists(st.integers(0, 10**6) | st.integers(0, 30), min_size=1))
def test_every_length_is_in_one_bin_and_bins_are_consecutive(lengths):
    bins = length_bins(np.array(lengths))
    for low, high, count in bins:
        assert count == sum(low <= length <= high for length in lengths)
    assert (bins[0][0], bins[-1][1]) == (min(lengths), max(lengths))
    assert all(before[1] + 1 == after[0] for before, after in pairwise(bins))
    assert len(bins) <= 20  # a terminal shows them


def test_splits_by_a_column_equal_those_of_the_reader(tmp_path):
    more = [{"columns": {"patient": f"p{number % 13}"}} for number in range(50)]
    opened = store_of(tmp_path / "s.zarr", [np.zeros(3, "float32")] * 50, columns={"patient": "string"}, more=more)
    found = inspect(tmp_path / "s.zarr", split_by="patient")
    lines = shown(tmp_path / "s.zarr", "--split-by", "patient").splitlines()
    assert "Default splits (by a hash of patient, seed 0)" in lines
    assert found.split_by == "patient"
    for split in found.splits:
        view = opened.split(split.name, by="patient")
        groups = len(set(view.sequences["patient"].tolist()))
        assert (split.groups, split.sequences, split.steps) == (groups, len(view), int(view.lengths.sum()))
        shares = {"train": "80 %", "val": "10 %", "test": "10 %"}
        expected = [split.name, *shares[split.name].split(), str(groups), str(len(view)), str(view.lengths.sum())]
        assert expected in [line.split() for line in lines]
    assert sum(split.groups for split in found.splits) == 13
    assert json.loads(shown(tmp_path / "s.zarr", "--split-by", "patient", "--json"))["split_by"] == "patient"


OF_A_SHUFFLE = ("--stride", "--batch", "--memory", "--seed", "--sampling-rate", "--short", "--epoch")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--split-by patients", "by='patients' is not a column of its sequences; there are source, part, length"),
        ("--split-by patient --sequence s0", "--split-by goes without --sequence"),
        ("--sequence source-3 --shuffle 8", "--sequence shows one source, without --shuffle"),
        ("--sequence source-3 --html x.html", "--sequence shows one source, without --html"),
        *((f"{one} {'pad' if one == '--short' else 1}", f"{one} goes with --shuffle") for one in OF_A_SHUFFLE),
    ],
)
def test_options_that_do_not_go_together_are_refused(store, options, message):
    assert message in run(store, *options.split(), status=2).stderr


def test_times_and_columns_belong_to_the_rows(tmp_path):
    path = tmp_path / "t.zarr"
    times = [
        np.array(["2020-01-02T03", "2020-01-03"], "datetime64[s]"),
        np.zeros(0, "datetime64[s]"),
        np.array(["2020-01-03", "2021-05-06T07:08:09"], "datetime64[s]"),
        np.array(["2019-12-31"], "datetime64[s]"),
    ]
    sites = ["oslo", "", "rome\x1b[2J", "oslo"]
    columns = [
        {"site": sites[number], "age": age, "count": number**9, "wet": True}
        for number, age in enumerate((40.5, None, 2.0))
    ]
    store_of(
        path,
        [np.zeros(len(time), "float32") for time in times[:3]],
        [np.zeros(len(time), "int8") for time in times[:3]],
        time=Time("s", zone="UTC"),
        columns={"site": "string", "age": "float64", "count": "int64", "wet": "bool", "none": "float64"},
        more=[{"time": time, "columns": each} for time, each in zip(times, columns, strict=False)],
    )
    found = inspect(path)
    assert found.time == TimeRange(
        unit="s", elapsed=False, zone="UTC", first="2020-01-02T03:00:00Z", last="2021-05-06T07:08:09Z", in_order=True
    )
    lines = [" ".join(line.split()) for line in shown(path).splitlines()]
    assert "time s, UTC: 2020-01-02T03:00:00Z to 2021-05-06T07:08:09Z; sequences" in lines
    assert "site string 1 2 oslo (1), rome\\x1b[2J (1)" in lines
    assert "age float64 1 2 2 to 40.5" in lines
    assert "count int64 0 3 0 to 512" in lines
    assert "wet bool 0 1 True" in lines
    assert "none float64 3 0 -" in lines
    assert json.loads(shown(path, "--json"))["columns"][0]["common"][0] == ["oslo", 1]
    with open_store(path, "a") as writer:
        row = {"site": sites[3], "count": 1, "wet": False}
        writer.append(np.zeros(1, "float32"), np.zeros(1, "int8"), source="s3", time=times[3], columns=row)
        writer.retire("s0")
    found = inspect(path)
    assert found.time is not None
    assert (found.time.first, found.time.in_order) == ("2019-12-31T00:00:00Z", False)
    # Every text counts, each in its own array, also those of the retired sequence.
    arrays = {array.name: array.decoded_bytes for array in found.arrays}
    assert arrays["sequences/source"] == 4 * 4 + 4 * len("s0")
    assert arrays["sequences/site"] == 4 * 4 + sum(len(site.encode()) for site in sites)


def test_elapsed_times_and_missing_times_are_shown(tmp_path):
    for name, rows in (("e", 2), ("n", 0)):
        store_of(tmp_path / name, [np.zeros(rows)], time=Time("ms", None), more=[{"time": np.arange(rows) * 1500}])
    assert "ms, elapsed: 0 ms to 1,500 ms; sequences are in order of time" in shown(tmp_path / "e")
    assert "ms, elapsed; there is no step" in shown(tmp_path / "n")


def test_steps_with_missing_values_of_live_sequences_are_counted(tmp_path):
    path = tmp_path / "s.zarr"
    rows = np.zeros((10, 2))
    rows[[1, 2, 7], [0, 1, 1]] = np.nan
    store_of(path, [rows] * 3, [rows[:, 0]] * 3, sources="abc", missing="keep")
    with open_store(path, "a") as writer:
        writer.retire("b")
    found = inspect(path)
    assert (found.missing_inputs, found.missing_labels) == (6, 2)
    assert "means a missing value: 6 steps and 2 rows of labels have some" in " ".join(shown(path).split())
    assert json.loads(shown(path, "--json"))["missing_inputs"] == 6
    store_of(tmp_path / "none.zarr", [np.zeros((3, 2))])
    assert inspect(tmp_path / "none.zarr").missing_inputs is None
    assert "NaN" not in shown(tmp_path / "none.zarr")


def test_an_empty_split_is_mentioned_in_the_text(tmp_path):
    path = tmp_path / "s.zarr"
    store_of(path, [np.arange(3, dtype="float32")], sources="a")
    (held,) = (split.name for split in inspect(path).splits if split.sequences)
    empty = " and ".join(name for name in ("train", "val", "test") if name != held)
    assert f"Look at this first\n  No sequence is in {empty} of the default splits.\n" in shown(path)


def test_splits_that_a_column_names_are_shown_as_they_are(tmp_path):
    path, more = tmp_path / "s.zarr", [{"columns": {"side": side}} for side in ("Train", "test", "train")]
    store_of(path, [np.zeros(3)] * 3, columns={"side": "string"}, more=more)
    found = inspect(path, split_by="side")
    assert (found.pinned, [(split.name, split.sequences) for split in found.splits]) == (
        True,
        [("train", 2), ("val", 0), ("test", 1)],
    )
    text = shown(path, "--split-by", "side")
    assert "Splits (from side)\n" in text
    assert "No sequence is in val of the splits by side." in text
    html = tmp_path / "s.html"
    shown(path, "--split-by", "side", "--html", html)
    page = html.read_text()
    assert "from side" in page
    assert "No sequence is in val of the splits by side." in page


def test_a_ratio_is_written_out_however_large_it_is(tmp_path):
    store_of(tmp_path / "z.zarr", [np.zeros((500_000, 1), np.float32)])
    array = inspect(tmp_path / "z.zarr").arrays[0]
    ratio = array.decoded_bytes / array.stored_bytes
    assert ratio > 99
    table = shown(tmp_path / "z.zarr").partition("\nArrays\n")[2].splitlines()
    assert f" {ratio:,.1f} to 1 " in table[1]


def test_options_of_the_build_are_shown_where_any_was_given(tmp_path):
    write_files(tmp_path / "src", {"a.csv": "x,y\n1,2\n"})
    build(tmp_path / "src", tmp_path / "plain.zarr", workers=0)
    build(tmp_path / "src", tmp_path / "chosen.zarr", process=tabular(labels="y"), workers=0)
    assert "Build" not in shown(tmp_path / "plain.zarr").splitlines()
    assert "Build" in shown(tmp_path / "chosen.zarr").splitlines()
