"""Batches that are processed again, since their rows were lost with a worker."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from builder import build
from builder.build_errors import BuildError
from builder.sequence import Sequence
from builder.workers.batch import ProcessedBatch, complete_batch, process_alone, process_batch
from builder.workers.row_blocks import Space
from tests.builder.test_batch import STEP, batch_of, rows_of, three_files

__all__ = ["three_files"]

SPACE = Space(memory=10**9)


def test_rows_that_were_lost_are_taken_again_only_if_they_are_the_same(three_files):
    values, steps = {"a": 1, "b": 2, "c": 3}, {"a": 4, "b": 5, "c": 6}

    def read(path: Path) -> Any:
        rows = np.full((steps[path.name], 3), values[path.name], "f4")
        return rows, rows

    def again(processed: ProcessedBatch) -> ProcessedBatch:
        return complete_batch(processed, partial(process_batch, batch, STEP, SPACE, whole=True), summary.content)

    batch = batch_of(three_files, "a", "b", "c", process=read)
    first = process_batch(batch, STEP, SPACE)
    summary = first.summary
    assert again(first) is first
    part = process_batch(batch.only(0), STEP, SPACE)  # ended after another source
    assert np.array_equal(rows_of(again(part), "inputs"), rows_of(first, "inputs"))
    values["b"] = 9
    for short in (part, process_batch(batch, STEP, SPACE)):
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


def test_a_batch_is_completed_while_no_other_is_processed(three_files):
    running, together = [], []

    def slow(path: Path) -> Any:
        running.append(path)
        time.sleep(0.05)
        together.append(len(running))
        running.remove(path)
        return np.zeros((1, 3)), np.zeros((1, 3))

    whole, half = batch_of(three_files, "a", "b", process=slow), batch_of(three_files, "a", process=slow)
    processed, due = process_batch(half, STEP, SPACE), process_batch(whole, STEP, SPACE).summary.content
    together.clear()
    again = partial(process_alone, whole, STEP, SPACE, whole=True)
    with ThreadPoolExecutor(2) as threads:
        other = threads.submit(process_alone, whole, STEP, SPACE)
        completed = threads.submit(complete_batch, processed, again, due)
        assert [other.result().summary.done, completed.result().summary.done] == [2, 2]
    assert together == [1] * 4
