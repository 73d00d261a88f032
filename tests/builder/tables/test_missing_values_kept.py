"""Stores that keep missing values: their places are built, appended to, compacted and repaired like everything else."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import store_spec
from builder import build, repair
from store_spec import schema as facts
from store_spec.disk.storage import LocalStorage
from tests.builder.features import build_feature, with_gaps, write_feature
from tests.builder.source_files import write_files
from tests.store.forging import forge, put
from tests.store.oracle import files

RUNS = "missing_inputs/c.0.0"
FEATURE = "missing values kept"


def built(place: Path, count: int | None = None) -> Path:
    """Build this number of the sources of a, b and y with gaps, or all."""
    return build_feature(FEATURE, write_feature(FEATURE, place / "src", count), place / "store", chunk=48, shard=96)


@pytest.fixture
def store(tmp_path):
    return built(tmp_path)


def runs_of_rows(store, array):
    snapshot = store.snapshot
    missing, begins = snapshot.missing(array), set(snapshot.bounds("inputs").tolist())
    rows = snapshot.rows(array, 0, store.counts.steps).reshape(store.counts.steps, -1)
    wanted: list[list[int]] = []
    for row in np.flatnonzero(np.isnan(rows).any(axis=1)).tolist():
        if wanted and wanted[-1][1] == row and row not in begins:
            wanted[-1][1] = row + 1
        else:
            wanted.append([row, row + 1])
    return missing.tolist(), wanted


@pytest.mark.parametrize("array", ["inputs", "labels"])
def test_a_build_reports_steps_with_missing_values(store, array):
    found, wanted = runs_of_rows(store_spec.open_store(store), array)
    assert found == wanted
    assert len(wanted) > 8
    assert store_spec.verify(store) == []


def test_many_runs_lie_in_many_chunks_and_the_last_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "TABLE_CHUNK_BYTES", 64)
    once = built(tmp_path / "once")
    for count in (2, 3, 6, None):
        often = built(tmp_path / "often", count)
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
    assert any(problem.where.startswith("missing_inputs") for problem in done.left)
    assert "build a new store" in str(done.failures)
    assert files(store) == before


def test_a_killed_append_leaves_runs_that_no_reader_sees(store, tmp_path, monkeypatch):
    """Chunks of the tables are put before the root, and the snapshot's counts exclude them."""
    before = store_spec.open_store(store)
    shutil.copytree(store, tmp_path / "copy")
    write_files(tmp_path / "src", {name: with_gaps(seed) for seed, name in enumerate(("i.csv", "j.csv"))})

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
