"""The build: bring a store up to date with its sources."""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import store_spec
from builder.build_errors import BuildError, UsageError
from builder.execution.report import Report, Tally, parse_limit, report_of
from builder.execution.run import Run, RunSteps
from builder.execution.worker_start import WorkerStart
from builder.options.declaration import with_options
from builder.planning.build_options import BATCH_BYTES, BuildOptions
from builder.planning.packing import SAMPLE_SOURCES, Packing, choose_by_sources
from builder.planning.plan import LARGEST_RATIO, LEAST_RATIO, Plan, make_plan
from builder.planning.provenance import FAILURES, SKIPPED, failures_record, note_code
from builder.planning.resolved_sources import ResolvedSources, find_sources, open_if_exists
from builder.processes.process import ProcessFunction
from builder.workers.batch import BatchSummary, ProbeResult, probe
from builder.workers.crashes import find_crashes, workers_died
from builder.workers.engine import Engine, InProcessEngine, start_engine
from builder.workers.process_source import Failure, Skipped, SourceBatch
from builder.workers.processes import worker_memory
from store_spec import Schema, parse_bytes
from store_spec.building import Ledger, StorePlace, import_zarr, store_place

PROBED = 64  # sources that one task probes at first
MEMORY_FACTOR = 4  # a batch may have this many times its intended bytes of rows in memory; further rows go to files
Result = TypeVar("Result")


@with_options(BuildOptions)
def build(options: BuildOptions) -> Report:
    """Bring a store up to date with its sources: process each new source, and append its sequences.

    The report names sources that changed or no longer exist; options build these again or retire them. A file with the
    same size and times as before counts as unchanged; other files are read and compared. A source that fails is left
    out and named in the report, and the next build tries it again.

    The finished store depends only on the sources and the options, not on workers, batches or interruptions. About
    every 5 s a commit adds the finished sources, up to the first unfinished one. Ctrl-C waits up to 10 s for the
    sources that workers are processing, and commits; another Ctrl-C ends it at once.

    The store records the options, so that a later build needs only the sources and the store, and the manifest if it is
    outside the sources; an option that differs is refused. The process function is then imported by its recorded name,
    unless it is in an installed package. The build returns after its last commit, or raises, and leaves no process
    running.

    Returns:
        A Report; its `failures` are empty if all sources were used.

    Raises:
        UsageError: A folder, column or function does not exist, or options conflict; nothing was changed. Or labels
            have too many different texts for classes; what was committed stays.
        BuildError: The build cannot continue; what was committed stays, and the next build continues from there. Or no
            source could be used, so that no store was made, and `max_failures` is not given.
        StoreError: `store` is not a store, another build is writing to it, or the disk or the server refused.
    """
    report = run_build(options)
    if report.uncompared is not None:
        warnings.warn(report.uncompared, stacklevel=3)
    if options.max_failures is None and not report.made:
        raise BuildError("\n  ".join([report.summary, *report.first_failures()]))
    return report


@contextmanager
def _show_progress(options: BuildOptions) -> Iterator[BuildOptions]:
    """Show the progress if requested, or in a notebook; yield options that also report to it."""
    from builder.execution.progress_bar import notebook_display, of_build, show_progress

    visible = notebook_display() is not None if options.progress is None else options.progress
    with show_progress(store_place(options.store).name, of_build, begin="listing the sources", visible=visible) as show:

        def on_progress(tally: Tally) -> None:
            show(tally)
            options.on_progress(tally)

        yield replace(options, on_progress=on_progress)


def run_build(options: BuildOptions) -> Report:
    """Build like `build`, but return a report even if no source could be used."""
    with ExitStack() as stack:
        options = stack.enter_context(_show_progress(options))
        packing, plan = plan_build(options)
        retiring = plan.vanished if options.retire_missing else ()
        untried = [*plan.sources.misnamed, *plan.comparison.unreadable]
        tally = Tally(
            sources=len(plan.new) + len(untried),
            done=len(untried),
            bytes_to_read=sum(plan.new_bytes),
            failures=untried.copy(),
            committed=0 if plan.old_store is None else len(plan.old_store),
            failure_limit=parse_limit(options.max_failures, len(plan.new)),
        )
        count = workers_for(options, plan)
        options.on_progress(tally)
        ledger: Ledger | None = None
        codec_why: str | None = None
        if plan.new:
            process = plan.sources.every.process
            start = WorkerStart(plan.new_bytes, count)
            begins_here = options.workers is None and options.scheduler is None
            begins_here = begins_here and start.may_begin_here(plan.sources, plan.new)
            engine = stack.enter_context(
                start_engine(0 if begins_here else count, options.scheduler, [plan.store], process)
            )
            if engine.workers:
                import_zarr()  # while workers start
            ratio = 1.0  # decoded bytes per byte of a file
            if plan.old_store is not None:
                ledger = stack.enter_context(_open_ledger(plan, plan.old_store.schema))
                ratio = _decoded_per_byte(plan.old_store)
            elif (first := first_usable(engine, plan, tally)) is not None:
                plan, schema, codec_why = plan_schema(engine, plan, first, packing)
                ledger = stack.enter_context(_open_ledger(plan, schema))
                ratio = first.nbytes / max(first.bytes_read, 1)
            if ledger is not None:
                ledger.retire(retiring)
                for source, numbers in plan.replaced.items():
                    ledger.replace(source, numbers)
                planned, count_done = plan.for_schema(ledger.schema), 0
                process_sources = partial(_process_sources, ledger=ledger, ratio=ratio, options=options, tally=tally)
                if begins_here:
                    count_done = process_sources(engine, planned, ends_after=start.is_due)
                    planned = planned.take(range(count_done, len(plan.new)))
                    if planned.numbers:
                        engine = stack.enter_context(start_engine(count, stores=[plan.store], process=process))
                if planned.numbers:
                    process_sources(engine, planned)
        elif plan.old_store is not None:  # nothing is new, but the recorded failures may have changed
            ledger = stack.enter_context(_open_ledger(plan, plan.old_store.schema))
            ledger.retire(retiring)
            note_build(ledger, tally, plan)
            tally.committed = ledger.commit()
    return report_of(options, plan, tally, codec_why)


