"""What a build would make, from a look at a few sources. Nothing is written."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from builder.execution.build import (
    memory_in_flight,
    planned,
    schema_of,
    worker_count,
)
from builder.frames.counts import StoreCleaning
from builder.inspection.document import labels_json
from builder.options.declaration import with_options
from builder.planning.build_options import BuildOptions
from builder.planning.codec_choice import SAMPLE_SOURCES, Choice, measured_on_sources
from builder.planning.packing import Packing
from builder.planning.plan import Plan
from builder.planning.recorded_failures import failures_in
from builder.sources.source_list import MISNAMED
from builder.workers.batch import Found, probe, process_batch
from builder.workers.process_source import Failure
from builder.workers.row_blocks import Space
from store_spec import Classes, Schema, parse_bytes
from store_spec.building import count_files

SAMPLES = 5
WORKER_BYTES = 130_000_000  # of a process that has imported everything, and of what it needs beside the rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePreview:
    """What the store would be afterwards; numbers are estimates unless every new source was read."""

    sequences: int  # new and old ones
    steps: int
    inputs: dict[str, Any]  # dtype, shape, names
    labels: dict[str, Any]  # the same, and classes: those that were seen, which others may come before or between
    label_axis: str
    codec: str
    codec_why: str | None  # what `auto` chose, and why
    decoded_bytes: int  # of the rows that would be added
    chunk_steps: int
    chunk_bytes: int  # decoded, of inputs
    shard_steps: int
    shard_bytes: int
    files: int
    memory_bytes: int  # that the build needs at most, all processes together
    whole_bytes: int  # of them, for sources that are read whole, as many at once as there are workers; 0: none is
    own_function: bool  # a process function of one's own reads them: what it takes besides is not known


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What a build would do."""

    store: Path
    exists: bool
    sources: int  # found
    to_process: int  # of them: new ones, and those to be built again
    new: tuple[str, ...]  # not in the store
    unchanged: int  # in the store, as they are now
    changed: tuple[str, ...]  # in the store, and not as they are now
    vanished: tuple[str, ...]  # in the store, and there no more
    unreadable: tuple[Failure, ...]  # in the store, and nobody can say
    failed: tuple[Failure, ...]  # new ones that failed in an earlier build
    update: bool  # whether changed and outdated ones are built again
    retire_missing: bool  # whether vanished ones are retired
    ignored: int  # files that are no sources
    ignored_listed: tuple[str, ...]  # the first of them
    bytes_to_read: int
    dropped: int  # steps that cleaning would leave out of the sources that were read for this
    filled: int  # values that it would fill in
    sampled: tuple[str, ...]  # the sources that were read for this
    failures: tuple[Failure, ...]  # of those, and before them the files that cannot be sources by their names
    outdated: tuple[str, ...]  # unchanged sources with sequences that come from other code than now
    result: StorePreview | None  # None: there is nothing new, or no source could be used

    def __repr__(self) -> str:
        ahead = f"{self.to_process:,} of {self.sources:,} sources to process, {self.bytes_to_read:,} bytes to read"
        failed = f"{len(self.failures):,} of {len(self.sampled):,} read for this failed"
        return f"<preview of {self.store.name}: {ahead}, {failed}>"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        return asdict(self) | {"store": str(self.store)}


@dataclass(slots=True, kw_only=True)
class _Sum:
    """What the sources that were read hold, together."""

    sources: int = 0  # those that failed among them: as many of the others will
    file_bytes: int = 0
    sequences: int = 0
    steps: int = 0
    label_steps: int = 0
    decoded_bytes: int = 0
    cleaning: StoreCleaning = field(default_factory=StoreCleaning)
    classes: Classes | None = None  # those of the store, and those that the sources add
    whole_bytes: int = 0  # of one source that is read as a whole: of its rows, decoded, twice, and of its file
    piece_bytes: int = 0  # decoded, of what is in memory at a time of another


@with_options(BuildOptions)
def preview(options: BuildOptions) -> Preview:
    """Say what `build` with these arguments would do: read at most five new sources, evenly spread, in this process.

    With `codec="auto"` it also reads the first ones, as `build` does.

    Returns:
        A Preview; its `failures` are of the sources that were read, and of files with impossible names.

    Raises:
        UsageError: As `build`: a folder, column or function that is not there, or options that clash.
        StoreError: There is something else than a store at `store`.
    """
    packing, plan = planned(options)
    batch_bytes = parse_bytes(options.batch)
    is_small = options.scheduler is None and plan.reading.is_small(plan.new_bytes, batch_bytes)
    count = worker_count(options.workers, small=is_small)
    if plan.held is not None:
        packing.check(plan.held.schema, plan.store)
    numbers = spread(len(plan.new), SAMPLES)
    failures: list[Failure] = []
    schema = _schema(plan, numbers, packing, failures)
    choice = None
    if schema is not None and packing.measure and plan.held is None:
        choice = measured_on_sources(plan.for_schema(schema).batch(slice(SAMPLE_SOURCES)), schema)
        schema = replace(schema, codec=choice.codec)
    result, seen = None, _Sum()
    if schema is not None:
        seen = _read(plan.for_schema(schema), numbers, schema, failures)
        schema = replace(schema, labels=replace(schema.labels, classes=seen.classes or schema.labels.classes))
        if seen.sequences:
            flight = memory_in_flight(schema, batch_bytes, count)
            result = _estimate(plan, schema, seen, choice, flight=flight, workers=count)
    return Preview(
        store=plan.store,
        exists=plan.exists,
        sources=plan.found,
        to_process=len(plan.new),
        new=plan.compared.new,
        unchanged=len(plan.compared.unchanged),
        changed=plan.compared.changed,
        vanished=plan.compared.vanished,
        unreadable=plan.unreadable,
        failed=_failed_before(plan),
        update=options.update,
        retire_missing=options.retire_missing,
        ignored=len(plan.reading.sources.ignored),
        ignored_listed=plan.reading.sources.ignored_listed,
        bytes_to_read=plan.bytes_to_read(),
        dropped=seen.cleaning.total.dropped,
        filled=seen.cleaning.total.filled,
        sampled=tuple(plan.new[number] for number in numbers),
        failures=(*plan.reading.misnamed, *failures),
        outdated=plan.outdated,
        result=result,
    )


