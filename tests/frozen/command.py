"""The command `seqzarr` with further options, which may be killed several times before it completes.

Commands that change no store, such as `inspect`, do nothing and succeed.
"""

import json
import os
import random
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from builder.cli import main

WAY = "SEQZARR_FROZEN_WAY"  # the environment variable with the way
KILLED = ".killed"  # a file with one byte for each killed process
# Operations that change the disk, at one of which a build is killed: those of a few commits.
KILLS = (range(1, 120), range(120, 500), range(500, 1200))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a command is run.

    Args:
        workers: Worker processes; None: as in the command.
        shard: Bytes of a shard, of four chunks; 0: as in the command.
        killed: Whether it is killed and run again several times, with a commit after each batch of a shard's size.
    """

    workers: int | None = 0
    shard: int = 0
    killed: bool = False

    @property
    def first(self) -> bool:
        """Whether it is the first way of a variant, the stores of which are also read."""
        return not self.workers and not self.killed

    def options(self, command: str) -> list[str]:
        """Return further options for `build` or `compact`."""
        workers = [] if self.workers is None else ["--workers", str(self.workers)]
        small = ["--shard", f"{self.shard}B", "--chunk", f"{self.shard // 4}B"] if self.shard else []
        return workers + small + (["--batch", f"{self.shard}B"] if self.killed and command == "build" else [])


def run(arguments: list[str], way: Way) -> None:
    """Run a command; if it is to be killed, first in processes that die at an operation, chosen by a fixed seed."""
    if arguments[0] not in {"build", "compact"}:
        return
    arguments += way.options(arguments[0])
    if way.killed and "--dry-run" not in arguments:
        rng = random.Random(" ".join(arguments))
        for numbers in KILLS:
            if not attempt(arguments, at=rng.choice(numbers)):
                break
    main(arguments, prog_name="seqzarr")


def attempt(arguments: list[str], *, at: int) -> bool:
    """Run a command in a process that kills itself at an operation, if there are so many; return whether it did."""
    import pytest

    from builder import build, compact  # noqa: F401 - so that no child has to import them
    from tests.campaigns.operations import Interceptor, before_mutation

    sys.stdout.flush()
    child = os.fork()
    if not child:
        with pytest.MonkeyPatch.context() as patch, Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            patch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
            patch.setattr(sys, "stdout", nowhere)
            patch.setattr(sys, "stderr", nowhere)
            before = before_mutation(at - 1, lambda: os.kill(os.getpid(), signal.SIGKILL))
            with Interceptor(Path.cwd(), before).installed():
                main(arguments, prog_name="seqzarr", standalone_mode=False)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if killed := os.WIFSIGNALED(status):
        with Path(KILLED).open("ab") as counted:
            counted.write(b"x")
    return killed


if __name__ == "__main__":
    run(sys.argv[1:], Way(**json.loads(os.environ[WAY])))
