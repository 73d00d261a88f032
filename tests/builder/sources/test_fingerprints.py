"""The cache of files that need not be read again never has a hash that differs from that of the bytes."""

import hashlib
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from builder import Report, build
from builder.sources.fingerprints import (
    CACHE,
    SETTLED_NS,
    Fingerprint,
    FingerprintCache,
    Fingerprints,
    State,
    read_fingerprint,
)
from tests.builder.source_files import write_files


@pytest.fixture
def settled(monkeypatch):
    """Treat new files as old ones, as if this machine's clock were ahead."""
    now = time.time_ns
    monkeypatch.setattr("builder.sources.fingerprints.time.time_ns", lambda: now() + 2 * SETTLED_NS)


def write(path: Path, data: bytes) -> Fingerprint:
    path.write_bytes(data)
    return read_fingerprint(path)


def remember(store: Path, **found: Fingerprint) -> None:
    """Add files to those that a build of this store has seen."""
    seen = FingerprintCache.load(store)
    seen.add(Fingerprints.of(found))
    seen.save(store)


def test_a_fingerprint_is_what_sha256sum_says_and_the_state_of_the_file(tmp_path):
    data = bytes(range(256)) * 3000
    found = write(tmp_path / "a", data)
    assert found.sha256 == hashlib.sha256(data).digest()
    assert found.state == State.of(os.stat(tmp_path / "a"))
    assert found.state.size == len(data)


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


def test_a_file_written_just_now_is_read_again(tmp_path):
    found = write(tmp_path / "a", b"1")
    assert not found.settled
    assert Fingerprints.of({"a": found}).names == ()


@pytest.mark.usefixtures("settled")
def test_fingerprints_of_the_last_build_are_added_to_older_ones(tmp_path):
    store, first, other = tmp_path / "store", write(tmp_path / "a", b"1"), write(tmp_path / "größe\n", b"2")
    remember(store, **{"a": first, "größe\n": other})
    second = write(tmp_path / "a", b"3333")
    remember(store, a=second)
    again = FingerprintCache.load(store)
    assert again.sha256("a", first.state) is None
    assert again.sha256("a", second.state) == second.sha256
    assert again.sha256("größe\n", other.state) == other.sha256
    assert again.sha256("c", other.state) is None


def set_back(path: Path) -> None:
    """Write as many other bytes, and restore the file's time of writing."""
    before = os.stat(path)
    path.write_bytes(b"2")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    now = os.stat(path)
    assert (now.st_size, now.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"2"),  # of the same size as before
        lambda path: path.write_bytes(b"12"),
        lambda path: os.utime(path, ns=(0, 0)),
        lambda path: path.replace(path.with_name("b")) and path.with_name("b").replace(path),
        set_back,
    ],
)
@pytest.mark.usefixtures("settled")
def test_a_file_that_was_touched_is_not_known(tmp_path, change):
    path, store = tmp_path / "a", tmp_path / "store"
    remember(store, a=write(path, b"1"))
    time.sleep(0.02)  # more than a tick of the clock of the file system
    change(path)
    assert FingerprintCache.load(store).sha256("a", State.of(os.stat(path))) is None


@pytest.mark.usefixtures("settled")
def test_another_file_of_the_same_size_and_times_is_not_known(tmp_path):
    """If two folders change names, no time of their files changes."""
    found, other = write(tmp_path / "a", b"1"), write(tmp_path / "b", b"2")
    assert found.state.inode != other.state.inode
    remember(tmp_path / "store", a=found)
    seen = FingerprintCache.load(tmp_path / "store")
    assert seen.sha256("a", found.state) == found.sha256
    assert seen.sha256("a", found.state._replace(inode=other.state.inode)) is None


@pytest.mark.parametrize("cut", [0, 1, 100, -1, -20])
@pytest.mark.usefixtures("settled")
def test_a_broken_cache_is_an_empty_one(tmp_path, cut):
    store, found = tmp_path / "store", write(tmp_path / "a", b"1")
    remember(store, a=found)
    path = tmp_path / "store.build" / CACHE
    path.write_bytes(path.read_bytes()[:cut])
    assert FingerprintCache.load(store).sha256("a", found.state) is None


