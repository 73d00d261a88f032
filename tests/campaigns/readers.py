"""Readers in other processes while a writer appends, updates and commits: no read is wrong, and none fails.

A writer makes many small commits, each of which replaces the last, partial shards and the last chunks of the tables;
some retire a sequence, and have a new version of its source. Meanwhile readers read through handles that they opened
long before, opened anew, or got by pickling.
"""

from __future__ import annotations

import os
import pickle
import random
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import store_spec
from store_spec import Store
from store_spec.disk import shards
from tests.campaigns.outcome import Outcome
from tests.campaigns.rot_cases import small_tables
from tests.campaigns.together import Failure, nothing, together
from tests.store.oracle import Recipe, Sequence, random_rows, same

RECIPE = Recipe(inputs=("float32", (2,)), labels=("int16", ()), label_axis="own", chunk=512, shard=1536)
LONGEST = 12  # steps of a sequence; a chunk of inputs has 64, so its bytes move as it fills, and a shard has 192
BEFORE = 20  # sequences that are there when readers begin
UPDATE, BACK = 5, 17  # each fifth of the others is a new version of the one that lies so many places before it
HELD = 8  # handles that a reader holds at the same time
READERS = 2
TABLE_CHUNK_BYTES = 2**12  # 512 rows of int64, 128 names
KINDS = ("handles held", "handles opened anew", "handles that were pickled")
SHOWN = 3  # broken reads that are told in words
SECONDS = 900