def _process_sources(
    engine: Engine,
    plan: Plan,
    *,
    ledger: Ledger,
    ratio: float,
    options: BuildOptions,
    tally: Tally,
    ends_after: Callable[[int], bool] = lambda _: False,
) -> int:
    """Process the new sources, write their shards, and commit; return the number of sources that are done.

    `ratio` is decoded bytes per byte of a file; `ends_after` is that of RunSteps.
    """
    batch_bytes = parse_bytes(options.batch)
    ratio = min(max(ratio, LEAST_RATIO), LARGEST_RATIO)
    workers = engine.workers if options.batch == BATCH_BYTES else 0  # 0: the last batches have the size that was given
    memory = memory_in_flight(ledger.schema, batch_bytes, engine.workers)
    has_shared_disk = options.scheduler is None or isinstance(plan.store, Path)
    run = Run(
        engine,
        ledger,
        plan.batches(batch_bytes, ratio, workers=workers),
        tally,
        # In this process each batch is written before the next is read, while it is in the CPU cache.
        memory=0 if isinstance(engine, InProcessEngine) else memory,
        # The workers of a cluster may share no disk, so if the store is in a bucket, rows stay in memory.
        batch_memory=MEMORY_FACTOR * batch_bytes if has_shared_disk else sys.maxsize,
        on_progress=options.on_progress,
        steps=RunSteps(
            after_batch=partial(_after_batch, ledger, plan),
            before_commit=partial(note_build, tally=tally, plan=plan, only_code=bool(options.redo)),
            ends_after=ends_after,
        ),
    )
    return run.finish()


def _after_batch(ledger: Ledger, plan: Plan, summary: BatchSummary, names: tuple[str, ...]) -> None:
    """Note the fingerprints of a batch, and retire the old sequences of sources that are empty now."""
    plan.fingerprints.add(summary.fingerprints, names)
    for one in summary.skipped:
        ledger.retire(plan.replaced.get(one.source, ()))


def note_build(ledger: Ledger, tally: Tally, plan: Plan, *, only_code: bool = False) -> None:
    """Make the next commit record the code that made the new sequences, and the sources that failed or were skipped.

    With `only_code` the recorded failures of the last build stay, since this build did not try all sources.
    """
    code = plan.sources.code.sha256
    if code is not None and ledger.ready():
        note_code(ledger.provenance, ledger.root.counts.sequences, code)
    if not only_code:
        ledger.provenance[FAILURES] = failures_record(tally.failures)
    skips = plan.skips.record(plan.comparison.skipped, tally.skipped)
    ledger.provenance.pop(SKIPPED, None)
    if skips:
        ledger.provenance[SKIPPED] = skips


def plan_build(options: BuildOptions) -> tuple[Packing, Plan]:
    """Return how rows will be packed, and which sources will be processed."""
    packing = Packing.parse(options.chunk, options.shard, options.codec)
    parse_limit(options.max_failures, 0)  # only to refuse a wrong one, also in a dry run
    plan = make_plan(options)
    if plan.vanished and options.retire_missing and not options.yes:
        check_vanished(plan)
    if parse_bytes(options.batch) < 1:
        raise UsageError(f"batch={options.batch!r}: a task processes at least 1 byte; give for example 32MiB")
    if plan.old_store is not None:
        packing.check(plan.old_store.schema, plan.store)
    return packing, plan


def workers_for(options: BuildOptions, plan: Plan) -> int:
    """Return the number of worker processes of a build."""
    is_small = options.scheduler is None and plan.sources.is_small(plan.new_bytes, parse_bytes(options.batch))
    return worker_count(options.workers, small=is_small)


def open_with_sources(
    store: StorePlace,
    sources: str | PathLike[str],
    process: ProcessFunction | str | None,
    manifest: str | PathLike[str] | None,
) -> tuple[store_spec.Store, ResolvedSources]:
    """Return a store, and its sources with the recorded options.

    Raises:
        UsageError: The folder or the store does not exist, no build made the store, or options conflict.
    """
    old_store = open_if_exists(store)
    if old_store is None:
        raise UsageError(f"{store}: there is no store")
    options = BuildOptions(sources, store, process=process, manifest=manifest)
    resolved = find_sources(options, old_store, allow_none=True)
    return old_store, resolved.for_schema(old_store.schema)


