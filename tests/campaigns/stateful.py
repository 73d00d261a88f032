"""Any history of a store against a list of arrays: append, update, retire, commit, crash, open, compact, read."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import builder
import store_spec
from store_spec.errors import SequenceError
from tests.campaigns.operations import MUTATIONS, Interceptor, Operation
from tests.campaigns.outcome import Outcome
from tests.campaigns.safeguards import patched, write_root_first
from tests.store.oracle import Recipe, Sequence, assert_holds, make


class CrashError(BaseException):
    """The process is gone: what it would do next is not done."""


class Histories(RuleBasedStateMachine):
    """One store, one writer at a time, and readers that were opened at some moment and are held."""

    steps = 0
    crashes = 0
    commits = 0
    compactions = 0
    reads = 0

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="seqzarr-history-"))
        self.lives = 0  # each crash leaves a copy of the folder, in which the history goes on
        self.writer: store_spec.Writer | None = None
        self.committed: list[Sequence] = []
        self.pending: list[Sequence] = []  # what the next commit would show
        self.held: list[tuple[store_spec.Store, list[Sequence]]] = []
        self.made = 0

    @property
    def path(self) -> Path:
        return self.place / str(self.lives) / "store"

    @initialize(axis=st.sampled_from(["step", "sequence", "own"]), codec=st.sampled_from(["zstd", "none", "lz4:1"]))
    def begin(self, axis: Any, codec: str) -> None:
        self.recipe = Recipe(label_axis=axis, codec=codec, chunk=60, shard=180)
        self.path.parent.mkdir()

    @precondition(lambda self: self.writer is None)
    @rule()
    def open(self) -> None:
        self.writer = store_spec.open_store(self.path, "a") if self.path.exists() else self.recipe.create(self.path)
        self.pending = list(self.committed)
        assert len(self.writer) == len(self.committed)

    @precondition(lambda self: self.writer is not None)
    @rule(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=3))
    def append(self, lengths: list[int]) -> None:
        self._add(f"source-{self.made}", lengths)

    @precondition(lambda self: self.writer is not None and self.committed)
    @rule(number=st.integers(0, 10**6), lengths=st.lists(st.integers(0, 40), max_size=2))
    def update_or_retire(self, number: int, lengths: list[int]) -> None:
        """New sequences take the place of those of a source; without any, they are just gone."""
        source = self.committed[number % len(self.committed)].source
        assert self.writer is not None
        if source in {one.source for one in self._not_committed()}:
            return  # it has a new version already, which is not committed
        try:
            self.writer.retire(source)
        except SequenceError:
            assert source not in {one.source for one in self.pending}  # retired before, and not committed
            return
        self.pending = [one for one in self.pending if one.source != source]
        self._add(source, lengths)

    @precondition(lambda self: self.writer is not None)
    @rule()
    def append_what_does_not_fit(self) -> None:
        assert self.writer is not None
        try:
            self.writer.append(np.full((3, 3), np.nan, np.float32), 0, source="bad")
        except SequenceError:
            return
        raise AssertionError("it was taken")

    @precondition(lambda self: self.writer is not None)
    @rule()
    def commit(self) -> None:
        assert self.writer is not None
        assert self.writer.commit() == len(self.pending)
        self.committed = list(self.pending)
        type(self).commits += 1

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close(self) -> None:
        assert self.writer is not None
        self.writer.close()
        self.writer = None

    @precondition(lambda self: self.writer is not None)
    @rule(after=st.integers(0, 60), halfway=st.booleans())
    def crash_while_committing(self, after: int, halfway: bool) -> None:  # noqa: FBT001  # hypothesis gives it by name
        assert self.writer is not None
        self._add(f"source-{self.made}", [30])
        left = after

        def before(operation: Operation) -> None:
            nonlocal left
            if operation.kind not in MUTATIONS:
                return
            if not left:
                shutil.copytree(self.path.parent, self.place / str(self.lives + 1), symlinks=True)
                raise CrashError
            left -= 1

        interceptor = Interceptor(self.path.parent, before)
        try:
            with interceptor.installed():
                self.writer.commit()
        except CrashError:
            self.writer.close()
            self.writer = None
            self.lives += 1
            type(self).crashes += 1
            self._look_after_crash()
        else:
            self.committed = list(self.pending)
            if halfway:
                self.close()

    @precondition(lambda self: self.writer is None and self.committed)
    @rule()
    def compact(self) -> None:
        """Go on with a copy that has what readers see, and nothing else; the old store stays for those that hold it."""
        new = self.place / str(self.lives + 1) / "store"
        new.parent.mkdir()
        assert builder.compact(self.path, new, workers=0).sequences == len(self.committed)
        self.lives += 1
        assert store_spec.open_store(new).counts.sequences == len(self.committed)
        assert store_spec.verify(new) == []
        type(self).compactions += 1

    @precondition(lambda self: self.path.exists())
    @rule()
    def hold_a_reader(self) -> None:
        self.held = [*self.held[-3:], (store_spec.open_store(self.path), list(self.committed))]

    @rule()
    def look_through_held_readers(self) -> None:
        for store, sequences in self.held:
            assert_holds(store, sequences)
            type(self).reads += len(sequences)

    @precondition(lambda self: self.path.exists())
    @rule()
    def verify(self) -> None:
        assert [str(one) for one in store_spec.verify(self.path) if not one.leftover] == []

    @invariant()
    def readers_see_the_last_commit(self) -> None:
        type(self).steps += 1
        if self.path.exists():
            assert_holds(store_spec.open_store(self.path), self.committed)
            type(self).reads += len(self.committed)

    def teardown(self) -> None:
        if self.writer is not None:
            self.writer.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def _not_committed(self) -> list[Sequence]:
        committed = set(map(id, self.committed))
        return [one for one in self.pending if id(one) not in committed]

    def _add(self, source: str, lengths: list[int]) -> None:
        assert self.writer is not None
        self.made += 1
        for sequence in make(self.recipe, lengths, seed=self.made, sources=[source] * len(lengths)):
            self.writer.append(sequence.inputs, sequence.labels, source=sequence.source)
            self.pending.append(sequence)

    def _look_after_crash(self) -> None:
        """Readers see the commit before, or the one that was under way: nothing else."""
        if not self.path.exists():
            assert not self.committed
            self.pending = []
            return
        store = store_spec.open_store(self.path)
        before = [(one.source, one.inputs.tobytes()) for one in self.committed]
        if before != [(source, store[number][0].tobytes()) for number, source in enumerate(store.sources)]:
            self.committed = self.pending
        assert_holds(store, self.committed)


def run(examples: int, steps: int, *, shrink: bool = True) -> None:
    """Try that many histories; AssertionError or StoreError at the first that breaks a promise, cut to the shortest."""
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        ),
    )


def campaign(*, quick: bool) -> Outcome:
    """Run histories, and then the control."""
    examples, steps = (15, 40) if quick else (1_000, 100)
    Histories.steps = Histories.crashes = Histories.commits = Histories.compactions = Histories.reads = 0
    broken = []
    try:
        run(examples, steps)
    except Exception as error:  # noqa: BLE001  # whatever it is, a promise is broken
        broken.append(f"{type(error).__name__}: {error}")
    figures = {
        "histories": examples,
        "steps": Histories.steps,
        "commits": Histories.commits,
        "crashes": Histories.crashes,
        "compactions": Histories.compactions,
        "sequences compared": Histories.reads,
    }
    control_broke = 0
    with patched(write_root_first), suppress(Exception):
        control_broke = 1
        run(50, 40, shrink=False)
        control_broke = 0
    return Outcome(figures=figures, violations=broken, controls={"writing the root last": control_broke})
