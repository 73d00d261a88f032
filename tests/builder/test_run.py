"""A run, on an engine that does its tasks in any order: whatever the order, the same bytes."""

from __future__ import annotations

import random
import signal
import tempfile
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import store_spec
from builder.build_errors import BuildError
from builder.execution.report import Tally
from builder.execution.run import Run
from builder.processes.function_process import FunctionProcess
from builder.sources.folder import LocalFolder
from builder.workers.batch import ProcessedBatch, process_batch, summarise
from builder.workers.engine import TASKS_PER_WORKER, InProcessEngine
from builder.workers.process_source import SourceBatch
from builder.workers.row_blocks import Space
from store_spec.disk.ledger import Ledger
from store_spec.disk.storage import LocalStorage
from store_spec.errors import StorageError
from store_spec.schema import Schema
from tests.builder.any_order import Later, Shuffled
from tests.builder.made_sources import (
    Made,
    assert_store,
    expected,
    made_folders,
    read_made,
    schema_for,
    sources_in,
    write_made,
)
from tests.store.oracle import assert_holds

AXES: list[Literal["step", "sequence", "own"]] = ["step", "sequence", "own"]


def batches_of(folder: Path, names: list[str], cuts: list[int]) -> Iterator[tuple[SourceBatch, int]]:
    """Deal names into batches that end at the cuts."""
    bounds = [0, *sorted(cut % (len(names) + 1) for cut in cuts), len(names)]
    for start, stop in pairwise(bounds):
        if start < stop:
            process = FunctionProcess(function=read_made)
            yield (
                SourceBatch(folder=LocalFolder(folder), names=tuple(names[start:stop]), labels=None, process=process),
                100,
            )


def run(
    folder: Path,
    store: Path,
    sources: dict[str, Made],
    schema: Schema,
    *,
    engine: Any,
    cuts: list[int],
    memory: int,
    batch_memory: int = 10**9,
) -> Tally:
    """Append sources to a store, which is created if need be."""
    tally = Tally(sources=len(sources))
    opened = Ledger.open(store) if store.exists() else Ledger.create(store, schema, {})
    with opened as ledger:
        if not store.exists():
            ledger.commit()
        batches = batches_of(folder, sorted(sources), cuts)
        Run(
            engine, ledger, batches, tally, memory=memory, batch_memory=batch_memory, on_progress=lambda _: None
        ).finish()
        assert not ledger.spilled.exists() or not any(ledger.spilled.iterdir())
    return tally


class JumpyClock:
    """A clock that now and then jumps ahead, so that a batch ends and a commit is due where they like."""

    def __init__(self, seed: int) -> None:
        self.random, self.now = random.Random(seed), 0.0

    def monotonic(self) -> float:
        self.now += self.random.choice([0.0, 0.0, 0.001, 1.0, 9.0])
        return self.now


@pytest.mark.slow
@settings(max_examples=7, deadline=None, phases=[Phase.reuse, Phase.generate])
@given(data=st.data(), axis=st.sampled_from(AXES), seed=st.integers(0, 2**32))
def test_a_store_has_the_same_bytes_whatever_the_order_of_tasks_the_batches_the_time_and_the_memory(data, axis, seed):
    sources = data.draw(made_folders(axis))
    schema = schema_for(axis, chunk=data.draw(st.integers(12, 200)), chunks=data.draw(st.integers(1, 4)))
    with tempfile.TemporaryDirectory() as place:
        folder, at_once, by_chance = Path(place, "src"), Path(place, "at-once"), Path(place, "by-chance")
        write_made(folder, sources)
        first = run(folder, at_once, sources, schema, engine=InProcessEngine(), cuts=[], memory=10**9)
        cuts = data.draw(st.lists(st.integers(0, 9), max_size=9))
        memory = {name: data.draw(st.sampled_from([1, 300, 10**9])) for name in ("memory", "batch_memory")}
        with pytest.MonkeyPatch.context() as patch:
            for module in ("builder.execution.run", "builder.workers.batch"):
                patch.setattr(f"{module}.time", JumpyClock(seed))
            second = run(folder, by_chance, sources, schema, engine=Shuffled(seed), cuts=cuts, **memory)
        assert assert_store(by_chance, sources) == assert_store(at_once, sources)
        assert first.failures == second.failures
        # How old the files were when they were read, which fingerprints note too, depends on the machine.
        assert [(one.source, one.reason) for one in first.skipped] == [
            (one.source, one.reason) for one in second.skipped
        ]
        bad = [name for name in sorted(sources) if sources[name].fault]
        assert sorted(one.source for one in (*first.failures, *first.skipped)) == bad
        assert first.sequences == second.sequences == len(expected(sources))
        assert first.done == second.done == len(sources)
        assert first.steps == sum(len(sequence.inputs) for sequence in expected(sources))


def test_files_of_a_batch_of_which_nothing_is_left_are_removed_too(tmp_path):
    sources = {"a.made": Made(lengths=(9, 4), fault="raises midway")}
    write_made(tmp_path / "src", sources)
    tally = run(
        tmp_path / "src",
        tmp_path / "store",
        sources,
        schema_for("step"),
        engine=InProcessEngine(),
        cuts=[],
        memory=1,
        batch_memory=1,
    )
    assert len(tally.failures) == 1


