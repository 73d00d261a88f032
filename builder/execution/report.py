"""The report of a build: what it did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from builder.amounts import count_text, printable
from builder.execution.tally import Tally
from builder.frames.digits import NO_DIGITS, ManyDigits
from builder.planning.build_options import BuildOptions
from builder.planning.codec_choice import Choice
from builder.planning.plan import Plan
from builder.workers.process_source import Failure
from store_spec.building import StorePlace

SHOWN_FAILURES: Final = 5  # with their reasons, in the `repr`


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a build did."""

    store: StorePlace
    sources: int  # in the folder
    ignored: int  # files that are not sources
    ignored_listed: tuple[str, ...]  # the first ignored files
    unchanged: int  # sources that were in the store, and were not built again
    added: int  # new sources
    updated: int  # sources whose old sequences this build replaced
    changed: tuple[str, ...]  # sources that differ from the store, and were not built again
    vanished: tuple[str, ...]  # sources in the store that no longer exist
    retired: int  # vanished sources whose sequences were retired
    absent: tuple[str, ...]  # sources that the manifest lists and that do not exist, by its keys
    failures: tuple[Failure, ...]
    skipped: tuple[Failure, ...]  # empty sources
    skipped_before: int  # empty sources that an earlier build skipped, and that did not change
    outdated: tuple[str, ...]  # sources with sequences from other code of the process function
    sequences: int  # added
    steps: int  # added
    dropped: int  # steps that cleaning left out of the added sequences
    filled: int  # values that cleaning filled in
    bytes_read: int
    bytes_decoded: int
    bytes_written: int
    total_sequences: int  # in the store now
    seconds: float
    codec: str | None = None  # what `auto` chose, and why
    dtype: str | None = None  # why numbers in text are stored as float64
    rounded: ManyDigits = NO_DIGITS  # numbers that have more digits than the float32 stored
    uncompared: str | None = None  # what cannot be compared with the process function of earlier builds

    def __repr__(self) -> str:
        done = f"{self.added:,} of {self.sources:,} sources added, {self.unchanged:,} unchanged"
        rest = f"{self.updated:,} updated, {self.retired:,} retired, {len(self.failures):,} failed"
        other = f", {len(self.outdated):,} made by other code" if self.outdated else ""
        if skipped := len(self.skipped) + self.skipped_before:
            other += f", {skipped:,} skipped as empty"
        if self.rounded.values:
            other += f", {count_text(self.rounded.values, 'number')} rounded to float32"
        text = f"<build of {self.store.name}: {done}{other}, {rest}; {self.total_sequences:,} sequences in the store>"
        return "\n  ".join([text, *self._first_failures()])

    @property
    def failures_text(self) -> str:
        """The message that no store was made, and why."""
        skipped = len(self.skipped) + self.skipped_before
        counted = [f"{len(self.failures):,} failed"] * bool(self.failures)
        counted += [f"{skipped:,} skipped as empty"] * bool(skipped)
        text = f"{self.store}: no store was made: of {count_text(self.sources, 'source')} {', '.join(counted)}"
        return "\n  ".join([f"{text}, none could be used", *self._first_failures()])

    def _first_failures(self) -> list[str]:
        """Return a line for each of the first failures; of the first skipped sources, if nothing failed."""
        named = self.failures or (self.skipped if not self.total_sequences else ())
        more = len(named) - SHOWN_FAILURES
        return [*map(str, named[:SHOWN_FAILURES]), *([f"and {more:,} more: see failures"] if more > 0 else [])]

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        lists = {name: [asdict(one) for one in getattr(self, name)] for name in ("failures", "skipped")}
        others = {name: getattr(self, name) for name in self.__slots__ if name not in lists}
        return {**others, "store": str(self.store), "rounded": asdict(self.rounded), **lists}


def report_of(
    options: BuildOptions,
    plan: Plan,
    tally: Tally,
    *,
    untried: int,
    choice: Choice | None,
    many_digits: ManyDigits,
) -> Report:
    """Return the report of a build.

    Args:
        options: The options of the build.
        plan: The sources.
        tally: The counts.
        untried: How many of the first failures are of sources that no worker received.
        choice: The choice of `codec="auto"`.
        many_digits: Numbers in the first source of a new store that float32 does not keep.
    """
    failed = {failure.source for failure in (*tally.failures[untried:], *tally.skipped)}
    updated = sum(name not in failed for name in plan.replaced)
    comparison = plan.comparison
    return Report(
        store=plan.store,
        sources=plan.count,
        ignored=len(plan.sources.listing.ignored),
        ignored_listed=plan.sources.listing.ignored_listed,
        unchanged=len(comparison.unchanged) - sum(name in plan.replaced for name in comparison.unchanged),
        added=sum(name not in failed for name in comparison.new),
        updated=updated,
        changed=() if options.update else comparison.changed,
        vanished=comparison.vanished,
        retired=len(comparison.vanished) if options.retire_missing else 0,
        absent=plan.sources.absent,
        failures=tuple(tally.failures),
        skipped=tuple(Failure(one.source, one.reason) for one in tally.skipped),
        skipped_before=len(comparison.skipped) - sum(name in options.redo for name in comparison.skipped),
        outdated=plan.outdated,
        sequences=tally.sequences,
        steps=tally.steps,
        dropped=tally.dropped,
        filled=tally.filled,
        bytes_read=tally.bytes_read,
        bytes_decoded=tally.bytes_decoded,
        bytes_written=tally.bytes_written,
        total_sequences=tally.committed,
        seconds=tally.seconds,
        codec=None if choice is None else str(choice),
        dtype=float64_text(many_digits),
        rounded=tally.rounded,
        uncompared=plan.sources.code.uncompared,
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
