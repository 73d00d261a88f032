"""Read in several processes while a writer appends, updates and commits: no read may fail or be wrong.

Each of the many small commits replaces the last, partial shards and the last chunks of tables; some replace a source.
Readers use handles that were opened long before, handles that were just opened, and pickled handles.
"""

import pickle
import random
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np

import store_spec
from store_spec import Store
from store_spec.disk import shards
from tests.campaigns import rivals
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import run_together
from tests.campaigns.rot_cases import small_tables
from tests.campaigns.safeguards import without
from tests.store.oracle import Recipe, Sequence, make, same

RECIPE = Recipe(inputs=("float32", (2,)), labels=("int16", ()), label_axis="own", chunk=512, shard=1536)
LENGTHS = 13  # sequences have fewer steps; a chunk of inputs has 64, so its bytes move as it fills, and a shard has 192
INITIAL = 20  # sequences in the store when the readers start
UPDATE, BACK = 5, 17  # one in UPDATE later sequences replaces the one BACK places before it
HANDLES = 8  # per reader
READERS = 2
TABLE_CHUNK_BYTES = 2**12  # 512 rows of int64, 128 names
KINDS = ("old handles", "new handles", "pickled handles")
SECONDS = 900


def campaign(*, quick: bool) -> Outcome:
    """Read while a writer commits without pauses."""
    reads, sequences = (600, 40) if quick else (100_000, 2_000)
    outcome = race(reads, sequences, control=False)
    outcome.control("reading the last shard in one request", race(300, 30, control=True).violations)
    return outcome


def race(reads: int, sequences: int, *, control: bool) -> Outcome:
    """Run readers and a writer at the same time."""
    with tempfile.TemporaryDirectory() as folder:
        path, done = Path(folder, "store.zarr"), [Path(folder, f"done-{number}") for number in range(READERS)]
        with small_tables(TABLE_CHUNK_BYTES), RECIPE.create(path) as writer:
            append(writer, range(INITIAL))
        calls = [partial(read, path, reads // READERS, sequences, mark, control=control) for mark in done]
        parts, failures = run_together([*calls, partial(write, path, done)], seconds=SECONDS)
    outcome = Outcome(violations=failures)
    for part in parts:
        outcome.add(part)
    return outcome


def sequence(number: int) -> Sequence:
    """Return a sequence by its number, which counts retired sequences too. Its rows follow from the number."""
    oldest = number
    while is_update(oldest):
        oldest -= BACK
    return make(RECIPE, [7 * number % LENGTHS], seed=number, sources=[f"walk-{oldest:06}"])[0]


def is_update(number: int) -> bool:
    return number >= INITIAL and number % UPDATE == 0


def append(writer: store_spec.Writer, numbers: range) -> None:
    for number in numbers:
        if is_update(number):
            writer.retire(sequence(number).source)
        rivals.append(writer, sequence(number))


def write(path: Path, done: list[Path]) -> Outcome:
    """Append one to three sequences and commit, until all readers are done."""
    outcome, number = Outcome(), INITIAL
    with small_tables(TABLE_CHUNK_BYTES), without("fsync"):
        while not all(mark.exists() for mark in done):
            with store_spec.open_store(path, "a") as writer:
                for count in (1, 2, 3):
                    append(writer, range(number, number + count))
                    number += count
                    writer.commit()
                    outcome.figures["commits meanwhile"] += 1
    return outcome


def read(path: Path, reads: int, sequences: int, done: Path, *, control: bool) -> Outcome:
    """Read until there were enough reads and a handle sees enough sequences."""
    outcome, rng = Outcome(), random.Random(str(done))
    with ExitStack() as stack:
        stack.callback(done.touch)
        stack.enter_context(small_tables(TABLE_CHUNK_BYTES))
        if control:  # read the last, partial shard like all others: first its index, then chunks, in separate requests
            stack.enter_context(mock.patch.object(shards, "most_open_of_all", return_value=0))
            stack.enter_context(mock.patch.object(shards, "get_whole", return_value=None))
        handles = [store_spec.open_store(path) for _ in range(HANDLES)]
        while outcome.figures["reads"] < reads or max(map(len, handles)) < sequences:
            place, kind = rng.randrange(HANDLES), rng.choices(KINDS, (6, 1, 1))[0]
            try:
                if kind == "new handles":
                    handles[place] = store_spec.open_store(path)
                elif kind == "pickled handles":
                    handles[place] = pickle.loads(pickle.dumps(handles[place]))
                problem = check_read(handles[place], rng)
            except Exception as error:  # noqa: BLE001
                problem = f"{type(error).__name__}: {error}"
            outcome.figures["reads"] += 1
            outcome.count(f"through {kind}", f"read {outcome.figures['reads']:,}, {kind}", problem)
            if outcome.figures["reads"] > reads:
                time.sleep(0.005)  # leave the processor to the writer
    return outcome


def check_read(store: Store, rng: random.Random) -> str:
    """Read something at random; return a message if it is wrong, or else ""."""
    count = store.counts.sequences
    retired = {number - BACK for number in range(count) if is_update(number)}
    left = [number for number in range(count) if number not in retired]
    if store.selection.tolist() != left:
        return f"wrong selection of the first {count:,} sequences"
    # Half of the reads are from the end, where shards are replaced.
    number = rng.randrange(len(left)) if rng.random() < 0.5 else len(left) - 1 - rng.randrange(5)
    expected = sequence(left[number])
    steps = len(expected.inputs)
    start, stop = sorted((rng.randint(0, steps), rng.randint(0, steps)))
    match rng.choices(("sequence", "slice", "source", "padded"), (10, 6, 3, 1))[0]:
        case "sequence":
            what, (inputs, labels) = f"sequence {number}", store[number]
            right = same(inputs, expected.inputs) and same(labels, expected.labels)
        case "slice":
            what, (inputs, labels) = f"steps {start} to {stop} of sequence {number}", store.read(number, start, stop)
            right = same(inputs, expected.inputs[start:stop]) and same(labels, expected.labels)
        case "source":
            what, one = f"sequence {number} by its source", store.select(expected.source)
            lengths = [len(one), int(one.stats().count[0]), int(one.label_lengths[0])]
            right = lengths == [1, steps, len(expected.labels)]
        case _:
            what = "the last sequences, padded"
            inputs, _, mask, _ = next(store[-5:].padded(5))
            right = same(inputs[mask], np.concatenate([sequence(each).inputs for each in left[-5:]]))
    return "" if right else f"{what} of {len(store):,} is wrong"