@dataclass(slots=True)
class Reads:
    """What a reader saw, or all of them."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, kind: str, problem: str | None) -> None:
        """Count one read, which is wrong or failed where there is a problem."""
        self.counts[f"through {kind}"] += 1
        self.counts["reads"] += 1
        if problem is not None:
            self.counts["wrong or failed"] += 1
            if len(self.broken) < SHOWN:
                self.broken.append(f"read {self.counts['reads']:,}, {kind}: {problem}")


def campaign(*, quick: bool) -> Outcome:
    """Let readers make their reads while a writer commits without a pause."""
    reads, sequences = (600, 40) if quick else (100_000, 2_000)
    found = _race(reads, sequences, control=False)
    control = _race(300, 30, control=True)
    return Outcome(
        figures={"wrong or failed": 0, **found.counts},
        violations=found.broken,
        controls={"reading the last shard in one request": control.counts["wrong or failed"]},
    )


def _race(reads: int, sequences: int, *, control: bool) -> Reads:
    """Let readers and a writer run at the same time; return what all readers saw."""
    found = Reads()
    with tempfile.TemporaryDirectory() as folder:
        path, done = Path(folder, "store.zarr"), [Path(folder, f"done-{number}") for number in range(READERS)]
        with small_tables(TABLE_CHUNK_BYTES), RECIPE.create(path) as writer:
            _append(writer, range(BEFORE))
        calls: list[Any] = [(_read, (path, reads // READERS, sequences, mark, control)) for mark in done]
        for result in together([*calls, (_write, (path, done))], seconds=SECONDS):
            if isinstance(result, Failure):
                found.broken.append(result.what)
            else:
                found.counts += result.counts
                found.broken += result.broken
    return found


def sequence(number: int) -> Sequence:
    """Return sequence `number` of the store, retired ones counted: all follows from the number."""
    rng = np.random.default_rng(number)
    steps, label_steps = (int(length) for length in rng.integers(0, LONGEST + 1, 2))
    inputs, labels = random_rows(rng, steps, *RECIPE.inputs), random_rows(rng, label_steps, *RECIPE.labels)
    oldest = number
    while _is_update(oldest):
        oldest -= BACK
    return Sequence(f"walk-{oldest:06}", inputs, labels)


def _is_update(number: int) -> bool:
    return number >= BEFORE and number % UPDATE == 0


def _left(sequences: int) -> list[int]:
    """Return the numbers of the first sequences that are not retired by others of them."""
    retired = {number - BACK for number in range(sequences) if _is_update(number)}
    return [number for number in range(sequences) if number not in retired]


def _append(writer: store_spec.Writer, numbers: range) -> None:
    for number in numbers:
        new = sequence(number)
        if _is_update(number):
            writer.retire(new.source)
        writer.append(new.inputs, new.labels, source=new.source)


def _write(path: Path, done: list[Path]) -> Reads:
    """Append one, two or three sequences and commit, again and again until all readers are done."""
    written, number = Reads(), BEFORE
    # Nobody cuts the power here, and without waiting for the disk there are more commits to race with.
    with small_tables(TABLE_CHUNK_BYTES), mock.patch.object(os, "fsync", nothing):
        while not all(mark.exists() for mark in done):
            with store_spec.open_store(path, "a") as writer:
                for count in (1, 2, 3):
                    _append(writer, range(number, number + count))
                    number += count
                    writer.commit()
                    written.counts["commits meanwhile"] += 1
    return written


def _read(path: Path, reads: int, sequences: int, done: Path, control: bool) -> Reads:  # noqa: FBT001
    """Read through handles opened before, opened anew, or got by pickling, until reads and sequences are enough."""
    seen, rng = Reads(), random.Random(str(done))
    try:
        with small_tables(TABLE_CHUNK_BYTES), _without_last_shard(control):
            handles = [store_spec.open_store(path) for _ in range(HELD)]
            while seen.counts["reads"] < reads or max(map(len, handles)) < sequences:
                place, kind = rng.randrange(HELD), rng.choices(KINDS, (6, 1, 1))[0]
                seen.add(kind, _problem(path, kind, handles, place, rng))
                if seen.counts["reads"] > reads:
                    time.sleep(0.005)  # the writer is what is waited for
    finally:
        done.touch()
    return seen


def _problem(path: Path, kind: str, handles: list[Store], place: int, rng: random.Random) -> str | None:
    """Make one read; return what is wrong with it. A handle that is new takes the place of an old one."""
    try:
        if kind == "handles opened anew":
            handles[place] = store_spec.open_store(path)
        elif kind == "handles that were pickled":
            handles[place] = pickle.loads(pickle.dumps(handles[place]))
        return _wrong(handles[place], rng)
    except Exception as error:  # noqa: BLE001  # whatever it is, the read failed
        return f"{type(error).__name__}: {error}"


def _wrong(store: Store, rng: random.Random) -> str | None:
    """Read something; return what it was if it is not what the numbers of the sequences give."""
    left = _left(store.counts.sequences)
    if store.selection.tolist() != left:
        return f"the sequences that are not retired are not those of the first {store.counts.sequences:,}"
    # Half of the time from the end, where shards are replaced.
    number = rng.randrange(len(left)) if rng.random() < 0.5 else len(left) - 1 - rng.randrange(5)
    expected = sequence(left[number])
    steps = len(expected.inputs)
    draw = rng.random()
    if draw < 0.5:
        what, right = f"sequence {number}", _equal(store[number], expected.inputs, expected.labels)
    elif draw < 0.8:
        start = rng.randint(0, steps)
        stop = rng.randint(start, steps)
        what = f"steps {start} to {stop} of sequence {number}"
        right = _equal(store.read(number, start, stop), expected.inputs[start:stop], expected.labels)
    elif draw < 0.95:
        what = f"sequence {number} by its name"
        one = store.select(expected.source)
        right = (
            len(one) == 1 and int(one.stats().count[0]) == steps and int(one.label_lengths[0]) == len(expected.labels)
        )
    else:
        what, last = "the last sequences, padded", left[-5:]
        inputs, _, mask, _ = next(store[-5:].padded(5))
        right = same(inputs[mask], np.concatenate([sequence(each).inputs for each in last]))
    return None if right else f"{what} of {len(store):,} is wrong"


def _equal(found: tuple[Any, Any], inputs: Any, labels: Any) -> bool:
    return same(found[0], inputs) and same(found[1], labels)


@contextmanager
def _without_last_shard(control: bool) -> Iterator[None]:  # noqa: FBT001
    """In the control, read the last, partial shard as others: its index once, then chunks, opening it for each."""
    if control:
        each_anew = mock.patch.object(shards, "most_open_of_all", return_value=0)
        with mock.patch.object(shards, "get_whole", nothing), each_anew:
            yield
    else:
        yield
