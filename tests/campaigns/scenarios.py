"""Jobs that campaigns interrupt: writing, building and repairing a store."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from collections.abc import Sequence as Several
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import store_spec
from builder.build_errors import BuildError
from builder.execution.build import build
from builder.maintenance.repair import repair
from store_spec import StoreLocation
from store_spec.errors import MissingStoreError
from store_spec.format.times import Time
from tests.builder.made_sources import Made, expected, read_made, write_made
from tests.campaigns.trees import Tree, difference, read_tree, without_cache
from tests.store.damage import Damage, contents, removed
from tests.store.everything import crashes_in, problems_in, read_all, wrong_in
from tests.store.oracle import Recipe, Sequence, append, assert_holds, make

STORE = "store"  # the name of the store in the folder of a scenario
DAMAGED, WHOLE = range(2)  # the states of a repair

State = list[Sequence] | None  # the sequences that readers see; None: there is no store


class ViolationError(Exception):
    """A promise does not hold: the checks of this module raise it."""


def describe(error: Exception) -> str:
    """Return the message of an error. An unexpected error is also a violation of a promise."""
    return str(error) if isinstance(error, ViolationError) else f"{type(error).__name__}: {error}"


def visible_state(location: StoreLocation, states: Several[State]) -> int:
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
            if problems := problems_in(location, leftovers=False):
                raise ViolationError(f"verify reports: {problems[0]}")
            return number
    raise ViolationError(f"readers see {len(store):,} sequences, which are not those of any commit")


def compare(folder: Path, expected: Tree) -> str:
    """Describe how a folder differs from a tree, apart from caches of builds; return an empty string if it does not."""
    return difference(without_cache(read_tree(folder)), without_cache(expected))


class Scenario(ABC):
    """A job on a store. If it is interrupted and run again, it ends with the same bytes as without interruption."""

    name: str
    states: list[State]  # what readers may see, in this order, from before the job until after it
    recipe = Recipe()  # of an empty store
    handled: frozenset[str] = frozenset()  # kinds of operations whose I/O errors the job takes for damage

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Create the initial content of an empty folder."""

    @abstractmethod
    def run(self, folder: Path) -> None:
        """Do the job, or the rest of it."""

    def recover(self, folder: Path) -> None:
        """Open the store for writing, which recovers it, and close it."""
        if (folder / STORE).exists():
            store_spec.open_store(folder / STORE, "a").close()
        else:
            self.recipe.create(folder / STORE).close()

    def visible_state(self, folder: Path) -> int:
        return visible_state(folder / STORE, self.states)

    def run_undisturbed(self, folder: Path) -> Tree:
        """Prepare a new folder, run the job, check the states before and after it, and return the content."""
        folder.mkdir(parents=True)
        self.prepare(folder)
        before = self.visible_state(folder)
        self.run(folder)
        states, due = (before, self.visible_state(folder)), (0, len(self.states) - 1)
        if states != due:
            raise ViolationError(f"{self.name}: states {states} before and after the job, expected {due}")
        return read_tree(folder)

    def resume(self, folder: Path, expected: Tree) -> str:
        """Run the job again after an interruption; return a message if it ends with other bytes, or else ""."""
        self.run(folder)
        differs = compare(folder, expected)
        return differs and f"the resumed job ends with other bytes: {differs}"


def scenarios(place: Path, *, small: bool, third: int | None = None) -> list[Scenario]:
    """Return all scenarios, whose source files are written in `place`. All campaigns about files use this list.

    With `small`, they make fewer commits. `third` selects every third of them, starting with this one, for the quick
    campaigns.
    """
    lengths, commits = ([9, 0, 14], (0,)) if small else ([7, 30, 0, 12, 25, 3], (1, 3))
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
        Writing("create", lengths, before=0, commits=commits),
        Writing("append", [9, 3, 14] if small else lengths, before=1 if small else 2, commits=(3,)),
        Building("build", place, before={}, after=sources),
        Building("build more", place, before=first, after=sources),
        Building("update", place, before=sources, after=updated),
        Repair("repair rows", place, whole, removed("inputs/c.2.0"), _swap_labels),
        Repair("repair metadata", place, whole, removed("labels/zarr.json"), truncated),
    ]
    return jobs if third is None else jobs[third::3]


