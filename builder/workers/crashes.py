"""Which sources end the process that reads them, as a fault in a library in C does: found in processes of their own."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from builder.build_errors import BuildError
from builder.workers.memory import limit_memory
from builder.workers.process_source import Batch

LISTED_DEAD = 20  # sources that an error names

_END = b"end"
_ADVICE = "what reads it crashes, or there was too little memory"


def find_crashes(batch: Batch, memory: int, function: Callable[..., Any], *arguments: Any) -> dict[str, str]:
    """Call a function of each source of a batch alone, in a process beside; say of those that end it how it ended.

    Args:
        batch: The sources.
        memory: The bytes that the process may have, as many as a worker.
        function: What is called with a batch of one source, and the arguments. What it returns or raises is dropped.
        *arguments: They are pickled, as the batch is.
    """
    crashed: dict[str, str] = {}
    start = 0
    while start < len(batch):
        told, status = _call_each(pickle.dumps((memory, function, batch, arguments, start)))
        if not told or told[-1] == _END:  # or it could not be started, or not read what it is to do
            break
        at = int(told[-1])
        crashed[batch.names[at]] = _how_it_ended(status)
        start = at + 1
    return crashed


def _call_each(message: bytes) -> tuple[list[bytes], int]:
    """Have a process do what the message says; return what it told of that, and its exit status."""
    # The folder that it is started in may hold modules called like ours.
    command = [sys.executable, "-P", "-c", "from builder.workers.crashes import call_each; call_each()"]
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        started = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # a Ctrl-C is for this process to handle, which then ends that one
        )
    except OSError:  # there may be too little memory for one more
        return [], 1
    told: list[bytes] = []
    # Also where leaving the context closes what was not written.
    with suppress(BrokenPipeError), started as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(message)
            process.stdin.flush()
            told = process.stdout.read().split()
        finally:
            process.kill()
    return told, started.returncode


def call_each() -> None:
    """Do what comes on stdin, and tell on stdout which source is next; end when the other process does."""
    stream, out = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # what sources print is no answer
    memory, function, batch, arguments, start = pickle.load(stream)  # noqa: S301  # made by our own coordinator
    limit_memory(memory)
    threading.Thread(target=lambda: (stream.read(), os._exit(1)), daemon=True).start()
    for number in range(start, len(batch)):
        os.write(out, b"%d\n" % number)
        try:
            function(batch.only(number), *arguments)
        except Exception:  # noqa: BLE001, S112  # the worker that reads it tells of that
            continue
    os.write(out, _END)
    os._exit(0)


def _how_it_ended(status: int) -> str:
    if status >= 0:
        return f"it ended the process that read it, with exit status {status}; {_ADVICE}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"it ended the process that read it, by {name}; {_ADVICE}"


def workers_died(names: Sequence[str]) -> BuildError:
    """Say that worker processes died again and again on some sources."""
    listed = ", ".join(names[:LISTED_DEAD]) + (f" and {len(names) - LISTED_DEAD:,} more" if names[LISTED_DEAD:] else "")
    return BuildError(
        f"worker processes died again and again on one of these {len(names):,} sources: {listed}; they ran out of "
        "memory, or what reads the source crashes; build with workers=0 (--workers 0), to see its last words"
    )
