"""The cache of files that need not be read again: never a hash that the bytes do not have."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pytest

from builder.sources.fingerprints import (
    CACHE,
    SETTLED_NS,
    Fingerprint,
    FingerprintCache,
    Fingerprints,
    State,
    read_fingerprint,
)


@pytest.fixture
def settled(monkeypatch):
    """Let files that were just written count as written long ago: as if this machine's clock were ahead."""
    now = time.time_ns
    monkeypatch.setattr("builder.sources.fingerprints.time.time_ns", lambda: now() + 2 * SETTLED_NS)


def write(path: Path, data: bytes) -> Fingerprint:
    path.write_bytes(data)
    return read_fingerprint(path)


def test_a_fingerprint_is_what_sha256sum_says_and_the_state_of_the_file(tmp_path):
    data = bytes(range(256)) * 3000
    found = write(tmp_path / "a", data)
    assert found.sha256 == hashlib.sha256(data).digest()
    assert found.state == State.of(os.stat(tmp_path / "a"))
    assert found.state.size == len(data)


def test_what_is_no_file_has_no_fingerprint(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "nothing"):
        with pytest.raises(OSError, match=r"not a file|No such file|Is a directory"):
            read_fingerprint(tmp_path / name)


def test_a_file_that_grows_while_it_is_read_has_no_fingerprint(tmp_path, monkeypatch):
    path, readv = tmp_path / "a", os.readv
    path.write_bytes(b"12345")

    def growing(descriptor, buffers):
        with path.open("ab") as file:
            file.write(b"6" * (path.stat().st_size < 8))
        return readv(descriptor, buffers)

    monkeypatch.setattr(os, "readv", growing)
    with pytest.raises(OSError, match="it had 5 bytes, but 8 were read: it changed while it was read"):
        read_fingerprint(path)


def test_a_file_that_was_just_written_may_change_without_a_trace_and_is_not_taken_for_known(tmp_path):
    found = write(tmp_path / "a", b"1")
    assert not found.settled
    assert len(Fingerprints.of({"a": found})) == 0


@pytest.mark.usefixtures("settled")
def test_what_was_seen_is_known_in_the_next_build(tmp_path):
    store, found = (
        tmp_path / "store",
        {name: write(tmp_path / name, name.encode()) for name in ("a", "größe/\nb".replace("/", "-"))},
    )
    seen = FingerprintCache.load(store)
    seen.add(Fingerprints.of(found))
    seen.save(store)
    again = FingerprintCache.load(store)
    for name, one in found.items():
        assert again.sha256(name, one.state) == one.sha256
    assert again.sha256("c", found["a"].state) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"2"),  # as long as before
        lambda path: path.write_bytes(b"12"),
        lambda path: os.utime(path, ns=(0, 0)),
        lambda path: path.replace(path.with_name("b")) and path.with_name("b").replace(path),
    ],
)
@pytest.mark.usefixtures("settled")
def test_a_file_that_was_touched_is_not_known(tmp_path, change):
    path, store = tmp_path / "a", tmp_path / "store"
    seen, found = FingerprintCache.load(store), write(path, b"1")
    seen.add(Fingerprints.of({"a": found}))
    seen.save(store)
    time.sleep(0.02)  # more than a tick of the clock of the file system
    change(path)
    assert FingerprintCache.load(store).sha256("a", State.of(os.stat(path))) is None


@pytest.mark.usefixtures("settled")
def test_a_written_time_that_was_set_back_does_not_hide_a_change(tmp_path):
    path, store = tmp_path / "a", tmp_path / "store"
    found, before = write(path, b"1"), os.stat(path)
    seen = FingerprintCache.load(store)
    seen.add(Fingerprints.of({"a": found}))
    seen.save(store)
    time.sleep(0.02)
    path.write_bytes(b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    now = State.of(os.stat(path))
    assert (now.size, now.modified_ns) == (found.state.size, found.state.modified_ns)
    assert FingerprintCache.load(store).sha256("a", now) is None


@pytest.mark.usefixtures("settled")
def test_what_was_seen_last_counts_and_the_rest_stays(tmp_path):
    store, first, other = tmp_path / "store", write(tmp_path / "a", b"1"), write(tmp_path / "b", b"2")
    seen = FingerprintCache.load(store)
    seen.add(Fingerprints.of({"a": first, "b": other}))
    seen.save(store)
    second = write(tmp_path / "a", b"3333")
    seen = FingerprintCache.load(store)
    seen.add(Fingerprints.of({"a": second}))
    seen.save(store)
    again = FingerprintCache.load(store)
    assert again.sha256("a", first.state) is None
    assert again.sha256("a", second.state) == second.sha256
    assert again.sha256("b", other.state) == other.sha256


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -20])
@pytest.mark.usefixtures("settled")
def test_a_broken_cache_is_an_empty_one(tmp_path, cut):
    store, found = tmp_path / "store", write(tmp_path / "a", b"1")
    seen = FingerprintCache.load(store)
    seen.add(Fingerprints.of({"a": found}))
    seen.save(store)
    path = tmp_path / "store.build" / CACHE
    path.write_bytes(path.read_bytes()[:cut])
    assert FingerprintCache.load(store).sha256("a", found.state) is None


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path):
    (tmp_path / "store.build").write_bytes(b"in the way")
    seen = FingerprintCache.load(tmp_path / "store")
    seen.add(Fingerprints.of({"a": write(tmp_path / "a", b"1")}))
    seen.save(tmp_path / "store")
    assert (tmp_path / "store.build").read_bytes() == b"in the way"


def test_names_that_came_from_another_process_are_not_kept_twice():
    own, theirs, other = b"a.csv".decode(), b"a.csv".decode(), b"c.csv".decode()
    assert own is not theirs
    seen = FingerprintCache(Fingerprints.of({}))
    seen.add(
        Fingerprints(names=(theirs, other), states=np.zeros((2, 3), np.int64), hashes=np.zeros((2, 32), np.uint8)),
        [own],
    )
    (kept,) = seen._parts[1:]
    assert kept.names[0] is own
    assert kept.names[1] is other
