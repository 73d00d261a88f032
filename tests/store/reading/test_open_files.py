"""Where the rows of a pool are read to, and files that stay open."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.disk import shards, storage
from store_spec.errors import ChecksumError, FormatError
from store_spec.windows.rows_in_memory import Ranges
from tests.store.damage import replace_file
from tests.store.oracle import same, store_of


@st.composite
def ranges(draw: st.DrawFn) -> Ranges:
    steps = draw(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 20)), min_size=1, max_size=8))
    stop = np.cumsum([gap + rows for gap, rows in steps])
    start = stop - np.array([rows for _, rows in steps])
    return Ranges(start=start, stop=stop)


@given(ranges(), st.integers(0, 120), st.integers(1, 60))
def test_parts_between_two_rows_equal_an_intersection(spans_of_rows: Ranges, low: int, count: int):
    spans = zip(spans_of_rows.start.tolist(), spans_of_rows.stop.tolist(), strict=True)
    rows = [row for start, stop in spans for row in range(start, stop)]
    found = [
        (row, place + row - start)
        for start, stop, place in spans_of_rows.between(low, low + count)
        for row in range(start, stop)
    ]
    assert found == [(row, place) for place, row in enumerate(rows) if low <= row < low + count]


@pytest.fixture
def store(tmp_path: Path) -> store_spec.Store:
    """Return a store of many shards: each of 8 steps, in two chunks."""
    rows = np.arange(8 * 50 * 2, dtype="float32").reshape(-1, 2)
    return store_of(tmp_path / "s.zarr", [rows], [rows[:, 0]], chunk=32, shard=64)


def descriptors(store: store_spec.Store) -> list[str]:
    """Return the files below a store that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))
        except FileNotFoundError:  # the one of the listing
            continue
    return [path for path in found if path.startswith(f"{store.path}/")]


def test_files_of_chunks_stay_open_a_few_at_a_time_as_long_as_the_store(
    store: store_spec.Store, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shards, "most_open_of_all", lambda: 10**6)  # files that stores of other tests have open
    mine, most = store_spec.open_store(store.path), 0
    for start in range(0, 380, 2):
        x, _ = mine.read(0, start, start + 2)
        assert x[0, 0] == 2 * start
        most = max(most, len(descriptors(store)))
    assert 1 < most <= shards.MOST_OPEN
    del mine
    assert not descriptors(store)


def test_a_file_that_replaces_a_damaged_one_is_read(store: store_spec.Store, monkeypatch: pytest.MonkeyPatch):
    """A repair renames a file to it; a reader that keeps the old one open would never see it."""
    monkeypatch.setattr(shards, "most_open_of_all", lambda: 10**6)
    path = store.path / "inputs" / "c.1.0"
    whole = path.read_bytes()
    store.read(0, 12, 14)  # the file is open, because of its other chunk
    for damaged, error in ((bytes(20) + whole[20:], ChecksumError), (whole[:20], FormatError)):
        path.write_bytes(damaged)
        with pytest.raises(error, match=r"c\.1\.0"):
            store.read(0, 8, 12)
        replace_file(path, whole)
        x, _ = store.read(0, 8, 12)
        assert x[0, 0] == 16


@pytest.mark.parametrize("deleted", [False, True])
def test_a_store_that_takes_the_place_of_an_open_one_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, deleted: bool
):
    """It has the same lengths, so the tables and checksums of the open store would not show it."""
    monkeypatch.setattr(storage, "most_open_of_all", lambda: 10**6)  # folders that stores of other tests have open
    path, rows = tmp_path / "s.zarr", np.arange(80, dtype="float32").reshape(-1, 2)
    opened = store_of(path, [rows], [rows[:, 0]], chunk=32, shard=64)
    windows = opened.windows(2)
    path.rename(tmp_path / "old.zarr")
    store_of(path, [-rows], [rows[:, 0]], chunk=32, shard=64)
    if not deleted:
        assert same(opened.read(0, 3, 30)[0], rows[3:30])
        assert same(next(windows.batches(30)).inputs[:, 0], rows[:30])
        return
    shutil.rmtree(tmp_path / "old.zarr")
    for read in (lambda: opened.read(0, 3, 30), lambda: next(windows.batches(30)), opened.stats):
        with pytest.raises(FormatError, match=r"missing; every committed chunk and shard is written"):
            read()
    assert store_spec.open_store(path).read(0, 3, 4)[0][0, 0] == -6


def test_all_stores_of_a_process_keep_a_quarter_of_the_files_open_that_it_may_have():
    program = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100)); "
    program += "from store_spec.disk import storage; print(storage.most_open_of_all())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "25\n"
    assert storage.most_open_of_all() <= 256


def test_with_too_many_stores_files_are_closed_at_once(store: store_spec.Store, monkeypatch: pytest.MonkeyPatch):
    most = 3 + len(shards._ALL_OPEN)
    monkeypatch.setattr(shards, "most_open_of_all", lambda: most)
    monkeypatch.setattr(storage, "most_open_of_all", lambda: 0)
    folders = len(storage._OPEN_FOLDERS)
    stores = [store_spec.open_store(store.path) for _ in range(4)]
    assert len(storage._OPEN_FOLDERS) <= folders
    for one in [store, *stores]:
        for start in (0, 100, 200):
            assert one.read(0, start, start + 1)[0][0, 0] == 2 * start
    assert len(descriptors(store)) <= 3
