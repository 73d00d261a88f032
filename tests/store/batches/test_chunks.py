"""Which chunks batches decompress: each one once if memory allows, and none that is not needed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from tests.store.kinds import WHOLE, begin, chunks_read, every_kind
from tests.store.oracle import Recipe, make, write
from tests.store.window_oracle import LENGTHS, Written


@every_kind
def test_each_chunk_is_decompressed_once_if_all_fit_into_memory(
    by_step: Written, kind: str, monkeypatch: pytest.MonkeyPatch
):
    read = chunks_read(monkeypatch)
    list(begin(by_step.store, kind, **WHOLE[kind]))
    assert sorted(read) == [(name, chunk) for name in ("inputs", "labels") for chunk in range(39)]  # of 308 rows


@every_kind
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_selection_reads_only_its_own_chunks(
    by_step: Written, kind: str, monkeypatch: pytest.MonkeyPatch, *, shuffle: bool
):
    read, ends = chunks_read(monkeypatch), np.cumsum(LENGTHS)
    list(begin(by_step.store.select([5, 12]), kind, shuffle=shuffle))
    own = {row // 8 for number in (5, 12) for row in range(ends[number - 1], ends[number])}
    assert {chunk for _, chunk in read} <= own


@pytest.mark.parametrize("name", ["inputs", "filled"])
def test_a_cut_sequence_is_read_only_to_the_cut(tmp_path: Path, name: str):
    """So files with later rows may be lost."""
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), filled=True, chunk=8, shard=8)
    (sequence,) = sequences = make(recipe, [80])
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", sequences))
    (tmp_path / "s.zarr" / name / "c.3").write_bytes(b"")
    sides: Any = (("end", slice(0, 24)), ("start", slice(80 - 40, 80)))
    for side, rows in sides:
        length = len(range(*rows.indices(80)))
        batch = next(store.padded(1, truncate=length, truncate_side=side, value_mask=True))
        assert batch.mask.all()
        assert batch.inputs[0].tolist() == sequence.inputs[rows].tolist()
        assert batch.labels[0].tolist() == sequence.labels[rows].tolist()
        assert batch.value_mask[0].tolist() == (~sequence.rows("filled")[rows]).tolist()
    with pytest.raises(store_spec.StoreError, match=r"c\.3"):
        next(store.padded(1, truncate=25, value_mask=True))


def test_parts_of_inputs_and_labels_are_read_by_turns(by_step: Written, spy: Any):
    """Labels have small chunks: threads that read only labels wait for each other."""
    submit = spy(ThreadPoolExecutor, "submit")
    list(by_step.store.windows(4).batches(8, shuffle=True, memory="40kB"))
    calls = [call.args for call in submit.call_args_list]
    arrays = [array for _, function, array, *_ in calls if function.__name__ == "_read_part"]
    assert arrays[:4] == ["inputs", "labels"] * 2  # inputs may have more parts
