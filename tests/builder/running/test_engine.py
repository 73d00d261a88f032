"""The engines: in this process, and on worker processes that are started and stopped.

Sources that kill the process that reads them are found in an extra process, one after another.
"""

import asyncio
import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import psutil
import pyarrow as pa
import pytest
from dask import config
from dask.delayed import delayed
from distributed import Client, LocalCluster, Nanny
from distributed.scheduler import WorkerStatusPlugin
from pyarrow import ipc

import builder.workers.local_cluster
import store_spec
from builder import BuildError, UsageError, build
from builder.execution.build import _call_on_worker
from builder.manifest.manifest_columns import KeptColumn, SourceLabels
from builder.processes.function_process import FunctionProcess
from builder.sources.folder import LocalFolder
from builder.workers.crashes import find_crashes
from builder.workers.engine import TASKS_PER_WORKER, DaskEngine, InProcessEngine, as_done, start_engine
from builder.workers.local_cluster import local_cluster, worker_memory
from builder.workers.process_source import SourceBatch
from store_spec.format.sequence_columns import SequenceColumn
from tests.builder.command import python
from tests.builder.source_files import write_files
from tests.campaigns.processes import workers_of


def add(one: int, other: int) -> int:
    return one + other


def process_id() -> int:
    return os.getpid()


def die_at_first(flag: str) -> int:
    if not os.path.exists(flag):
        Path(flag).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def note(number: int, path: str) -> None:
    with open(path, "a") as file:
        file.write(f"{number}\n")


def die_always() -> None:
    os._exit(1)


ALLOCATION = "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_ARENA_MAX"


def allocation_and_threads() -> list[str | None]:
    return [os.environ.get(name) for name in (*ALLOCATION, "OMP_NUM_THREADS")]


def threads_left(before: Collection[threading.Thread]) -> list[threading.Thread]:
    """Return the threads that are new and do not end.

    On a busy machine, dask's last ones may still be ending. Those to which dask, and the event loop of zarr, offload
    work stay, idle.
    """
    new = [thread for thread in threading.enumerate() if thread not in before]
    ending = [thread for thread in new if not thread.name.startswith(("Dask-Offload", "asyncio_"))]
    for thread in ending:
        thread.join(10)
    return [thread for thread in ending if thread.is_alive()]


