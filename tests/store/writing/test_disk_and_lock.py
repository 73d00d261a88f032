"""Files and folders on disk, and the lock."""

import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest

import store_spec
from store_spec.disk.ledger import Ledger
from store_spec.disk.lock import build_folder, locked
from store_spec.disk.storage import LocalStorage
from store_spec.errors import ConflictError, FormatError, LockedError, MissingStoreError, StorageError, StoreError
from tests.store.oracle import Recipe, append, make, write


@pytest.fixture
def storage(tmp_path):
    (tmp_path / "a").mkdir()
    return LocalStorage(tmp_path)


def test_files_are_read_whole_or_in_parts(storage):
    storage.put("a/x", [b"hello", b"", b" world"])
    assert storage.get("a/x") == b"hello world"
    for start in (-20, -5, 0, 3, 11, 20):
        for length in (None, 0, 4, 100):
            begin = max(0, start + 11) if start < 0 else start
            assert storage.get("a/x", start, length) == b"hello world"[begin:][:length]
    storage.put("a/x", [b"new"])
    assert storage.get("a/x") == b"new"
    assert storage.list("a") == ["x"]
    storage.delete("a/x")
    assert storage.list("a") == storage.list("none") == []


def test_the_disk_may_write_and_read_less_than_requested(storage, monkeypatch):
    write, pread = os.write, os.pread
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data[:3])))
    monkeypatch.setattr(os, "pread", lambda descriptor, length, start: pread(descriptor, min(2, length), start))
    storage.put("a/x", [b"hello", b" world"])
    assert storage.get("a/x") == b"hello world"
    assert storage.get("a/x", 3, 5) == b"lo wo"


@pytest.mark.parametrize("kind", ["nothing", "in a file", "link", "dangling link", "folder", "pipe"])
def test_only_regular_files_are_read(storage, tmp_path, kind):
    path, key, message = tmp_path / "a/x", "a/x", "not a plain file"
    error: type[StoreError] = FormatError
    (tmp_path / "secret").write_text("secret")
    if kind == "nothing":
        error, message = MissingStoreError, "there is no such file"
    elif kind == "in a file":
        key, error, message = "secret/x", MissingStoreError, "there is no such file"
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        message = "a link; a store holds plain files only"
        path.symlink_to(tmp_path / ("secret" if kind == "link" else "none"))
    with pytest.raises(error, match=f"^{tmp_path}/{key}: {message}"):
        storage.get(key)


@pytest.mark.parametrize(
    ("call", "step"), [("open", "creating"), ("write", "writing"), ("fsync", "syncing"), ("replace", "renaming")]
)
def test_a_failing_disk_is_named_with_file_and_step_and_nothing_is_left(storage, tmp_path, monkeypatch, call, step):
    storage.put("a/x", [b"old"])
    monkeypatch.setattr(os, call, mock.Mock(side_effect=OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))))
    with pytest.raises(StorageError, match=f"{tmp_path}/a/x: {step} failed: Disk quota exceeded") as caught:
        storage.put("a/x", [b"new"])
    monkeypatch.undo()
    assert caught.value.errno == errno.EDQUOT
    assert storage.list("a") == ["x"]
    assert storage.get("a/x") == b"old"


def test_the_folder_beside_a_store_is_named_if_it_cannot_be_listed(tmp_path, monkeypatch):
    for call in ("listdir", "scandir"):
        monkeypatch.setattr(os, call, mock.Mock(side_effect=OSError(errno.EIO, os.strerror(errno.EIO))))
    with pytest.raises(StorageError, match=f"{tmp_path}/t.build: listing failed: Input/output error"):
        write(Recipe(), tmp_path / "t", [])


def test_other_errors_of_the_disk_are_named(storage, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for attempt, step in (
        (lambda: storage.make_folder("file/x"), "file/x: making the folder"),
        (lambda: storage.list("file"), "file: listing"),
        (lambda: storage.delete("a/none"), "a/none: deleting"),
        (lambda: storage.sync(["file"]), "file: syncing"),
    ):
        with pytest.raises(StorageError, match=f"{tmp_path}/{step} failed"):
            attempt()


def test_the_lock_is_held_by_one_and_leaves_nothing(tmp_path):
    store = tmp_path / "store"
    with locked(store) as folder:
        assert folder == build_folder(store) == tmp_path / "store.build"
        with (
            pytest.raises(LockedError, match=rf"store: process {os.getpid()} on {os.uname().nodename} is writing to"),
            locked(store),
        ):
            pass
        assert (folder / "lock").exists()
    assert list(tmp_path.iterdir()) == []
    with locked(store) as folder:
        (folder / "cache").write_text("kept")  # other files stay
    assert [path.name for path in (tmp_path / "store.build").iterdir()] == ["cache"]


def test_a_folder_of_the_user_with_the_name_of_the_build_folder_is_left_alone(tmp_path):
    (tmp_path / "s.build" / "new").mkdir(parents=True)
    for name in ("new/a.txt", "lock", "mine.txt", ".hidden"):
        (tmp_path / "s.build" / name).write_text("mine")
    with pytest.raises(StorageError, match=r"s\.build: has files that are not of a store, such as mine\.txt"):
        Recipe().create(tmp_path / "s")
    assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"mine"}
    (tmp_path / "s.build" / "mine.txt").unlink()
    Recipe().create(tmp_path / "s").close()


