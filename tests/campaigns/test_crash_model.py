"""The interceptor misses no operation, and the model allows the states that POSIX allows, no more and no fewer."""

from __future__ import annotations

import errno
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from tests.campaigns.crash_model import Disk, Fate
from tests.campaigns.operations import Interceptor, Operation
from tests.campaigns.trees import Tree, difference, read_tree, write_tree

BEFORE: Tree = {"old": b"old", "full": None, "full/of": b"files", "full/within": None}


def write(path: Path, data: bytes, *, sync: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def disk_after(folder: Path, job: Callable[[Path], object]) -> Disk:
    """Run a job in a folder with the content `BEFORE`, check that the log reproduces the files, and return the disk."""
    write_tree(BEFORE, folder)
    interceptor = Interceptor(folder, lambda _: None)
    with interceptor.installed():
        job(folder)
    disk = Disk(BEFORE)
    for operation in interceptor.log:
        disk.apply(operation)
    assert difference(disk.current(), read_tree(folder)) == ""
    return disk


def sample(disk: Disk) -> list[Tree]:
    rng = random.Random(0)
    return [disk.sample(rng) for _ in range(200)]


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" and more")


@pytest.mark.parametrize(
    "job",
    [
        lambda folder: (folder / "new").write_bytes(bytes(range(200))),
        lambda folder: (folder / "new").write_text("two\nlines\n"),
        lambda folder: append(folder / "old"),
        lambda folder: os.truncate(folder / "old", 1),
        lambda folder: os.link(folder / "old", folder / "full/linked"),
        lambda folder: (folder / "full/of").rename(folder / "old"),
        lambda folder: (folder / "full").rename(folder / "moved"),
        lambda folder: (folder / "a/b/c").mkdir(parents=True),
        lambda folder: shutil.rmtree(folder / "full"),
        lambda folder: (folder / "old").unlink(),
    ],
)
def test_the_log_has_every_operation(tmp_path, job):
    disk_after(tmp_path / "live", job)


def test_a_file_written_by_a_library_is_logged_when_it_is_renamed(tmp_path):
    def job(folder: Path) -> None:
        with pa.OSFile(str(folder / "new.partial"), "wb") as file:
            file.write(b"bytes")
        (folder / "new.partial").rename(folder / "new")

    disk = disk_after(tmp_path / "live", job)
    assert disk.synced() == BEFORE
    assert [disk.current(fate)["new"] for fate in Fate] == [b"", b"bytes", bytes(5), b"by"]


def test_a_write_is_split_into_two(tmp_path):
    contents: list[bytes] = []
    (tmp_path / "live").mkdir()

    def look(operation: Operation) -> None:
        if operation.kind == "close":
            contents.append((tmp_path / "live/a").read_bytes())
        if operation.kind == "write" and operation.offset:
            contents.append((tmp_path / "live/a").read_bytes())

    with Interceptor(tmp_path / "live", look).installed():
        write(tmp_path / "live/a", b"abcdef")
    assert contents == [b"abc", b"abcdef"]


def test_a_failed_operation_is_not_executed(tmp_path):
    (tmp_path / "live").mkdir()

    def fail(operation: Operation) -> None:
        if operation.offset:
            raise OSError(errno.ENOSPC, "full")

    interceptor = Interceptor(tmp_path / "live", fail)
    with interceptor.installed(), pytest.raises(OSError, match="full"):
        write(tmp_path / "live/a", b"abcdef")
    assert read_tree(tmp_path / "live") == {"a": b"abc"}
    assert [str(operation) for operation in interceptor.log] == ["create a", "write a"]


def test_only_unsynced_changes_can_be_lost(tmp_path):
    def job(folder: Path) -> None:
        write(folder / "a", b"bytes", sync=True)
        sync_folder(folder)
        write(folder / "b", b"bytes")

    disk = disk_after(tmp_path / "live", job)
    assert disk.synced() == {**BEFORE, "a": b"bytes"}
    assert all(tree["a"] == b"bytes" for tree in sample(disk))
    assert {tree.get("b") for tree in sample(disk)} > {None, b"", b"bytes", bytes(5)}


def test_a_synced_name_can_survive_without_unsynced_bytes(tmp_path):
    def job(folder: Path) -> None:
        write(folder / "a.partial", b"bytes")
        (folder / "a.partial").rename(folder / "old")
        sync_folder(folder)

    disk = disk_after(tmp_path / "live", job)
    assert disk.synced()["old"] == b""
    assert [disk.current(fate)["old"] for fate in Fate] == [b"", b"bytes", bytes(5), b"b\0t"]


def test_an_unsynced_name_can_be_lost_while_the_bytes_survive(tmp_path):
    def job(folder: Path) -> None:
        write(folder / "a.partial", b"bytes", sync=True)
        (folder / "a.partial").rename(folder / "old")

    disk = disk_after(tmp_path / "live", job)
    assert disk.synced() == BEFORE
    assert {tree["old"] for tree in sample(disk)} == {b"old", b"bytes"}
    assert all(tree.get("a.partial") in (None, b"bytes") for tree in sample(disk))


def test_syncing_a_folder_does_not_sync_its_subfolders(tmp_path):
    def job(folder: Path) -> None:
        (folder / "new").mkdir()
        write(folder / "new/a", b"bytes", sync=True)
        sync_folder(folder)

    assert disk_after(tmp_path / "live", job).synced() == {**BEFORE, "new": None}


def test_a_renamed_folder_has_its_old_or_its_new_name(tmp_path):
    def job(folder: Path) -> None:
        (folder / "full/within").rename(folder / "out")

    disk = disk_after(tmp_path / "live", job)
    assert disk.synced() == BEFORE
    assert {("out" in tree, "full/within" in tree) for tree in sample(disk)} == {(True, False), (False, True)}


def test_a_rename_between_folders_is_safe_once_one_of_them_is_synced(tmp_path):
    def job(folder: Path) -> None:
        (folder / "full/within").rename(folder / "out")
        sync_folder(folder)

    disk = disk_after(tmp_path / "live", job)
    assert disk.synced() == disk.current() == read_tree(tmp_path / "live")


def test_an_unsynced_removal_can_be_undone(tmp_path):
    disk = disk_after(tmp_path / "live", lambda folder: shutil.rmtree(folder / "full"))
    assert disk.synced() == BEFORE
    assert {"full/of" in tree for tree in sample(disk)} == {True, False}
