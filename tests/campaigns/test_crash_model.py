"""The interceptor misses no operation, and the model allows the states that POSIX allows, no more and no fewer."""

import errno
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from tests.campaigns.crash_model import Disk, Fate
from tests.campaigns.operations import Interceptor, Operation
from tests.campaigns.trees import Tree, difference, read_tree, write_tree

BEFORE: Tree = {"old": b"old", "full": None, "full/of": b"files", "full/within": None}


@pytest.fixture
def folder(tmp_path):
    write_tree(BEFORE, tmp_path / "live")
    return tmp_path / "live"


@contextmanager
def modelled(folder: Path) -> Iterator[Disk]:
    """Apply all operations within this context to a model in the end, and check that it reproduces the files."""
    interceptor, disk = Interceptor(folder, lambda _: None), Disk(BEFORE)
    with interceptor.installed():
        yield disk
    for operation in interceptor.log:
        disk.apply(operation)
    assert difference(disk.current(), read_tree(folder)) == ""


def write(path: Path, data: bytes, *, sync: bool = False) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    written = os.write(descriptor, data)
    os.write(descriptor, data[written:])  # the interceptor splits each write
    if sync:
        os.fsync(descriptor)
    os.close(descriptor)


def sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def sample(disk: Disk) -> list[Tree]:
    rng = random.Random(0)
    return [disk.sample(rng) for _ in range(200)]


@pytest.mark.parametrize(
    "job",
    [
        lambda folder: write(folder / "new", bytes(range(200))),
        lambda folder: write(folder / "old", b"shorter"),
        lambda folder: os.truncate(folder / "old", 1),
        lambda folder: (folder / "a/b/c").mkdir(parents=True),
        lambda folder: (folder / "old").unlink(),
    ],
)
def test_the_log_has_every_operation(folder, job):
    with modelled(folder):
        job(folder)


def test_a_file_written_by_a_library_is_logged_when_it_is_renamed(folder):
    with modelled(folder) as disk:
        with pa.OSFile(str(folder / "new.partial"), "wb") as file:
            file.write(b"bytes")
        (folder / "new.partial").rename(folder / "new")
    assert disk.synced() == BEFORE
    assert [disk.current(fate)["new"] for fate in Fate] == [b"", b"bytes", bytes(5), b"by"]


def test_a_failed_operation_is_not_executed(folder):
    def fail(operation: Operation) -> None:
        if operation.offset:
            raise OSError(errno.ENOSPC, "full")

    interceptor = Interceptor(folder, fail)
    with interceptor.installed(), pytest.raises(OSError, match="full"):
        write(folder / "a", b"abcdef")
    assert read_tree(folder) == {**BEFORE, "a": b"abc"}
    assert [str(operation) for operation in interceptor.log] == ["create a", "write a"]


def test_only_unsynced_changes_can_be_lost(folder):
    with modelled(folder) as disk:
        write(folder / "a", b"bytes", sync=True)
        sync_folder(folder)
        write(folder / "b", b"bytes")
    assert disk.synced() == {**BEFORE, "a": b"bytes"}
    assert all(tree["a"] == b"bytes" for tree in sample(disk))
    assert {tree.get("b") for tree in sample(disk)} > {None, b"", b"bytes", bytes(5)}


def test_a_synced_name_can_survive_without_unsynced_bytes(folder):
    with modelled(folder) as disk:
        write(folder / "a.partial", b"bytes")
        (folder / "a.partial").rename(folder / "old")
        sync_folder(folder)
    assert disk.synced()["old"] == b""
    assert [disk.current(fate)["old"] for fate in Fate] == [b"", b"bytes", bytes(5), b"b\0t"]


def test_an_unsynced_name_can_be_lost_while_the_bytes_survive(folder):
    with modelled(folder) as disk:
        write(folder / "a.partial", b"bytes", sync=True)
        (folder / "a.partial").rename(folder / "old")
    assert disk.synced() == BEFORE
    assert {tree["old"] for tree in sample(disk)} == {b"old", b"bytes"}
    assert all(tree.get("a.partial") in (None, b"bytes") for tree in sample(disk))


def test_syncing_a_folder_does_not_sync_its_subfolders(folder):
    with modelled(folder) as disk:
        (folder / "new").mkdir()
        write(folder / "new/a", b"bytes", sync=True)
        sync_folder(folder)
    assert disk.synced() == {**BEFORE, "new": None}


def test_a_renamed_folder_has_its_old_or_its_new_name(folder):
    with modelled(folder) as disk:
        (folder / "full/within").rename(folder / "out")
    assert disk.synced() == BEFORE
    assert {("out" in tree, "full/within" in tree) for tree in sample(disk)} == {(True, False), (False, True)}


def test_a_rename_between_folders_is_safe_once_one_of_them_is_synced(folder):
    with modelled(folder) as disk:
        (folder / "full/within").rename(folder / "out")
        sync_folder(folder)
    assert disk.synced() == disk.current() == read_tree(folder)


def test_an_unsynced_removal_can_be_undone(folder):
    with modelled(folder) as disk:
        shutil.rmtree(folder / "full")
    assert disk.synced() == BEFORE
    assert {"full/of" in tree for tree in sample(disk)} == {True, False}
