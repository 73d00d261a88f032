"""The sources that the last build could not use, as a store records them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from builder.workers.process_source import Failure

FAILURES = "failures"  # in the provenance
LISTED_FAILURES = 1_000  # at most so many are listed; all are counted


def failures_recorded(failures: Sequence[Failure]) -> dict[str, Any]:
    """Return the record of failures for a store."""
    listed = [{"source": one.source, "reason": one.reason} for one in failures[:LISTED_FAILURES]]
    return {"count": len(failures), "listed": listed}


def failures_in(provenance: Mapping[str, Any]) -> tuple[int, tuple[Failure, ...]]:
    """Return the number of failures, and the listed failures. Any record is accepted, since a store can be corrupt."""
    recorded = provenance.get(FAILURES)
    if not isinstance(recorded, dict):
        return 0, ()
    count, listed = recorded.get("count"), recorded.get("listed")
    entries = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    failures = tuple(Failure(str(one.get("source")), str(one.get("reason"))) for one in entries)
    return count if isinstance(count, int) else len(entries), failures
