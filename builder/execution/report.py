"""The progress of a build, which `on_progress` receives, and its report at the end."""

import math
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from builder.amounts import bytes_text, count_text, ignored_text, printable, ratio_text, seconds_text
from builder.build_errors import BuildError, UsageError
from builder.frames.digits import NO_DIGITS, ManyDigits
from builder.options.table_options import COUNTS
from builder.planning.build_options import BuildOptions
from builder.planning.plan import Plan
from builder.planning.resolved_sources import open_if_exists
from builder.workers.batch import BatchSummary
from builder.workers.process_source import Failure, Skipped
from store_spec.building import StorePlace

SHOWN_FAILURES: Final = 5  # with their reasons, in the `repr`


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

    def add(self, summary: BatchSummary) -> None:
        """Count a processed batch."""
        records = summary.records
        self.done += len(set(records.sources)) + len(summary.failures) + len(summary.skipped)
        self.sequences += len(records)
        self.steps += int(records.lengths.sum())
        # Process functions of the user may return columns of these names too, as whole numbers.
        counts = [records.columns.get(f"sequences/{name}") for name in COUNTS]
        sums = [int(column.sum()) for column in counts if column is not None and column.dtype == np.int64]
        if len(sums) == len(COUNTS):
            self.dropped += sums[0]
            self.filled += sums[1]
        self.rounded += summary.rounded
        self.bytes_read += summary.bytes_read
        self.bytes_decoded += summary.bytes_decoded
        self.failures += summary.failures
        self.skipped += summary.skipped

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


def parse_limit(limit: int | str | None, sources: int) -> float:
    """Return how many of some sources may fail; the limit is a number or a share.

    >>> parse_limit("10%", 270), parse_limit(3, 270), parse_limit(None, 270)
    (27.0, 3.0, inf)
    """
    text = "inf" if limit is None else str(limit).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not value >= 0 or (text.endswith("%") and value > 100):
        raise UsageError(f"max_failures={limit!r} is neither a number of sources nor a share of them such as '10%'")
    return value / 100 * sources if text.endswith("%") else value


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceFacts:
    """What the report of a build and its preview have in common; a preview reads a sample of the new sources."""

    store: StorePlace
    sources: int  # in the folder
    ignored: int  # files that are not sources
    ignored_listed: tuple[str, ...]  # the first ignored files
    vanished: tuple[str, ...]  # sources in the store that no longer exist
    absent: tuple[str, ...]  # sources that the manifest lists and that do not exist, by its keys
    outdated: tuple[str, ...]  # sources with sequences from other code of the process function
    failures: tuple[Failure, ...]  # also files that cannot be sources by their names
    skipped: tuple[Failure, ...]  # empty sources
    dropped: int  # steps that cleaning left out of the sequences
    filled: int  # values that cleaning filled in

    def to_json(self) -> dict[str, Any]:
        """Return the facts as JSON values."""
        return asdict(self) | {"store": str(self.store)}


