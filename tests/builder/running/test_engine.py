"""The engines: in this process, and on worker processes that are started and stopped.

Sources that kill the process that reads them are found in an extra process, one after another.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import zlib
from contextlib import suppress
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import dask
import numpy as np
import psutil
import pyarrow as pa
import pytest
from dask.delayed import delayed
from distributed import Client, LocalCluster
from pyarrow import ipc

import builder.workers.process_engine as process_engine_module
import store_spec
from builder import BuildError, UsageError, build
from builder.execution.build import _call_on_worker
from builder.manifest.manifest_columns import KeptColumn, SourceLabels
from builder.processes.function_process import FunctionProcess
from builder.sources.folder import LocalFolder
from builder.workers.crashes import find_crashes
from builder.workers.engine import TASKS_PER_WORKER, InProcessEngine, as_done, start_engine
from builder.workers.process_engine import ProcessEngine, process_engine
from builder.workers.process_source import SourceBatch
from builder.workers.processes import worker_memory
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


def threads_of_libraries() -> str | None:
    return os.environ.get("OMP_NUM_THREADS")


@pytest.mark.slow
def test_worker_processes_run_tasks_survive_a_death_and_end(tmp_path):
    environment, threads, before = dict(os.environ), set(threading.enumerate()), set(workers_of(os.getpid()))
    with start_engine(2) as engine:
        for number in range(9):
            engine.submit(add, engine.submit(add, 1, number), 10, watch=True, urgent=True)
        assert sorted(engine.next_finished().result() for _ in range(9)) == list(range(11, 20))
        assert {engine.submit(process_id, watch=True).result() for _ in range(3)}.isdisjoint({os.getpid()})
        # Libraries leave the cores to the other workers.
        assert engine.submit(threads_of_libraries, watch=True).result() == "1"

        workers = set(workers_of(os.getpid())) - before
        assert len(workers) >= 2
        listening = [
            connection.laddr.ip
            for process in (psutil.Process(), *workers)
            for connection in process.net_connections("inet")
            if connection.status == psutil.CONN_LISTEN
        ]
        assert not listening

        assert engine.submit(die_at_first, str(tmp_path / "died"), watch=True).result() not in (None, os.getpid())
        assert (tmp_path / "died").exists()
        with pytest.raises(engine.death_errors):
            engine.submit(die_always, watch=True).result()
        workers |= set(workers_of(os.getpid())) - before
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert set(threading.enumerate()) <= threads
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
    with start_engine(1) as engine:
        assert engine.submit(add, 1, 2, watch=True) is engine.next_finished()
        monkeypatch.setattr(process_engine_module, "START_SECONDS", 0.1)
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
        with start_engine(1, cluster.scheduler_address) as engine:
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
        monkeypatch.setattr("builder.workers.processes.machine_memory", lambda machine=machine: machine)
        shares[machine] = [worker_memory(workers) for workers in (0, 1, 2, 4, 64)]
    assert shares[2**30] == [2**31] * 5
    assert shares[2**36] == [7 * 2**33, 7 * 2**33, 7 * 2**32, 7 * 2**31, 7 * 2**31]


SECONDS = 40  # for processes to start, and for killed ones to be replaced


@pytest.mark.slow
@pytest.mark.parametrize("chosen", [{0}, {1}, {0, 1}], ids=["the first", "the last", "all"])
def test_workers_that_are_killed_as_they_start_are_replaced(chosen: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = SpawnProcess.start, list[int | None]()

    def start_and_kill(process: SpawnProcess) -> None:
        start(process)
        if len(started) in chosen:
            process.kill()
        started.append(process.pid)

    monkeypatch.setattr(SpawnProcess, "start", start_and_kill)
    with process_engine(2) as engine:
        pids = set[int]()
        deadline = time.monotonic() + SECONDS
        while len(pids) < 2:
            pids.add(engine.submit(process_id, watch=True).result())
            assert time.monotonic() < deadline
    assert pids.isdisjoint({started[number] for number in chosen})
    assert pids <= set(started)


def combine(place: str, *values: bytes) -> bytes:
    """Return more than a pipe holds, in which every byte depends on every value; die if the place says so."""
    if place:
        with suppress(FileNotFoundError):
            os.unlink(place)
            os.kill(os.getpid(), signal.SIGKILL)
    total = sum(map(zlib.crc32, values)) % 251
    return bytes([total]) * 300_000 + b"".join(value[:4] for value in values)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_results_of_tasks_do_not_depend_on_workers_that_die(tmp_path: Path, seed: int) -> None:
    """Tasks need the results of others, which are kept by several workers, and are dropped at random.

    Some tasks kill their worker when they run first. The oracle calls the functions here.
    """
    rng = random.Random(seed)
    with process_engine(3) as engine:
        tasks, expected = dict[int, Any](), dict[int, bytes]()
        watched = dict[Any, bytes]()
        for number in range(150):
            needs = rng.sample(sorted(tasks), min(len(tasks), rng.randrange(4)))
            place = str(tmp_path / str(number)) if rng.random() < 0.08 else ""
            values = [bytes([number]), *(expected[one] for one in needs)]
            if place:
                Path(place).touch()
            result = combine("", *values)
            arguments = (combine, place, values[0], *(tasks[one] for one in needs))
            if rng.random() < 0.4:
                watched[engine.submit(*arguments, watch=True, urgent=rng.random() < 0.5)] = result
            else:
                tasks[number], expected[number] = engine.submit(*arguments), result
            if len(tasks) > 9:
                del tasks[rng.choice(sorted(tasks))]
            while len(watched) > 12:
                task = engine.next_finished()
                assert engine.result(task) == watched.pop(task)
        while watched:
            task = engine.next_finished()
            assert engine.result(task) == watched.pop(task)
        del task, arguments
        tasks.clear()
        deadline = time.monotonic() + SECONDS  # tasks that nothing needs may still run
        while any(worker.keeps for worker in engine._workers):
            assert engine.submit(add, 1, 2, watch=True).result() == 3
            assert time.monotonic() < deadline


class UnpicklableError(Exception):
    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def fail(how: str) -> Any:
    if how == "unpicklable":
        raise UnpicklableError(1, 2)
    if how == "exits":
        raise SystemExit(3)
    if how == "result":
        return threading.Lock()
    raise ZeroDivisionError(how)


@pytest.mark.slow
def test_errors_of_tasks_are_raised_where_their_results_are_needed() -> None:
    with process_engine(1) as engine:
        for how, error, text in (
            ("division", ZeroDivisionError, "division"),
            ("unpicklable", RuntimeError, "UnpicklableError: 1 and 2"),
            ("exits", SystemExit, "3"),
            ("result", TypeError, "cannot pickle '_thread.lock'"),
        ):
            with pytest.raises(error, match=text):
                engine.submit(fail, how, watch=True).result()
        with pytest.raises(ZeroDivisionError, match="kept") as raised:
            engine.submit(add, engine.submit(fail, "kept"), 1, watch=True).result()
        assert "in fail\n    raise ZeroDivisionError" in raised.value.__notes__[0]
        with pytest.raises(TypeError, match="cannot pickle"):
            engine.submit(add, threading.Lock(), 1, watch=True).result()
        assert engine.submit(add, 1, 2, watch=True).result() == 3


UNGUARDED = """
import os, signal
from builder.workers.process_engine import process_engine