def worker_count(workers: int | None, *, small: bool) -> int:
    """Return the number of worker processes: by default one per core, or none for a small build."""
    if workers is None and small:
        return 0
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 0:
        raise UsageError(f"workers={workers}; it is a number of processes, or 0 to work in this one")
    return workers


def first_usable(engine: Engine, plan: Plan, tally: Tally) -> ProbeResult | None:
    """Probe sources, first a few, until one is usable; if none is, record the failures in the tally.

    Too many failures are a BuildError.
    """
    untried, failures, skipped = tally.failures, list[Failure](), list[Skipped]()
    start, count = 0, PROBED
    while start < len(plan.numbers):
        numbers = slice(start, start + count)
        batch = plan.batch(numbers)
        result = _call_on_worker(engine, batch, probe, plan.sources.label_axis, plan.sources.missing)
        if isinstance(result, ProbeResult):
            return result
        skipped += [one for one in result if isinstance(one, Skipped)]
        failures += [one for one in result if not isinstance(one, Skipped)]
        start, count = start + count, 4 * count
        if len(untried) + len(failures) > tally.failure_limit:
            tally.failures, tally.done = untried + failures, len(untried) + len(failures)
            tally.check_failures()
    tally.failures, tally.skipped, tally.done = untried + failures, skipped, tally.sources
    return None


def _call_on_worker(engine: Engine, batch: SourceBatch, function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function of a batch on a worker; if the worker dies, call it again without the sources that crash."""
    while True:
        engine.submit(function, batch, *arguments, watch=True)
        try:
            return engine.result(engine.next_finished())  # type: ignore[no-any-return]
        except engine.death_errors as error:
            crashed = find_crashes(batch, worker_memory(engine.workers), function, *arguments)
            if crashed.keys() <= batch.crashed.keys():
                raise workers_died(batch.names) from error
        batch = replace(batch, crashed={**batch.crashed, **crashed})


@contextmanager
def open_ledger(
    place: StorePlace, old: store_spec.Store | None, schema: Schema, provenance: dict[str, Any]
) -> Iterator[Ledger]:
    """Open a store, which must not have changed since `old` was read; None: create it."""
    with Ledger.create(place, schema, provenance) if old is None else Ledger.open(place) as ledger:
        if old is not None and ledger.root.whole_identity != old.identity:
            raise BuildError(f"{place}: another process changed it meanwhile; nothing was done: start again")
        yield ledger


@contextmanager
def _open_ledger(plan: Plan, schema: Schema) -> Iterator[Ledger]:
    """Open the store, or create it with a schema; save the fingerprints at the end, while the store is locked."""
    with open_ledger(plan.store, plan.old_store, schema, {"build": plan.sources.described}) as ledger:
        try:
            yield ledger
        finally:
            if not isinstance(plan.store, Path) or plan.store.exists():
                plan.fingerprints.save(plan.store)


def check_vanished(plan: Plan) -> None:
    """Refuse to retire half of the sources or more, since the folder may be the wrong one."""
    gone, stored = len(plan.comparison.vanished), plan.comparison.stored
    if 2 * gone >= stored:
        raise UsageError(
            f"{plan.store}: {gone:,} of its {stored:,} sources are not in {plan.sources.listing.folder}, such as "
            f"{plan.comparison.vanished[0]}; is that the right folder, and is it mounted? Nothing was changed; with "
            "yes=True (--yes) they are retired"
        )


def _decoded_per_byte(store: store_spec.Store) -> float:
    """Return how many bytes of rows a store has for each byte of its sources."""
    decoded = sum(int(store.places(name)[1].sum()) * store.schema.rows(name).nbytes for name in ("inputs", "labels"))
    sizes = store.snapshot.table("sequences/source_size")[store.selection[store.parts == 0]]
    return decoded / int(sizes.sum()) if sizes.any() else 1.0


def plan_schema(engine: Engine, plan: Plan, first: ProbeResult, packing: Packing) -> tuple[Plan, Schema, str | None]:
    """Return the plan and the schema of a new store, by its first usable source; with `auto` also choose the codec."""
    plan, names, labels = plan.with_first(first), plan.sources.label_names, first.schema.labels
    labels = labels if names is None else replace(labels, names=names)
    schema = packing.plan(first.schema.inputs, labels, first.schema)
    if not packing.measure:
        return plan, schema, None
    sample = plan.for_schema(schema).batch(slice(SAMPLE_SOURCES))
    codec, why = _call_on_worker(engine, sample, choose_by_sources, schema)
    return plan, replace(schema, codec=codec), why


def memory_in_flight(schema: Schema, batch_bytes: int, workers: int) -> int:
    """Return how many bytes of rows may be in flight: for each worker a shard and two batches."""
    shard_bytes = schema.steps.shard * sum(schema.rows(name).nbytes for name in schema.row_arrays)
    return (shard_bytes + batch_bytes * 2) * max(1, workers)
