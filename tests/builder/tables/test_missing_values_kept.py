"""Stores that keep missing values, or a mask of filled ones: built, appended to and repaired like all others."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from builder import Sequence, build, repair, tabular
from store_spec import schema as facts
from store_spec.disk.storage import LocalStorage
from tests.builder.features import build_feature, with_gaps, write_feature
from tests.builder.source_files import build_files, write_files
from tests.store.forging import forge, put
from tests.store.oracle import files, store_of

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


def test_many_runs_lie_in_many_chunks_and_the_last_is_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "TABLE_CHUNK_BYTES", 64)
    once = built(tmp_path / "once")
    for count in (2, 3, 6, None):
        often = built(tmp_path / "often", count)
    assert files(often) == files(once)
    assert len(list((once / "missing_inputs").glob("c.*"))) > 3
    assert store_spec.verify(once) == []
    for array in ("inputs", "labels"):
        found, wanted = runs_of_rows(store_spec.open_store(once), array)
        assert found == wanted
        assert len(wanted) > 8


DAMAGES: dict[str, Callable[[Path], object]] = {
    "garbled": lambda store: (store / RUNS).write_bytes(b"nonsense"),
    "moved": lambda store: forge(store, seal=False, missing_inputs=put((0, 0), 0)),
    "crossing": lambda store: forge(store, seal=False, missing_inputs=put((-1, 1), 10**6)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
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

    put_by = LocalStorage.put

    def dying(self, key, parts, check=None):
        if key == "zarr.json":
            raise ConnectionError
        put_by(self, key, parts, check)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStorage, "put", dying)
        with pytest.raises(ConnectionError):
            build(tmp_path / "src", store, workers=0)
    assert (store / RUNS).read_bytes() != (tmp_path / "copy" / RUNS).read_bytes()
    after = store_spec.open_store(store)
    assert after.snapshot.missing("inputs").tolist() == before.snapshot.missing("inputs").tolist()
    assert store_spec.verify(store) == []


MOMENTS = 24  # of each file


def write_sources(folder):
    """Write files of two groups, with numbered rows that are unordered, partly of the same time, and lack values."""
    for number in range(3):
        rng = np.random.default_rng(number)
        lines, labels = ["t,group,id,a,b"], ["id,y"]
        for at, row in enumerate(rng.permutation(MOMENTS).tolist()):
            time = row - (row % 7 == 3) + 40 * (row > 15)  # some twice, and a jump
            cells = [f"{value:.3f}" if rng.random() > 0.25 else "" for value in rng.normal(size=2)]
            lines.append(",".join([str(time), "xy"[row % 2], str(row + 0.5), *cells]))
            if at % 5:
                labels.append(f"{row + 0.5},{rng.normal():.3f}" if rng.random() > 0.2 else f"{row + 0.5},")
        texts = {f"{number}.csv": lines, f"labels/{number}.csv": labels}
        write_files(folder, {name: "\n".join(text) + "\n" for name, text in texts.items()})


ROWS: dict[str, dict[str, Any]] = {
    "as they are": {"inputs": "id,a,b"},
    "of groups": {"inputs": "id,b,a", "group_by": "group"},
    "sorted, means of those of one time": {
        "inputs": "id,a,b", "time": "t", "time_unit": "s", "sort_time": True, "duplicates": "mean", "max_gap": "10s",
    },
    "differences": {"inputs": "id,a,b", "transforms": ["diff a", "scale b=2"]},
    "joined with labels": {"inputs": "id,a,b", "labels_from": "labels/{stem}.csv", "on": "id", "labels": "y"},
}  # fmt: skip
POLICIES = ["ffill+keep", "interpolate+drop", "ffill+interpolate+split"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("rows", ROWS)
def test_filled_values_are_those_that_a_build_with_keep_lacks(tmp_path, rows, policy):
    write_sources(tmp_path / "src")
    options = {**ROWS[rows], "labels": ROWS[rows].get("labels"), "dtype": "float64"}
    for name, more in (
        ("kept", {"missing": "keep"}),
        ("filled", {"missing": policy, "mask": True, "ffill_limit": 2 if "ffill" in policy else None}),
    ):
        build(tmp_path / "src" / "*.csv", tmp_path / name, process=tabular(**options, **more), workers=0)
    kept, filled = (store_spec.open_store(tmp_path / name) for name in ("kept", "filled"))
    assert store_spec.verify(tmp_path / "filled") == []
    column = (filled.schema.inputs.names or ()).index("id")
    missing = {}
    for number in range(len(kept)):
        for row in kept[number][0]:
            missing[kept.sources[number], row[column]] = np.isnan(row)
    count = 0
    for number in range(len(filled)):
        first = int(filled.starts[number])
        mask = filled.snapshot.rows("filled", first, first + int(filled.lengths[number]))
        for row, found in zip(filled[number][0], mask, strict=True):
            wanted = missing[filled.sources[number], row[column]] & ~np.isnan(row)
            assert found.tolist() == wanted.tolist()
            count += int(wanted.sum())
    assert count > 5
    assert count <= int(np.sum(filled.sequences["filled"]))  # this counts labels too


def test_the_mask_takes_little_space(tmp_path):
    """A bool for each value, nearly all of them False."""
    rows = np.random.default_rng(0).normal(size=(200_000, 4)).astype("float32")
    filled = np.zeros(rows.shape, bool)
    filled[1000:1010] = True
    for codec in ("lz4", "zstd"):
        path = tmp_path / codec
        store_of(path, [rows], [np.zeros(len(rows), "int8")], filled=True, codec=codec, more=[{"filled": filled}])
        sizes = {name: sum(file.stat().st_size for file in (path / name).glob("c.*")) for name in ("inputs", "filled")}
        assert sizes["filled"] * 100 < sizes["inputs"]


def test_process_functions_return_masks(tmp_path):
    def read(path):
        rows, labels = np.load(path), np.zeros(6, "int8")
        yield Sequence(rows, labels, filled=rows == 0)
        yield Sequence(rows, labels)

    rows = np.arange(12).reshape(6, 2)
    store = build_files(tmp_path, {f"{number}.npy": rows % 5 + number % 2 for number in range(3)}, read).store
    filled = store.snapshot.rows("filled", 0, store.counts.steps)
    for number in range(len(store)):
        first = int(store.starts[number])
        wanted = store[number][0] == 0 if number % 2 == 0 else np.zeros((6, 2), bool)
        assert np.array_equal(filled[first : first + 6], wanted)
    assert store_spec.verify(store.path) == []


def test_a_mask_that_does_not_fit_is_a_failure_of_the_source(tmp_path):
    rows, filled = np.zeros((6, 2)), np.zeros(6, bool)
    built = build_files(tmp_path, {"0.npy": rows}, lambda _: Sequence(rows, np.zeros(6, "int8"), filled=filled))
    assert "filled is bool of shape (6,); it is bool of shape (6, 2), as inputs" in built.reasons[0]


def test_a_mask_only_in_later_sources_is_refused(tmp_path):
    rows = np.arange(12).reshape(6, 2)
    masks = {"0.npy": None, "1.npy": rows == 0}
    built = build_files(
        tmp_path, dict.fromkeys(masks, rows), lambda path: Sequence(rows, np.zeros(6, "int8"), filled=masks[path.name])
    )
    assert built.reasons[0] == (
        "filled is True for 1 of 12 values, where this store does not say which were filled in; a new store does: "
        "create_store has filled=True; build has --mask for tables, and with --process the first sequence of the first "
        "source must give filled"
    )