print(__name__, flush=True)
with process_engine(1) as engine, process_engine(1) as other:
    pid = engine.submit(os.getpid, watch=True).result()
    os.kill(pid, signal.SIGKILL)
    assert engine.submit(os.getpid, watch=True).result() != pid
    assert other.submit(os.getpid, watch=True).result() != pid
"""


def test_workers_of_two_engines_print_nothing_and_one_that_is_started_again_does_not_run_the_script(tmp_path):
    (tmp_path / "script.py").write_text(UNGUARDED)
    done = python("-W", "default", tmp_path / "script.py")
    assert (done.returncode, done.stdout, done.stderr) == (0, "__main__\n", "")


TRACKED = """
from multiprocessing import resource_tracker
import numpy as np

resource_tracker.ensure_running()  # before the build could set its warnings
from builder.workers.process_engine import process_engine
from store_spec.format.codec import Codec

with process_engine(1) as engine:
    engine.submit(Codec("lz4").encode, np.zeros(1000), watch=True).result()
"""


def test_workers_that_end_by_themselves_leave_no_semaphores():
    """numcodecs creates one when it compresses; Python would warn of those that are left."""
    done = python("-W", "default", "-c", TRACKED)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


KILLED = """
import os, sys, time
from builder.workers.process_engine import process_engine

with process_engine(2) as engine:
    print(*{engine.submit(os.getpid, watch=True).result() for _ in range(20)}, flush=True)
    engine.submit(time.sleep, 600, watch=True)
    time.sleep(600)
"""


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them_if_it_is_killed():
    """Also one that is at work."""
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as starter:
        assert starter.stdout is not None
        workers = [psutil.Process(int(pid)) for pid in starter.stdout.readline().split()]
        starter.kill()
    assert not psutil.wait_procs(workers, timeout=SECONDS)[1]


def test_a_ctrl_c_while_workers_are_stopped_waits_for_their_end(monkeypatch: pytest.MonkeyPatch) -> None:
    close, closed = ProcessEngine.close, list[bool]()

    def interrupted(engine: ProcessEngine) -> None:
        signal.raise_signal(signal.SIGINT)
        close(engine)
        closed.append(not any(worker.thread.is_alive() for worker in engine._workers))

    monkeypatch.setattr(ProcessEngine, "close", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), process_engine(1):
            pass
    finally:
        signal.signal(signal.SIGINT, before)
    assert closed == [True]


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
    monkeypatch.setattr("builder.workers.process_engine.worker_memory", lambda _: most)
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
