"""Builds on engines that run tasks in any order, die or are slow: their memory, files and commits."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import builder
from builder import BuildError
from builder.workers.batch import ProcessedBatch, process_batch, summarise
from builder.workers.engine import TASKS_PER_WORKER, InProcessEngine
from builder.workers.process_source import SourceBatch
from builder.workers.row_blocks import Space
from store_spec.disk.ledger import Ledger
from store_spec.schema import Schema
from tests.builder.any_order import Later, Shuffled, on_engine
from tests.builder.made_sources import Made, assert_store, read_made, sources_in, write_made
from tests.builder.source_files import write_files


def build(place: Path, sources: dict[str, Made], engine: Any, *, memory: int = 10**9, **options: Any) -> None:
    """Build a store of these sources, one per batch, on an engine, and check its content."""
    write_made(place / "src", sources)
    given: dict[str, Any] = {"process": read_made, "batch": 1, "chunk": 60, "shard": 180, "workers": 0} | options
    with on_engine(engine, memory):
        builder.build(place / "src", place / "store", **given)
    assert_store(place / "store", sources)


MANY = {f"{number:02}.made": Made(lengths=(10,), seed=number) for number in range(40)}


def test_files_of_an_empty_batch_are_removed(tmp_path):
    """Its rows exceeded its memory, so they are in files beside the store."""
    sources = {"a.made": Made(), "b.made": Made(lengths=(9, 4), fault="raises midway")}
    build(tmp_path, sources, InProcessEngine())


def test_files_of_a_worker_that_died_are_removed_before_the_batch_is_processed_again_and_afterwards(tmp_path):
    found: list[list[Path]] = []

    class Dying(InProcessEngine):
        def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            self.death_errors = (ZeroDivisionError,)
            return super().submit(leave if function is process_batch else function, *arguments, **options)

    def leave(batch: SourceBatch, schema: Schema, space: Space) -> ProcessedBatch:
        assert space.folder is not None
        found.append(list(space.folder.glob("*")))
        write_files(space.folder, {"inputs.left": b"rows"})
        if not found[1:]:
            raise ZeroDivisionError
        return process_batch(batch, schema, space)

    build(tmp_path, {"a.made": Made()}, Dying())
    assert found == [[], []]


@pytest.mark.parametrize("limit", ["COMMIT_BYTES", "COMMIT_SEQUENCES"])
def test_table_rows_are_committed_when_they_are_many(tmp_path, monkeypatch, limit):
    """Before a commit is due; they are in memory until then."""
    waiting: list[int] = []
    commit = Ledger.commit

    def commit_counted(ledger: Ledger) -> int:
        waiting.append(ledger.waiting)
        return commit(ledger)

    monkeypatch.setattr("builder.workers.batch.TABLE_BYTES", 1)
    monkeypatch.setattr(f"builder.execution.run.{limit}", 1)
    monkeypatch.setattr(Ledger, "commit", commit_counted)
    sources = {f"{number}.made": Made(lengths=(1, 1)) for number in range(3)}
    build(tmp_path, sources, InProcessEngine(), batch="1GB")
    assert waiting == [2, 2, 2, 0]


class InFlight(Shuffled):
    """Count the batches that were submitted and whose rows are in no shard yet."""

    def __init__(self) -> None:
        super().__init__(0)
        self.batches = self.most = 0

    def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Later:
        self.batches += function is summarise
        self.most = max(self.most, self.batches)
        if function.__name__ in ("put_shards", "compress_and_put"):
            self.batches = 0
        return super().submit(function, *arguments, **options)


def test_no_more_batches_are_read_than_the_memory_allows(tmp_path):
    engine = InFlight()
    build(tmp_path, MANY, engine, memory=1_000, chunk=12 * 16, shard=12 * 16)
    assert engine.most < 15


def test_at_most_one_batch_per_worker_waits_whatever_the_memory(tmp_path):
    waiting, most = set(), 0

    class Watching(Shuffled):
        def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Later:
            nonlocal most
            later = super().submit(function, *arguments, **options)
            if function is summarise:
                waiting.add(later)
                most = max(most, len(waiting))
            return later

        def next_finished(self) -> Later:
            waiting.discard(later := super().next_finished())
            return later

    build(tmp_path, MANY, Watching(0))
    assert most == TASKS_PER_WORKER * Watching.workers


def test_workers_wait_for_a_slow_source_once_a_minute_of_work_behind_it_is_finished(tmp_path, monkeypatch):
    """A kill would lose that work. Here sources take 10 s each, and the first ends when nothing else is left."""

    class Slow:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 10.0
            return self.now

    class FirstLast(Shuffled):
        first: Any = None
        before_first = 0

        def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Later:
            later = super().submit(function, *arguments, **options)
            if function is summarise:
                self.first = self.first or later
            return later

        def next_finished(self) -> Later:
            later: Later = next((one for one in self.watched if one is not self.first), self.first)
            self.watched.remove(later)
            self.before_first += self.first in self.watched
            return later

    monkeypatch.setattr("builder.workers.batch.time", Slow())
    engine = FirstLast(0)
    build(tmp_path, MANY, engine)
    assert 2 * 60 / 10 <= engine.before_first <= 2 * 60 / 10 + TASKS_PER_WORKER * engine.workers


@pytest.mark.slow
def test_sources_on_which_workers_died_are_named(tmp_path):
    """The dead worker may have had other batches, and tasks may be given up for one without a fault."""

    class Deadly(Shuffled):
        def next_finished(self) -> Later:
            self.death_errors = (ZeroDivisionError,)
            later = super().next_finished()
            if later.function is summarise:
                later.function = lambda *_: 1 // 0
            return later

    sources = dict(list(MANY.items())[:30])
    with pytest.raises(BuildError, match=r"on one of these 30 sources: 00.made, .*, 19.made and 10 more; .*workers=0"):
        build(tmp_path, sources, Deadly(0), batch="1MB")


class Interrupted(InProcessEngine):
    """Ctrl-C when the first shard is written."""

    pressed = False

    def next_finished(self) -> Any:
        task = super().next_finished()
        if not self.pressed and isinstance(task.result(), int):  # of bytes written
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return task


@pytest.mark.timeout(30)
def test_a_shard_that_is_written_when_ctrl_c_is_pressed_is_committed(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path, MANY, Interrupted())
    finally:
        signal.signal(signal.SIGINT, before)
    held = sources_in(tmp_path / "store")
    assert 0 < len(held) < len(MANY)
    assert_store(tmp_path / "store", {name: MANY[name] for name in held})
