"""New, unchanged, changed and vanished sources, and how many files are read to tell them apart."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import store_spec
from builder.planning.comparison import Comparison, StoredSources, _Verdicts, compare
from builder.sources.fingerprints import SETTLED_NS, FingerprintCache, read_fingerprint
from builder.sources.folder import LocalFolder
from store_spec.disk.ledger import Ledger
from store_spec.format.records import SourceId, check_sequence, describe
from store_spec.schema import Schema, rows_of
from tests.builder.source_files import write_files

SCHEMA = Schema.plan(rows_of("float32", (1,)), rows_of("int8", (2,)), label_axis="sequence")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of three files, a store that holds them as a build would, and files that count as written long ago."""
    now = time.time_ns
    monkeypatch.setattr("builder.sources.fingerprints.time.time_ns", lambda: now() + 2 * SETTLED_NS)
    write_files(tmp_path / "src", {name: name for name in "abc"})
    with Ledger.create(tmp_path / "store", SCHEMA) as ledger:
        rows = []
        for number, name in enumerate("abc"):
            found = read_fingerprint(tmp_path / "src" / name)
            for part in range(2):
                origin = SourceId(name=name, part=part, size=found.state.size, sha256=found.sha256)
                checked = check_sequence(SCHEMA, np.ones((2, 1), "float32"), np.full(2, number, "int8"), origin)
                ledger.register(describe(SCHEMA, checked, origin))
                rows.append(checked.rows["inputs"])
        for job in ledger.jobs(final=True):
            job.write(rows)
            ledger.mark_done(job)
        ledger.commit()
    return tmp_path


def look(folder, seen=None, labels=None):
    names = sorted(path.name for path in (folder / "src").iterdir())
    held = StoredSources(store_spec.open_store(folder / "store"))
    seen = FingerprintCache.load(folder / "store") if seen is None else seen
    return compare(LocalFolder(folder / "src"), names, held, seen, labels)


def test_without_a_store_all_are_new(tmp_path):
    found = compare(LocalFolder(tmp_path), ["a", "b"], None, FingerprintCache.load(tmp_path / "store"), None)
    assert found == Comparison(new=("a", "b"), changed=(), unchanged=(), vanished=(), unreadable={})
    assert found.stored == 0


def test_each_source_is_what_became_of_it(folder):
    (folder / "src" / "a").write_text("A")  # as long as before
    (folder / "src" / "b").unlink()
    (folder / "src" / "d").write_text("d")
    found = look(folder)
    assert (found.new, found.changed, found.unchanged, found.vanished) == (("d",), ("a",), ("c",), ("b",))
    assert found.stored == 3


def test_files_are_submitted_a_few_at_a_time(folder, monkeypatch):
    submitted, at_results, note = [], [], _Verdicts.note_hashes

    class Counting(ThreadPoolExecutor):
        def submit(self, *arguments: Any, **options: Any) -> Any:
            submitted.append(arguments)
            return super().submit(*arguments, **options)

    def note_counted(*arguments):
        at_results.append(len(submitted))
        note(*arguments)

    monkeypatch.setattr("builder.planning.comparison.ThreadPoolExecutor", Counting)
    monkeypatch.setattr("builder.planning.comparison.SUBMITTED", 2)
    monkeypatch.setattr(_Verdicts, "note_hashes", note_counted)
    assert look(folder).unchanged == ("a", "b", "c")
    assert at_results == [2, 2, 3]


def test_files_are_read_once_and_then_only_looked_at(folder, monkeypatch):
    read = []

    def counting(path):
        read.append(path)
        return read_fingerprint(path)

    monkeypatch.setattr("builder.sources.folder.read_fingerprint", counting)
    seen = FingerprintCache.load(folder / "store")
    assert look(folder, seen).unchanged == ("a", "b", "c")
    assert len(read) == 3
    seen.save(folder / "store")
    assert look(folder).unchanged == ("a", "b", "c")
    assert len(read) == 3
    os.utime(folder / "src" / "b", ns=(1, 1))  # touched: it is read, and is what it was
    assert look(folder).unchanged == ("a", "b", "c")
    assert len(read) == 4


def test_a_cache_of_another_store_is_not_believed(folder):
    seen = FingerprintCache.load(folder / "store")
    (folder / "src" / "a").write_text("A")
    look(folder, seen)
    seen.save(folder / "store")
    assert look(folder).changed == ("a",)  # known to be in the state that was seen, and its hash is not the store's


def test_a_file_of_another_size_is_not_read_to_know_that_it_changed(folder, monkeypatch):
    monkeypatch.setattr("builder.sources.folder.read_fingerprint", lambda path: pytest.fail(f"{path} was read"))
    for name in "abc":
        (folder / "src" / name).write_text(name * 2)
    assert look(folder).changed == ("a", "b", "c")


def test_a_file_that_cannot_be_read_is_neither_changed_nor_unchanged(folder, monkeypatch):
    def read(path):
        if os.path.basename(path) == "b":
            raise PermissionError(13, "Permission denied")
        return read_fingerprint(path)

    monkeypatch.setattr("builder.sources.folder.read_fingerprint", read)
    (folder / "src" / "a").unlink()
    (folder / "src" / "a").symlink_to("nowhere")
    found = look(folder)
    assert (found.new, found.changed, found.unchanged, found.vanished) == ((), (), ("c",), ())
    reasons = {"a": "No such file or directory", "b": "Permission denied"}
    assert found.unreadable == {
        name: f"it cannot be read now ({why}), so it is unknown whether it changed; the store keeps it"
        for name, why in reasons.items()
    }


def test_other_labels_in_the_manifest_make_another_source(folder):
    labels = np.array([[0, 0], [1, 1], [2, 2]])
    assert look(folder, labels=labels).unchanged == ("a", "b", "c")
    labels[1, 0] = 7
    assert look(folder, labels=labels).changed == ("b",)


def test_retired_sequences_are_not_held(folder):
    with store_spec.open_store(folder / "store", "a") as writer:
        writer.retire("b")
    found = look(folder)
    assert (found.new, found.unchanged, found.vanished) == (("b",), ("a", "c"), ())