def test_files_of_a_worker_that_died_are_removed_before_the_batch_is_processed_again_and_afterwards(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made()})
    found: list[list[Path]] = []

    class Dying(InProcessEngine):
        def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
            self.lost = (ZeroDivisionError,)
            return super().submit(leave if function is process_batch else function, *arguments, **options)

    def leave(batch: SourceBatch, schema: Schema, space: Space) -> ProcessedBatch:
        assert space.folder is not None
        found.append(list(space.folder.glob("*")))
        space.folder.mkdir()
        (space.folder / "inputs.left").write_bytes(b"rows")
        if not found[1:]:
            raise ZeroDivisionError
        return process_batch(batch, schema, space)

    run(
        tmp_path / "src",
        tmp_path / "store",
        {"a.made": Made()},
        schema_for("step"),
        engine=Dying(),
        cuts=[],
        memory=10**9,
    )
    assert found == [[], []]


def test_table_rows_are_committed_when_they_have_many_bytes(tmp_path, monkeypatch):
    sources = {f"{number}.made": Made(lengths=(1, 1)) for number in range(3)}
    write_made(tmp_path / "src", sources)
    waiting: list[int] = []
    commit = Ledger.commit

    def commit_counted(ledger: Ledger) -> int:
        waiting.append(ledger.waiting)
        return commit(ledger)

    monkeypatch.setattr("builder.workers.batch.TABLE_BYTES", 1)
    monkeypatch.setattr("builder.execution.run.COMMIT_BYTES", 1)
    monkeypatch.setattr(Ledger, "commit", commit_counted)
    run(
        tmp_path / "src",
        tmp_path / "store",
        sources,
        schema_for("step"),
        engine=InProcessEngine(),
        cuts=[],
        memory=0,
    )
    assert waiting == [0, 2, 2, 2, 0]
    assert_store(tmp_path / "store", sources)


class Counting(InProcessEngine):
    """Counts how many batches are read and not yet in a shard."""

    def __init__(self) -> None:
        super().__init__()
        self.batches = self.most = 0

    def submit(self, function: Callable[..., Any], *arguments: Any, watch: bool = False, urgent: bool = False) -> Any:
        self.batches += function is process_batch
        self.most = max(self.most, self.batches)
        if function.__name__ in ("put_shards", "compress_and_put"):
            self.batches = 0
        return super().submit(function, *arguments, watch=watch, urgent=urgent)


@pytest.mark.slow
def test_no_more_batches_are_read_than_the_memory_allows(tmp_path):
    sources = {f"{number:03}.made": Made(lengths=(10,), seed=number) for number in range(100)}
    write_made(tmp_path / "src", sources)
    engine = Counting()
    schema = schema_for("step", chunk=12 * 16, chunks=1)
    each_alone = list(range(100))
    run(tmp_path / "src", tmp_path / "store", sources, schema, engine=engine, cuts=each_alone, memory=1_000)
    assert engine.most < 15
    assert_store(tmp_path / "store", sources)


