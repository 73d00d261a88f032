"""The batches of a build: their sizes, and the work of a worker on one.

Good sources become rows and records, bad ones failures without a trace.
"""

import os
import pickle
import re
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from builder import BuildError, LongSequence, Sequence, UsageError, build, tabular
from builder.planning.build_options import BuildOptions
from builder.planning.plan import make_plan
from builder.planning.resolved_sources import FILE_COST, LEAST_BATCH_BYTES, split_into_batches
from builder.processes.function_process import FunctionProcess, Portable
from builder.sources.folder import LocalFolder
from builder.workers.batch import (
    FirstResult,
    ProbeResult,
    ProcessedBatch,
    RowRange,
    complete_batch,
    compress,
    probe,
    summarise,
)
from builder.workers.batch import process_batch as process_batch_in
from builder.workers.process_source import Failure, SourceBatch
from builder.workers.row_blocks import Space
from store_spec.format import shard
from store_spec.schema import LabelAxis, Rows, Schema
from tests.builder.made_sources import (
    FAULTS,
    RAISED,
    RAISED_MIDWAY,
    Made,
    expected,
    made_sequences,
    read_made,
    schema_for,
    write_made,
)

FLOATS = Rows(np.dtype("float32"), (3,))
STEP = Schema.plan(FLOATS, FLOATS)
PLACE = shard.ShardId("inputs", 0)
SPACE = Space(memory=10**9)


def process_batch(batch: SourceBatch, schema: Schema) -> ProcessedBatch:
    return process_batch_in(batch, schema, SPACE)


def batch_of(folder: Path, *names: str, process: Any = read_made, labels: Any = None) -> SourceBatch:
    process = process if hasattr(process, "is_custom") else FunctionProcess(function=process)
    return SourceBatch(folder=LocalFolder(folder), names=names, labels=labels, process=process)


def rows_of(processed: ProcessedBatch, name: str) -> np.ndarray[Any, Any]:
    return np.concatenate([np.empty((0, 3), np.float32), *processed.rows[name].between(0, 10**9)])


@pytest.fixture
def three_files(tmp_path):
    for name in "abc":
        (tmp_path / name).write_text(name)
    return tmp_path


REASONS = {
    "raises": f"ValueError: {{name}}: cannot be read{RAISED}",
    "raises midway": f"RuntimeError: half way{RAISED_MIDWAY}",
    "nonsense": "TypeError: a process function returns (inputs, labels), or yields such pairs; it gave a int",
    "wrong shape": "inputs have shape (7, 4), where this store has (rows, 3)",
}


def test_a_failed_source_leaves_only_its_reason(tmp_path):
    for bad in range(4):
        for fault in FAULTS[1:]:
            folder = tmp_path / f"{bad} {fault}"
            sources = {f"{number}.made": Made(lengths=(4, 2), seed=number) for number in range(4)}
            sources[f"{bad}.made"] = Made(lengths=(4, 2), seed=bad, fault=fault)
            write_made(folder, sources)
            processed = process_batch(batch_of(folder, *sorted(sources)), schema_for("step"))
            if fault in REASONS:
                reason = REASONS[fault].format(name=f"{bad}.made")
                assert processed.summary.failures == (Failure(f"{bad}.made", reason),)
            wanted = expected(sources)
            assert [one.source for one in (*processed.summary.failures, *processed.summary.skipped)] == [f"{bad}.made"]
            assert len(processed.summary.skipped) == (fault == "nothing")
            assert processed.summary.records.sources.tolist() == [sequence.source for sequence in wanted]
            assert processed.summary.records.columns["sequences/part"].tolist() == [0, 1] * 3
            assert np.array_equal(rows_of(processed, "inputs"), np.concatenate([one.inputs for one in wanted]))
            good = [folder / name for name in sources if sources[name].fault in {"", "nothing"}]
            assert processed.summary.bytes_read == sum(path.stat().st_size for path in good)


def raising(_: Path) -> Any:
    raise ValueError(f"cannot open {os.fsdecode(b'caf' + bytes([233]))}")


