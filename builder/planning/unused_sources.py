"""The sources without sequences, as a store records them: those that failed in the last build, and the empty ones.

Later builds try failed sources again, but not empty ones.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from builder.workers.process_source import Failure, Skipped

FAILURES: Final = "failures"  # in the provenance
LISTED_FAILURES: Final = 1_000  # at most so many are listed; all are counted
SKIPPED: Final = "skipped"  # in the provenance; absent if no source is skipped
MOST_RECORDED: Final = 100_000  # the root document is read whole; further sources are tried again by each build
_DIGITS: Final = 32


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


@dataclass(frozen=True, slots=True)
class RecordedSkips:
    """The skipped sources that a store records, by name, with a fingerprint of each.

    The fingerprint is of the source, its label file, and the process function: if one of them changes, the source is
    new again. The store has no sequences of it, so nothing has to be replaced.
    """

    by_name: Mapping[str, str] = field(default_factory=dict)
    code: str | None = None  # the fingerprint of the process function now

    @classmethod
    def of(cls, provenance: Mapping[str, Any], code: str | None = None) -> Self:
        """Read the record in a store. Any record is accepted, since a store can be corrupt."""
        recorded = provenance.get(SKIPPED)
        return cls({name: str(one) for name, one in recorded.items()} if isinstance(recorded, dict) else {}, code)

    def __contains__(self, source: str) -> bool:
        return source in self.by_name

    def is_same(self, source: str, hashes: Iterable[bytes]) -> bool:
        """Return whether a source was skipped with these hashes of its files and the present process function."""
        return self.by_name.get(source) == self._fingerprint(hashes)

    def record(self, still: Iterable[str], skipped: Iterable[Skipped]) -> dict[str, str]:
        """Return the record after a build, sorted by name; `still` has the sources that were not tried again."""
        every = {name: self.by_name[name] for name in still}
        every |= {one.source: self._fingerprint(one.read.hashes) for one in skipped}
        return dict(sorted(every.items())[:MOST_RECORDED])

    def _fingerprint(self, hashes: Iterable[bytes]) -> str:
        return hashlib.sha256(b"".join(hashes) + (self.code or "").encode()).hexdigest()[:_DIGITS]