def test_no_more_batches_wait_for_a_worker_than_one_each_whatever_the_memory(tmp_path):
    sources = {f"{number:03}.made": Made(lengths=(10,), seed=number) for number in range(100)}
    write_made(tmp_path / "src", sources)
    waiting, most = set(), 0

    class Watching(Shuffled):
        def submit(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Later:
            nonlocal most
            later = super().submit(function, *arguments, **options)
            if function is summarise:
                waiting.add(later)
                most = max(most, len(waiting))
            return later

        def finished(self) -> Later:
            waiting.discard(later := super().finished())
            return later

    each_alone = list(range(100))
    schema = schema_for("step")
    run(tmp_path / "src", tmp_path / "store", sources, schema, engine=Watching(0), cuts=each_alone, memory=10**9)
    assert most == TASKS_PER_WORKER * Watching.workers
    assert_store(tmp_path / "store", sources)


def test_workers_wait_for_a_slow_source_once_a_minute_of_work_behind_it_is_finished(tmp_path, monkeypatch):
    """A kill would lose that work. Here sources take 10 s each, and the first ends when nothing else is left."""
    sources = {f"{number:03}.made": Made(lengths=(10,), seed=number) for number in range(100)}
    write_made(tmp_path / "src", sources)

    class Slow:
        now = 0.0

        def monotonic(self) -> float:
            self.now += 10.0
            return self.now

    class FirstLast(Shuffled):
        before_first = 0

        def finished(self) -> Later:
            first = self.first = getattr(self, "first", self.watched[0])
            later = next((one for one in self.watched if one is not first), first)
            self.watched.remove(later)
            self.before_first += first in self.watched
            return later

    monkeypatch.setattr("builder.workers.batch.time", Slow())
    engine, each_alone = FirstLast(0), list(range(100))
    run(tmp_path / "src", tmp_path / "store", sources, schema_for("step"), engine=engine, cuts=each_alone, memory=10**9)
    assert 2 * 60 / 10 <= engine.before_first <= 2 * 60 / 10 + TASKS_PER_WORKER * engine.workers
    assert_store(tmp_path / "store", sources)


@pytest.mark.slow
def test_the_names_of_the_sources_are_told_when_workers_died_on_them(tmp_path):
    sources = {f"{number:02}.made": Made() for number in range(30)}
    write_made(tmp_path / "src", sources)

    class Deadly(Shuffled):
        def __init__(self) -> None:
            super().__init__(0)
            self.lost = (ZeroDivisionError,)

        def finished(self) -> Later:
            later = super().finished()
            later.function = lambda *_: 1 // 0
            return later

    # The worker that died may have had other batches in hand, and be given up for one that is not at fault.
    with pytest.raises(BuildError, match=r"on one of these 30 sources: 00.made, .*, 19.made and 10 more; .*workers=0"):
        run(
            tmp_path / "src",
            tmp_path / "store",
            sources,
            schema_for("step"),
            engine=Deadly(),
            cuts=[7, 19],
            memory=10**9,
        )


@pytest.mark.slow
@pytest.mark.parametrize("refused", range(1, 40, 5))
def test_a_disk_that_is_full_leaves_the_old_state_and_the_next_run_ends_with_the_same_bytes(
    tmp_path, monkeypatch, refused
):
    sources = {f"{number}.made": Made(lengths=(9, 4), seed=number) for number in range(8)}
    names = sorted(sources)
    write_made(tmp_path / "src", sources)
    schema = schema_for("step")
    whole, store = tmp_path / "whole", tmp_path / "store"
    old = {name: sources[name] for name in names[:3]}
    new = {name: sources[name] for name in names[3:]}
    for some in (old, new):
        run(tmp_path / "src", whole, some, schema, engine=InProcessEngine(), cuts=[2], memory=200)
    run(tmp_path / "src", store, old, schema, engine=InProcessEngine(), cuts=[2], memory=200)

    puts = 0
    put = LocalStorage.put

    def put_until_full(storage: LocalStorage, key: str, parts: Any, check: Any = None) -> None:
        nonlocal puts
        puts += 1
        if puts == refused:
            raise StorageError(28, f"{storage.path(key)}: writing failed: No space left on device")
        put(storage, key, parts, check)

    monkeypatch.setattr(LocalStorage, "put", put_until_full)
    with pytest.raises(StorageError, match="No space left"):
        run(tmp_path / "src", store, new, schema, engine=InProcessEngine(), cuts=[1, 2], memory=200)
    monkeypatch.undo()
    held = {name: sources[name] for name in sources_in(store)}
    assert held in (old, sources)  # the latter when the disk was full just after the commit
    assert_holds(store_spec.open_store(store), expected(held))
    rest = {name: made for name, made in sources.items() if name not in held}
    run(tmp_path / "src", store, rest, schema, engine=InProcessEngine(), cuts=[1], memory=200)
    assert assert_store(store, sources) == assert_store(whole, sources)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_commits_on_the_way_and_the_first_that_moves_the_store_leave_no_trace(tmp_path, monkeypatch, seed):
    """A commit whenever one adds something: the store gets its name while other shards wait to be put."""
    sources = {f"{number:02}.made": Made(lengths=(9, 14), seed=number) for number in range(12)}
    write_made(tmp_path / "src", sources)
    schema = schema_for("step", chunk=48, chunks=2)
    for name, engine, seconds in (("clean", InProcessEngine(), 1e9), ("store", Shuffled(seed), -1.0)):
        monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", seconds)
        cuts, tally = list(range(12)), Tally(sources=len(sources))
        with Ledger.create(tmp_path / name, schema, {}) as ledger:
            batches = batches_of(tmp_path / "src", sorted(sources), cuts)
            Run(engine, ledger, batches, tally, memory=10**9, on_progress=lambda _: None).finish()
    assert assert_store(tmp_path / "store", sources) == assert_store(tmp_path / "clean", sources)


class Interrupted(InProcessEngine):
    """Ctrl-C is pressed when the first shard is written."""

    pressed = False

    def finished(self) -> Any:
        task = super().finished()
        if not self.pressed and isinstance(task.result(), int):  # of bytes written
            self.pressed = True
            signal.raise_signal(signal.SIGINT)
        return task


@pytest.mark.timeout(30)
def test_a_shard_that_is_written_when_ctrl_c_is_pressed_is_committed(tmp_path):
    sources = {f"{number:02}.made": Made(lengths=(10,), seed=number) for number in range(40)}
    write_made(tmp_path / "src", sources)
    store, schema = tmp_path / "store", schema_for("step", chunk=12 * 16, chunks=1)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "src", store, sources, schema, engine=Interrupted(), cuts=list(range(40)), memory=1)
    finally:
        signal.signal(signal.SIGINT, before)
    held = sources_in(store)
    assert 0 < len(held) < len(sources)
    assert_store(store, {name: sources[name] for name in held})
