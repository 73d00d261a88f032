"""Read a store in place from a server with the delay, the speed and the faults of an object store."""

import itertools
import statistics
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import obstore
from obstore.store import HTTPStore

import store_spec
from tests.benchmarks.children import measure
from tests.benchmarks.reading.measured import memory_since, start_of_memory
from tests.benchmarks.reading.stores import make_store, warm
from tests.benchmarks.reading.works import WINDOW
from tests.benchmarks.table import print_table
from tests.store.object_server import serving

DELAY = 0.05  # seconds before each answer
SPEED = 90e6  # bytes per second of each connection
FAULTS = {0: "503", 50: "cut"}  # of each hundred requests: together 2 %
CONNECTIONS = 16
BARE_BYTES = 2**20  # of each request of the bare reader
GOALS = {1: 0.95, 16: 0.9}  # relative to the local store, by stride
BARE_GOAL = 0.8  # of disjoint windows, relative to bare requests for the same bytes


class Faults:
    """The faults of the requests of a server, by their number."""

    def get(self, number: int) -> str | None:
        """Return the fault of a request, if it has one."""
        return FAULTS.get(number % 100)


def serve(folder: Path, pipe: Connection) -> None:
    """Serve a folder until the other end of the pipe is closed."""
    with serving(folder) as server:
        server.delay, server.speed, server.faults = DELAY, SPEED, Faults()
        pipe.send(server.url)
        pipe.poll(None)


def read(store: str, window: int, stride: int, memory: str) -> dict[str, Any]:
    """Open a store, and read an epoch of windows."""
    start = time.perf_counter()
    windows = store_spec.open_store(store).windows(window, stride=stride, horizon=1, target="last")
    opened = time.perf_counter()
    held = start_of_memory()
    batches = iter(windows.batches(256, shuffle=True, seed=0, epoch=0, memory=memory))
    next(batches)
    first = time.perf_counter()
    for _ in batches:
        pass
    epoch = time.perf_counter() - opened
    return {"rate": len(windows) / epoch, "first": first - start, "epoch": epoch} | memory_since(held)


def read_bare(url: str, files: dict[str, int]) -> dict[str, Any]:
    """Fetch all bytes of some objects with as many threads as there are connections."""
    store = HTTPStore.from_url(url, client_options={"allow_http": True})
    parts = [(name, start) for name, size in files.items() for start in range(0, size, BARE_BYTES)]
    start = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(lambda one: obstore.get_range(store, one[0], start=one[1], length=BARE_BYTES), parts):
            pass
    return {"seconds": time.perf_counter() - start}


def benchmark_buckets(folder: Path, *, megabytes: float, tiny: float, memories: Sequence[str], rounds: int) -> None:
    """Print the rates of windows from the server, relative to the local store and to bare requests.

    Args:
        folder: For the stores.
        megabytes: The decoded size of the store of windows.
        tiny: The decoded size of a store of small sequences, whose first batch is timed.
        memories: Values of `memory=`.
        rounds: The number of rounds; the table shows medians.
    """
    local = make_store(folder, "walks", megabytes, 2) / "store.zarr"
    small = make_store(folder, "tiny", tiny, 2) / "store.zarr"
    warm(local)
    shards = [path for name in ("inputs", "labels") for path in (local / name).iterdir() if path.suffix != ".json"]
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in shards}
    print(
        f"\nReading from a server: {DELAY * 1e3:.0f} ms, {SPEED / 1e6:.0f} MB/s a connection, 2 % of faults, "
        f"{CONNECTIONS} connections; {sum(files.values()) / 1e6:,.0f} MB in {len(files)} shards; {rounds} rounds, "
        "medians\n"
    )
    rows = []
    with server(folder) as url:
        for stride, memory in itertools.product((1, 16, WINDOW), memories):
            found: list[tuple[float, ...]] = []
            for _ in range(rounds):
                near = measure(read, str(local), WINDOW, stride, memory)
                far = measure(read, f"{url}/{local.relative_to(folder)}", WINDOW, stride, memory)
                bare = measure(read_bare, url, files)["seconds"] if stride == WINDOW else 0.0
                found.append((far["rate"], far["rate"] / near["rate"], bare / far["epoch"], far["growth"]))
            rate, of_local, of_bare, growth = map(statistics.median, zip(*found, strict=True))
            goal = f" (goal: {GOALS[stride]})" if stride in GOALS else ""
            bare_text = f"{of_bare:.2f} (goal: {BARE_GOAL})" if stride == WINDOW else ""
            rows.append(
                [f"{stride}", memory, f"{rate:,.0f}", f"{of_local:.2f}{goal}", bare_text, f"{growth / 1e6:,.0f}"]
            )
        first = [measure(read, f"{url}/{small.relative_to(folder)}", 4, 4, "256MB")["first"] for _ in range(rounds)]
    print_table(["stride", "memory", "windows/s", "of local", "of bare requests", "growth MB"], rows)
    sequences, wait = len(store_spec.open_store(small)), statistics.median(first)
    print(f"\nFirst batch of {sequences:,} sequences, opening included: {wait:.2f} s (goal: 1 s for 100,000)")


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Serve a folder in another process; yield its URL."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(folder, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours.recv()
    finally:
        ours.close()
        process.join(10)