OTHER_REASONS: dict[str, tuple[Any, str]] = {
    "too little memory": (
        lambda _: (np.ones((2**57, 3)), None),
        r"it needs more memory than there is \(Unable to allocate 3\.00 EiB .*; use fewer --workers, .*\(--process\)",
    ),
    "an error of a library, at the calling line": (
        lambda _: np.stack([np.zeros(1), np.zeros(2)]),
        r"ValueError: all input arrays .* \(test_batch\.py, line \d+, in <lambda>\)",
    ),
    "our own error, without a place": (lambda _: (np.zeros(3, "M8[s]"),) * 2, r"dtype datetime64.*[^)]"),
    "text that is not UTF-8": (raising, r"ValueError: cannot open caf\\udce9 .*"),
}


@pytest.mark.parametrize(("process", "reason"), OTHER_REASONS.values(), ids=OTHER_REASONS)
def test_the_reason_says_what_to_do_or_names_the_line_and_can_be_stored(tmp_path, process, reason):
    (tmp_path / "x").write_text("x")
    failures = probe(batch_of(tmp_path, "x", process=process), None, "error")
    assert isinstance(failures, list)
    assert re.fullmatch(reason, failures[0].reason, re.DOTALL)
    failures[0].reason.encode()


NO_LABELS: dict[str, Any] = {
    "a pair": (np.ones((4, 3), "f4"), None),
    "a sequence": Sequence(np.ones((4, 3), "f4")),
    "the second": [(np.ones((4, 3), "f4"), np.ones((4, 3), "f4")), (np.ones((4, 3), "f4"), None)],
    "pieces": LongSequence([(np.ones((4, 3), "f4"), None)]),
}


@pytest.mark.parametrize("kind", NO_LABELS)
def test_labels_none_is_shown_as_such(tmp_path, kind):
    (tmp_path / "x").write_text("x")
    batch = batch_of(tmp_path, "x", process=lambda _: NO_LABELS[kind])
    for failures in (probe(batch, None, "error"), process_batch(batch, STEP).summary.failures):
        assert isinstance(failures, list | tuple)
        reason = failures[0].reason.removeprefix("(part 1): ")
        assert reason.startswith("the process function returns None for labels; return one label per step, or ")
        assert "; if the labels are the inputs, return (inputs, inputs); for a store without " in failures[0].reason


