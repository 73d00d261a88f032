"""The progress of a build, which `on_progress` receives."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from builder.build_errors import BuildError, UsageError
from builder.frames.digits import NO_DIGITS, ManyDigits
from builder.workers.process_source import Failure, Skipped


@dataclass(slots=True, kw_only=True)
class Tally:
    """The progress of a build."""

    sources: int  # to process
    done: int = 0  # processed sources, including those that failed or were skipped
    sequences: int = 0  # from the processed sources
    steps: int = 0
    bytes_to_read: int = 0
    bytes_read: int = 0
    bytes_decoded: int = 0
    bytes_written: int = 0
    dropped: int = 0  # steps that cleaning left out of the sequences of this build
    filled: int = 0  # values that cleaning filled in
    rounded: ManyDigits = NO_DIGITS  # numbers that float32 does not keep
    committed: int = 0  # sequences that readers see, including those of earlier builds
    started: float = field(default_factory=time.monotonic)
    failures: list[Failure] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failure_limit: float = math.inf  # how many sources may fail

    @property
    def seconds(self) -> float:
        """Seconds since the build started."""
        return time.monotonic() - self.started

    def check_failures(self) -> None:
        """Raise BuildError if too many sources failed; the message names one of them."""
        if len(self.failures) <= self.failure_limit:
            return
        if self.failure_limit:
            limit = int(self.failure_limit)
            why = f"at most {limit:,} may (max_failures, --max-failures); the last: {self.failures[-1]}"
        else:
            why = f"none may (max_failures=0, --fail-fast); the first: {self.failures[0]}"
        state = f"{self.committed:,} sequences are committed, and the next build goes on from there"
        raise BuildError(
            f"{len(self.failures):,} of {self.done:,} sources failed, and {why.rstrip()}; "
            + (state if self.committed else "nothing was committed")
        )


def parse_limit(limit: int | str | None) -> Callable[[int], float]:
    """Return a function of the number of sources that returns how many may fail; the limit is a number or a share.

    >>> parse_limit("10%")(270), parse_limit(3)(270), parse_limit(None)(270)
    (27.0, 3.0, inf)
    """
    text = "inf" if limit is None else str(limit).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not value >= 0 or (text.endswith("%") and value > 100):
        raise UsageError(f"max_failures={limit!r} is neither a number of sources nor a share of them such as '10%'")
    return lambda sources: value / 100 * sources if text.endswith("%") else value
