"""What inspect says of a store equals what reading all of it says."""

import json
from itertools import pairwise

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from builder.build import build
from builder.cli import main
from builder.inspection import inspect
from builder.length_bins import LARGEST_BINS, length_bins
from store_spec import Rows, create_store, open_store


def shown(*arguments):
    """Return what the command prints to stdout."""
    result = CliRunner().invoke(main, ["inspect", *map(str, arguments)])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture
def store(tmp_path):
    """A store of 40 sequences, two of them empty, with NaN, and with a hostile name among those of its features."""
    generator = np.random.default_rng(3)
    with create_store(
        tmp_path / "s.zarr",
        inputs=Rows(np.dtype("float32"), (3,), ("a", "b", "[red]\x1b[2J")),
        labels=("int16", ()),
        label_axis="sequence",
        missing="keep",
        chunk=300,
        shard=1200,
        codec="lz4:1",
    ) as writer:
        for number in range(40):
            rows = generator.normal(size=(number % 20, 3)).astype(np.float32)
            rows[:, 1] = np.nan
            writer.append(rows, np.int16(number), source=f"source-{number // 2}")
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


def test_splits_are_those_that_the_reader_makes(store):
    opened = open_store(store)
    for split in inspect(store).splits:
        view = opened.split(split.name)
        assert (split.sequences, split.steps) == (len(view), view.lengths.sum())
    assert sum(split.sequences for split in inspect(store).splits) == 40


def test_statistics_are_those_of_the_rows_and_null_where_there_is_no_value(store):
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


def test_a_store_without_sequences_can_be_inspected(tmp_path):
    with create_store(tmp_path / "e.zarr", inputs=("float64", (2,)), labels=("float64", (1,))):
        pass
    found = inspect(tmp_path / "e.zarr")
    assert (found.sequences, found.steps, found.lengths) == (0, 0, None)
    assert all(one.mean is None for one in found.statistics)
    assert "holds       0 sequences, 0 steps" in shown(tmp_path / "e.zarr")


def test_labels_with_lengths_of_their_own_and_complex_numbers_can_be_inspected(tmp_path):
    rows = ("complex64", (2,))
    with create_store(tmp_path / "o.zarr", inputs=rows, labels=("bool", ()), label_axis="own") as writer:
        writer.append(np.ones((3, 2), np.complex64), np.ones(5, bool), source="x")
    found = inspect(tmp_path / "o.zarr")
    assert (found.steps, found.label_steps) == (3, 5)
    assert [one.mean for one in found.statistics] == [None, None, 1.0]
    assert "1 sequence, 3 steps, 5 label steps" in shown(tmp_path / "o.zarr")


def test_of_many_statistics_and_failures_the_first_are_shown_and_json_has_all(tmp_path):
    (tmp_path / "arrays").mkdir()
    np.save(tmp_path / "arrays" / "good.npy", np.zeros((2, 30)))
    for number in range(25):
        (tmp_path / "arrays" / f"bad{number:02}.npy").write_bytes(b"")
    build(tmp_path / "arrays", tmp_path / "t.zarr", workers=0)
    text = shown(tmp_path / "t.zarr")
    assert "and 40 more, which --json has" in text
    assert "Failures (25 sources in the last build)" in text
    assert "bad19.npy: is empty" in text
    assert "bad20.npy" not in text
    assert "and 5 more; --json lists 25" in text
    found = json.loads(shown(tmp_path / "t.zarr", "--json"))
    assert len(found["statistics"]) == 60
    assert len(found["failures_listed"]) == found["failures"] == 25
    assert found["build"]["process"]["tabular"]["label_source"] == "inputs"


@given(st.lists(st.integers(0, 10**6) | st.integers(0, 30), min_size=1))
def test_every_length_lies_in_one_bin_and_bins_follow_one_another(lengths):
    bins = length_bins(np.array(lengths))
    for low, high, count in bins:
        assert count == sum(low <= length <= high for length in lengths)
    assert (bins[0][0], bins[-1][1]) == (min(lengths), max(lengths))
    assert all(before[1] + 1 == after[0] for before, after in pairwise(bins))
    assert len(bins) <= LARGEST_BINS
