"""Workers that outlive their writer, as on a cluster of the user's, change nothing of what the next writer writes."""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack

import pytest

import store_spec
from store_spec.building import Ledger, LocalStorage
from store_spec.errors import StorageError
from tests.store.oracle import assert_holds, make, write
from tests.store.test_ledger import RECIPE, SCHEMA, described, rows_of_job

FIRST, LATE, *REST = make(RECIPE, [4, 2, 30, 12])


@pytest.mark.parametrize("is_new", [False, True])
def test_a_shard_that_is_being_synced_when_its_writer_ends_replaces_none_of_the_next(tmp_path, monkeypatch, is_new):
    path, fsync, stack = tmp_path / "store", os.fsync, ExitStack()
    before = [] if is_new else [FIRST]
    if not is_new:
        write(RECIPE, path, before)

    def open_with_jobs(sequences):
        ledger = stack.enter_context(Ledger.create(path, SCHEMA) if is_new else Ledger.open(path))
        for sequence in sequences:
            ledger.register(described(sequence))
        return ledger, [(job, rows_of_job(job, [*before, *sequences])) for job in ledger.jobs(final=True)]

    def start_next(descriptor):
        monkeypatch.undo()
        fsync(descriptor)
        stack.close()
        ledger, jobs = open_with_jobs(REST)
        for job, rows in jobs:
            job.write(rows)
            ledger.mark_done(job)
        opened.append(ledger)

    opened = list[Ledger]()
    late, rows = next(pair for pair in open_with_jobs([LATE])[1] if pair[0].name == "inputs")
    monkeypatch.setattr(os, "fsync", start_next)
    with pytest.raises(StorageError, match=r"finding .*/spilled\..* failed: No such"):
        late.write(rows)
    opened[0].commit()
    stack.close()
    assert_holds(store_spec.open_store(path), [*before, *REST])
    assert store_spec.verify(path) == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_rows_that_are_spilled_after_the_writer_has_ended_are_refused(tmp_path):
    with Ledger.create(tmp_path / "store", SCHEMA) as ledger:
        ledger.commit()
    with pytest.raises(StorageError, match="making the folder failed: No such file"):
        LocalStorage(ledger.spilled / "0").make_folder()
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_folder_to_which_a_worker_still_spills_hides_no_error_and_stops_no_writer(tmp_path, monkeypatch):
    rmdir = os.rmdir

    def spill_first(path, **options):
        if path == "0":
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        rmdir(path, **options)

    def spill_and_fail():
        with Ledger.open(tmp_path / "store") as ledger:
            LocalStorage(ledger.spilled / "0").make_folder()
            raise ZeroDivisionError

    write(RECIPE, tmp_path / "store", [FIRST])
    with monkeypatch.context() as patch:
        patch.setattr(os, "rmdir", spill_first)
        for _ in range(2):
            with pytest.raises(ZeroDivisionError):
                spill_and_fail()
    store_spec.open_store(tmp_path / "store", "a").close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