@pytest.mark.slow
def test_worker_processes_run_tasks_survive_a_death_and_end(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONHASHSEED", "0")  # dask changes it
    for name in ALLOCATION:  # a dask cluster that another test started in this process leaves one of them
        monkeypatch.delenv(name, raising=False)
    environment, threads, before = dict(os.environ), set(threading.enumerate()), set(workers_of(os.getpid()))
    with start_engine(2) as engine:
        for number in range(9):
            engine.submit(add, engine.submit(add, 1, number), 10, watch=True, urgent=True)
        assert sorted(engine.next_finished().result() for _ in range(9)) == list(range(11, 20))
        assert {engine.submit(process_id).result() for _ in range(3)}.isdisjoint({os.getpid()})
        # Memory is not returned to the system at once, and libraries leave the cores to the other workers.
        assert engine.submit(allocation_and_threads).result() == [None, None, None, "1"]

        workers = set(workers_of(os.getpid())) - before
        assert len(workers) >= 2
        listening = [
            connection.laddr.ip
            for process in (psutil.Process(), *workers)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {"127.0.0.1"}

        assert engine.submit(die_at_first, str(tmp_path / "died")).result() not in (None, os.getpid())
        assert (tmp_path / "died").exists()
        with pytest.raises(engine.death_errors):
            engine.submit(die_always).result()
        workers |= set(workers_of(os.getpid())) - before
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert not threads_left(threads)
    assert dict(os.environ) == environment


@pytest.mark.slow
def test_tasks_run_in_the_order_in_which_they_were_submitted(tmp_path):
    """They are registered in that order: a late one delays the others, and keeps their memory."""
    with start_engine(1) as engine:
        for number in range(60):
            engine.submit(note, number, str(tmp_path / "done"), watch=True)
        for _ in range(60):
            engine.next_finished().result()
    assert (tmp_path / "done").read_text().split() == [str(number) for number in range(60)]


def test_workers_that_cannot_restart_are_reported(monkeypatch):
    monkeypatch.setattr("builder.workers.engine.START_SECONDS", 0.1)
    with start_engine(1) as engine:
        monkeypatch.setattr("multiprocessing.spawn._python_exe", b"/no/such/program")
        engine.submit(die_always, watch=True)
        with pytest.raises(BuildError, match="all worker processes died"):
            engine.next_finished()


def test_other_code_keeps_its_dask_scheduler():
    """Clients that are the default leave traces in dask's settings if they end in another order."""

    def assert_kept() -> None:
        assert dask.config.get("scheduler", None) is None
        assert delayed(process_id)().compute() == os.getpid()

    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        for scheduler in (None, cluster.scheduler_address):
            with start_engine(1, scheduler) as engine:
                assert engine.submit(add, 1, 2).result() == 3
                assert_kept()
            assert_kept()


def test_an_address_without_a_server_is_an_error(monkeypatch):
    monkeypatch.setattr("builder.workers.engine.CONNECT_SECONDS", 0.5)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no dask scheduler answers at {address}"), start_engine(1, address):
            pass


@pytest.mark.parametrize("greeting", [b"", b"SSH-2.0-OpenSSH_9.2"])
def test_a_server_that_is_not_a_scheduler_is_refused(greeting, monkeypatch):
    """dask's client would wait for a silent one forever, and take the greeting of another for a size."""
    monkeypatch.setattr("builder.workers.engine.CONNECT_SECONDS", 0.5)
    connections = []

    def greet(server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connections.append(server.accept()[0])
                connections[-1].sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=greet, args=(server,), daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no dask scheduler answers at {address}"), start_engine(1, address):
            pass
        server.shutdown(socket.SHUT_RDWR)
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("address", ["nonsense://x", "no-port"])
def test_no_client_is_made_for_an_invalid_address(address, monkeypatch):
    """It would be left incomplete, and print an error 20 seconds later."""
    monkeypatch.setattr("distributed.Client", None)
    with pytest.raises(UsageError, match=f"no dask scheduler answers at {address}"), start_engine(1, address):
        pass


def test_a_users_cluster_has_as_many_workers_as_threads_or_as_requested():
    with (
        LocalCluster(n_workers=2, threads_per_worker=2, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        for given in (client, cluster.scheduler_address):
            for wanted, workers in ((1, 4), (5, 5)):
                with start_engine(wanted, given) as engine:
                    assert engine.workers == workers
    with start_engine(0) as engine:
        assert engine.workers == 0


def test_a_client_whose_cluster_is_gone_is_an_error(monkeypatch):
    with LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster:
        closed = Client(cluster, set_as_default=False)
        closed.close()
        with pytest.raises(BuildError, match="the given client went away"), start_engine(1, closed) as engine:
            engine.submit(add, 1, 2)
        with Client(cluster, set_as_default=False) as client:
            monkeypatch.setattr(client, "nthreads", lambda: 1 / 0)
            with pytest.raises(ZeroDivisionError), start_engine(1, client):  # not the fault of the cluster
                pass

            def timed_out():
                raise OSError("Timed out")

            monkeypatch.setattr(client, "nthreads", timed_out)
            with start_engine(1, client) as engine:
                assert engine.workers == 1


def test_as_many_tasks_are_in_flight_as_workers_can_take():
    on_the_way = []

    class Slow(InProcessEngine):
        workers = 4

        def submit(self, *arguments, **options):
            on_the_way.append(len(self._watched) + 1)
            return super().submit(*arguments, **options)

    engine = Slow()
    done = as_done(engine, range(100), lambda one: engine.submit(add, one, 1, watch=True), lambda _: BuildError())
    assert sorted(done) == [(one, one + 1) for one in range(100)]
    assert max(on_the_way) == 4 * TASKS_PER_WORKER


def test_workers_share_the_memory_of_the_machine_but_each_has_some(monkeypatch):
    shares = {}
    for machine in (2**30, 2**36):
        monkeypatch.setattr("distributed.system.memory_limit", lambda machine=machine: machine)
        shares[machine] = [worker_memory(workers) for workers in (0, 1, 2, 4, 64)]
    assert shares[2**30] == [2**31] * 5
    assert shares[2**36] == [7 * 2**33, 7 * 2**33, 7 * 2**32, 7 * 2**31, 7 * 2**31]


SECONDS = 40  # for two processes to start, and for killed ones to be replaced


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [{0}, {1}, {0, 1}], ids=["the first", "the last", "all"])
def test_workers_that_are_killed_as_they_start_are_replaced(chosen: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder.workers.local_cluster, "START_SECONDS", SECONDS)
    start, started = SpawnProcess.start, list[int | None]()

    def start_and_kill(process: SpawnProcess) -> None:
        start(process)
        if process.name.startswith("Dask Worker"):
            if len(started) in chosen:
                process.kill()
            started.append(process.pid)

    monkeypatch.setattr(SpawnProcess, "start", start_and_kill)
    with local_cluster(2) as (client, _):
        pids = set(client.run(os.getpid).values())
    assert len(pids) == 2
    assert pids.isdisjoint({started[number] for number in chosen})
    assert pids <= set(started)


def test_dask_may_hear_late_that_workers_died_as_they_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """dask would raise KeyError at the end if its record of workers lost the dead ones before that."""
    add, remove = WorkerStatusPlugin.add_worker, WorkerStatusPlugin.remove_worker
    killed = list[str]()
    told = threading.Event()

    def add_and_kill_two(plugin: Any, scheduler: Any, worker: str) -> None:
        add(plugin, scheduler, worker)
        if len(killed) < 2:
            killed.append(worker)
            name = scheduler.workers[worker].name
            (pid,) = [nanny.pid for nanny in Nanny._instances if nanny.name == name and nanny.pid]
            asyncio.get_running_loop().call_later(0.02, os.kill, pid, signal.SIGKILL)

    def remove_late(plugin: Any, scheduler: Any, worker: str, **details: Any) -> None:
        def tell() -> None:
            remove(plugin, scheduler, worker, **details)
            told.set()

        asyncio.get_running_loop().call_later(0.5, tell)

    monkeypatch.setattr(WorkerStatusPlugin, "add_worker", add_and_kill_two)
    monkeypatch.setattr(WorkerStatusPlugin, "remove_worker", remove_late)
    with local_cluster(2) as (client, _):
        assert told.wait(SECONDS)
        assert set(client.ncores()).isdisjoint(killed)


def test_the_build_waits_for_a_worker_that_restarts_slowly() -> None:
    """dask would give up earlier, here long before it can have started."""
    with config.set({"distributed.deploy.lost-worker-timeout": "1 ms"}), local_cluster(1) as (client, _):
        (pid,) = client.run(os.getpid).values()
        os.kill(pid, signal.SIGKILL)
        assert client.submit(os.getpid, pure=False).result(timeout=SECONDS) != pid


def hold_gil(seconds: int) -> int:
    ctypes.PyDLL(None).usleep(seconds * 1_000_000)
    return os.getpid()


@pytest.mark.slow
def test_a_worker_whose_function_holds_the_gil_is_not_killed():
    """dask would kill workers that do not answer, at the earliest after 5 s."""
    with config.set({"distributed.scheduler.worker-ttl": "1 s"}), local_cluster(1) as (client, _):
        (pid,) = client.run(os.getpid).values()
        assert client.submit(hold_gil, 8).result(timeout=SECONDS) == pid


UNGUARDED = """
import os, signal
from builder.workers.local_cluster import local_cluster

print(__name__, flush=True)
with local_cluster(1) as (client, _), local_cluster(1) as (other, _):
    (pid,) = client.run(os.getpid).values()
    os.kill(pid, signal.SIGKILL)
    assert client.submit(os.getpid, pure=False).result(timeout=20) != pid
    assert other.submit(os.getpid).result(timeout=20) != pid
"""


def test_workers_of_two_clusters_print_nothing_and_one_that_is_started_again_does_not_run_the_script(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = python("-W", "default", tmp_path / "script.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "__main__\n", "")


def test_a_ctrl_c_while_workers_are_stopped_waits_for_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """At its exit, Python would wait ten seconds for a half-closed cluster."""
    close, closed = Client.__exit__, list[str]()

    def interrupted(client: Any, *error: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        close(client, *error)
        closed.append(client.status)

    monkeypatch.setattr(Client, "__exit__", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), local_cluster(1):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed == ["closed"]


MEMORY = 2**31
NAMES = ("a", "b", "c", "d", "e")


def batch_of(folder: Path, *, labels: Any = None, kept: tuple[KeptColumn, ...] = ()) -> SourceBatch:
    return SourceBatch(
        folder=LocalFolder(folder), names=NAMES, labels=labels, process=FunctionProcess(function=print), kept=kept
    )


def end_some(batch: SourceBatch, how: dict[str, int]) -> None:
    print("what a source prints is no answer", batch.names)
    os.write(1, b"3\n")
    status = how.get(batch.names[0])
    if status is not None and status < 0:
        os.kill(os.getpid(), -status)
    if status is not None:
        os._exit(status)


@pytest.mark.slow
def test_each_crashing_source_is_reported_with_the_cause(tmp_path):
    how = {"a": -signal.SIGSEGV, "b": -signal.SIGKILL, "d": 0, "e": 3}
    found = find_crashes(batch_of(tmp_path), MEMORY, end_some, how)
    assert list(found) == ["a", "b", "d", "e"]
    said = ["by SIGSEGV;", "by SIGKILL;", "with exit status 0;", "with exit status 3;"]
    assert all(
        text.startswith(f"it ended the process that read it, {end}")
        for text, end in zip(found.values(), said, strict=True)
    )
    assert find_crashes(batch_of(tmp_path), MEMORY, end_some, {}) == {}


@pytest.mark.slow
def test_after_a_crash_workers_read_the_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("builder.workers.crashes.MORE_SECONDS", -1)
    how = {"b": -signal.SIGSEGV, "d": -signal.SIGSEGV}
    assert list(find_crashes(batch_of(tmp_path), MEMORY, end_some, how)) == ["b"]


def die_of(batch: SourceBatch, how: dict[str, int]) -> tuple[str, ...]:
    if how.keys() - batch.crashed.keys():
        raise ChildProcessError
    return batch.names


def test_crashes_of_the_first_sources_are_found_one_by_one(tmp_path, monkeypatch):
    how = {"a": -signal.SIGSEGV, "d": -signal.SIGSEGV}
    engine = InProcessEngine()
    engine.death_errors = (ChildProcessError,)

    def find_next(batch: SourceBatch, *_: Any) -> dict[str, str]:
        return {next(name for name in how if name not in batch.crashed): "crashed"}

    monkeypatch.setattr("builder.execution.build.find_crashes", find_next)
    assert _call_on_worker(engine, batch_of(tmp_path), die_of, how) == NAMES


def fail_and_tell(batch: SourceBatch, folder: Path) -> None:
    labels = batch.labels and batch.labels.numbers
    (folder / batch.names[0]).write_text(f"{labels} {[one.values.tolist() for one in batch.kept]}")
    raise ValueError(batch.names)


def test_errors_are_not_crashes_and_each_source_is_tried_alone(tmp_path):
    kept = KeptColumn(SequenceColumn("site", "int64"), np.arange(10, 15))
    batch = batch_of(tmp_path, labels=SourceLabels(np.arange(5.0).reshape(5, 1)), kept=(kept,))
    assert find_crashes(batch, MEMORY, fail_and_tell, tmp_path) == {}
    assert [(tmp_path / name).read_text() for name in NAMES] == [f"[[{at}.]] [[{10 + at}]]" for at in range(5)]


@pytest.mark.parametrize("program", ["/bin/false", "/no/such/program"])
def test_a_process_that_cannot_start_is_not_a_crash_of_a_source(tmp_path, monkeypatch, program):
    class Ended(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.wait()  # before it gets its task

    monkeypatch.setattr(sys, "executable", program)
    assert find_crashes(batch_of(tmp_path), MEMORY, end_some, {}) == {}
    monkeypatch.setattr("builder.workers.crashes.subprocess.Popen", Ended)
    more_than_a_pipe_holds = {"f" * 2**20: 0}
    for how in ({}, more_than_a_pipe_holds):
        assert find_crashes(batch_of(tmp_path), MEMORY, end_some, how) == {}


def wait(_: SourceBatch, folder: Path) -> None:
    (folder / "pid").write_text(str(os.getpid()))
    time.sleep(60)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_extra_process_ends_with_its_parent(tmp_path, number):
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell may ignore it
        "from pathlib import Path; from builder.workers.crashes import find_crashes; "
        "from tests.builder.running.test_engine import MEMORY, batch_of, wait; "
        f"find_crashes(batch_of(Path({str(tmp_path)!r})), MEMORY, wait, Path({str(tmp_path)!r}))"
    )
    with subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL) as starter:
        deadline = time.monotonic() + 30
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process = psutil.Process(int((tmp_path / "pid").read_text()))
        starter.send_signal(number)
        try:
            starter.wait(30)
        finally:
            starter.kill()
        psutil.wait_procs([process], timeout=30)
        assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@pytest.mark.slow
def test_sources_that_exceed_the_memory_of_a_worker_are_quarantined(tmp_path, monkeypatch):
    """It holds compressed zeros, and no metadata give their number."""
    most = 3 * 2**29
    monkeypatch.setattr("builder.workers.local_cluster.worker_memory", lambda _: most)
    write_files(tmp_path / "src", {"0 good.csv": "a\n1\n3\n"})
    zeros = pa.record_batch({"a": np.zeros(2**23)})
    options = ipc.IpcWriteOptions(compression="lz4")
    with ipc.new_file(tmp_path / "src/bomb.arrow", zeros.schema, options=options) as writer:
        for _ in range(2 * most // zeros.nbytes):
            writer.write_batch(zeros)
    report = build(tmp_path / "src", tmp_path / "store", workers=1)
    assert [failure.source for failure in report.failures] == ["bomb.arrow"]
    assert "it needs more memory than there is" in report.failures[0].reason
    assert store_spec.open_store(tmp_path / "store").lengths.tolist() == [2]


class Lost:
    """A task that was finished, and whose worker died before its result was fetched."""

    status = "finished"

    def result(self, timeout: float) -> None:
        raise TimeoutError(timeout)


def test_a_result_is_not_awaited_if_all_workers_are_gone():
    cluster = SimpleNamespace(scheduler=SimpleNamespace(workers={}))
    engine = DaskEngine(SimpleNamespace(cluster=cluster, loop=object()), 1, stop=lambda: None)
    with pytest.raises(BuildError, match="all worker processes died, and none could be started again"):
        engine.result(Lost())
    raising = Lost()
    raising.status = "error"  # the task itself raised the TimeoutError
    with pytest.raises(TimeoutError):
        engine.result(raising)
