"""Jobs that campaigns interrupt: writing, building and repairing a store."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

import store_spec
from builder.build_errors import BuildError
from builder.execution.build import build
from builder.maintenance.repair import repair
from store_spec import StoreLocation
from store_spec.errors import MissingStoreError, StoreError
from store_spec.format.times import Time
from store_spec.windows.shape import WindowShape
from tests.builder.made_sources import Made, expected, read_made, write_made
from tests.campaigns.trees import Tree, difference, read_tree, without_cache
from tests.store.damage import Damage, contents, removed
from tests.store.oracle import Recipe, Sequence, append, assert_holds, make
from tests.store.window_oracle import listed

STORE = "store"  # the name of the store in the folder of a scenario
WINDOW = 2
DAMAGED, WHOLE = range(2)  # the states of a repair

State = list[Sequence] | None  # the sequences that readers see; None: there is no store


class ViolationError(Exception):
    """A promise does not hold: the checks of this module raise it."""


def describe(error: Exception) -> str:
    """Return the message of an error. An unexpected error is also a violation of a promise."""
    return str(error) if isinstance(error, ViolationError) else f"{type(error).__name__}: {error}"


def visible_state(location: StoreLocation, states: tuple[State, ...]) -> int:
    """Return which of these states readers see, after comparing all rows and running `verify`."""
    try:
        store = store_spec.open_store(location)
    except MissingStoreError:
        if None not in states or (isinstance(location, Path) and location.exists()):
            raise
        return states.index(None)
    for number, state in enumerate(states):
        if state is not None and tuple(sequence.source for sequence in state) == store.sources:
            assert_holds(store, state)
            if problems := [str(problem) for problem in store_spec.verify(location) if not problem.leftover]:
                raise ViolationError(f"verify reports: {problems[0]}")
            return number
    raise ViolationError(f"readers see {len(store):,} sequences, which are not those of any commit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A job on a store. If it is interrupted and run again, it ends with the same bytes as without interruption."""

    name: str
    states: tuple[State, ...]  # what readers may see, in this order, from before the job until after it
    prepare: Callable[[Path], None]  # creates the initial content of an empty folder
    run: Callable[[Path], None]
    create: Callable[[Path], None]  # creates an empty store
    handled: frozenset[str] = frozenset()  # kinds of operations whose I/O errors the job takes for damage

    def visible_state(self, folder: Path) -> int:
        return visible_state(folder / STORE, self.states)

    def recover(self, folder: Path) -> None:
        """Open the store for writing, which recovers it, and close it."""
        if (folder / STORE).exists():
            store_spec.open_store(folder / STORE, "a").close()
        else:
            self.create(folder)

    def run_undisturbed(self, folder: Path) -> Tree:
        """Prepare a new folder, run the job, check the states before and after it, and return the content."""
        folder.mkdir(parents=True)
        self.prepare(folder)
        before = self.visible_state(folder)
        self.run(folder)
        states, expected = (before, self.visible_state(folder)), (0, len(self.states) - 1)
        if states != expected:
            raise ViolationError(f"{self.name}: states {states} before and after the job, expected {expected}")
        return read_tree(folder)

    def resume(self, folder: Path, expected: Tree) -> str:
        """Run the job again after an interruption; return a message if it ends with other bytes, or else ""."""
        self.run(folder)
        differs = difference(without_cache(read_tree(folder)), without_cache(expected))
        return differs and f"the resumed job ends with other bytes: {differs}"


def scenarios(place: Path, *, small: bool, third: int | None = None) -> list[Scenario]:
    """Return all scenarios, whose source files are written in `place`. All campaigns about files use this list.

    With `small`, they make fewer commits. `third` selects every third of them, starting with this one, for the quick
    campaigns.
    """
    sources = {
        f"{number}.made": Made(lengths=(7 + 3 * number, 5)[: 1 + number % 2], seed=number)
        for number in range(3 if small else 6)
    }
    sources["1b.made"] = Made(fault="raises")
    first = {name: sources[name] for name in sorted(sources)[: 2 if small else 3]}
    # Two sources changed, one removed, one added.
    updated = {**sources, "0.made": Made(lengths=(4, 6), seed=9), "1.made": Made(lengths=(11,), seed=8)}
    updated["9.made"] = updated.pop("2.made")
    whole = {f"{name}.made": Made(lengths=(5, 4 + number, 0, 7), seed=number) for number, name in enumerate("abcdef")}
    truncated = contents("inputs/c.1.0", lambda data: data[:100])
    jobs = [
        _writing("create", [9, 0, 14] if small else [7, 30, 0, 12, 25, 3], before=0, commits=(0,) if small else (1, 3)),
        _writing("append", [9, 3, 14] if small else [7, 30, 0, 12, 25, 3], before=1 if small else 2, commits=(3,)),
        _building("build", place, before={}, after=sources),
        _building("build more", place, before=first, after=sources),
        _building("update", place, before=sources, after=updated),
        _repairing("repair rows", place, whole, removed("inputs/c.2.0"), _swap_labels),
        _repairing("repair metadata", place, whole, removed("labels/zarr.json"), truncated),
    ]
    return jobs if third is None else jobs[third::3]


