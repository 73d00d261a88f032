"""Batches use no more memory than `memory` allows, and decompress each needed chunk once if it allows that."""

import gc
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.disk.ledger import JOIN_RECORDS
from store_spec.windows import loading
from tests.store.kinds import begin, chunks_read, every_kind
from tests.store.oracle import Recipe, make, store_of, write
from tests.store.window_oracle import LENGTHS, Written

# Chunks in flight, threads, the last shard and indexes, which an open store keeps, and the two parts of a batch whose
# windows come from two pools.
OVERHEAD = 950_000


def least_count_and_peak(batches: Callable[[], Any]) -> tuple[int, int]:
    """Do it twice, since in one of them Python may enlarge its table of interned strings, by 2 MB."""
    return min(count_and_peak(batches) for _ in range(2))


def count_and_peak(batches: Callable[[], Any]) -> tuple[int, int]:
    """Take all batches; return the number of samples, and the peak of memory."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        count = sum(len(batch[0]) for batch in batches())
        return count, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def write_walks(path: Path, lengths: list[int], axis: Any) -> store_spec.Store:
    """Write up to 7 MB decoded, in chunks of 8 kB."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(length, 5)).astype("float32") for length in lengths]
    labels = [x[:, :1] if axis == "step" else x[0, :1] for x in inputs]
    return store_of(path, inputs, labels, label_axis=axis, chunk="8kB", shard="160kB")


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> dict[str, store_spec.Store]:
    folder = tmp_path_factory.mktemp("memory")
    rng = np.random.default_rng(0)
    # So that imports and tables are in memory already.
    warm = write_walks(folder / "warm.zarr", [5_000], "step").windows(9)
    assert len(list(warm.batches(100, shuffle=True))) == 50
    return {
        "one": write_walks(folder / "one.zarr", [300_000], "step"),
        "many": write_walks(folder / "many.zarr", rng.integers(1, 4_000, 150).tolist(), "step"),
        "tiny": write_walks(folder / "tiny.zarr", rng.integers(5, 30, 6_000).tolist(), "step"),
        "narrow": store_of(folder / "narrow.zarr", *[[np.zeros(200_000, "int8")] * 20] * 2, chunk="8kB", shard="160kB"),
        "labelled": write_walks(folder / "labelled.zarr", rng.integers(1, 4_000, 100).tolist(), "sequence"),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("store", "windows", "batches", "memory"),
    [
        ("one", {"window": 64}, {}, "2MB"),
        ("one", {"window": 64}, {"shuffle": False}, "2MB"),
        ("one", {"window": 64, "stride": 64}, {}, "5MB"),
        ("one", {"window": 200, "stride": 7, "sampling_rate": 3, "target": "aligned"}, {"batch_size": 50}, "2MB"),
        ("one", {"window": 64}, {"world_size": 4, "rank": 1}, "5MB"),
        ("many", {"window": 64, "stride": 5, "short": "pad"}, {}, "5MB"),
        ("many", {"window": 32, "stride": 16, "features": [0, 1], "future": [4], "horizon": 8}, {"index": True}, "2MB"),
        ("many", {"window": 8}, {"index": True}, "2MB"),
        ("tiny", {"window": 5, "target": "last"}, {}, "2MB"),
        ("tiny", {"window": 5, "target": "last", "short": "pad"}, {"index": True}, "2MB"),
        ("labelled", {"window": 20, "target": "sequence"}, {}, "2MB"),
        ("narrow", {"window": 1}, {"batch_size": 4096}, "8MB"),
    ],
)
def test_an_epoch_stays_within_its_memory(stores, monkeypatch, store, windows, batches, memory):
    """Apart from the lengths, and what NumPy needs to add them up."""
    monkeypatch.setattr(loading, "threads", lambda *_: 2)  # each has chunks in flight
    view = stores[store].windows(**windows)
    allowed = int(memory[0]) * 10**6
    options: dict[str, Any] = {"batch_size": 100, "shuffle": True, "memory": memory} | batches
    view.store.snapshot.sources()  # so that everything that a store keeps is in memory
    count, peak = least_count_and_peak(lambda: view.batches(**options))
    assert count > 0
    assert peak < allowed + OVERHEAD + 200 * len(view.store)


@pytest.mark.slow
def test_a_sequence_that_waits_for_its_commit_takes_little_memory(tmp_path: Path):
    rows, label = np.zeros((3, 4), "float32"), np.zeros((3, 1), "float32")
    with store_spec.create_store(
        tmp_path / "s.zarr", inputs=("float32", (4,)), labels=("float32", (1,)), columns={"site": "string"}
    ) as writer:
        writer.append(rows, label, source="first")
        tracemalloc.start()
        for number in range(3 * JOIN_RECORDS):
            writer.append(rows, label, source=f"s{number}", columns={"site": "a"})
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # Measured: 850 bytes, and 6,100 if the table rows of each sequence are separate arrays.
    assert size / (3 * JOIN_RECORDS) < 2000


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["padded", "packed", "streams"])
@pytest.mark.parametrize("stored", [{}, {"missing": "keep", "filled": True}])
def test_batches_of_sequences_stay_within_their_memory(tmp_path: Path, stored: dict[str, Any], kind: str):
    """Apart from what an open store keeps, and small batches in flight; inputs take little more than masks."""
    rng, memory = np.random.default_rng(0), 2 * 10**6
    inputs = [rng.random((500, 32)).astype("f2") for _ in range(60)]
    more = [{"filled": x < 0.5} if stored else {} for x in inputs]
    labels = [np.zeros(500, "i1")] * 60
    store = store_of(tmp_path / "s", inputs, labels, more=more, chunk="4kB", shard="32kB", **stored)
    size: dict[str, Any] = {
        "padded": {"batch_size": 2},
        "packed": {"tokens": 500, "batch_size": 2},
        "streams": {"batch_size": 2, "window": 500},
    }[kind]
    options: dict[str, Any] = size | {"shuffle": True, "memory": memory, "value_mask": bool(stored)}
    assert count_and_peak(lambda: begin(store, kind, **options))[0] == 60  # so that the store has cached what it keeps
    _, peak = least_count_and_peak(lambda: begin(store, kind, **options))
    assert memory / 4 < peak < memory + 400_000


@every_kind
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_selection_reads_only_its_own_chunks(by_step, kind, monkeypatch, shuffle):
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


def test_parts_of_inputs_and_labels_are_read_by_turns(by_step: Written, spy: Any, monkeypatch: pytest.MonkeyPatch):
    """Labels have small chunks: threads that read only labels wait for each other."""
    monkeypatch.setattr(loading, "threads", lambda *_: 1)  # so that the order is certain
    read = spy(loading.Loader, "_read_part")
    list(by_step.store.windows(4).batches(8, shuffle=True, memory="40kB"))
    arrays = [call.args[1] for call in read.call_args_list]
    assert arrays[:4] == ["inputs", "labels"] * 2  # inputs may have more parts
