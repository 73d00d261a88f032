"""A dry run reports what a build would make, and makes nothing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from builder import LongSequence, Sequence, build, preview, tabular
from builder.execution.preview import WORKER_BYTES
from store_spec import open_store
from tests.builder.command import seqzarr
from tests.builder.source_files import write_file, write_files
from tests.campaigns.trees import read_tree


def make_arrays(folder, count, rows=lambda _: 10):
    """Write NPY sources of float32 rows with 3 columns, and return the folder."""
    arrays = {f"{number:03}.npy": np.full((rows(number), 3), number, np.float32) for number in range(count)}
    return write_files(folder, arrays)


def test_a_preview_of_few_sources_equals_the_build(tmp_path):
    sources = make_arrays(tmp_path / "arrays", 4, rows=lambda number: 100 * number)
    before = read_tree(tmp_path)
    found: Any = preview(sources, tmp_path / "t.zarr", chunk="1kB", shard="2kB", codec="lz4:2")
    assert read_tree(tmp_path) == before
    build(sources, tmp_path / "t.zarr", workers=0, chunk="1kB", shard="2kB", codec="lz4:2")
    store = open_store(tmp_path / "t.zarr")
    assert (found.result.sequences, found.result.steps) == (len(store), store.counts.steps)
    assert found.result.inputs == store.schema.inputs.to_json()
    assert found.result.labels == store.schema.labels.to_json()
    assert found.result.label_axis == store.schema.label_axis
    assert (found.result.chunk_steps, found.result.shard_steps) == (store.schema.steps.chunk, store.schema.steps.shard)
    assert found.result.codec == "lz4:2"
    assert found.result.files == sum(path.is_file() for path in (tmp_path / "t.zarr").rglob("*"))
    assert found.result.decoded_bytes == 2 * 600 * 3 * 4
    assert (found.sources, found.to_process, found.ignored, found.exists) == (4, 4, 0, False)


def test_a_preview_of_many_sources_scales_up_five(tmp_path):
    sources = make_arrays(tmp_path / "arrays", 50, rows=lambda number: 80 + number)
    found: Any = preview(sources, tmp_path / "t.zarr")
    assert found.sampled == ("000.npy", "012.npy", "024.npy", "036.npy", "049.npy")
    assert found.result.sequences == 50
    steps = sum(80 + number for number in range(50))
    assert abs(found.result.steps - steps) < 0.02 * steps


def test_sequences_that_are_retired_are_not_counted(tmp_path):
    sources, path = make_arrays(tmp_path / "arrays", 6), tmp_path / "t.zarr"
    build(sources, path, workers=0)
    for number in range(2):
        (sources / f"00{number}.npy").unlink()
        write_files(sources, {"003.npy": np.zeros((7 + number, 3), np.float32)})
        found: Any = preview(sources, path, update=True, retire_missing=number == 1)
        build(sources, path, update=True, retire_missing=number == 1, workers=0)
        store = open_store(path)
        assert (found.result.sequences, found.result.steps) == (len(store), store.lengths.sum())
        assert found.result.files == sum(one.is_file() for one in path.rglob("*"))


def test_sources_that_cannot_be_used_are_named_and_the_first_that_can_gives_the_schema(tmp_path):
    sources = make_arrays(tmp_path / "arrays", 3)
    write_files(sources, {"000.npy": b"broken", "002.npy": np.zeros((4, 7), np.float32)})
    found: Any = preview(sources, tmp_path / "t.zarr")
    assert [failure.source for failure in found.failures] == ["000.npy", "002.npy"]
    assert (found.result.inputs["shape"], found.result.sequences, found.result.steps) == ([3], 1, 10)


def test_a_dry_run_prints_a_table_or_json_and_fails_if_a_source_does(tmp_path):
    sources = make_arrays(tmp_path / "arrays", 7)
    before = read_tree(tmp_path).keys()
    arguments = ["build", str(sources), str(tmp_path / "t.zarr"), "--dry-run"]
    shown = seqzarr(*arguments)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert "7 found, 7 to process" in shown.stdout
    assert "about 7 sequences, 70 steps" in shown.stdout
    assert "float32, (3) per step" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    (sources / "000.npy").write_bytes(b"broken")
    failed = seqzarr(*arguments, "--json", status=1)
    assert json.loads(failed.stdout)["failures"][0]["source"] == "000.npy"
    assert failed.stderr.startswith("000.npy: ")
    assert read_tree(tmp_path).keys() == before


def test_a_dry_run_names_a_source_with_other_columns_like_the_build(tmp_path):
    write_files(
        tmp_path / "src",
        {name: f"{header}\n1,2\n" for name, header in (("1.csv", "a,b"), ("2.csv", "b,a"), ("3.csv", "x,y"))},
    )
    seen = preview(tmp_path / "src", tmp_path / "t.zarr")
    assert seen.failures == build(tmp_path / "src", tmp_path / "t.zarr").failures
    assert [failure.source for failure in seen.failures] == ["3.csv"]


def in_pieces(_: Path) -> LongSequence:
    """Yield a source in 100 pieces of 80 kB, inputs and labels."""
    return LongSequence(Sequence(np.zeros((5000, 1)), np.zeros((5000, 1))) for number in range(100))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("process", "piece", "options", "workers"),
    [
        (in_pieces, 80_000, {}, 0),
        (in_pieces, 80_000, {}, 3),
        (lambda _: (Sequence(np.zeros((5000, 1)), np.zeros((5000, 1))) for _ in range(100)), 0, {}, 0),
        (lambda _: (Sequence(np.zeros((5000, 1)), ["a"] * 5000) for _ in range(100)), 0, {"classes": "a"}, 0),
    ],
    ids=["pieces", "pieces, workers", "sequences", "sequences with text as labels"],
)
def test_the_memory_of_a_function_is_one_piece_and_the_batch(
    tmp_path: Path, process: Any, piece: int, options: dict[str, Any], workers: int
):
    write_files(tmp_path / "in", {f"{name}.raw": b"0" for name in "ab"})
    result: Any = preview(tmp_path / "in", tmp_path / "s.zarr", process=process, workers=workers, **options).result
    assert result.decoded_bytes == 2 * 8_000_000
    at_once, processes = (2, 4) if workers else (1, 1)  # as many sources as there are
    assert (result.whole_bytes, result.own_function) == (0, True)
    assert result.memory_bytes == WORKER_BYTES * processes + 2 * result.decoded_bytes + 2 * piece * at_once


@pytest.mark.parametrize(("name", "adjacent"), [("x.parquet", True), ("x.parquet", False), ("x.csv", True)])
def test_a_file_of_groups_counts_as_one_source(tmp_path, name, adjacent):
    groups = [number // 100 if adjacent else number % 10 for number in range(1000)]
    table = pa.table({"g": groups, "a": np.arange(1000.0), "b": np.arange(1000.0)})
    text = "g,a,b\n" + "".join(f"{group},{row},{row}\n" for row, group in enumerate(groups))
    path = write_file(tmp_path / "in" / name, text if name == "x.csv" else table, row_group=400)
    process = tabular(group_by="g", missing="drop")
    result: Any = preview(path, tmp_path / "s.zarr", process=process, workers=0).result
    assert result.sequences == 10
    rows = 2 * 1000 * 2 * (4 if name == "x.csv" else 8)  # inputs and labels
    assert result.whole_bytes == 2 * rows + path.stat().st_size
    assert result.memory_bytes == WORKER_BYTES + 2 * result.decoded_bytes + result.whole_bytes


def test_the_text_says_whether_sources_are_read_whole(tmp_path):
    command = ["build", str(make_arrays(tmp_path / "arrays", 2)), str(tmp_path / "t.zarr")]
    said = " ".join(seqzarr(*command, "--dry-run").stdout.split())
    # Twice the 240 bytes of inputs and labels, and the 248 of the file.
    assert "memory at most about 130.0 MB while building, 728 bytes of them for sources, which are read whole" in said
    write_files(tmp_path / "raw", {"a.raw": b"0"})
    command = ["build", str(tmp_path / "raw"), str(tmp_path / "t.zarr"), "--process", f"{__name__}:in_pieces"]
    said = seqzarr(*command, "--dry-run").stdout
    assert "while building, and what the process function takes while it reads" in " ".join(said.split())
