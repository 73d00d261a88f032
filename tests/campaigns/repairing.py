"""Repairs, as jobs that are cut off: until one is done, readers get what was stored, or an error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path

import store_spec
from builder.build_errors import BuildError
from builder.execution.build import build
from builder.maintenance.repair import repair
from store_spec.errors import StoreError
from tests.builder.made_sources import Made, expected, read_made, write_made
from tests.campaigns.scenario import STORE, BrokenError, Scenario, steady_builds
from tests.store.oracle import Sequence

WINDOW = 2

READS = frozenset({"open", "read", "list"})
DAMAGED, WHOLE = range(2)  # what readers may see
Harm = Callable[[Path], None]  # damages the store in a folder


@dataclass(frozen=True, kw_only=True)
class Repairing(Scenario):
    """A repair. Its states have the sequences of the store before it was damaged, and after the repair."""

    def seen(self, folder: Path) -> int:
        """Return whether the store is whole, after comparing all that readers get without an error.

        Raises:
            BrokenError: They get what no source ever had.
        """
        path = folder / STORE
        with suppress(StoreError):
            store = store_spec.open_store(path)
            for number in range(len(store)):
                with suppress(StoreError):
                    inputs, labels = store[number]
                    self._compare("sequence", (store.sources[number], bytes(inputs), bytes(labels)))
            with suppress(StoreError):
                windows = store.windows(WINDOW)
                for x, y, numbers in windows.batches(8, shuffle=True, index=True):
                    for one, source in enumerate(windows.locate(numbers).source.tolist()):
                        self._compare("window", (source, x[one].tobytes(), y[one].tobytes()))
            if all(problem.retired or problem.leftover for problem in store_spec.verify(path)):
                found = [(source, *map(bytes, store[number])) for number, source in enumerate(store.sources)]
                if sorted(found, key=itemgetter(0)) == [_frozen(one) for one in self.states[WHOLE] or ()]:
                    return WHOLE
        return DAMAGED

    def reopen(self, folder: Path) -> None:
        """Do the job again: who opens a damaged store for writing may be refused."""
        self.act(folder)

    def _compare(self, what: str, found: tuple[str, bytes, bytes]) -> None:
        if found not in self._known:
            raise BrokenError(f"readers get a {what} of {found[0]} that it never had")

    @cached_property
    def _known(self) -> frozenset[tuple[str, bytes, bytes]]:
        """All sequences and windows that any source ever had."""
        return frozenset(self._all())

    def _all(self) -> Iterator[tuple[str, bytes, bytes]]:
        for one in (sequence for state in self.states for sequence in state or []):
            yield _frozen(one)
            for at in range(len(one.inputs) - WINDOW):
                label = one.labels[at + WINDOW : at + WINDOW + 1]
                yield one.source, one.inputs[at : at + WINDOW].tobytes(), label.tobytes()


def _frozen(sequence: Sequence) -> tuple[str, bytes, bytes]:
    return sequence.source, bytes(sequence.inputs), bytes(sequence.labels)


def repairs(place: Path) -> list[Scenario]:
    """Return all of them, whose source files are written below `place`."""
    made = {f"{name}.made": Made(lengths=(5, 4 + number, 0, 7), seed=number) for number, name in enumerate("abcdef")}
    return [
        _repaired("repair rows", place / "repair rows", made, _rows),
        _repaired("repair metadata", place / "repair metadata", made, _metadata),
    ]


def _repaired(name: str, place: Path, made: dict[str, Made], harm: Harm) -> Scenario:
    write_made(place, made)

    def prepare(folder: Path) -> None:
        with steady_builds():
            build(place, folder / STORE, process=read_made, workers=0, chunk=60, shard=240)
        harm(folder / STORE)

    def act(folder: Path) -> None:
        with steady_builds():
            done = repair(folder / STORE, place, process=read_made, workers=0)
        if done.left:
            raise BuildError("; ".join(map(str, (*done.left, *done.failures))))  # the command ends with status 1

    states = (expected(made), expected(made))
    return Repairing(name=name, states=states, prepare=prepare, act=act, new=act, looks_for=READS)


def _rows(store: Path) -> None:
    """Lose a shard of inputs, and let two of labels change places."""
    (store / "inputs/c.2.0").unlink()
    one, other = store / "labels/c.0", store / "labels/c.1"
    data = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(data)


def _metadata(store: Path) -> None:
    """Lose an array's metadata, and most of a shard."""
    (store / "labels/zarr.json").unlink()
    shard = store / "inputs/c.1.0"
    shard.write_bytes(shard.read_bytes()[:100])
