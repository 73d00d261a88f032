"""Pass an open store to other processes and threads: they must get right rows or a clear error, and must not hang.

Each case runs in a process of its own. It opens a store, brings it into a state, and passes on the store, its windows,
batches of these, and a stream. In the last state, the threads that read ahead are stopped in the middle of a read.
"""

import itertools
import os
import pickle
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock
from zlib import crc32

import numpy as np

import store_spec
from store_spec import StoreError
from store_spec.reading.named_batch import Batch
from store_spec.sequences.streams import StreamPlan, Streams
from store_spec.windows.batches import Batches
from store_spec.windows.loading import Loader
from store_spec.windows.pools import Pool
from store_spec.windows.windows import Windows
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import in_process
from tests.store.oracle import Recipe, assert_holds, make, write

METHODS = ("fork", "spawn", "forkserver", "pickle", "threads")
STATES = ("never used", "used before", "reading ahead")
# Blosc decompresses chunks of 512 KiB with threads of its own, which do not exist after a fork.
RECIPE = Recipe(inputs=("float32", (8,)), labels=("float32", (8,)), chunk=2**19, shard=2**21)
LENGTHS = (10_000, 25_000, 3, 30_000)
WINDOW = 100
BATCH = 64  # windows
STREAM_STEPS = 500  # steps in a batch of the stream
MEMORY = "6.5MB"  # so little that an epoch has several pools
THREADS = 4
CONTROLS = 5
SECONDS = 60.0  # after which a process is considered to hang
CONTROL_SECONDS = 5.0  # the same in the control, which always hangs

ALLOWED = RIGHT, CLEAR = "right rows", "a clear error"
Results = dict[str, str]  # by object: RIGHT, CLEAR, or what is wrong
Expected = dict[str, list[int]]  # by object: what `checksums` returns in an undisturbed process
ITERATORS = ("batches", "stream")


def campaign(*, quick: bool) -> Outcome:
    """Try each method in each state several times; in the quick form, most of them once."""
    cases = [
        (method, state)
        for method, state in itertools.product(METHODS, STATES)
        if not quick or method == "fork" or state == STATES[-1]
    ] * (1 if quick else 10)
    outcome = Outcome(Counter({"cases": len(cases)}))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        sequences = make(RECIPE, LENGTHS)
        path = write(RECIPE, Path(folder, "store.zarr"), sequences)
        assert_holds(store_spec.open_store(path), sequences)
        expected = {name: checksums(each) for name, each in objects_of(path).items()}
        for case, results in zip(cases, pool.map(lambda case: run_case(path, expected, *case), cases), strict=True):
            for name, result in results.items():
                problem = "" if result in ALLOWED else result
                outcome.count("wrong" if problem else result, f"{', '.join(case)}: {name}", problem)
        for _ in range(CONTROLS):  # repeated, because sometimes no thread reads ahead yet when the process forks
            results = run_case(path, expected, "fork", "reading ahead", control=True)
            outcome.control("the check of the process in batches", (one not in ALLOWED for one in results.values()))
            if all(outcome.controls.values()):
                break
    return outcome


def run_case(path: Path, expected: Expected, method: str, state: str, *, control: bool = False) -> Results:
    case = partial(pass_on, path, expected, method, state, control=control)
    try:
        results: Results = in_process(case, seconds=3 * SECONDS)
    except RuntimeError as error:
        return {"all": str(error)}
    return results


def objects_of(path: Path) -> dict[str, Any]:
    """Open a store; return everything that is passed on."""
    windows = store_spec.open_store(path).windows(WINDOW, stride=WINDOW)
    batches = windows.batches(BATCH, memory=MEMORY)
    stream = windows.store.streams(1, STREAM_STEPS, memory=MEMORY)
    return {"store": windows.store, "windows": windows, "batches": batches, "stream": stream}


