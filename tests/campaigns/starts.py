"""Starts: a store that is handed to another process or thread gives right rows or a clear error, and never hangs.

Each case is a process of its own, which opens a store, brings it into a state, and hands on the store, its windows,
batches of these, and a stream. In the last state threads that read ahead are held in the middle of a read meanwhile.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

import store_spec
from store_spec import StoreError
from store_spec.reading.named_batch import Batch
from store_spec.sequences.streams import StreamPlan, Streams
from store_spec.store import Store
from store_spec.windows.batches import Batches
from store_spec.windows.loading import Loader
from store_spec.windows.pools import Pool
from store_spec.windows.windows import Windows
from tests.campaigns.outcome import Outcome
from tests.store.oracle import Recipe, assert_holds, make, same, write

WAYS = ("fork", "spawn", "forkserver", "pickle", "threads")
STATES = ("never used", "used before", "reading ahead")
# Chunks of 512 KiB: Blosc decompresses them with threads of its own, which a fork does not take along.
RECIPE = Recipe(inputs=("float32", (8,)), labels=("float32", (8,)), chunk=2**19, shard=2**21)
LENGTHS = (10_000, 25_000, 3, 30_000)
WINDOW = 100
SIZE = 64  # windows in a batch
STREAMED = 500  # steps of a stream in a batch
MEMORY = "6.5MB"  # so little that an epoch is read in several goes
THREADS = 4
CONTROLS = 5
SECONDS = 60.0  # by which a process has to answer; after that it hangs
CONTROL_SECONDS = 5.0  # that of the control, which hangs each time
ROOT = Path(__file__).resolve().parents[2]

RIGHT, CLEAR = "right rows", "a clear error"
Things = dict[str, Any]  # what is handed on, by name
Said = dict[str, str]  # what came of each: RIGHT, CLEAR, or what was wrong


def campaign(*, quick: bool) -> Outcome:
    """Try each way in each state several times, or each way and a fork in each state once; two at a time."""
    every = itertools.product(WAYS, STATES)
    cases = [case for case in every if not quick or case[0] == "fork" or case[1] == STATES[-1]] * (1 if quick else 10)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as pool:
        path = write(RECIPE, Path(folder, "store.zarr"), make(RECIPE, LENGTHS))
        found = list(pool.map(lambda case: _case(path, case[0], case[1], "promised"), cases))
        broke = 0
        for _ in range(CONTROLS):  # now and then the thread that reads ahead has not begun when the process is forked
            control = _case(path, "fork", "reading ahead", "control")
            broke = sum(said not in {RIGHT, CLEAR} for said in control.values())
            if broke:
                break
    counts = Counter(said if said in {RIGHT, CLEAR} else "broken" for one in found for said in one.values())
    return Outcome(
        figures={"cases": len(cases), "hung": sum("hangs" in said for one in found for said in one.values()), **counts},
        violations=tuple(
            f"{way}, {state}: {thing}: {said}"
            for (way, state), one in zip(cases, found, strict=True)
            for thing, said in one.items()
            if said not in {RIGHT, CLEAR}
        ),
        controls={"the check of the process in batches": broke},
    )


def _case(path: Path, way: str, state: str, kind: str) -> Said:
    command = [sys.executable, "-W", "ignore", "-m", "tests.campaigns.starts", str(path), way, state, kind]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=3 * SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {"all": "hangs"}
    if done.returncode:
        return {"all": f"status {done.returncode}: {done.stderr[-1_000:]}"}
    said: Said = json.loads(done.stdout)
    return said


def main(path: Path, way: str, state: str, kind: str) -> Said:
    """Bring a store into a state, hand it on, and return what came of it."""
    windows = store_spec.open_store(path).windows(WINDOW, stride=WINDOW)
    things: Things = {
        "store": windows.store,
        "windows": windows,
        "batches": windows.batches(SIZE, memory=MEMORY),
        "stream": windows.store.streams(1, STREAMED, memory=MEMORY),
    }
    taken = 0
    with _held_threads(things["batches"], things["stream"]) as release, _checked(kind):
        if state == "used before":
            _check(things["store"], taken)
        elif state == "reading ahead":
            next(things["batches"])
            next(things["stream"])
            taken = 1
        if way == "threads":
            return _in_threads(things, taken, release)
        said: Said = {}
        if way != "fork":
            said = {name: _said(pickle.dumps, thing) for name, thing in things.items()}
            things = {name: thing for name, thing in things.items() if said[name] == RIGHT}
        if way == "pickle":
            copies = {name: pickle.loads(pickle.dumps(thing)) for name, thing in things.items()}
            return said | _check_all(copies, taken)
        seconds = CONTROL_SECONDS if kind == "control" else SECONDS
        return said | _in_process(multiprocessing.get_context(way), things, taken, seconds)


@contextmanager
def _held_threads(batches: Batches, stream: Streams) -> Iterator[Callable[[], None]]:
    """Hold the threads that read ahead, those of batches in their first reads of the second pool of an epoch.

    Gives what lets them go.
    """
    process, go, load, read = os.getpid(), threading.Event(), Loader.__call__, Loader._read
    read_stream = StreamPlan._read
    order, streamed = batches._plan.order, stream._plan  # a thread that has the last reference would wait for itself
    pool = 0  # that is read

    def loaded(loader: Loader, number: int) -> Pool:
        nonlocal pool
        if loader._order is order:
            pool = number
        return load(loader, number)

    def held(loader: Loader, *arguments: Any) -> None:
        if loader._order is order and pool == 1 and os.getpid() == process:
            go.wait()
        read(loader, *arguments)

    def held_stream(plan: StreamPlan, numbers: range) -> list[Batch]:
        if numbers.start and plan is streamed and os.getpid() == process:
            go.wait()
        return read_stream(plan, numbers)

    with (
        mock.patch.object(Loader, "__call__", loaded),
        mock.patch.object(Loader, "_read", held),
        mock.patch.object(StreamPlan, "_read", held_stream),
    ):
        try:
            yield go.set
        finally:
            go.set()


@contextmanager
def _checked(kind: str) -> Iterator[None]:
    """In the control, let batches go on wherever they are."""

    def go_on(batches: Batches) -> Any:
        batches._batches = batches._batches or batches._open()
        return next(batches._batches)

    if kind == "control":
        with mock.patch.object(Batches, "__next__", go_on):
            yield
    else:
        yield


def _in_process(context: Any, things: Things, taken: int, seconds: float) -> Said:
    ours, theirs = context.Pipe()
    process = context.Process(target=_answer, args=(theirs, things, taken), daemon=True)
    process.start()
    theirs.close()
    said: Said = ours.recv() if ours.poll(seconds) else dict.fromkeys(things, "hangs")
    process.kill()
    return said


def _answer(theirs: Connection, things: Things, taken: int) -> None:
    theirs.send(_check_all(things, taken))


def _in_threads(things: Things, taken: int, release: Callable[[], None]) -> Said:
    """Read in several threads at once, while those that read ahead are held; then let these go on."""
    alone = {name: things.pop(name) for name in ("batches", "stream")}
    with ThreadPoolExecutor(THREADS) as pool:
        several = list(pool.map(lambda _: _check_all(things, taken), range(THREADS)))
        release()
        said = pool.submit(_check_all, alone, taken).result()
    for name in things:
        said[name] = next((one[name] for one in several if one[name] != RIGHT), RIGHT)
    return said


def _check_all(things: Things, taken: int) -> Said:
    return {name: _said(_check, thing, taken) for name, thing in things.items()}


def _said(attempt: Callable[..., object], *arguments: Any) -> str:
    """Return what came of a call, in a word."""
    try:
        attempt(*arguments)
    except StoreError:
        return CLEAR
    except Exception as error:  # noqa: BLE001  # whatever it is, it is reported
        return f"{type(error).__name__}: {error}"
    return RIGHT


def _check(thing: object, taken: int) -> None:
    """Read all that a store, windows, batches or a stream give, and compare it with the list.

    Of batches and the stream some were taken before.
    """
    sequences = make(RECIPE, LENGTHS)
    if isinstance(thing, Streams):
        steps, labels, _ = (np.concatenate(parts, axis=1)[0] for parts in zip(*thing, strict=True))
        first, last = taken * STREAMED, sum(LENGTHS)
        assert same(steps[: last - first], np.concatenate([one.inputs for one in sequences])[first:]), "wrong inputs"
        assert same(labels[: last - first], np.concatenate([one.labels for one in sequences])[first:]), "wrong labels"
        return
    if isinstance(thing, Store):
        assert_holds(thing, sequences)
        thing = thing.windows(WINDOW, stride=WINDOW)
    if isinstance(thing, Windows):
        thing, taken = thing.batches(SIZE, memory=MEMORY), 0
    assert isinstance(thing, Batches)
    inputs, labels = (np.concatenate(parts) for parts in zip(*thing, strict=True))
    starts = [(one, at) for one in sequences for at in range(0, len(one.inputs) - WINDOW, WINDOW)][taken * SIZE :]
    assert same(inputs, np.stack([one.inputs[at : at + WINDOW] for one, at in starts])), "wrong inputs"
    assert same(labels, np.stack([one.labels[at + WINDOW, None] for one, at in starts])), "wrong labels"


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *sys.argv[2:])))
