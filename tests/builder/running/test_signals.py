"""Signals end commands with one line, wherever they come; `test_interrupted_builds.py` is about what is left."""

import signal
from contextlib import suppress
from types import SimpleNamespace

import pytest

from builder.cli import exit_status
from tests.builder.command import python
from tests.builder.source_files import write_files
from tests.documents import PROGRESS

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
exit_status.REPEAT_SECONDS = 60  # a busy machine can take a second between two signals
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
    ["Losing()", "gc.callbacks.append(collecting); gc.collect(); gc.callbacks.clear()"],
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