class Writing(Scenario):
    """Append sequences with a writer and commit after some of them."""

    recipe = Recipe(label_axis="own", chunk=60, shard=120, columns=(("site", "string"),), time=Time("s"))

    def __init__(self, name: str, lengths: list[int], *, before: int, commits: tuple[int, ...]) -> None:
        self.name, self._before, self._commits = name, before, commits
        self._sequences = make(self.recipe, lengths)
        later = (self._sequences[:stop] for stop in range(before + 1, len(lengths) + 1))
        self.states = [self._sequences[:before] or None, *later]

    def prepare(self, folder: Path) -> None:
        if self._before:
            self._write(folder / STORE, self._before)

    def run(self, folder: Path) -> None:
        self._write(folder / STORE, len(self._sequences))

    def _write(self, path: Path, stop: int) -> None:
        with store_spec.open_store(path, "a") if path.exists() else self.recipe.create(path) as writer:
            for number in range(len(writer), stop):
                append(writer, self._sequences[number : number + 1])
                if number in self._commits:
                    writer.commit()


@contextmanager
def _deterministic_builds() -> Iterator[None]:
    """Make builds commit as often as possible, and independently of the age of their sources."""
    with (
        mock.patch("builder.execution.run.COMMIT_SECONDS", -1.0),
        mock.patch("builder.sources.fingerprints.SETTLED_NS", -(10**9)),
    ):
        yield


class Building(Scenario):
    """Build a store from files."""

    process: Any = staticmethod(read_made)
    options: ClassVar[dict[str, Any]] = {
        "batch": 1, "chunk": 48, "shard": 96, "update": True, "retire_missing": True,
    }  # fmt: skip

    def __init__(self, name: str, place: Path, *, before: dict[str, Made], after: dict[str, Made]) -> None:
        self.name, self.sources = name, place / name / "after"
        self._first = place / name / "before" if before else None
        write_made(place / name / "before", before)
        write_made(self.sources, after)
        # A new store may be empty at first. Sources are added or replaced one by one, in the order of their names.
        self.states = [expected(before)] if before else [None, []]
        changed = sorted(source for source, made in after.items() if made != before.get(source) and not made.fault)
        for count in range(1, len(changed) + 1):
            added = {source: after[source] for source in changed[:count]}
            kept = {source: made for source, made in before.items() if source in after and source not in added}
            self.states.append(expected(kept) + expected(added))

    def prepare(self, folder: Path) -> None:
        if self._first:
            self._build(self._first, folder)

    def run(self, folder: Path) -> None:
        self._build(self.sources, folder)

    def _build(self, sources: Path, folder: Path) -> None:
        with _deterministic_builds():
            build(sources, folder / STORE, process=self.process, workers=0, **self.options)


class Repair(Scenario):
    """The repair of a damaged store. Until it has ended, readers get the stored rows or an error.

    Both states have the same sequences: those before the damage and after the repair.
    """

    handled = frozenset({"open", "read", "list"})

    def __init__(self, name: str, place: Path, sources: dict[str, Made], *damages: Damage) -> None:
        self.name, self._sources, self._damages = name, place / name / "sources", damages
        self.states = [expected(sources), expected(sources)]
        write_made(self._sources, sources)
        self._build(place / name / STORE)
        assert_holds(store_spec.open_store(place / name / STORE), expected(sources))
        self._whole = read_all(place / name / STORE)

    def prepare(self, folder: Path) -> None:
        self._build(folder / STORE)
        for damage in self._damages:
            damage(folder / STORE)

    def run(self, folder: Path) -> None:
        with _deterministic_builds():
            report = repair(folder / STORE, self._sources, process=read_made, workers=0)
        if report.left:
            raise BuildError("; ".join(map(str, (*report.left, *report.failures))))

    def recover(self, folder: Path) -> None:
        """Run the repair again, because a damaged store cannot always be opened for writing."""
        self.run(folder)

    def visible_state(self, folder: Path) -> int:
        """Return whether the store is whole, after comparing everything that can be read without an error."""
        found = read_all(folder / STORE)
        for error in crashes_in(found):
            raise error
        if differing := wrong_in(found, self._whole):
            raise ViolationError(f"readers get a wrong {differing[0]}")
        return WHOLE if found == self._whole and not problems_in(folder / STORE, leftovers=False) else DAMAGED

    def _build(self, path: Path) -> None:
        with _deterministic_builds():
            build(self._sources, path, process=read_made, workers=0, chunk=60, shard=240)


def _swap_labels(store: Path) -> None:
    first, second = store / "labels/c.0", store / "labels/c.1"
    data = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(data)
