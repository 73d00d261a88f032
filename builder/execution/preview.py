"""Preview a build: read a few sources, and estimate the store. Nothing is written."""

from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from builder.execution.build import first_usable, memory_in_flight, plan_build, schema_of, workers_for
from builder.execution.report import SourceFacts, Tally, float64_text, source_facts
from builder.inspection.document import schema_facts
from builder.options.declaration import with_options
from builder.planning.build_options import BuildOptions
from builder.planning.packing import SAMPLE_SOURCES, Choice, choose_by_sources
from builder.planning.plan import Plan
from builder.planning.provenance import failures_in
from builder.sources.source_list import MISNAMED
from builder.workers.batch import process_batch
from builder.workers.engine import InProcessEngine
from builder.workers.process_source import Failure
from builder.workers.row_blocks import Space
from store_spec import Classes, Schema, parse_bytes
from store_spec.building import count_files

SAMPLES = 5
WORKER_BYTES = 130_000_000  # memory of a process with all its imports, without rows


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePreview:
    """The store after the build; numbers are estimates unless every new source was read."""

    sequences: int  # new and old, without retired ones, like the steps
    steps: int
    inputs: dict[str, Any]  # dtype, shape, names
    labels: dict[str, Any]  # the same, and the classes seen; other sources may add classes before these
    label_axis: str
    codec: str
    codec_why: str | None  # what `auto` chose, and why
    dtype_why: str | None = None  # why numbers in text are stored as float64
    decoded_bytes: int  # of the new rows
    chunk_steps: int
    chunk_bytes: int  # decoded, of inputs
    shard_steps: int
    shard_bytes: int
    files: int
    memory_bytes: int  # the most that the build needs, all processes together
    whole_bytes: int  # the part of it for sources that are read whole, one per worker; 0: no source is read whole
    own_function: bool  # a function of the user reads the sources, and needs an unknown amount of memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview(SourceFacts):
    """What a build would do."""

    exists: bool
    to_process: int  # new sources, and those to build again
    new: tuple[str, ...]  # not in the store
    unchanged: int  # in the store, with the same bytes
    changed: tuple[str, ...]  # in the store, with other bytes
    unreadable: tuple[Failure, ...]  # in the store, but not readable now
    failed: tuple[Failure, ...]  # new sources that failed in an earlier build
    skipped_before: int  # empty sources that an earlier build skipped, and that did not change
    update: bool  # whether changed and outdated sources are built again
    retire_missing: bool  # whether vanished sources are retired
    bytes_to_read: int
    sampled: tuple[str, ...]  # the sources that were read for the preview
    result: StorePreview | None  # None: no source is new, or none of the sampled sources is usable

    def __repr__(self) -> str:
        work = f"{self.to_process:,} of {self.sources:,} sources to process, {self.bytes_to_read:,} bytes to read"
        failed = f"{len(self.failures):,} of {len(self.sampled):,} read for this failed"
        return f"<preview of {self.store.name}: {work}, {failed}>"


@dataclass(slots=True, kw_only=True)
class _Totals:
    """What processing the samples gives."""

    tally: Tally
    label_steps: int = 0
    classes: Classes | None = None  # of the store and of the sampled sources
    whole_bytes: int = 0  # the most for a source that is read whole: twice its decoded rows, and its file
    piece_bytes: int = 0  # the most for a source that is read in pieces: one piece, decoded


@with_options(BuildOptions)
def preview(options: BuildOptions) -> Preview:
    """Estimate what `build` with these arguments would do, from at most five new sources, evenly spread.

    They are read in this process. With `codec="auto"` it also reads the first sources, as `build` does.

    Returns:
        A Preview; its `failures` are of the sampled sources, and of files whose names are not valid.

    Raises:
        UsageError: A folder, column or function does not exist, or options conflict, as in `build`.
        StoreError: `store` is not a store.
    """
    packing, plan = plan_build(options)
    workers_for(options, plan)  # refuses a wrong number, even if there is nothing to process
    samples, tally = plan.take(spread(len(plan.new), SAMPLES)), Tally(sources=len(plan.new))
    schema, choice, result = None, None, None
    if plan.old_store is not None:
        schema = plan.old_store.schema
    elif (first := first_usable(InProcessEngine(), samples, tally)) is not None:
        plan, samples = plan.with_first(first), samples.with_first(first)
        schema = schema_of(plan, first, packing)
        if packing.measure:
            choice = choose_by_sources(plan.for_schema(schema).batch(slice(SAMPLE_SOURCES)), schema)
            schema = replace(schema, codec=choice.codec)
    if schema is not None:
        totals = _process(samples.for_schema(schema), schema, tally)
        schema = replace(schema, labels=replace(schema.labels, classes=totals.classes or schema.labels.classes))
        if tally.sequences:
            result = _estimate(options, plan, samples, totals, schema=schema, choice=choice)
    return Preview(
        **source_facts(plan, tally),
        exists=plan.old_store is not None,
        to_process=len(plan.new),
        new=plan.comparison.new,
        unchanged=len(plan.comparison.unchanged),
        changed=plan.comparison.changed,
        unreadable=plan.unreadable,
        failed=_failed_before(plan),
        skipped_before=len(plan.comparison.skipped),
        update=options.update,
        retire_missing=options.retire_missing,
        bytes_to_read=sum(plan.new_bytes),
        sampled=samples.new,
        failures=(*plan.sources.misnamed, *tally.failures),
        result=result,
    )