def _failed_before(plan: Plan) -> tuple[Failure, ...]:
    """Return the new sources that the last build could not use, as far as the store lists them."""
    _, listed = failures_in({} if plan.held is None else plan.held.provenance)
    # What is shown for a name that is no text can be the very name of a new source.
    failed = {one.source: one for one in listed if one.reason != MISNAMED}
    return tuple(failed[name] for name in plan.compared.new if name in failed)


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` numbers below `count`, evenly spread, the first and the last among them.

    >>> spread(270, 5), spread(2, 5)
    ([0, 67, 134, 201, 269], [0, 1])
    """
    taken = min(count, most)
    return [number * (count - 1) // max(1, taken - 1) for number in range(taken)]


def _schema(plan: Plan, numbers: list[int], packing: Packing, failures: list[Failure]) -> Schema | None:
    """Return the schema of the store that is there, or as the first usable source gives it."""
    if plan.held is not None:
        if not plan.held.snapshot.offsets[-1] and (found := _first_usable(plan, numbers, [])) is not None:
            plan.check_text(found.texts)
        return plan.held.schema
    found = _first_usable(plan, numbers, failures)
    return None if found is None else schema_of(plan, found, packing)


def _first_usable(plan: Plan, numbers: list[int], failures: list[Failure]) -> Found | None:
    """Probe sources until one is usable; one without rows does where no other has any."""
    without_rows: Found | None = None
    for number in numbers:
        found = probe(plan.batch(slice(number, number + 1)), plan.reading.label_axis, plan.reading.missing)
        if isinstance(found, list):
            failures += found
        elif found.steps:
            return found
        else:
            without_rows = without_rows or found
    return without_rows


def _read(plan: Plan, numbers: list[int], schema: Schema, failures: list[Failure]) -> _Sum:
    """Read the sources with these numbers, but those that failed already."""
    seen, failed = _Sum(), {failure.source for failure in failures}
    for number in numbers:
        seen.sources += 1
        seen.file_bytes += plan.new_bytes[number]
        if plan.new[number] in failed:
            continue
        batch = plan.batch(slice(number, number + 1))
        batch = batch.with_classes(seen.classes or batch.process.store_classes)
        processed = process_batch(batch, schema, Space(memory=0))
        failures += processed.failures
        if processed.failures:
            continue
        decoded = sum(rows.nbytes for rows in processed.rows.values())
        seen.classes = processed.classes
        seen.sequences += len(processed.records)
        seen.steps += int(processed.records.lengths.sum())
        seen.label_steps += int(processed.records.label_lengths.sum())
        seen.cleaning += processed.cleaning
        seen.decoded_bytes += decoded
        if processed.in_memory.whole:
            seen.whole_bytes = max(seen.whole_bytes, 2 * processed.in_memory.whole + plan.new_bytes[number])
        seen.piece_bytes = max(seen.piece_bytes, processed.in_memory.largest)
    return seen


def _estimate(
    plan: Plan, schema: Schema, seen: _Sum, choice: Choice | None, *, flight: int, workers: int
) -> StorePreview:
    """Scale up what was seen: steps by the bytes of the files, sequences by their number."""
    by_bytes = plan.bytes_to_read() / max(1, seen.file_bytes)
    by_count = len(plan.new) / seen.sources
    sequences = round(seen.sequences * by_count)
    steps, label_steps = (round(count * by_bytes) for count in (seen.steps, seen.label_steps))
    if plan.held is not None:
        before = plan.held.counts
        sequences, steps, label_steps = (
            sequences + before.sequences,
            steps + before.steps,
            label_steps + before.label_steps,
        )
    processes = workers + 1 if workers else 1
    decoded = round(seen.decoded_bytes * by_bytes)
    # Sources that were not looked at may be larger than those that were, and their pieces are not.
    at_once = min(max(1, workers), len(plan.new))
    whole = round(seen.whole_bytes * max(1.0, by_bytes / by_count)) * at_once
    reading = max(whole, 2 * seen.piece_bytes * at_once)
    return StorePreview(
        sequences=sequences,
        steps=steps,
        inputs=schema.inputs.to_json(),
        labels=labels_json(schema),
        label_axis=schema.label_axis,
        codec=str(schema.codec),
        codec_why=None if choice is None else str(choice),
        decoded_bytes=decoded,
        chunk_steps=schema.steps.chunk,
        chunk_bytes=schema.steps.chunk * schema.inputs.nbytes,
        shard_steps=schema.steps.shard,
        shard_bytes=schema.steps.shard * schema.inputs.nbytes,
        files=count_files(schema, sequences=sequences, steps=steps, label_steps=label_steps),
        memory_bytes=WORKER_BYTES * processes + 2 * min(flight, decoded) + reading,
        whole_bytes=whole,
        own_function=plan.reading.process.is_custom,
    )
