"""Temporary folders that a killed process leaves are removed by another process, and no others."""

import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from store_spec.disk.temporary import NEW_SECONDS, prefix, temporary_folder
from tests.builder.command import python

KILLED = """
import os, signal
from store_spec.disk.temporary import temporary_folder
with temporary_folder() as folder:
    (folder / "deep").mkdir()
    (folder / "deep" / "file").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def make_old(folder: Path) -> None:
    os.utime(folder, times=(0, time.time() - NEW_SECONDS - 1))


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return the folder in which temporary folders are made."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_the_folder_of_a_killed_process_is_removed_by_the_next(place):
    assert python("-c", KILLED, TMPDIR=str(place)).returncode == -signal.SIGKILL
    [left] = place.iterdir()
    with temporary_folder() as folder:
        assert sorted(place.iterdir()) == sorted([left, folder])  # it is new
    make_old(left)
    with temporary_folder() as folder:
        assert [*place.iterdir()] == [folder]
    assert not [*place.iterdir()]


def test_folders_in_use_and_other_things_stay(place):
    (place / "mine").mkdir()
    (place / "mine" / "file").touch()
    (place / f"{prefix()}link").symlink_to(place / "mine")
    (place / f"{prefix()}file").touch()
    (place / "seqzarr-temporary-of-another-machine").mkdir()
    for path in place.iterdir():
        make_old(path)
    others = {*place.iterdir()}
    with temporary_folder() as first:
        make_old(first)
        with temporary_folder() as second:
            assert {*place.iterdir()} == {*others, first, second}
        assert {*place.iterdir()} == {*others, first}
    assert {*place.iterdir()} == others
    assert (place / "mine" / "file").exists()