def source_facts(plan: Plan, tally: Tally) -> dict[str, Any]:
    """Return the arguments of `SourceFacts`, except the failures."""
    return {
        "store": plan.store,
        "sources": plan.count,
        "ignored": len(plan.sources.listing.ignored),
        "ignored_listed": plan.sources.listing.ignored_listed,
        "vanished": plan.comparison.vanished,
        "absent": plan.sources.absent,
        "outdated": plan.outdated,
        "skipped": tuple(Failure(one.source, one.reason) for one in tally.skipped),
        "dropped": tally.dropped,
        "filled": tally.filled,
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(SourceFacts):
    """What a build did."""

    unchanged: int  # sources that were in the store, and were not built again
    added: int  # new sources
    updated: int  # sources whose old sequences this build replaced
    changed: tuple[str, ...]  # sources that differ from the store, and were not built again
    retired: int  # vanished sources whose sequences were retired
    skipped_before: int  # empty sources that an earlier build skipped, and that did not change
    sequences: int  # added
    steps: int  # added
    bytes_read: int
    bytes_decoded: int
    bytes_written: int
    total_sequences: int  # in the store now
    seconds: float
    codec: str | None = None  # what `auto` chose, and why
    dtype: str | None = None  # why numbers in text are stored as float64
    rounded: ManyDigits = NO_DIGITS  # numbers that have more digits than the float32 stored
    uncompared: str | None = None  # what cannot be compared with the process function of earlier builds
    made: bool = True  # whether there is a store; it exists even if all of its sequences are retired

    def __repr__(self) -> str:
        outdated, rounded = len(self.outdated), self.rounded.values
        notes = [f"{outdated:,} made by other code"] * bool(outdated)
        notes += [f"{count_text(rounded, 'number')} rounded to float32"] * bool(rounded)
        return "\n  ".join([f"<build of {'; '.join([self.summary, *notes])}>", *self.first_failures()])

    @property
    def summary(self) -> str:
        """What was done, in a line. Its ratio is the decoded bytes of rows divided by the bytes of their shards."""
        name, failed = self.store.name or str(self.store), len(self.failures)
        skipped = len(self.skipped) + self.skipped_before
        left_out = f"{failed:,} failed" + (f", {skipped:,} skipped as empty" if skipped else "")
        if not self.made:
            return f"{name}: no store was made, as no source could be used: {left_out}"
        ignored = ignored_text(self.ignored, self.ignored_listed)
        unchanged = f", {self.unchanged:,} unchanged" if self.unchanged else ""
        counted = (("added", self.added), ("built again", self.updated), ("retired", self.retired))
        done = ", ".join(f"{count_text(number, 'source')} {what}" for what, number in counted if number)
        if not self.sequences:
            return f"{name}: {done or 'nothing new'}{unchanged}; {left_out}{ignored}"
        ratio = f" ({ratio_text(self.bytes_decoded, self.bytes_written)})" if self.bytes_written else ""
        read = self.added + self.updated
        sequences = "" if self.sequences == read else f"{count_text(self.sequences, 'sequence')}, "
        cleaned = [f"{self.dropped:,} more dropped"] * bool(self.dropped)
        cleaned += [f"{count_text(self.filled, 'value')} filled in"] * bool(self.filled)
        steps = count_text(self.steps, "step") + (f" ({', '.join(cleaned)})" if cleaned else "")
        return (
            f"{name}: {done}{unchanged}, {sequences}{steps}, {bytes_text(self.bytes_read)} read, "
            f"{bytes_text(self.bytes_decoded)} decoded, {bytes_text(self.bytes_written)} written{ratio} "
            f"in {seconds_text(self.seconds)}; {left_out}{ignored}"
        )

    def first_failures(self) -> list[str]:
        """Return a line for each of the first failures; of the first skipped sources, if nothing failed."""
        named = self.failures or (self.skipped if not self.total_sequences else ())
        more = len(named) - SHOWN_FAILURES
        return [*map(str, named[:SHOWN_FAILURES]), *([f"and {more:,} more: see failures"] if more > 0 else [])]


def report_of(options: BuildOptions, plan: Plan, tally: Tally, codec_why: str | None) -> Report:
    """Return the report of a build; `codec_why` is what `codec="auto"` chose, and why."""
    untried = len(plan.sources.misnamed) + len(plan.comparison.unreadable)  # these failures come first
    failed = {failure.source for failure in (*tally.failures[untried:], *tally.skipped)}
    updated = sum(name not in failed for name in plan.replaced)
    comparison = plan.comparison
    return Report(
        **source_facts(plan, tally),
        unchanged=len(comparison.unchanged) - sum(name in plan.replaced for name in comparison.unchanged),
        added=sum(name not in failed for name in comparison.new),
        updated=updated,
        changed=() if options.update else comparison.changed,
        retired=len(comparison.vanished) if options.retire_missing else 0,
        failures=tuple(tally.failures),
        skipped_before=len(comparison.skipped) - sum(name in options.redo for name in comparison.skipped),
        sequences=tally.sequences,
        steps=tally.steps,
        bytes_read=tally.bytes_read,
        bytes_decoded=tally.bytes_decoded,
        bytes_written=tally.bytes_written,
        total_sequences=tally.committed,
        seconds=tally.seconds,
        codec=codec_why,
        dtype=float64_text(plan.many_digits),
        rounded=tally.rounded,
        uncompared=plan.sources.code.uncompared,
        made=tally.committed > 0 or open_if_exists(plan.store) is not None,
    )


def float64_text(many_digits: ManyDigits) -> str | None:
    """Return why numbers in text are stored as float64; None if they are not, or if the user chose float64.

    >>> float64_text(ManyDigits(2, 1, "116.318417 in column lon of a.csv"))
    'numbers are stored as float64: float32 does not keep 116.318417 in column lon of a.csv; --dtype float32 rounds it'
    """
    if not many_digits.values:
        return None
    return (
        f"numbers are stored as float64: float32 does not keep {printable(many_digits.example)}; "
        "--dtype float32 rounds it"
    )
