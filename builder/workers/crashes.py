"""Find the sources that crash the process that reads them, for example by a fault in a C library."""

import math
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from builder.build_errors import BuildError
from builder.workers.process_source import SourceBatch
from builder.workers.processes import limit_memory

LISTED_DEAD = 20  # sources that an error names
MORE_SECONDS = 2.0  # for each search after a crash

_END = b"end"


def find_crashes(batch: SourceBatch, memory: int, function: Callable[..., Any], *arguments: Any) -> dict[str, str]:
    """Call a function for each source of a batch, in another process; return the sources that crash it, and how.

    The search begins after the last source that is known to crash. After a crash, the search for another one ends after
    MORE_SECONDS. Workers read the rest faster, and commit it.

    Args:
        batch: The sources.
        memory: The bytes that the process may use, as many as a worker.
        function: Called with a batch of one source, and the arguments. Its results and exceptions are ignored.
        *arguments: Further arguments, which are pickled like the batch.
    """
    crashed: dict[str, str] = {}
    known = (number for number, name in enumerate(batch.names) if name in batch.crashed)
    start, seconds = 1 + max(known, default=-1), math.inf
    while start < len(batch):
        output, status = _call_each(pickle.dumps((memory, function, batch, arguments, start, seconds)))
        if not output or output[-1] == _END:  # no output: the process could not start, or not read its task
            break
        at = int(output[-1])
        crashed[batch.names[at]] = _exit_reason(status)
        start, seconds = at + 1, MORE_SECONDS
    return crashed


def _call_each(message: bytes) -> tuple[list[bytes], int]:
    """Start a process with a message for `call_each`; return its output, and its exit status."""
    # -P, since the working folder may contain modules with the names of ours.
    command = [sys.executable, "-P", "-c", "from builder.workers.crashes import call_each; call_each()"]
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    try:
        started = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": paths},
            start_new_session=True,  # only the parent handles Ctrl-C, and kills this process
        )
    except OSError:  # there may be too little memory for another process
        return [], 1
    output: list[bytes] = []
    # Leaving the context flushes stdin, which can raise BrokenPipeError too.
    with suppress(BrokenPipeError), started as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(message)
            process.stdin.flush()
            output = process.stdout.read().split()
        finally:
            process.kill()
    return output, started.returncode


def call_each() -> None:
    """Read a task from stdin, and write the number of each source to stdout before its call.

    The process ends when its parent ends.
    """
    stream, out = os.fdopen(os.dup(0), "rb"), os.dup(1)
    os.dup2(2, 1)  # the output of process functions goes to stderr
    memory, function, batch, arguments, start, seconds = pickle.load(stream)  # noqa: S301  # made by our coordinator
    limit_memory(memory)
    threading.Thread(target=lambda: (stream.read(), os._exit(1)), daemon=True).start()
    deadline = time.monotonic() + seconds
    for number in range(start, len(batch)):
        if time.monotonic() > deadline:
            break
        os.write(out, b"%d\n" % number)
        try:
            function(batch.take([number]), *arguments)
        except Exception:  # noqa: BLE001, S112  # the worker that reads the source reports it
            continue
    os.write(out, _END)
    os._exit(0)


def _exit_reason(status: int) -> str:
    how = f"with exit status {status}"
    if status < 0:
        how = "by " + next((one.name for one in signal.Signals if one == -status), f"signal {-status}")
    return f"it ended the process that read it, {how}; the code that reads it crashed, or there was too little memory"


def workers_died(names: Sequence[str]) -> BuildError:
    """Return the error for worker processes that died repeatedly on some sources."""
    listed = ", ".join(names[:LISTED_DEAD]) + (f" and {len(names) - LISTED_DEAD:,} more" if names[LISTED_DEAD:] else "")
    return BuildError(
        f"worker processes died repeatedly on one of these {len(names):,} sources: {listed}; they ran out of memory, "
        "or the code that reads the source crashes; build with workers=0 (--workers 0), to see its output"
    )