def pass_on(path: Path, expected: Expected, method: str, state: str, *, control: bool) -> Results:
    """Bring a store into a state, pass it on, and return the results."""
    objects = objects_of(path)
    with threads_stopped(objects["batches"], objects["stream"]) as release:
        if control:
            mock.patch.object(Batches, "__next__", take_unchecked).start()
        if state == "used before":
            check(objects["store"], expected["store"])
            check(objects["windows"], expected["windows"])
        elif state == "reading ahead":
            for name in ITERATORS:
                next(objects[name])
                del expected[name][0]
        if method == "threads":
            return check_in_threads(objects, expected, release)
        results: Results = {}
        if method != "fork":
            results = {name: attempt(pickle.dumps, each) for name, each in objects.items()}
            objects = {name: each for name, each in objects.items() if results[name] == RIGHT}
        if method == "pickle":
            copies = {name: pickle.loads(pickle.dumps(each)) for name, each in objects.items()}
            return results | check_all(copies, expected)
        seconds = CONTROL_SECONDS if control else SECONDS
        try:
            found: Results = in_process(partial(check_all, objects, expected), seconds=seconds, method=method)
        except RuntimeError as error:
            return results | dict.fromkeys(objects, str(error))
        return results | found


@contextmanager
def threads_stopped(batches: Batches, stream: Streams) -> Iterator[Callable[[], None]]:
    """Stop the threads that read ahead (in batches at the second pool of an epoch); yield a function to go on."""
    process, released, load, read = os.getpid(), threading.Event(), Loader.__call__, Loader._read
    read_stream = StreamPlan._read
    order, plan = batches._plan.order, stream._plan  # a thread that has the last reference would wait for itself
    pool = 0  # the current one

    def loaded(loader: Loader, number: int) -> Pool:
        nonlocal pool
        if loader._order is order:
            pool = number
        return load(loader, number)

    def stopped(loader: Loader, *arguments: Any) -> None:
        if loader._order is order and pool == 1 and os.getpid() == process:
            released.wait()
        read(loader, *arguments)

    def stopped_stream(stream_plan: StreamPlan, numbers: range) -> list[Batch]:
        if numbers.start and stream_plan is plan and os.getpid() == process:
            released.wait()
        return read_stream(stream_plan, numbers)

    with (
        mock.patch.object(Loader, "__call__", loaded),
        mock.patch.object(Loader, "_read", stopped),
        mock.patch.object(StreamPlan, "_read", stopped_stream),
    ):
        try:
            yield released.set
        finally:
            released.set()


def take_unchecked(batches: Batches) -> Any:
    """Return the next batch in any process: `Batches.__next__` without its check."""
    batches._batches = batches._batches or batches._open()
    return next(batches._batches)


def check_in_threads(objects: dict[str, Any], expected: Expected, release: Callable[[], None]) -> Results:
    """Read in several threads while the threads that read ahead are stopped; then release these."""
    iterators = {name: objects.pop(name) for name in ITERATORS}
    with ThreadPoolExecutor(THREADS) as pool:
        several = list(pool.map(lambda _: check_all(objects, expected), range(THREADS)))
        release()
        results = pool.submit(check_all, iterators, expected).result()
    for name in objects:
        results[name] = next((one[name] for one in several if one[name] != RIGHT), RIGHT)
    return results


def check_all(objects: dict[str, Any], expected: Expected) -> Results:
    return {name: attempt(check, each, expected[name]) for name, each in objects.items()}


def attempt(function: Callable[..., object], *arguments: Any) -> str:
    """Call a function and return the result as a word."""
    try:
        function(*arguments)
    except StoreError:
        return CLEAR
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return RIGHT


def check(found: Any, expected: list[int]) -> None:
    assert checksums(found) == expected, "wrong rows"


def checksums(found: Any) -> list[int]:
    """Read everything of a store, windows, batches or a stream; return a checksum of each sequence or batch."""
    if isinstance(found, Windows):
        found = found.batches(BATCH, memory=MEMORY)
    return [crc32(b"".join(np.asarray(array).tobytes() for array in arrays)) for arrays in found]
