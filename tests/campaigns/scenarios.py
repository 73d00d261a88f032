"""The jobs that are cut off: what writes, what builds, and what repairs."""

from __future__ import annotations

from pathlib import Path

import store_spec
from builder.execution.build import build
from store_spec.format.times import Time
from tests.builder.made_sources import Made, expected, read_made, write_made
from tests.campaigns.repairing import repairs
from tests.campaigns.scenario import STORE, Scenario, State, steady_builds
from tests.store.oracle import Recipe, append, make


def scenarios(place: Path, *, small: bool, third: int | None = None) -> list[Scenario]:
    """Return all of them, whose source files are written below `place`.

    Another one is another entry here: every campaign about file operations takes this list.

    Args:
        place: A folder for source files.
        small: Whether they make few commits.
        third: Return every third one, from this one on; the quick forms of the campaigns take one third each.
    """
    made = {
        f"{number}.made": Made(lengths=(7 + 3 * number, 5)[: 1 + number % 2], seed=number)
        for number in range(3 if small else 6)
    }
    made["1b.made"] = Made(fault="raises")
    some = {name: made[name] for name in sorted(made)[: 2 if small else 3]}
    # Two sources changed, one vanished, one is new.
    other = {**made, "0.made": Made(lengths=(4, 6), seed=9), "1.made": Made(lengths=(11,), seed=8)}
    other["9.made"] = other.pop("2.made")
    jobs = [
        _written("create", [9, 0, 14] if small else [7, 30, 0, 12, 25, 3], before=0, commits=(0,) if small else (1, 3)),
        _written("append", [9, 3, 14] if small else [7, 30, 0, 12, 25, 3], before=1 if small else 2, commits=(3,)),
        _built("build", place / "build", before={}, now=made),
        _built("build more", place / "build more", before=some, now=made),
        _built("update", place / "update", before=made, now=other),
        *repairs(place),
    ]
    return jobs if third is None else jobs[third::3]


def _written(name: str, lengths: list[int], *, before: int, commits: tuple[int, ...]) -> Scenario:
    """Append arrays with a writer, with commits after some of them."""
    recipe = Recipe(label_axis="own", chunk=60, shard=120, columns=(("site", "string"),), time=Time("s"))
    sequences = make(recipe, lengths)

    def go_on(folder: Path, until: int) -> None:
        path = folder / STORE
        writer = store_spec.open_store(path, "a") if path.exists() else recipe.create(path)
        with writer:
            for number in range(len(writer), until):
                append(writer, sequences[number : number + 1])
                if number in commits:
                    writer.commit()

    def prepare(folder: Path) -> None:
        if before:
            go_on(folder, before)

    return Scenario(
        name=name,
        states=(sequences[:before] or None, *(sequences[:end] for end in range(before + 1, len(sequences) + 1))),
        prepare=prepare,
        act=lambda folder: go_on(folder, len(sequences)),
        new=lambda folder: recipe.create(folder / STORE).close(),
    )


def _built(name: str, place: Path, *, before: dict[str, Made], now: dict[str, Made]) -> Scenario:
    """Build from files, one of which is broken, with a commit whenever one would add something."""
    write_made(place / "before", before)
    write_made(place / "now", now)

    def run(folder: Path, sources: Path) -> None:
        with steady_builds():
            build(
                sources,
                folder / STORE,
                process=read_made,
                workers=0,
                batch=1,
                chunk=48,
                shard=96,
                update=True,
                retire_missing=True,
            )

    def prepare(folder: Path) -> None:
        if before:
            run(folder, place / "before")

    return Scenario(
        name=name,
        states=_updated(before, now),
        prepare=prepare,
        act=lambda folder: run(folder, place / "now"),
        new=lambda folder: Recipe().create(folder / STORE).close(),
    )


def _updated(before: dict[str, Made], now: dict[str, Made]) -> tuple[State, ...]:
    """Return the states of a store whose sources change: first the old ones, then with more and more of the new."""
    fresh = sorted(name for name, made in now.items() if made != before.get(name) and not made.fault)
    states: list[State] = [expected(before) if before else None]
    for count in range(1, len(fresh) + 1):
        added = {name: now[name] for name in fresh[:count]}
        kept = {name: made for name, made in before.items() if name in now and name not in added}
        states.append(expected(kept) + expected(added))
    return tuple(states)