def _failed_before(plan: Plan) -> tuple[Failure, ...]:
    """Return the new sources that the last build could not use, if the store lists them."""
    _, listed = failures_in({} if plan.old_store is None else plan.old_store.provenance)
    # A name that is not UTF-8 is shown as text that can also be the name of a new source.
    failed = {one.source: one for one in listed if one.reason != MISNAMED}
    return tuple(failed[name] for name in plan.comparison.new if name in failed)


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` numbers below `count`, evenly spread, with the first and the last.

    >>> spread(270, 5), spread(2, 5)
    ([0, 67, 134, 201, 269], [0, 1])
    """
    chosen = min(count, most)
    return [number * (count - 1) // max(1, chosen - 1) for number in range(chosen)]


def _process(samples: Plan, schema: Schema, tally: Tally) -> _Totals:
    """Process the samples, and count what they give."""
    totals = _Totals(tally=tally)
    for number, nbytes in enumerate(samples.new_bytes):
        batch = samples.batch(slice(number, number + 1))
        batch = batch.with_classes(totals.classes or batch.process.store_classes)
        processed = process_batch(batch, schema, Space(memory=0)).summary
        tally.add(processed)
        if processed.failures or processed.skipped:
            continue
        totals.classes = processed.classes
        totals.label_steps += int(processed.records.label_lengths.sum())
        if processed.whole_bytes and not batch.process.is_custom:
            totals.whole_bytes = max(totals.whole_bytes, 2 * processed.whole_bytes + nbytes)
        totals.piece_bytes = max(totals.piece_bytes, processed.piece_bytes)
    return totals


def _estimate(
    options: BuildOptions, plan: Plan, samples: Plan, totals: _Totals, *, schema: Schema, choice: Choice | None
) -> StorePreview:
    """Scale up the samples: steps by the bytes of files, sequences by the number of files.

    Samples that failed count too, since other sources may fail.
    """
    tally = totals.tally
    by_bytes = sum(plan.new_bytes) / max(1, sum(samples.new_bytes))
    by_count = len(plan.new) / len(samples.new)
    sequences = round(tally.sequences * by_count)
    steps, label_steps = (round(count * by_bytes) for count in (tally.steps, totals.label_steps))
    unseen = unseen_steps = 0  # retired sequences, whose rows stay in the files, and their steps
    if plan.old_store is not None:
        vanished = plan.vanished if options.retire_missing else ()
        retiring = [*vanished, *chain.from_iterable(plan.replaced.values())]
        before, stays = plan.old_store.counts, ~np.isin(plan.old_store.selection, retiring)
        sequences += before.sequences
        steps += before.steps
        label_steps += before.label_steps
        unseen = before.sequences - int(stays.sum())
        unseen_steps = before.steps - int(plan.old_store.lengths[stays].sum())
    workers = workers_for(options, plan)
    processes = workers + 1 if workers else 1
    flight = memory_in_flight(schema, parse_bytes(options.batch), workers)
    decoded = round(tally.bytes_decoded * by_bytes)
    # Other sources may be larger than the sampled ones, but their pieces are not.
    at_once = min(max(1, workers), len(plan.new))
    whole = round(totals.whole_bytes * max(1.0, by_bytes / by_count)) * at_once
    sources = max(whole, 2 * totals.piece_bytes * at_once)
    return StorePreview(
        sequences=sequences - unseen,
        steps=steps - unseen_steps,
        codec_why=None if choice is None else str(choice),
        dtype_why=float64_text(plan.many_digits),
        decoded_bytes=decoded,
        files=count_files(schema, sequences=sequences, steps=steps, label_steps=label_steps),
        memory_bytes=WORKER_BYTES * processes + 2 * min(flight, decoded) + sources,
        whole_bytes=whole,
        own_function=plan.sources.every.process.is_custom,
        **schema_facts(schema),
    )
