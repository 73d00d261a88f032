"""A build that a signal ends leaves no process and a free lock, and the next build finishes to the same bytes."""

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from builder.cli import exit_status
from builder.sources.fingerprints import CACHE
from store_spec import open_store
from store_spec.disk.lock import build_folder, locked
from tests.builder.command import python, seqzarr
from tests.builder.slow_builds import slow_build
from tests.builder.source_files import write_files
from tests.campaigns.processes import workers_of
from tests.documents import PROGRESS
from tests.store.oracle import files

SOURCES = 40
OPTIONS = ("--process", "slow_source:read", "--chunk", "1kB", "--shard", "8kB", "--batch", "64kB")  # a source per batch

# Tells the test through a pipe that something is committed.
SLOW_SOURCE = """
import os
import time
from contextlib import suppress
from pathlib import Path

import numpy as np

def committed():
    try:
        return '"sequences": 0' not in Path("s.zarr/zarr.json").read_text()
    except FileNotFoundError:
        return False

def read(path):
    if "SLOW" in os.environ:
        time.sleep(0.1)
        if committed() or path.stem == "39":
            with suppress(FileExistsError):
                Path("told").touch(exist_ok=False)
                with open("pipe", "w") as pipe:
                    pipe.write("committed")
    return np.random.default_rng(int(path.stem)).normal(size=(2000, 1)), 1
"""


def left_of(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Wait for processes to end, and return those that did not; their exit status need not have been collected."""
    _, left = psutil.wait_procs(processes, timeout=30)
    return [one for one in left if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the working folder, with sources that are slow to read, and their process function."""
    (tmp_path / "slow_source.py").write_text(SLOW_SOURCE)
    write_files(tmp_path / "raw", {f"{number:02}.raw": "-" for number in range(SOURCES)})
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "slow_source", raising=False)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "to_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGKILL, False)],
    ids=["a Ctrl-C in a terminal", "SIGTERM", "SIGKILL"],
)
def test_a_build_that_a_signal_ends_leaves_no_process_and_can_be_completed(folder, number, to_all):
    # One this short would otherwise commit only at its end.
    with slow_build(*OPTIONS, workers=2, setting="COMMIT_SECONDS = 0") as started:
        assert (folder / "pipe").read_text() == "committed"
        processes = psutil.Process(started.pid).children(recursive=True)
        assert len(processes) >= 2
        (os.killpg if to_all else os.kill)(started.pid, number)
        out, err = started.communicate(timeout=60)
    assert left_of(processes) == []
    with locked(Path("s.zarr")):  # no other process holds the lock
        pass
    count = len(open_store("s.zarr"))
    assert 0 < count < SOURCES
    if number == signal.SIGKILL:
        assert started.returncode == -number
    else:
        assert (started.returncode, out) == (128 + number, "")
        are = "sequence is" if count == 1 else "sequences are"
        assert PROGRESS.sub("", err) == f"interrupted: {count:,} {are} committed; the same command goes on from there\n"

    finished, whole = (
        seqzarr("build", "raw", store, "--workers", "0", "--json", *OPTIONS) for store in ("s.zarr", "whole.zarr")
    )
    report = json.loads(finished.stdout)
    assert (report["unchanged"], report["added"], whole.exit_code) == (count, SOURCES - count, 0)
    assert files(Path("s.zarr")) == files(Path("whole.zarr"))
    assert {path.name for path in build_folder(Path("s.zarr")).glob("*")} <= {CACHE}