def test_a_lock_file_that_was_removed_under_a_waiting_writer_gives_no_second_lock(tmp_path, monkeypatch):
    """Between opening and locking the file, its holder may remove it, and another writer may create a new one."""
    flock = fcntl.flock
    removed: list[bool] = []

    def late(descriptor, operation):
        if not removed:
            removed.append(True)
            (tmp_path / "store.build/lock").unlink()
        return flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with locked(tmp_path / "store") as folder, (folder / "lock").open() as file, pytest.raises(BlockingIOError):
        flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_the_disk_refuses_is_an_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="locking failed"), locked(tmp_path / "file/store"):
        pass
    (tmp_path / "store.build").mkdir()
    (tmp_path / "store.build/lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError, match="locking failed"), locked(tmp_path / "store"):
        pass
    assert not (tmp_path / "elsewhere").exists()
    # For example below /proc, where the system says that there is no such file.
    monkeypatch.setattr(Path, "mkdir", mock.Mock(side_effect=OSError(errno.ENOENT, os.strerror(errno.ENOENT))))
    with pytest.raises(StorageError, match="locking failed: No such file"), locked(tmp_path / "x.zarr"):
        pass


HOLDER = """
import sys
sys.path[:0] = {path!r}
import store_spec
writer = store_spec.open_store(sys.argv[1], "a")
print("held", flush=True)
sys.stdin.read()
"""


def test_a_writer_in_another_process_is_named_and_its_lock_is_free_when_it_is_killed(tmp_path):
    path = write(Recipe(), tmp_path / "store", make(Recipe(), [3]))
    command = [sys.executable, "-c", HOLDER.format(path=sys.path), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError, match=f"store: process {holder.pid} on .* is writing to it; wait until it has"):
            store_spec.open_store(path, "a")
        assert len(store_spec.open_store(path)) == 1
        holder.send_signal(signal.SIGKILL)
    with store_spec.open_store(path, "a") as writer:
        append(writer, make(Recipe(), [4], seed=1))
    assert len(store_spec.open_store(path)) == 2
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_writer_with_another_lock_file_is_refused_by_the_folder(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    with locked(store) as folder:
        shutil.rmtree(folder)
        with pytest.raises(LockedError, match="another process is writing to it, with another lock"), locked(store):
            pass
    with locked(store):
        pass


def test_a_child_does_not_keep_the_lock_that_was_held_at_the_fork(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    read, write = os.pipe()
    with locked(store):
        child = os.fork()
        if not child:
            os.close(write)
            os.read(read, 1)  # until the parent closes the pipe
            os._exit(0)
    os.close(read)
    try:
        with locked(store):
            pass
    finally:
        os.close(write)
        os.waitpid(child, 0)


def test_a_writer_without_its_build_folder_does_not_disturb_the_next(tmp_path):
    path, schema = tmp_path / "store", Recipe().schema()
    with ExitStack() as stack:
        with Ledger.create(path, schema):
            shutil.rmtree(build_folder(path))
            ledger = stack.enter_context(Ledger.create(path, schema))
        with pytest.raises(LockedError), Ledger.create(path, schema):
            pass
        ledger.commit()
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
    assert store_spec.verify(path) == []


def test_a_file_system_on_which_locks_do_nothing_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("store_spec.disk.lock.fcntl.flock", lambda *_: None)
    with pytest.raises(StorageError, match="locks do nothing on this file system"), locked(tmp_path / "store"):
        pass


def test_a_file_is_not_replaced_if_the_last_check_refuses_it(tmp_path):
    storage, steps = LocalStorage(tmp_path), []
    storage.put("x", [b"old"])

    def refuse() -> None:
        steps.append("checked")
        raise ConflictError("another writer was faster")

    with mock.patch("os.fsync", side_effect=lambda _: steps.append("synced")), pytest.raises(ConflictError):
        storage.put("x", [b"new"], refuse)
    assert steps == ["synced", "checked"]  # the process may have been suspended before
    assert (os.listdir(tmp_path), (tmp_path / "x").read_bytes()) == (["x"], b"old")