def _writing(name: str, lengths: list[int], *, before: int, commits: tuple[int, ...]) -> Scenario:
    """Append sequences with a writer and commit after some of them."""
    recipe = Recipe(label_axis="own", chunk=60, shard=120, columns=(("site", "string"),), time=Time("s"))
    sequences = make(recipe, lengths)

    def write(folder: Path, stop: int) -> None:
        path = folder / STORE
        with store_spec.open_store(path, "a") if path.exists() else recipe.create(path) as writer:
            for number in range(len(writer), stop):
                append(writer, sequences[number : number + 1])
                if number in commits:
                    writer.commit()

    return Scenario(
        name=name,
        states=(sequences[:before] or None, *(sequences[:stop] for stop in range(before + 1, len(sequences) + 1))),
        prepare=lambda folder: write(folder, before) if before else None,
        run=lambda folder: write(folder, len(sequences)),
        create=lambda folder: recipe.create(folder / STORE).close(),
    )


@contextmanager
def _deterministic_builds() -> Iterator[None]:
    """Make builds commit as often as possible, and independently of the age of their sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
        patch.setattr("builder.sources.fingerprints.SETTLED_NS", -(10**9))
        yield


def _building(name: str, place: Path, *, before: dict[str, Made], after: dict[str, Made]) -> Scenario:
    """Build a store from files, one of which is broken."""
    write_made(place / name / "before", before)
    write_made(place / name / "after", after)
    options: dict[str, Any] = {"batch": 1, "chunk": 48, "shard": 96, "update": True, "retire_missing": True}

    def run(folder: Path, sources: str) -> None:
        with _deterministic_builds():
            build(place / name / sources, folder / STORE, process=read_made, workers=0, **options)

    # Sources are added or replaced one by one, in the order of their names.
    states: list[State] = [expected(before) if before else None]
    changed = sorted(source for source, made in after.items() if made != before.get(source) and not made.fault)
    for count in range(1, len(changed) + 1):
        added = {source: after[source] for source in changed[:count]}
        kept = {source: made for source, made in before.items() if source in after and source not in added}
        states.append(expected(kept) + expected(added))
    return Scenario(
        name=name,
        states=tuple(states),
        prepare=lambda folder: run(folder, "before") if before else None,
        run=lambda folder: run(folder, "after"),
        create=lambda folder: Recipe().create(folder / STORE).close(),
    )


@dataclass(frozen=True, kw_only=True)
class Repair(Scenario):
    """The repair of a damaged store. Until it has ended, readers get the stored rows or an error.

    Both states have the same sequences: those before the damage and after the repair.
    """

    def visible_state(self, folder: Path) -> int:
        """Return whether the store is whole, after comparing everything that can be read without an error."""
        path = folder / STORE
        with suppress(StoreError):
            store = store_spec.open_store(path)
            for number in range(len(store)):
                with suppress(StoreError):
                    inputs, labels = store[number]
                    self._check("sequence", (store.sources[number], bytes(inputs), bytes(labels)))
            with suppress(StoreError):
                windows = store.windows(WINDOW)
                for x, y, numbers in windows.batches(8, shuffle=True, index=True):
                    for place, source in enumerate(windows.locate(numbers).source.tolist()):
                        self._check("window", (source, x[place].tobytes(), y[place].tobytes()))
            if all(problem.retired or problem.leftover for problem in store_spec.verify(path)):
                found = [(source, *map(bytes, store[number])) for number, source in enumerate(store.sources)]
                whole = [(one.source, bytes(one.inputs), bytes(one.labels)) for one in self.states[WHOLE] or ()]
                if sorted(found, key=itemgetter(0)) == whole:
                    return WHOLE
        return DAMAGED

    def recover(self, folder: Path) -> None:
        """Run the repair again, because a damaged store cannot always be opened for writing."""
        self.run(folder)

    def _check(self, what: str, found: tuple[str, bytes, bytes]) -> None:
        if found not in self._valid_rows:
            raise ViolationError(f"readers get a wrong {what} of {found[0]}")

    @cached_property
    def _valid_rows(self) -> frozenset[tuple[str, bytes, bytes]]:
        """All sequences and windows of all sources."""
        valid: set[tuple[str, bytes, bytes]] = set()
        for sequence in self.states[WHOLE] or ():
            source, inputs, labels = sequence.source, sequence.inputs, sequence.labels
            windows = listed([(inputs, labels)], WindowShape(window=WINDOW))
            valid |= {(source, x.tobytes(), y.tobytes()) for x, y in [(inputs, labels), *windows]}
        return frozenset(valid)


def _repairing(name: str, place: Path, sources: dict[str, Made], *damages: Damage) -> Scenario:
    write_made(place / name, sources)

    def prepare(folder: Path) -> None:
        with _deterministic_builds():
            build(place / name, folder / STORE, process=read_made, workers=0, chunk=60, shard=240)
        for damage in damages:
            damage(folder / STORE)

    def run(folder: Path) -> None:
        with _deterministic_builds():
            report = repair(folder / STORE, place / name, process=read_made, workers=0)
        if report.left:
            raise BuildError("; ".join(map(str, (*report.left, *report.failures))))

    states = (expected(sources), expected(sources))
    handled = frozenset({"open", "read", "list"})
    return Repair(name=name, states=states, prepare=prepare, run=run, create=run, handled=handled)


def _swap_labels(store: Path) -> None:
    first, second = store / "labels/c.0", store / "labels/c.1"
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
