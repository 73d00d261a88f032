"""Let two or three processes append to one store and commit at the same time.

A sequence is acknowledged once `commit` has returned. In the end each acknowledged sequence must be in the store once,
with the right rows, and `verify` must report nothing.
"""

import contextlib
import os
import random
import re
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest import mock

import store_spec
from store_spec import StoreError, StoreLocation
from store_spec.disk.ledger import ShardJob
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.lock import build_folder
from store_spec.errors import ConflictError, LockedError, SequenceError
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import run_together
from tests.campaigns.safeguards import without
from tests.store.everything import problems_in
from tests.store.oracle import Recipe, Sequence, assert_holds, make

RECIPE = Recipe(inputs=("float32", (2,)), labels=("int16", ()), chunk=32, shard=64)
LENGTHS = 10  # sequences have fewer steps; a shard has 8
MAX_ERRORS = 50  # unexpected errors in a row, after which a writer gives up
GAVE_UP = "writers that gave up"
SECONDS = 900

LOCK, SEPARATE_LOCKS, CHECK, NOTHING = "with the lock", "separate lock files", "check at the commit only", "no lock"


@dataclass(slots=True)
class Work:
    """What one writer did."""

    acknowledged: list[str] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # the unexpected ones
    counts: Counter[str] = field(default_factory=Counter)


def campaign(*, quick: bool) -> Outcome:
    """Run writers until enough commits are acknowledged, with all safeguards and with fewer."""
    commits, each = (18, 18) if quick else (5_000, 500)
    outcome = run_rounds(LOCK, commits, each)
    outcome.add(run_rounds(SEPARATE_LOCKS, commits, each))
    # The check alone promises nothing: it is only measured.
    outcome.figures.update(run_rounds(CHECK, each, each).figures)
    outcome.controls = {"lock and check": run_rounds(NOTHING, each, each).figures[f"{NOTHING}: lost"]}
    return outcome


def run_rounds(safeguards: str, commits: int, each: int) -> Outcome:
    """Let three and two writers alternately write to new stores, with `each` commits per store."""
    counts: Counter[str] = Counter(lost=0)
    violations: list[str] = []
    number = 0
    while counts["acknowledged"] < commits and not counts[GAVE_UP] and not violations:
        with tempfile.TemporaryDirectory() as folder:
            counts.update(run_round(Path(folder, "store.zarr"), safeguards, 3 - number % 2, each, violations))
        number += 1
    figures = Counter({f"{safeguards}: {name}": count for name, count in sorted(counts.items())})
    return Outcome(figures, [f"{safeguards}: {message}" for message in violations])


def run_round(path: Path, safeguards: str, writers: int, commits: int, violations: list[str]) -> Counter[str]:
    """Let some writers write to one store at the same time; return what was counted."""
    with RECIPE.create(path):
        pass
    calls = [partial(write, path, f"rival-{number}", commits // writers, safeguards) for number in range(writers)]
    works, problems = run_together(calls, seconds=SECONDS)
    counts: Counter[str] = sum((work.counts for work in works), Counter())
    acknowledged = [source for work in works for source in work.acknowledged]
    lost, found = find_losses(path, acknowledged, {source for work in works for source in work.tried})
    counts.update(acknowledged=len(acknowledged), lost=lost)
    if safeguards == LOCK:
        violations += [work.errors[0] for work in works if work.errors]
    violations += [*problems, *found]
    return counts


def find_losses(path: StoreLocation, acknowledged: list[str], tried: set[str]) -> tuple[int, list[str]]:
    """Return how many acknowledged sequences are missing or repeated, and all problems of the store."""
    try:
        problems = problems_in(path)[:3]
        store = store_spec.open_store(path)
        assert_holds(store, [sequence(source) for source in store.sources])
    except (StoreError, AssertionError) as error:
        return len(acknowledged), [f"the store cannot be read: {error}"]
    counts = Counter(store.sources)
    lost = [source for source in acknowledged if counts[source] != 1]
    if lost:
        problems.append(f"{len(lost):,} of {len(acknowledged):,} acknowledged sequences are lost, first {lost[0]}")
    problems += [f"{source} is there {counts[source]:,} times" for source in counts if source not in tried]
    return len(lost), problems


def sequence(source: str) -> Sequence:
    """Return the sequence of a source, whose rows follow from its name."""
    seed = zlib.crc32(source.encode())
    return make(RECIPE, [seed % LENGTHS], seed=seed, sources=[source])[0]


def append(writer: store_spec.Writer, new: Sequence) -> None:
    writer.append(new.inputs, new.labels, source=new.source)


def write(path: Path, name: str, commits: int, safeguards: str) -> Work:
    """Commit sequences one by one, a few each time the store is opened, until enough are acknowledged."""
    work, errors, number = Work(), 0, 0
    with without("fsync"), only(safeguards, name):
        while len(work.acknowledged) < commits and errors < MAX_ERRORS:
            try:
                with contextlib.closing(store_spec.open_store(path, "a")) as writer:
                    for _ in range(1 + number % 3):
                        work.tried.append(f"{name}/{number:05}")
                        append(writer, sequence(work.tried[-1]))
                        writer.commit()
                        work.acknowledged.append(work.tried[-1])
                        number, errors = number + 1, 0
            except LockedError as error:
                holder = re.search(rf": process [0-9]+ on {re.escape(os.uname().nodename)} is writing", str(error))
                work.counts["rejected by a lock"] += 1
                work.counts["of these without the holder's name"] += holder is None
                time.sleep(random.uniform(0, 0.005))
            except ConflictError:
                work.counts["rejected by the check at the commit"] += 1
            except SequenceError:
                number += 1  # this sequence was committed, although an error followed
            except StoreError as error:
                work.counts[f"failed: {type(error).__name__}"] += 1
                work.errors.append(str(error))
                errors += 1
        work.counts[GAVE_UP] += errors == MAX_ERRORS
    return work


@contextlib.contextmanager
def only(safeguards: str, name: str) -> Iterator[None]:
    """Remove all other safeguards from this process."""
    with contextlib.ExitStack() as removed:
        if safeguards == SEPARATE_LOCKS:  # as if the lock file was deleted, or the store had two paths
            folder = lambda store: store.with_name(f"{store.name}.build-{name}")  # noqa: E731
            removed.enter_context(mock.patch("store_spec.disk.lock.build_folder", folder))
        if safeguards in {CHECK, NOTHING}:
            removed.enter_context(mock.patch("store_spec.disk.local_ledger.locked", _not_locked))
        if safeguards == NOTHING:
            removed.enter_context(mock.patch.object(LocalLedger, "_check_root"))
            removed.enter_context(mock.patch.object(ShardJob, "_check_uncommitted"))
        yield


@contextlib.contextmanager
def _not_locked(store: Path) -> Iterator[Path]:
    folder = build_folder(store) / str(os.getpid())  # one for each writer, because a writer cleans its folder
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
