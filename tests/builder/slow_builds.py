"""Run a slow build in another process, which the test ends."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# If the tests run in the background, a shell has made them ignore Ctrl-C.
COMMAND = """
import signal
import sys
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.append({here!r})
import builder.execution.run
builder.execution.run.{setting}
from builder.cli import main
main()
"""


@contextmanager
def slow_build(*options: str, workers: int, setting: str, store: str = "s.zarr") -> Iterator[subprocess.Popen[str]]:
    """Build a store from `raw` in a new session, as from a terminal of its own, and kill it if it still runs.

    Args:
        options: Further options of `seqzarr build`.
        workers: The number of worker processes.
        setting: An assignment to a constant of `builder.execution.run`.
        store: The path or URL of the store.
    """
    code = COMMAND.format(here=str(Path(__file__).parents[2]), setting=setting)
    started = subprocess.Popen(
        [sys.executable, "-c", code, "build", "raw", store, "--workers", str(workers), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SLOW": "1", "PYTHONDONTWRITEBYTECODE": "1"},  # so that it adds no files
        start_new_session=True,
    )
    try:
        yield started
    finally:
        started.kill()
        started.communicate()
