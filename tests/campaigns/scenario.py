"""A job that is cut off, in every way: it ends with the same bytes, whatever had become of it before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import store_spec
from tests.campaigns.trees import Tree, difference, promised, read_tree
from tests.store.oracle import Sequence, assert_holds

STORE = "store"  # its name in the folder of a scenario

State = list[Sequence] | None  # what readers may see: the sequences of a store, or no store


@contextmanager
def steady_builds() -> Iterator[None]:
    """Let builds commit whenever that would add something, and do the same operations however new their files are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
        patch.setattr("builder.sources.fingerprints.SETTLED_NS", -(10**9))
        yield


class BrokenError(Exception):
    """A promise does not hold; the message says how."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A job on the store in a folder. Done again after it was cut off, it ends as if it had not been."""

    name: str
    states: tuple[State, ...]  # in the order in which readers may see them, from that before to that after the job
    prepare: Callable[[Path], None]  # makes what an empty folder holds before
    act: Callable[[Path], None]  # the job
    new: Callable[[Path], None]  # begins and leaves a new store, for `reopen`
    looks_for: frozenset[str] = frozenset()  # operations that fail where a file is damaged, as the job expects

    def seen(self, folder: Path) -> int:
        """Return which state readers see, after comparing every row, and all that `verify` compares.

        Raises:
            BrokenError: It is none of them.
        """
        path = folder / STORE
        if not path.exists():
            if None not in self.states:
                raise BrokenError("the store is gone")
            return self.states.index(None)
        store = store_spec.open_store(path)
        for number, state in enumerate(self.states):
            if state is not None and tuple(one.source for one in state) == store.sources:
                assert_holds(store, state)
                problems = [str(problem) for problem in store_spec.verify(path) if not problem.leftover]
                if problems:
                    raise BrokenError(f"verify says: {problems[0]}")
                return number
        raise BrokenError(f"a store of {len(store):,} sequences, which no commit has")

    def reopen(self, folder: Path) -> None:
        """Open what is there for writing, which puts it right, and write nothing."""
        if (folder / STORE).exists():
            store_spec.open_store(folder / STORE, "a").close()
        else:
            self.new(folder)

    def finished(self, place: Path) -> Tree:
        """Return what the job leaves that nothing disturbs; it is done in the folder `place`.

        Raises:
            BrokenError: Readers do not see the first state before it, and the last one after it.
        """
        place.mkdir(parents=True)
        self.prepare(place)
        before = self.seen(place)
        self.act(place)
        seen, due = (before, self.seen(place)), (0, len(self.states) - 1)
        if seen != due:  # else every disaster could leave what is seen here
            raise BrokenError(f"readers see the states {seen} before and after {self.name}, where {due} are due")
        return read_tree(place)

    def finish(self, folder: Path, expected: Tree) -> None:
        """Do the job again.

        Raises:
            BrokenError: It does not end with the bytes of one that nothing disturbed.
        """
        self.act(folder)
        differs = difference(promised(read_tree(folder)), promised(expected))
        if differs:
            raise BrokenError(f"done again, the job ends with other bytes: {differs}")


def broken(why: Exception) -> str:
    """Return an exception as a sentence; a store that cannot be read is a broken promise like any other."""
    return str(why) if isinstance(why, BrokenError) else f"{type(why).__name__}: {why}"
