"""Worker processes of dask's on this machine, which end with the process that started them, however that ends."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from typing import Any

from builder.build_errors import BuildError
from builder.workers.memory import limit_memory, worker_memory

START_SECONDS = 60  # for the worker processes to start
LOOK_SECONDS = 1  # between looks at whether one of them died meanwhile
ONE_BATCH = {"batch": 1}  # of a worker at a time: what reads sources need not be safe in two threads at once
DASK_CONFIG = {
    # dask has workers give back memory at once. Each array is then made of pages that the system must clear first,
    # which takes more than twice the time of all the work on it.
    "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_": None,
    "distributed.worker.profile.enabled": False,
    # A worker that died is started again. Where that takes longer than this, by default 15 s, dask gives it up for
    # good, and a build without workers would wait for ever.
    "distributed.deploy.lost-worker-timeout": f"{START_SECONDS} s",
    "distributed.admin.tick.interval": "1s",  # by default 50 looks a second, in each process, at how late they come
}


@contextmanager
def local_cluster(workers: int) -> Iterator[tuple[Any, Callable[[], None]]]:
    """Start worker processes, and give a client of theirs and what stops them, whatever they are doing.

    They end with this context, and with this process, however it ends.

    Raises:
        BuildError: They do not start in time.
    """
    from dask import config
    from distributed import Client, LocalCluster

    # Processes of others, which are not to be stopped.
    others = frozenset(multiprocessing.active_children())
    with _interrupts_for_this_thread_only(), config.set(DASK_CONFIG):
        # Without workers at first: a cluster that is interrupted while it starts them could not be stopped.
        cluster = LocalCluster(
            n_workers=0,
            threads_per_worker=2,  # one processes sources, one has shards: it waits for the disk
            resources=ONE_BATCH,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            memory_limit=0,  # ours to bound: dask would spill to disk, pause, or kill
            silence_logs=logging.CRITICAL,
        )

    def stop() -> None:
        for nanny in list(cluster.workers.values()):
            nanny.auto_restart = False  # else another worker is started in place of one that was killed
        cluster.scale(0)
        _kill(others)

    # No default of this process: code of others keeps its scheduler.
    with (
        _environment_kept(),
        no_dask_log(),
        config.set(DASK_CONFIG),
        cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        try:
            with _main_not_imported():
                client.register_worker_callbacks(partial(limit_memory, worker_memory(workers)))
                cluster.scale(workers)
                _wait_for_workers(cluster, client, workers)
            yield client, stop
        except BaseException:
            stop()
            raise


def _wait_for_workers(cluster: Any, client: Any, workers: int) -> None:
    """Wait until all have started, and replace those that die meanwhile: dask does so only once they have.

    Raises:
        BuildError: It takes too long.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            client.wait_for_workers(workers, timeout=LOOK_SECONDS)
        except TimeoutError as error:
            started = len(client.ncores())
            if time.monotonic() > deadline:
                raise BuildError(
                    f"of {workers} worker processes {started} started in {START_SECONDS} s; "
                    "try fewer, or workers=0 (--workers 0)"
                ) from error
        else:
            return
        # One of both at a time: asked for more at once, dask gives the next the name of the one that went, and then
        # takes that for started.
        died = any(nanny.pid is None for nanny in list(cluster.workers.values()))
        cluster.scale(started if died else workers)  # those that did not start go first


def _kill(others: Collection[BaseProcess]) -> None:
    """Kill the worker processes that are not among those of others, and wait until they are gone."""
    while ours := [
        process
        for process in multiprocessing.active_children()
        if process not in others and process.name.startswith("Dask Worker")
    ]:
        for process in ours:
            process.kill()
        time.sleep(0.01)


@contextmanager
def no_dask_log() -> Iterator[None]:
    """Keep dask from logging, with a traceback, what errors of ours tell or nobody need know: somebody is gone."""
    logs = [logging.getLogger(name) for name in ("distributed", "distributed.client")]  # each has a level of its own
    before = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for log, level in zip(logs, before, strict=True):
            log.setLevel(level)


@contextmanager
def _environment_kept() -> Iterator[None]:
    """Undo what dask sets in this process's environment for its workers: one thread for each numerical library."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _interrupts_for_this_thread_only() -> Iterator[None]:
    """Let threads and processes that start in here, and those that they start, not be interrupted.

    A Ctrl-C goes to all processes of a terminal. Ours is for the coordinator to handle, which then stops the
    workers; they would each print a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    _start_tracker()  # which unblocks the signal in whatever thread does that
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_tracker() -> None:
    """Start the process that removes the semaphores of processes that were killed, and let it do so in silence.

    Importing numcodecs makes one, so each worker that is killed leaves one.
    """
    name, before = "PYTHONWARNINGS", os.environ.get("PYTHONWARNINGS")
    os.environ[name] = ",".join([*filter(None, [before]), "ignore:resource_tracker"])
    try:
        resource_tracker.ensure_running()
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _main_not_imported() -> Iterator[None]:
    """Keep worker processes from running the user's script again, as `multiprocessing` has each do that it spawns.

    Functions of that script reach the workers by value, so they need not import it, and it need not be written
    under `if __name__ == "__main__"`.
    """
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name) for name in ("__spec__", "__file__") if getattr(main, name, None) is not None}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)
