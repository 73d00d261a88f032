"""The watch misses nothing, and the model of the disk leaves what POSIX allows, no less and no more."""

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
from tests.campaigns.operations import Operation, Watch
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
    """Do a job in a folder that holds `BEFORE`, and return the disk; check that the log tells all of it."""
    write_tree(BEFORE, folder)
    watch = Watch(folder, lambda _: None)
    with watch.watching():
        job(folder)
    disk = Disk(BEFORE)
    for operation in watch.log:
        disk.do(operation)
    assert difference(disk.everything(), read_tree(folder)) == ""
    return disk


def chances(disk: Disk) -> list[Tree]:
    rng = random.Random(0)
    return [disk.chance(rng) for _ in range(200)]


def _lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" and longer")


@pytest.mark.parametrize(
    "job",
    [
        lambda folder: (folder / "new").write_bytes(bytes(range(200))),
        lambda folder: (folder / "new").write_text("two\nlines\n"),
        lambda folder: _lengthen(folder / "old"),
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


def test_what_a_library_wrote_on_its_own_is_known_once_it_is_renamed(tmp_path):
    def job(folder: Path) -> None:
        with pa.OSFile(str(folder / "new.partial"), "wb") as file:
            file.write(b"bytes")
        (folder / "new.partial").rename(folder / "new")

    disk = disk_after(tmp_path / "live", job)
    assert disk.nothing() == BEFORE
    assert [disk.names_alone(fate)["new"] for fate in Fate] == [b"", b"bytes", bytes(5), b"by"]


def test_a_write_is_seen_half_way(tmp_path):
    seen: list[bytes] = []
    (tmp_path / "live").mkdir()

    def look(operation: Operation) -> None:
        if operation.kind == "close":
            seen.append((tmp_path / "live/a").read_bytes())
        if operation.kind == "write" and operation.offset:
            seen.append((tmp_path / "live/a").read_bytes())

    with Watch(tmp_path / "live", look).watching():
        write(tmp_path / "live/a", b"abcdef")
    assert seen == [b"abc", b"abcdef"]


def test_an_operation_that_is_refused_was_not_done(tmp_path):
    (tmp_path / "live").mkdir()

    def refuse(operation: Operation) -> None:
        if operation.offset:
            raise OSError(errno.ENOSPC, "full")

    watch = Watch(tmp_path / "live", refuse)
    with watch.watching(), pytest.raises(OSError, match="full"):
        write(tmp_path / "live/a", b"abcdef")
    assert read_tree(tmp_path / "live") == {"a": b"abc"}
    assert [str(operation) for operation in watch.log] == ["create a", "write a"]


def test_what_is_not_synced_may_be_lost_and_what_is_cannot(tmp_path):
    def job(folder: Path) -> None:
        write(folder / "a", b"bytes", sync=True)
        sync_folder(folder)
        write(folder / "b", b"bytes")

    disk = disk_after(tmp_path / "live", job)
    assert disk.nothing() == {**BEFORE, "a": b"bytes"}
    assert all(tree["a"] == b"bytes" for tree in chances(disk))
    assert {tree.get("b") for tree in chances(disk)} > {None, b"", b"bytes", bytes(5)}


def test_names_survive_without_bytes_that_were_not_synced(tmp_path):
    def job(folder: Path) -> None:
        write(folder / "a.partial", b"bytes")
        (folder / "a.partial").rename(folder / "old")
        sync_folder(folder)

    disk = disk_after(tmp_path / "live", job)
    assert disk.nothing()["old"] == b""
    assert [disk.names_alone(fate)["old"] for fate in Fate] == [b"", b"bytes", bytes(5), b"b\0t"]


def test_bytes_survive_without_a_name_that_was_not_synced(tmp_path):
    def job(folder: Path) -> None:
        write(folder / "a.partial", b"bytes", sync=True)
        (folder / "a.partial").rename(folder / "old")

    disk = disk_after(tmp_path / "live", job)
    assert disk.nothing() == BEFORE
    assert {tree["old"] for tree in chances(disk)} == {b"old", b"bytes"}
    assert all(tree.get("a.partial") in (None, b"bytes") for tree in chances(disk))


def test_syncing_a_folder_makes_nothing_safe_in_folders_within(tmp_path):
    def job(folder: Path) -> None:
        (folder / "new").mkdir()
        write(folder / "new/a", b"bytes", sync=True)
        sync_folder(folder)

    assert disk_after(tmp_path / "live", job).nothing() == {**BEFORE, "new": None}


def test_a_folder_that_is_renamed_has_one_name_or_the_other(tmp_path):
    def job(folder: Path) -> None:
        (folder / "full/within").rename(folder / "out")

    disk = disk_after(tmp_path / "live", job)
    assert disk.nothing() == BEFORE
    assert {("out" in tree, "full/within" in tree) for tree in chances(disk)} == {(True, False), (False, True)}


def test_a_rename_between_folders_is_safe_when_one_of_them_was_synced(tmp_path):
    def job(folder: Path) -> None:
        (folder / "full/within").rename(folder / "out")
        sync_folder(folder)

    disk = disk_after(tmp_path / "live", job)
    assert disk.nothing() == disk.everything() == read_tree(tmp_path / "live")


def test_a_removal_that_was_not_synced_may_be_undone(tmp_path):
    disk = disk_after(tmp_path / "live", lambda folder: shutil.rmtree(folder / "full"))
    assert disk.nothing() == BEFORE
    assert {"full/of" in tree for tree in chances(disk)} == {True, False}