@pytest.mark.usefixtures("settled")
def test_a_cache_that_cannot_be_written_is_not_used(tmp_path):
    (tmp_path / "store.build").write_bytes(b"in the way")
    remember(tmp_path / "store", a=write(tmp_path / "a", b"1"))
    assert (tmp_path / "store.build").read_bytes() == b"in the way"


def test_names_that_came_from_another_process_are_not_kept_twice():
    own, theirs, other = b"a.csv".decode(), b"a.csv".decode(), b"c.csv".decode()
    assert own is not theirs
    seen = FingerprintCache(Fingerprints.of({}))
    seen.add(
        Fingerprints(names=(theirs, other), states=np.zeros((2, 4), np.int64), hashes=np.zeros((2, 32), np.uint8)),
        [own],
    )
    (kept,) = seen._parts[1:]
    assert kept.names[0] is own
    assert kept.names[1] is other


class Builds:
    """A folder of three files in a store, and the files that are read to find changes."""

    def __init__(self, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.src, self.store = place / "src", place / "store"
        self.read: list[str] = []
        write_files(self.src, {f"{name}.csv": f"x\n{name}\n" for name in "123"})
        self.again()
        monkeypatch.setattr("builder.sources.folder.read_fingerprint", self.counted)

    def counted(self, path: str) -> Fingerprint:
        self.read.append(os.path.basename(path))
        return read_fingerprint(path)

    def again(self) -> Report:
        return build(self.src, self.store, workers=0)

    def forget(self) -> None:
        shutil.rmtree(self.store.with_name("store.build"), ignore_errors=True)


@pytest.fixture
def builds(tmp_path, monkeypatch, settled):  # noqa: ARG001
    return Builds(tmp_path, monkeypatch)


def test_files_are_read_once_and_then_only_checked(builds):
    builds.forget()
    assert (builds.again().unchanged, sorted(builds.read)) == (3, ["1.csv", "2.csv", "3.csv"])
    assert (builds.again().unchanged, len(builds.read)) == (3, 3)
    os.utime(builds.src / "2.csv", ns=(1, 1))  # touched: it is read, and is unchanged
    assert (builds.again().unchanged, builds.read[3:]) == (3, ["2.csv"])
    (builds.src / "1.csv").write_text("x\n7\n")  # of the same size as before
    for _ in range(2):  # it is known then, and its hash is not the store's
        assert (builds.again().changed, builds.read[4:]) == (("1.csv",), ["1.csv"])


def test_a_file_of_another_size_has_changed_and_is_not_read(builds):
    for path in builds.src.iterdir():
        path.write_text("x\n1\n2\n")
    assert (builds.again().changed, builds.read) == (("1.csv", "2.csv", "3.csv"), [])


def test_a_file_that_cannot_be_read_is_neither_changed_nor_unchanged(builds, monkeypatch):
    def read(path: str) -> Fingerprint:
        if os.path.basename(path) == "2.csv":
            raise PermissionError(13, "Permission denied")
        return read_fingerprint(path)

    builds.forget()
    monkeypatch.setattr("builder.sources.folder.read_fingerprint", read)
    (builds.src / "1.csv").unlink()
    (builds.src / "1.csv").symlink_to("nowhere")
    (builds.src / "4.csv").write_text("x\n4\n")
    report = builds.again()
    assert (report.changed, report.unchanged, report.vanished, report.added) == ((), 1, (), 1)
    assert [str(failure) for failure in report.failures] == [
        f"{name}: it cannot be read now ({why}), so it is unknown whether it changed; the store keeps it"
        for name, why in (("1.csv", "No such file or directory"), ("2.csv", "Permission denied"))
    ]


def test_files_are_submitted_a_few_at_a_time(builds, monkeypatch):
    submitted: list[Any] = []
    at_results: list[int] = []  # how many were submitted when each result was taken

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            submitted.append(arguments)
            return Noted(super().submit(*arguments, **options))

    class Noted:
        def __init__(self, future: Any) -> None:
            self.future = future

        def result(self) -> Any:
            at_results.append(len(submitted))
            return self.future.result()

    builds.forget()
    monkeypatch.setattr("builder.planning.plan.ThreadPoolExecutor", Counting)
    monkeypatch.setattr("builder.planning.plan.SUBMITTED", 2)
    assert builds.again().unchanged == 3
    assert at_results == [2, 2, 3]
