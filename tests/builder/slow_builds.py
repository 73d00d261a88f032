"""Start a slow build in a process of its own, to be ended from outside."""

import os
import subprocess
import sys
from pathlib import Path

# Where the tests run in the background, a shell has had them ignore a Ctrl-C.
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


def start_slow_build(*options: str, workers: int, setting: str, store: str = "s.zarr") -> subprocess.Popen[str]:
    """Build the store from `raw` in a session of its own, as from a terminal of its own.

    Args:
        options: Of `seqzarr build`.
        workers: How many.
        setting: Of `builder.execution.run`, as an assignment.
        store: Its path or URL.
    """
    code = COMMAND.format(here=str(Path(__file__).parents[2]), setting=setting)
    return subprocess.Popen(
        [sys.executable, "-c", code, "build", "raw", store, "--workers", str(workers), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"SLOW": "1", "PYTHONDONTWRITEBYTECODE": "1"},  # so that it leaves nothing of its own
        start_new_session=True,
    )
