"""Run random sequences of operations on a store, and compare it with a list of sequences in memory."""

import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

import builder
import store_spec
from store_spec.errors import SequenceError
from tests.builder.fuzzed_sources import CAMPAIGN
from tests.campaigns.operations import Interceptor, before_mutation
from tests.campaigns.outcome import Outcome
from tests.campaigns.safeguards import without
from tests.campaigns.scenarios import State, visible_state
from tests.store.everything import problems_in
from tests.store.oracle import Recipe, Sequence, assert_holds, make


class CrashError(BaseException):
    """The process crashes here."""


class Histories(RuleBasedStateMachine):
    """One store with one writer, and readers that were opened at different times."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp(prefix="seqzarr-history-"))
        self.lives = 0  # a crash or compaction leaves the store behind; the history continues with a copy
        self.writer: Any = None  # a store_spec.Writer, or None
        self.committed: list[Sequence] = []
        self.pending: list[Sequence] = []  # what readers see after the next commit
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
        self._append(f"source-{self.made}", lengths)

    @precondition(lambda self: self.writer is not None and self.committed)
    @rule(number=st.integers(0, 10**6), lengths=st.lists(st.integers(0, 40), max_size=2))
    def update_or_retire(self, number: int, lengths: list[int]) -> None:
        """Replace the sequences of a source. Without new sequences, the source is retired."""
        source = self.committed[number % len(self.committed)].source
        committed = set(map(id, self.committed))
        if any(one.source == source and id(one) not in committed for one in self.pending):
            return  # already updated since the last commit
        try:
            self.writer.retire(source)
        except SequenceError:
            assert source not in {one.source for one in self.pending}  # already retired since the last commit
            return
        self.pending = [one for one in self.pending if one.source != source]
        self._append(source, lengths)

    @precondition(lambda self: self.writer is not None)
    @rule()
    def append_invalid_sequence(self) -> None:
        try:
            self.writer.append(np.full((3, 3), np.nan, np.float32), 0, source="bad")
        except SequenceError:
            return
        raise AssertionError("an invalid sequence was accepted")

    @precondition(lambda self: self.writer is not None)
    @rule()
    def commit(self) -> None:
        assert self.writer.commit() == len(self.pending)
        self.committed = list(self.pending)
        self.counts["commits"] += 1

    @precondition(lambda self: self.writer is not None)
    @rule()
    def close(self) -> None:
        self.writer.close()
        self.writer = None

    @precondition(lambda self: self.writer is not None)
    @rule(after=st.integers(0, 60), halfway=st.booleans())
    def crash_while_committing(self, after: int, halfway: bool) -> None:  # noqa: FBT001
        """Crash after some operations of a commit; if the commit ends before, the writer may be closed (`halfway`)."""
        self._append(f"source-{self.made}", [30])

        def crash() -> None:
            shutil.copytree(self.path.parent, self.place / str(self.lives + 1), symlinks=True)
            raise CrashError

        try:
            with Interceptor(self.path.parent, before_mutation(after, crash)).installed():
                self.writer.commit()
        except CrashError:
            self.close()
            self.lives += 1
            self.counts["crashes"] += 1
            # Readers see the last commit, or the one that was in progress.
            states: list[State] = [self.committed, self.pending, *([] if self.committed else [None])]
            self.committed = states[visible_state(self.path, states)] or []
        else:
            self.committed = list(self.pending)
            if halfway:
                self.close()

    @precondition(lambda self: self.writer is None and self.committed)
    @rule()
    def compact(self) -> None:
        """Continue with a compacted copy. The old store stays for its readers."""
        new = self.place / str(self.lives + 1) / "store"
        new.parent.mkdir()
        assert builder.compact(self.path, new, workers=0).sequences == len(self.committed)
        self.lives += 1
        assert store_spec.open_store(new).counts.sequences == len(self.committed)
        assert store_spec.verify(new) == []
        self.counts["compactions"] += 1

    @precondition(lambda self: self.path.exists())
    @rule()
    def hold_reader(self) -> None:
        self.held = [*self.held[-3:], (store_spec.open_store(self.path), list(self.committed))]

    @rule()
    def look_through_held_readers(self) -> None:
        for store, sequences in self.held:
            assert_holds(store, sequences)
            self.counts["sequences compared"] += len(sequences)

    @precondition(lambda self: self.path.exists())
    @rule()
    def verify(self) -> None:
        assert problems_in(self.path, leftovers=False) == []

    @invariant()
    def readers_see_the_last_commit(self) -> None:
        self.counts["steps"] += 1
        if self.path.exists():
            assert_holds(store_spec.open_store(self.path), self.committed)
            self.counts["sequences compared"] += len(self.committed)

    def teardown(self) -> None:
        if self.writer is not None:
            self.writer.close()
        shutil.rmtree(self.place, ignore_errors=True)

    def _append(self, source: str, lengths: list[int]) -> None:
        self.made += 1
        for sequence in make(self.recipe, lengths, seed=self.made, sources=[source] * len(lengths)):
            self.writer.append(sequence.inputs, sequence.labels, source=sequence.source)
            self.pending.append(sequence)


def run(examples: int, steps: int, *phases: Phase) -> str:
    """Run histories until the first that violates a promise, shrunk if that is a phase; return its message, or ""."""
    options: Any = {"max_examples": examples, "stateful_step_count": steps, "derandomize": True, "phases": phases}
    try:
        run_machine(Histories, settings=settings(CAMPAIGN, **options))
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return ""


def campaign(*, quick: bool) -> Outcome:
    """Run histories; in the quick form, few and short ones."""
    examples, steps = (20, 40) if quick else (1_000, 100)
    Histories.counts.clear()
    violation = run(examples, steps, Phase.generate, Phase.shrink)
    outcome = Outcome(Counter(histories=examples) + Histories.counts, [violation] if violation else [])
    with without("writing the root last"):
        outcome.control("writing the root last", [run(50, 40, Phase.generate)])
    return outcome
