"""Start dask workers on this machine, which always end with the process that started them, and limit their memory."""

import logging
import multiprocessing
import os
import resource
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import resource_tracker, spawn
from multiprocessing.process import BaseProcess
from typing import Any, Final

from builder.build_errors import BuildError
from builder.workers.interrupts import Interrupts

START_SECONDS = 60  # for the worker processes to start
LOOK_SECONDS = 1  # between checks for dead workers
WORKER_NAME = "Dask Worker"  # the beginning of the names that dask gives its processes
ONE_BATCH = {"batch": 1}  # a worker processes one batch at a time, since process functions need not be thread-safe
DASK_CONFIG = {
    # By default dask makes workers return memory at once. The system then clears the pages of each new array, which
    # takes more than twice as long as all work on it.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
    # dask restarts a dead worker. If that takes longer than this, by default 15 s, dask gives up, and a build without
    # workers would never end.
    "distributed.deploy.lost-worker-timeout": f"{START_SECONDS} s",
    # dask would kill a worker that does not answer for five minutes, but C code may hold the GIL longer. That a worker
    # died is noticed without this.
    "distributed.scheduler.worker-ttl": None,
    "distributed.admin.tick.interval": "1s",  # by default each process measures its delays 50 times a second
}
LEAST_MEMORY: Final = 2 * 2**30  # bytes that each worker may use, on any machine
_MOST_SHARES: Final = 4  # more workers hardly ever need much memory at the same time


def worker_memory(workers: int) -> int:
    """Return how many bytes each of `workers` processes on this machine, or in this container, may use."""
    from distributed.system import memory_limit

    return max(LEAST_MEMORY, memory_limit() * 7 // 8 // max(1, min(workers, _MOST_SHARES)))


def limit_memory(nbytes: int) -> None:
    """Make allocations of this process fail beyond `nbytes`, so that a hostile file cannot fill the machine's memory.

    A lower limit is kept.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or soft > nbytes:
        resource.setrlimit(resource.RLIMIT_DATA, (nbytes, hard))


@contextmanager
def local_cluster(workers: int) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Start worker processes; yield a client, and a function that stops them at once.

    They end with this context, and with this process, even if it is killed. BuildError if they do not start in time.
    """
    from dask import config
    from distributed import Client, LocalCluster

    others = frozenset(multiprocessing.active_children())  # these must not be stopped
    with _block_interrupts(), config.set(DASK_CONFIG):
        # The cluster starts without workers, since it cannot be stopped if it is interrupted while it starts them.
        cluster = LocalCluster(
            n_workers=0,
            threads_per_worker=2,  # one processes sources, the other writes shards and waits for the disk
            resources=ONE_BATCH,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # the build limits memory; dask would spill to disk, pause, or kill
            silence_logs=logging.CRITICAL,
        )

    def stop() -> None:
        for nanny in list(cluster.workers.values()):
            nanny.auto_restart = False  # do not replace killed workers
        cluster.scale(0)
        _kill(others)

    with _restore_environment(), _hide_main(), no_dask_log(), config.set(DASK_CONFIG), ExitStack() as stack:
        try:
            stack.enter_context(cluster)
            # The client is not the default, so that other code keeps its scheduler.
            client = stack.enter_context(Client(cluster, set_as_default=False))
            client.register_worker_callbacks(partial(limit_memory, worker_memory(workers)))
            cluster.scale(workers)
            import zarr  # noqa: F401, the first commit needs it; here it takes no time, since the workers are starting

            _wait_for_workers(cluster, client, workers)
            yield client, stop
        except BaseException:
            with Interrupts().delayed():
                stop()
            raise
        finally:
            with Interrupts().delayed():  # dask would wait ten seconds for a cluster that is half closed
                stack.close()


def _wait_for_workers(cluster: Any, client: Any, workers: int) -> None:
    """Wait until all workers have started; replace workers that die meanwhile, which dask does only after the start."""
    from distributed import Status

    deadline, next_look = (time.monotonic() + seconds for seconds in (START_SECONDS, LOOK_SECONDS))
    while True:
        # Not `client.wait_for_workers`: it replaces the cluster's record of workers, and a message that a worker died,
        # which comes later, raises KeyError if the record no longer has that worker.
        started = len(client.ncores())
        # A worker gets tasks before dask records that it runs; if it died in between, dask would not replace it.
        nannies = list(cluster.workers.values())
        if min(started, len(nannies)) >= workers and all(nanny.status is Status.running for nanny in nannies):
            return
        now = time.monotonic()
        if now > deadline:
            raise BuildError(
                f"of {workers} worker processes {started} started in {START_SECONDS} s; "
                "try fewer, or workers=0 (--workers 0)"
            )
        if now > next_look:
            next_look = now + LOOK_SECONDS
            # First remove dead workers, then add new ones: in one step dask would give a new worker the name of a dead
            # one, and count that as started.
            died = any(nanny.pid is None for nanny in nannies)
            cluster.scale(started if died else workers)
        time.sleep(0.02)


def _kill(others: Collection[BaseProcess]) -> None:
    """Kill all worker processes but `others`, and wait until they are gone."""
    while ours := [
        process
        for process in multiprocessing.active_children()
        if process not in others and process.name.startswith(WORKER_NAME)
    ]:
        for process in ours:
            process.kill()
        time.sleep(0.01)


@contextmanager
def no_dask_log() -> Iterator[None]:
    """Keep dask from logging lost connections with a traceback; our errors report the important ones."""
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


@contextmanager
def _restore_environment() -> Iterator[None]:
    """Undo changes to the environment, such as dask's: for its workers it sets one thread per numerical library."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _block_interrupts() -> Iterator[None]:
    """Block SIGINT in the threads and processes that start in this context, and in their children.

    A terminal sends Ctrl-C to all its processes. The coordinator handles it and stops the workers, which would
    otherwise each print a traceback.
    """
    # Python's process that removes the semaphores of killed workers; importing numcodecs creates one in each. It is
    # started now, since it unblocks the signal in the thread that starts it, and it does not warn of each semaphore.
    name = "PYTHONWARNINGS"
    with _restore_environment():
        os.environ[name] = ",".join([*filter(None, [os.environ.get(name)]), "ignore:resource_tracker"])
        resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _hide_main() -> Iterator[None]:
    """Keep worker processes from running the user's script, as `multiprocessing` does in each spawned process.

    Functions of the script are sent to the workers by value, so workers need not import it, and the script needs no
    `if __name__ == "__main__"`. dask may replace a dead worker at any time, so this holds while the cluster lives.
    """
    before = spawn.get_preparation_data

    def without_main(name: str) -> dict[str, Any]:
        data = before(name)
        is_worker = name.startswith(WORKER_NAME)
        return {key: value for key, value in data.items() if not (is_worker and key.startswith("init_main_from_"))}

    spawn.get_preparation_data = without_main
    try:
        yield
    finally:
        spawn.get_preparation_data = before
