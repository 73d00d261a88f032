"""Rivals: two and three writers at once append to one store and commit, each in a process of its own.

A writer acknowledges a sequence when `commit` has returned. In the end every acknowledged sequence has to be there,
right and once, and `verify` has to find nothing.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from unittest import mock

import numpy as np

import store_spec
from store_spec import StoreError, StoreLocation
from store_spec.disk.job import ShardJob
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.lock import build_folder
from store_spec.errors import ConflictError, LockedError, SequenceError
from tests.campaigns.outcome import Outcome
from tests.campaigns.together import Failure, nothing, together
from tests.store.oracle import Recipe, Sequence, random_rows, same

RECIPE = Recipe(inputs=("float32", (2,)), labels=("int16", ()), chunk=32, shard=64)
LONGEST = 9  # steps of a sequence: a shard has 8
STUCK = 50  # errors on end, none of them a lock: a writer gives up
GAVE_UP = "writers that gave up"
SECONDS = 900

Safeguards = Literal["all", "locks apart", "check", "none"]
SAFEGUARDS: dict[Safeguards, str] = {
    "all": "with the lock",
    "locks apart": "lock files apart",  # as where one was removed, or a store has two paths
    "check": "check at the commit alone",
    "none": "no lock, no check",
}
PROMISED: tuple[Safeguards, ...] = ("all", "locks apart")


@dataclass(slots=True)
class Work:
    """What one writer did."""

    acknowledged: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # that say neither that another writes, nor that it was faster
    counts: Counter[str] = field(default_factory=Counter)


def campaign(*, quick: bool) -> Outcome:
    """Let rivals write until enough commits are acknowledged, with all safeguards and with fewer."""
    commits, each = (18, 18) if quick else (5_000, 500)
    figures: dict[str, int] = {}
    broken: list[str] = []
    for safeguards in PROMISED:
        found = _rounds(safeguards, commits, each)
        figures |= found.counts
        broken += found.broken
    # The check alone is no lock: what it is worth is measured, and nothing is promised.
    check, control = (_rounds(safeguards, each, each) for safeguards in ("check", "none"))
    return Outcome(
        figures=figures | check.counts,
        violations=broken,
        controls={"lock and check": control.counts[f"{SAFEGUARDS['none']}: lost"]},
    )


@dataclass(slots=True)
class Found:
    """What came of all rounds with the same safeguards."""

    counts: dict[str, int] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)


def _rounds(safeguards: Safeguards, commits: int, each: int) -> Found:
    """Let three and two writers take turns in new stores, `each` commits a store, until they give up."""
    counts: Counter[str] = Counter()
    found, number = Found(), 0
    while counts["acknowledged"] < commits and not counts[GAVE_UP] and not found.broken:
        with tempfile.TemporaryDirectory() as folder:
            counts += _round(Path(folder, "store.zarr"), safeguards, 3 - number % 2, each, found.broken)
        number += 1
    said = SAFEGUARDS[safeguards]
    found.counts = {f"{said}: {what}": count for what, count in sorted(counts.items())}
    found.counts[f"{said}: lost"] = counts["lost"]
    return found


def _round(path: Path, safeguards: Safeguards, rivals: int, commits: int, broken: list[str]) -> Counter[str]:
    """Let some writers write to a new store at the same time; return what was counted."""
    with RECIPE.create(path):
        pass
    calls = [(_write, (path, f"rival-{number}", commits // rivals, safeguards)) for number in range(rivals)]
    counts: Counter[str] = Counter()
    tried: set[str] = set()
    acknowledged: list[str] = []
    for work in together(calls, seconds=SECONDS):
        if isinstance(work, Failure):
            broken.append(f"{SAFEGUARDS[safeguards]}: {work.what}")
            continue
        acknowledged += work.acknowledged
        tried.update(work.tried)
        counts += work.counts
        if safeguards == "all":
            broken += work.errors[:1]
    counts["acknowledged"] = len(acknowledged)
    lost, wrong = what_is_lost(path, acknowledged, tried)
    counts["lost"] = lost
    broken += [f"{SAFEGUARDS[safeguards]}: {what}" for what in wrong]
    return counts


def what_is_lost(path: StoreLocation, acknowledged: list[str], tried: set[str]) -> tuple[int, list[str]]:
    """Return how many acknowledged sequences are not there, right and once, and what is wrong with the store."""
    wrong = []
    try:
        wrong += [str(problem) for problem in store_spec.verify(path)][:3]
        store = store_spec.open_store(path)
        sources = store.sources
    except StoreError as error:
        return len(acknowledged), [f"the store cannot be read: {error}"]
    there = Counter(sources)
    right = set()
    for number, source in enumerate(sources):
        with contextlib.suppress(StoreError):
            inputs, labels = store[number]
            expected = sequence(source)
            if same(inputs, expected.inputs) and same(labels, expected.labels):
                right.add(source)
    lost = [source for source in acknowledged if there[source] != 1 or source not in right]
    if lost:
        wrong.append(f"{len(lost):,} of {len(acknowledged):,} acknowledged sequences are lost, {lost[0]} the first")
    wrong += [f"{source} is there {there[source]:,} times" for source in there if source not in tried]
    return len(lost), wrong


def sequence(source: str) -> Sequence:
    """Return the sequence of a source: its rows follow from its name."""
    rng = np.random.default_rng(zlib.crc32(source.encode()))
    length = int(rng.integers(0, LONGEST + 1))
    return Sequence(source, random_rows(rng, length, *RECIPE.inputs), random_rows(rng, length, *RECIPE.labels))


def _write(path: Path, name: str, commits: int, safeguards: Safeguards) -> Work:
    """Commit sequences one by one, a few each time that the store is open, until enough are acknowledged."""
    work, errors, number = Work(), 0, 0
    with _without(safeguards, name):
        while len(work.acknowledged) < commits and errors < STUCK:
            try:
                with contextlib.closing(store_spec.open_store(path, "a")) as writer:
                    for _ in range(1 + number % 3):
                        new = sequence(f"{name}/{number:05}")
                        work.tried.append(new.source)
                        writer.append(new.inputs, new.labels, source=new.source)
                        writer.commit()
                        work.acknowledged.append(new.source)
                        number, errors = number + 1, 0
            except LockedError as error:
                named = re.search(rf": process [0-9]+ on {re.escape(os.uname().nodename)} is writing", str(error))
                work.counts["refused by a lock"] += 1
                work.counts["of these without the holder's name"] += named is None
                time.sleep(random.uniform(0, 0.005))
            except ConflictError:
                work.counts["refused by the check at the commit"] += 1
            except SequenceError:
                number += 1  # its commit was made, though an error came afterwards
            except StoreError as error:
                work.counts[f"refused: {type(error).__name__}"] += 1
                work.errors.append(str(error))
                errors += 1
        work.counts[GAVE_UP] += errors == STUCK
    return work


@contextmanager
def _without(safeguards: Safeguards, name: str) -> Iterator[None]:
    """Take safeguards out of this process; none of them is fsync, which only a power cut would tell."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(os, "fsync", nothing))
        if safeguards == "locks apart":
            folder = lambda store: store.with_name(f"{store.name}.build-{name}")  # noqa: E731
            stack.enter_context(mock.patch("store_spec.disk.lock.build_folder", folder))
        if safeguards in ("check", "none"):
            stack.enter_context(mock.patch("store_spec.disk.local_ledger.locked", _not_locked))
        if safeguards == "none":
            stack.enter_context(mock.patch.object(LocalLedger, "_check_root", nothing))
            stack.enter_context(mock.patch.object(ShardJob, "_check_uncommitted", nothing))
        yield


@contextmanager
def _not_locked(store: Path) -> Iterator[Path]:
    folder = build_folder(store) / str(os.getpid())  # of its own, since a writer removes what earlier ones left there
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