LOSING = """
import gc
import queue
import signal
import sys
import threading
import time

from builder.cli import exit_status
from builder.cli.exit_status import exit_with_status

class Losing:
    def __del__(self):
        signal.raise_signal(signal.{name})
        time.sleep(0.001)  # the handler runs here

def collecting(phase, _):
    if phase == "start":
        signal.raise_signal(signal.{name})
        time.sleep(0.001)

class Twice(queue.SimpleQueue):
    def put(self, what):
        super().put(what)
        if what is not None:  # another one comes while the first is taken note of
            signal.raise_signal(signal.{name})
            time.sleep(0.001)

handlers = [signal.default_int_handler, signal.SIG_DFL]
signal.signal(signal.SIGINT, handlers[0])  # it may be ignored, as above
hook = sys.unraisablehook
{before}
with exit_with_status():
    {lose}
    time.sleep({seconds})
print("went on")
time.sleep(0.1)
assert [signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)] == handlers
assert sys.unraisablehook is hook
assert threading.enumerate() == [threading.main_thread()]
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(
    "lose",
    [
        "Losing()",
        "gc.callbacks.append(collecting); gc.collect(); gc.callbacks.clear()",
    ],
    ids=["a finalizer", "a collection"],
)
@pytest.mark.parametrize("before", ["", "exit_status.SimpleQueue = Twice"], ids=["one", "two at once"])
def test_a_signal_where_python_drops_exceptions_ends_a_command(lose, name, before):
    done = python("-c", LOSING.format(name=name, lose=lose, before=before, seconds=10))
    assert (done.returncode, done.stdout, done.stderr) == (128 + signal.Signals[name], "", "interrupted\n")


IMPORTING = """
import signal
import sys
from builder.cli import main

assert "numpy" not in sys.modules

class During:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            try:
                signal.raise_signal(signal.{name})
            except KeyboardInterrupt:
                {then}

signal.signal(signal.SIGINT, signal.default_int_handler)  # it may be ignored, as above
sys.meta_path.insert(0, During())
main({command!r})
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "command"),
    [
        *((module, "build") for module in ("builder.planning.resolved_options", "numpy.lib", "numpy.matrixlib")),
        ("builder.planning.plan", "compact"),
    ],
)
@pytest.mark.parametrize(
    ("name", "then"), [("SIGINT", "raise"), ("SIGTERM", "raise"), ("SIGTERM", "raise ImportError('of C') from None")]
)
def test_a_signal_while_modules_are_imported_prints_no_traceback(tmp_path, module, command, name, then):
    write_files(tmp_path / "src", {"a.csv": "x\n1\n"})
    places = [str(tmp_path / "src"), str(tmp_path / "s.zarr"), "--workers", "0"]
    done = python("-c", IMPORTING.format(module=module, name=name, then=then, command=[command, *places]))
    assert (done.returncode, done.stdout) == (128 + signal.Signals[name], "")
    assert PROGRESS.sub("", done.stderr) == "interrupted: nothing was done yet; the same command starts again\n"
    assert not (tmp_path / "s.zarr").exists()


@pytest.mark.parametrize("lose", ["pass", "Losing()"])
def test_a_command_that_ends_before_a_repeated_signal_leaves_nothing(lose):
    # On a busy machine the signal could be repeated before the command ends.
    later = "exit_status.AGAIN_SECONDS = 0.5"
    done = python("-c", LOSING.format(name="SIGTERM", lose=lose, before=later, seconds=0))
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


@pytest.mark.slow
def test_a_ctrl_c_while_workers_start_leaves_nothing_and_prints_no_traceback(folder):
    before = sorted(folder.iterdir())
    with slow_build(*OPTIONS, workers=2, setting="COMMIT_SECONDS = 0") as started:
        while not workers_of(started.pid):
            assert started.poll() is None
        processes = psutil.Process(started.pid).children(recursive=True)
        os.killpg(started.pid, signal.SIGINT)
        out, err = started.communicate(timeout=60)
    assert (started.returncode, out) == (130, "")
    assert PROGRESS.sub("", err) == "interrupted: nothing is committed yet; the same command starts again\n"
    assert left_of(processes) == []
    assert sorted(folder.iterdir()) == before


def test_a_repeated_signal_counts_again_after_a_second(monkeypatch):
    """Pressing Ctrl-C repeatedly ends the build."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    taken = []
    try:
        with exit_status._raise_on_signals():
            for now in (100.0, 100.6, 101.2, 101.8, 102.4):
                monkeypatch.setattr(exit_status, "time", SimpleNamespace(monotonic=lambda now=now: now))
                with suppress(exit_status.Interrupted):
                    signal.raise_signal(signal.SIGINT)
                    continue
                taken.append(now)
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert taken == [100.0, 101.2, 102.4]