def test_a_function_without_labels_makes_a_store_without_labels(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,2\n3,4\n")
    build(tmp_path / "a.csv", tmp_path / "table", process=tabular(labels="none"))

    def read(path):
        return pd.read_csv(path, dtype="float32"), np.empty(0, "int8")

    with pytest.raises(BuildError, match=r"2 input rows and no labels; for a store without labels, say label_axis own"):
        build(tmp_path / "a.csv", tmp_path / "made", process=read, workers=0)
    build(tmp_path / "a.csv", tmp_path / "made", process=read, label_axis="own", workers=0)
    made, table = store_spec.open_store(tmp_path / "made"), store_spec.open_store(tmp_path / "table")
    assert not made.has_labels
    assert (made.contents, made.schema) == (table.contents, table.schema)


def test_a_missing_file_or_a_pipe_is_a_failure_and_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    processed = process_batch(batch_of(tmp_path, "folder", "gone", "pipe"), schema_for("step"))
    reasons = [failure.reason for failure in processed.summary.failures]
    assert [reason.rpartition(": ")[0] != "" for reason in reasons] == [True] * 3
    assert "not a file" in reasons[0]
    assert "No such file" in reasons[1]
    assert "not a file" in reasons[2]


def test_a_small_part_of_a_large_array_does_not_keep_the_large_one_in_memory(three_files):
    large = np.zeros((1_000_000, 3), np.float32)
    small_part = large[:400_000]
    processed = process_batch(batch_of(three_files, "a", process=lambda _: (small_part, small_part)), STEP)
    assert not any(np.may_share_memory(block, large) for block in processed.rows["inputs"].blocks)


def test_a_function_that_no_worker_can_import_is_not_a_failure_of_sources(three_files):
    portable = Portable(read_made)
    portable.__setstate__((b"\x80\x04cno_such_module\nread\n.", None))
    for work in (lambda batch: process_batch(batch, STEP), lambda batch: probe(batch, None, "error")):
        with pytest.raises(UsageError, match="cannot be imported on a worker: ModuleNotFoundError"):
            work(batch_of(three_files, "a", process=portable))


def test_labels_that_are_the_inputs_are_described_and_compressed_once(three_files, monkeypatch):
    compressed: list[Any] = []
    original = shard.compress

    def noted(*arguments: Any) -> shard.EncodedRows:
        compressed.append(arguments)
        return original(*arguments)

    monkeypatch.setattr("builder.workers.batch.compress_rows", noted)
    x = np.random.default_rng(0).normal(size=(1_000, 3)).astype("float32")
    at_once, apart = (
        process_batch(batch_of(three_files, *"abc", process=process), STEP)
        for process in (lambda _: (x, x), lambda _: (x, x.copy()))
    )
    assert (at_once.summary.bytes_decoded, at_once.summary.bytes_in_memory) == (72_000, 36_000)
    assert (apart.summary.bytes_decoded, apart.summary.bytes_in_memory) == (72_000, 72_000)
    part = RowRange(names=("inputs", "labels"), rows=slice(10, 2_500), first=10)
    found = compress(at_once, part, STEP, None)
    assert (len(compressed), found["labels"] is found["inputs"]) == (1, True)
    compress(apart, part, STEP, None)
    assert len(compressed) == 3


def test_a_misplaced_stretch_is_refused():
    schema = schema_for("step", chunk=60)
    stretch = shard.compress([np.zeros((20, 3), np.float32)], 0, schema.inputs, schema.steps, schema.codec)
    with pytest.raises(ValueError, match="a compressed chunk follows 1 rows"):
        shard.encode([np.zeros((1, 3), np.float32), stretch], PLACE, schema.inputs, schema.steps, schema.codec)


def test_a_summary_has_all_but_the_rows(tmp_path):
    sources = {"a.made": Made(lengths=(100_000,)), "b.made": Made(fault="raises")}
    write_made(tmp_path, sources)
    summary = summarise(process_batch(batch_of(tmp_path, *sources), schema_for("step")))
    assert summary.bytes_decoded == 100_000 * (12 + 2)
    assert len(pickle.dumps(summary)) < 5_000
    assert [failure.source for failure in summary.failures] == ["b.made"]


@pytest.mark.parametrize("axis", ["step", "sequence", "own"])
def test_the_first_usable_source_determines_the_schema(tmp_path, axis: LabelAxis):
    good = Made(lengths=(9, 4), axis=axis, seed=3)
    write_made(tmp_path, {"a.made": Made(fault="raises"), "b.made": Made(fault="nothing"), "c.made": good})
    guessed = None if axis != "own" else axis
    found = probe(batch_of(tmp_path, "a.made", "b.made", "c.made"), guessed, "error")
    assert isinstance(found, ProbeResult)
    assert (found.bytes_read, found.schema.label_axis) == ((tmp_path / "c.made").stat().st_size, axis)
    assert (found.schema.inputs, found.schema.labels) == (schema_for(axis).inputs, schema_for(axis).labels)
    arrays = made_sequences("", good)
    assert found.nbytes == sum(one.inputs.nbytes + np.asarray(one.labels).nbytes for one in arrays)
    failure = Failure("a.made", f"ValueError: a.made: cannot be read{RAISED}")
    assert probe(batch_of(tmp_path, "a.made"), axis, "error") == [failure]


@pytest.mark.parametrize(
    ("inputs", "labels", "axis", "reason"),
    [
        (np.zeros((4, 2)), np.zeros((5, 2)), None, "4 input rows and labels of shape .5, 2.: say with label_axis"),
        (np.zeros((4, 2)), 3.0, "step", r"labels have shape \(\), where this store has \(rows\)"),
        (7, np.zeros(4), None, r"inputs have shape \(\), where this store has \(rows\)"),
        (np.zeros((4, 2)), np.zeros(3), "step", "4 input rows but 3 label rows"),
        (np.zeros((4, 2)), np.zeros(1), "step", 'one for all of them is a label of label_axis="sequence" .--label-axi'),
    ],
)
def test_labels_that_fit_no_axis_are_a_failure_that_says_so(three_files, inputs, labels, axis, reason):
    failures = probe(batch_of(three_files, "a", process=lambda _: (inputs, labels)), axis, "error")
    assert isinstance(failures, list)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(failures[0].reason)


def test_rows_that_were_lost_are_taken_again_only_if_they_are_the_same(three_files):
    values, steps = {"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}

    def read(path: Path) -> Any:
        rows = np.full((steps[path.name], 3), values[path.name], "f4")
        return rows, rows

    def again(processed: ProcessedBatch) -> ProcessedBatch:
        whole = partial(process_batch_in, batch, STEP, SPACE, whole=True)
        return complete_batch(processed, FirstResult(summary.content, whole))

    batch = batch_of(three_files, "a", "b", "c", process=read)
    first = process_batch(batch, STEP)
    summary = first.summary
    assert again(first) is first
    part = process_batch(batch.take([0]), STEP)  # ended after another source
    assert np.array_equal(rows_of(again(part), "inputs"), rows_of(first, "inputs"))
    values["b"] = 9
    for short in (part, process_batch(batch, STEP)):
        with pytest.raises(BuildError, match=r"^b gave other rows when it was processed again after a worker died"):
            again(short)
    values["b"], steps["c"] = 2, 7
    with pytest.raises(BuildError, match=r"^[bc](, or a source beside it,)? gave other rows"):
        again(part)
    (three_files / "c").unlink()
    with pytest.raises(BuildError, match=r"^[bc](, or a source beside it,)? gave other rows"):
        again(part)


def test_columns_may_be_named_like_checksums(three_files, tmp_path):
    def read(path: Path) -> Any:
        rows = np.zeros((2, 3), "f4")
        return Sequence(inputs=rows, labels=rows, columns={"file_crc32c": path.name})

    store = tmp_path / "stores" / "s.zarr"
    store.parent.mkdir()
    assert build(three_files / "[abc]", store, process=read, workers=0).added == 3
    assert store_spec.open_store(store).sequences["file_crc32c"].tolist() == ["a", "b", "c"]


@given(sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=30), budget=st.integers(1, 2_000_000))
def test_batches_hold_every_source_once_in_order_and_no_more_bytes_than_requested_or_one_source(sizes, budget):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "src")
        folder.mkdir()
        for number, size in enumerate(sizes):
            with (folder / f"{number:02}.made").open("wb") as file:
                file.truncate(size)
        plan = make_plan(BuildOptions(folder, Path(place, "store"), process=read_made))
        batches = list(plan.batches(budget, 2.0))
        assert sum(plan.new_bytes) == sum(sizes)
    names = [name for batch, _ in batches for name in batch.names]
    assert names == sorted(names) == [f"{number:02}.made" for number in range(len(sizes))]
    costs = [2 * size + FILE_COST for size in sizes]
    start = 0
    for batch, size in batches:
        inside = costs[start : start + len(batch)]
        assert size == sum(inside)
        assert len(batch) == 1 or size <= budget
        start += len(batch)
        if start < len(costs):
            assert size + costs[start] > budget  # as many as fit


def test_batches_for_workers_become_smaller_at_the_end():
    sizes = [100_000] * 1_000
    parts = list(split_into_batches(sizes, 10_000_000, 1.0, workers=2))
    assert [part.start for part, _ in parts] == [0, *(part.stop for part, _ in parts[:-1])]
    assert parts[-1][0].stop == len(sizes)
    costs = [size for _, size in parts]
    assert costs == [(part.stop - part.start) * (100_000 + FILE_COST) for part, _ in parts]
    assert costs[0] > 9_800_000
    left = 0
    for cost in costs[::-1]:
        left += cost
        assert cost <= max(left / 4, LEAST_BATCH_BYTES)  # two more for each worker follow
        assert cost > min(max(left / 4, LEAST_BATCH_BYTES), 10_000_000) - 100_000 - FILE_COST or left == cost
    assert costs[-2] < LEAST_BATCH_BYTES
    assert list(split_into_batches([1] * 9, 10**7, 1.0, workers=4)) == [(slice(0, 9), 9 * (1 + FILE_COST))]
    assert list(split_into_batches([], 1, 1.0, workers=4)) == []
