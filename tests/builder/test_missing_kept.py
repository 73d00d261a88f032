"""Stores that keep missing values: where these are is built, appended to, compacted and repaired like all else."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

import store_spec
from builder import build
from builder.frames.tabular import tabular
from builder.maintenance.repair import repair
from store_spec import schema as facts
from store_spec.disk.storage import LocalStorage
from tests.store.forging import forge, put
from tests.store.oracle import files

RUNS = "missing_inputs/c.0.0"


def write_sources(folder, letters):
    """Write one file a letter, of steps with two columns and a label, some of which are not there."""
    folder.mkdir(exist_ok=True)
    for number, letter in enumerate(letters):
        rng = np.random.default_rng(ord(letter))
        cells = rng.normal(size=(9 + number % 3, 3)).round(3).astype(str)
        cells[rng.random(cells.shape) < 0.15] = ""
        lines = ["a,b,y", *(",".join(row) for row in cells.tolist())]
        (folder / f"{letter}.csv").write_text("\n".join(lines) + "\n")


def built(place, letters):
    write_sources(place / "src", letters)
    process = tabular(inputs="a,b", labels="y", missing="keep", dtype="float32")
    build(place / "src", place / "store", process=process, workers=0, chunk=48, shard=96)
    return place / "store"


def runs_of_rows(store, array):
    snapshot = store.snapshot
    missing, begins = snapshot.missing(array), set(snapshot.offsets.tolist())
    rows = snapshot.rows(array, 0, store.counts.steps).reshape(store.counts.steps, -1)
    wanted: list[list[int]] = []
    for row in np.flatnonzero(np.isnan(rows).any(axis=1)).tolist():
        if wanted and wanted[-1][1] == row and row not in begins:
            wanted[-1][1] = row + 1
        else:
            wanted.append([row, row + 1])
    return missing.tolist(), wanted


@pytest.fixture
def store(tmp_path):
    return built(tmp_path, "abcdefgh")


@pytest.mark.parametrize("array", ["inputs", "labels"])
def test_a_build_says_which_steps_miss_a_value(store, array):
    found, wanted = runs_of_rows(store_spec.open_store(store), array)
    assert found == wanted
    assert len(wanted) > 8
    assert store_spec.verify(store) == []


def test_building_more_gives_what_building_all_at_once_gives(store, tmp_path):
    (tmp_path / "other").mkdir()
    built(tmp_path / "other", "abc")
    assert files(built(tmp_path / "other", "abcdefgh")) == files(store)


def test_many_runs_lie_in_many_chunks_and_the_last_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "TABLE_CHUNK_BYTES", 64)
    (tmp_path / "once").mkdir()
    (tmp_path / "often").mkdir()
    once = built(tmp_path / "once", "abcdefgh")
    for letters in ("ab", "abc", "abcdef", "abcdefgh"):
        often = built(tmp_path / "often", letters)
    assert files(often) == files(once)
    assert len(list((once / "missing_inputs").glob("c.*"))) > 3
    found, wanted = runs_of_rows(store_spec.open_store(once), "inputs")
    assert found == wanted


def garbled(store):
    (store / RUNS).write_bytes(b"nonsense")


def moved(store):
    forge(store, seal=False, missing_inputs=put((0, 0), 0))


def crossing(store):
    forge(store, seal=False, missing_inputs=put((-1, 1), 10**6))


@pytest.mark.parametrize("damage", [garbled, moved, crossing])
def test_runs_that_are_damaged_are_named_and_a_new_store_is_needed(store, tmp_path, damage):
    damage(store)
    before = files(store)
    done = repair(store, tmp_path / "src", workers=0)
    assert RUNS in {problem.where for problem in done.left}
    assert "build a new store" in str(done.failures)
    assert files(store) == before


def test_a_killed_append_leaves_runs_that_no_reader_sees(store, tmp_path, monkeypatch):
    """Chunks of the tables are put before the root: the snapshot's counts clip them."""
    before = store_spec.open_store(store)
    shutil.copytree(store, tmp_path / "copy")
    write_sources(tmp_path / "src", "abcdefghij")

    class KilledError(Exception):
        pass

    put_by = LocalStorage.put

    def dying(self, key, parts, check=None):
        if key == "zarr.json":
            raise KilledError
        put_by(self, key, parts, check)

    monkeypatch.setattr(LocalStorage, "put", dying)
    with pytest.raises(KilledError):
        build(tmp_path / "src", store, workers=0)
    monkeypatch.undo()
    assert (store / RUNS).read_bytes() != (tmp_path / "copy" / RUNS).read_bytes()
    after = store_spec.open_store(store)
    assert after.snapshot.missing("inputs").tolist() == before.snapshot.missing("inputs").tolist()
    assert store_spec.verify(store) == []
