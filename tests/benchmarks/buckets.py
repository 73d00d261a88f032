"""Read a store in place from a server with the delay, the speed and the faults of an object store."""

import itertools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore
from obstore.store import HTTPStore

from tests.benchmarks.children import Figures, measure
from tests.benchmarks.measured import first_batch, whole_epoch
from tests.benchmarks.readers import WINDOW, Work
from tests.benchmarks.results import print_table
from tests.benchmarks.stores import into_page_cache, make_store
from tests.store.object_server import serving

DELAY = 0.05  # seconds before each answer
SPEED = 90e6  # bytes per second of each connection
# Of each hundred requests, 2 % together: more requests than there are.
FAULTS = {hundred + number: fault for hundred in range(0, 10**6, 100) for number, fault in ((0, "503"), (50, "cut"))}
CONNECTIONS = 16
BARE_BYTES = 2**20  # of each request of the bare reader
GOALS = {1: 0.95, 16: 0.9}  # relative to the local store, by stride
BARE_GOAL = 0.8  # of disjoint windows, relative to bare requests for the same bytes
SMALL = Work(name="tiny", store="tiny", window=4, stride=4)


def read_bare(url: str, files: dict[str, int]) -> Figures:
    """Fetch all bytes of some objects with as many threads as there are connections."""
    store = HTTPStore.from_url(url, client_options={"allow_http": True})
    parts = [(name, start) for name, size in files.items() for start in range(0, size, BARE_BYTES)]
    start = time.perf_counter()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        for _ in pool.map(lambda one: obstore.get_range(store, one[0], start=one[1], length=BARE_BYTES), parts):
            pass
    return {"seconds": time.perf_counter() - start}


def benchmark_buckets(folder: Path, *, megabytes: float, tiny: float, memories: Sequence[str]) -> None:
    """Print the rates of windows from the server, relative to the local store and to bare requests.

    `tiny` is the decoded size of a store of small sequences, whose first batch is timed.
    """
    local, small = make_store(folder, "walks", megabytes), make_store(folder, "tiny", tiny)
    into_page_cache(local)
    files = {path.relative_to(folder).as_posix(): path.stat().st_size for path in local.glob("store.zarr/*s/c.*")}
    print(
        f"\nReading from a server: {DELAY * 1e3:.0f} ms, {SPEED / 1e6:.0f} MB/s a connection, 2 % of faults, "
        f"{CONNECTIONS} connections; {sum(files.values()) / 1e6:,.0f} MB in {len(files)} shards\n"
    )
    rows = []
    with serving(folder) as server:
        server.delay, server.speed, server.faults = DELAY, SPEED, FAULTS
        for stride, memory in itertools.product((1, 16, WINDOW), memories):
            work = Work(name="windows", stride=stride, memory=memory)
            near = measure(whole_epoch, work, local)
            far = measure(whole_epoch, work, f"{server.url}/{local.name}")
            goal = f" (goal: {GOALS[stride]})" if stride in GOALS else ""
            of_bare = ""
            if stride == WINDOW:
                bare = measure(read_bare, server.url, files)
                of_bare = f"{bare['seconds'] / far['seconds']:.2f} (goal: {BARE_GOAL})"
            of_local = f"{far['rate'] / near['rate']:.2f}{goal}"
            rows.append([f"{stride}", memory, f"{far['rate']:,.0f}", of_local, of_bare, f"{far['growth'] / 1e6:,.0f}"])
        first = measure(first_batch, SMALL, f"{server.url}/{small.name}")
    print_table(["stride", "memory", "windows/s", "of local", "of bare requests", "growth MB"], rows)
    print(
        f"\nFirst batch of {first['sequences']:,.0f} sequences, opening included: {first['seconds']:.2f} s "
        "(goal: 1 s for 100,000)"
    )
