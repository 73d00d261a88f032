"""Preview a build: read a few sources, and estimate the store. Nothing is written."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from builder.execution.build import first_usable, memory_in_flight, plan_build, plan_schema, workers_for
from builder.execution.report import SourceFacts, Tally, float64_text, source_facts
from builder.inspection.document import schema_facts
from builder.options.declaration import with_options
from builder.planning.build_options import BuildOptions
from builder.planning.plan import Plan
from builder.planning.provenance import failures_in
from builder.sources.source_list import MISNAMED
from builder.workers.batch import BatchSummary, process_batch
from builder.workers.engine import InProcessEngine
from builder.workers.process_source import Failure
from builder.workers.row_blocks import Space
from store_spec import Schema, parse_bytes
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
    codec_why: str | None = None  # what `auto` chose, and why
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
    engine, schema, codec_why, result = InProcessEngine(), None, None, None
    if plan.old_store is not None:
        schema = plan.old_store.schema
    elif (first := first_usable(engine, samples, tally)) is not None:
        plan, schema, codec_why = plan_schema(engine, plan, first, packing)
        samples = samples.with_first(first)
    if schema is not None:
        used = _process(samples.for_schema(schema), schema, tally)
        if tally.sequences:
            labels = replace(schema.labels, classes=used[-1].classes or schema.labels.classes)
            schema = replace(schema, labels=labels)
            result = replace(_estimate(options, plan, samples, used, schema), codec_why=codec_why)
    return Preview(
        **source_facts(plan, tally),
        exists=plan.old_store is not None,
        to_process=len(plan.new),
        new=plan.comparison.new,
        unchanged=len(plan.comparison.unchanged),
        changed=plan.comparison.changed,
        unreadable=plan.comparison.unreadable,
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


def _process(samples: Plan, schema: Schema, tally: Tally) -> list[BatchSummary]:
    """Process each sample, and count what it gives; return the summaries of usable sources."""
    used: list[BatchSummary] = []
    for number in range(len(samples.new)):
        batch = samples.batch(slice(number, number + 1))
        classes = (used and used[-1].classes) or batch.process.store_classes
        summary = process_batch(batch.with_classes(classes), schema, Space(memory=0)).summary
        tally.add(summary)
        used += [summary] * (not summary.failures and not summary.skipped)
    return used


def _estimate(
    options: BuildOptions, plan: Plan, samples: Plan, used: Sequence[BatchSummary], schema: Schema
) -> StorePreview:
    """Scale up the samples: steps by the bytes of files, sequences by the number of files.

    Samples that failed count too, since other sources may fail.
    """
    by_bytes = sum(plan.new_bytes) / max(1, sum(samples.new_bytes))
    by_count = len(plan.new) / len(samples.new)
    sequences = round(by_count * sum(len(one.records) for one in used))
    steps = round(by_bytes * sum(int(one.records.lengths.sum()) for one in used))
    label_steps = round(by_bytes * sum(int(one.records.label_lengths.sum()) for one in used))
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
    decoded = round(by_bytes * sum(one.bytes_decoded for one in used))
    # Other sources may be larger than the sampled ones, but their pieces are not.
    at_once = min(max(1, workers), len(plan.new))
    is_custom = plan.sources.every.process.is_custom
    # A source that is read whole takes its file, and its decoded rows twice.
    each = [] if is_custom else [one.bytes_read + 2 * one.whole_bytes for one in used if one.whole_bytes]
    whole = round(max(each, default=0) * max(1.0, by_bytes / by_count)) * at_once
    sources = max(whole, 2 * max(one.piece_bytes for one in used) * at_once)
    return StorePreview(
        sequences=sequences - unseen,
        steps=steps - unseen_steps,
        dtype_why=float64_text(plan.many_digits),
        decoded_bytes=decoded,
        files=count_files(schema, sequences=sequences, steps=steps, label_steps=label_steps),
        memory_bytes=WORKER_BYTES * processes + 2 * min(flight, decoded) + sources,
        whole_bytes=whole,
        own_function=is_custom,
        **schema_facts(schema),
    )
