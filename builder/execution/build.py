"""The build: bring a store up to date with its sources."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import store_spec
from builder.build_errors import BuildError, UsageError
from builder.execution.run import Run, Tally, note_build, too_many_failed
from builder.frames.counts import CleanedSource
from builder.labels.class_codes import first_classes
from builder.options.declaration import with_options
from builder.planning.build_options import BATCH_BYTES, BuildOptions
from builder.planning.codec_choice import SAMPLE_SOURCES, Choice, measured_on_sources
from builder.planning.packing import Packing
from builder.planning.plan import LARGEST_RATIO, LEAST_RATIO, Plan, make_plan
from builder.planning.resolved_sources import Reading, find_sources, opened
from builder.processes.process import ProcessFunction
from builder.workers.batch import Found, probe
from builder.workers.crashes import find_crashes, workers_died
from builder.workers.engine import Engine, InProcess, start_engine
from builder.workers.memory import worker_memory
from builder.workers.process_source import Batch, Failure
from store_spec import Rows, Schema, parse_bytes
from store_spec.building import Ledger

PROBED = 64  # sources that one task probes at first
BATCHES_IN_MEMORY = 4  # how much larger a batch may be than it should, before its rows go to files


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a build did."""

    store: Path
    sources: int  # that were there
    ignored: int  # files that are no sources, by their suffix or else
    ignored_listed: tuple[str, ...]  # the first of them
    unchanged: int  # of them in the store before, and not built again
    added: int  # of them that this build added
    updated: int  # of them that this build put in place of what the store had
    changed: tuple[str, ...]  # of them not as the store has them, which were left as they were
    vanished: tuple[str, ...]  # in the store, and there no more
    retired: int  # of these, taken away
    failures: tuple[Failure, ...]
    outdated: tuple[str, ...]  # sources with sequences that come from other code of the process function than now
    sequences: int  # added
    steps: int  # added
    dropped: int  # steps that cleaning left out of the added sequences
    filled: int  # values that it filled in
    cleaned: tuple[CleanedSource, ...]  # at most 10: those that lost most steps, had most filled in, were split
    several: int  # sources that gave more than one sequence, where that is counted
    bytes_read: int
    bytes_decoded: int
    bytes_written: int
    total_sequences: int  # in the store now
    seconds: float
    codec: str | None = None  # what `auto` chose, and why
    uncompared: str | None = None  # what of the process function cannot be compared with that of earlier builds

    def __repr__(self) -> str:
        done = f"{self.added:,} of {self.sources:,} sources added, {self.unchanged:,} unchanged"
        rest = f"{self.updated:,} updated, {self.retired:,} retired, {len(self.failures):,} failed"
        other = f", {len(self.outdated):,} made by other code" if self.outdated else ""
        return f"<build of {self.store.name}: {done}{other}, {rest}; {self.total_sequences:,} sequences in the store>"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        failures = [{"source": one.source, "reason": one.reason} for one in self.failures]
        others = {name: getattr(self, name) for name in self.__slots__ if name not in ("store", "failures")}
        others["cleaned"] = [asdict(one) for one in self.cleaned]
        return {"store": str(self.store), **others, "failures": failures}


@with_options(BuildOptions)
def build(options: BuildOptions) -> Report:
    """Bring a store up to date with its sources: process those that are new, each on its own, and append them.

    Sources that changed since, and those that are there no more, are named in the report, and built again or taken away
    if asked. A file whose size and times are as they were is taken for unchanged; others are read to see.
    A source that fails is left out and named in the report; the others go on, and the next build tries it again.
    The finished store depends on the sources and the options alone, not on workers, batches or interruptions.
    About every 5 s it commits the sources that are finished, up to the first one that is not. Ctrl-C commits these too:
    it waits up to 10 s for the sources that workers have in hand. A second one ends the build at once.
    The store records the options: a later build needs sources and store alone, and a manifest that does not lie below
    the sources; it refuses an option that differs.
    Then the process function is imported by the name that the store records, unless it is an installed package's.
    It returns after its last commit, or raises; nothing goes on working behind it.

    Returns:
        A Report; its `failures` are empty if all went well.

    Raises:
        UsageError: A folder, column or function that is not there, or options that clash; nothing was changed. Or
            labels have too many different texts for classes; what was committed stays.
        BuildError: The build cannot go on; what was committed stays, and the next build goes on from there.
        StoreError: There is something else than a store at `store`, another build is writing to it, or the disk
            refused.
    """
    packing, plan = planned(options)
    plan.reading.code.warn(stacklevel=3)
    most, batch, scheduler = parse_limit(options.max_failures), options.batch, options.scheduler
    on_progress = options.on_progress
    retiring = plan.vanished if options.retire_missing else ()
    untried = [*plan.reading.misnamed, *plan.unreadable]
    tally = Tally(
        sources=len(plan.new) + len(untried),
        done=len(untried),
        bytes_to_read=plan.bytes_to_read(),
        failures=untried.copy(),
        committed=0 if plan.held is None else len(plan.held),
    )
    batch_bytes = parse_bytes(batch)
    if batch_bytes < 1:
        raise UsageError(f"batch={batch!r}: a task processes at least 1 byte; give for example 32MiB")
    count = worker_count(
        options.workers, small=scheduler is None and plan.reading.is_small(plan.new_bytes, batch_bytes)
    )
    if plan.held is not None:
        packing.check(plan.held.schema, plan.store)
    on_progress(tally)
    ledger: Ledger | None = None
    choice: Choice | None = None
    with ExitStack() as stack:
        if plan.new:
            engine = stack.enter_context(start_engine(count, scheduler))
            found = _first_usable(engine, plan, tally, most(len(plan.new)))
            if found is not None:
                plan.check_text(found.texts)
                if packing.measure and not plan.exists:
                    choice = _measured(engine, plan, schema_of(plan, found, packing))
                    packing = replace(packing, codec=choice.codec)
                ledger = stack.enter_context(_ledger(plan, found, packing))
                ledger.retire(retiring)
                for source, numbers in plan.replaced.items():
                    ledger.replace(source, numbers)
                plan = plan.for_schema(ledger.schema)
                ratio = min(max(found.nbytes / max(found.bytes_read, 1), LEAST_RATIO), LARGEST_RATIO)
                even = engine.workers if batch == BATCH_BYTES else 0  # nobody asked for batches of a size
                flight = memory_in_flight(ledger.schema, batch_bytes, engine.workers)
                run = Run(
                    engine,
                    ledger,
                    plan.batches(batch_bytes, ratio, workers=even),
                    tally,
                    # In this process batches are processed one after another, each best while it is in the cache.
                    memory=0 if isinstance(engine, InProcess) else flight,
                    batch_memory=BATCHES_IN_MEMORY * batch_bytes,
                    on_progress=on_progress,
                    before_commit=partial(
                        note_build, tally=tally, code=plan.reading.code.sha256, only_code=bool(options.redo)
                    ),
                    seen=plan.seen,
                    most_failures=most(len(plan.new)),
                )
                try:
                    run.finish()
                except BaseException:
                    engine.abandon()  # before the lock is free: no worker may put a shard any more
                    raise
        if plan.exists and ledger is None:  # what failed before may be gone, or fail in another way
            ledger = stack.enter_context(_opened(plan))
            ledger.retire(retiring)
            note_build(ledger, tally)
            tally.committed = ledger.commit()
    failed = {failure.source for failure in tally.failures[len(untried) :]}
    updated = sum(name not in failed for name in plan.replaced)
    compared = plan.compared
    return Report(
        store=plan.store,
        sources=plan.found,
        ignored=len(plan.reading.sources.ignored),
        ignored_listed=plan.reading.sources.ignored_listed,
        unchanged=len(compared.unchanged) - sum(name in plan.replaced for name in compared.unchanged),
        added=sum(name not in failed for name in compared.new),
        updated=updated,
        changed=() if options.update else compared.changed,
        vanished=compared.vanished,
        retired=len(compared.vanished) if options.retire_missing else 0,
        failures=tuple(tally.failures),
        outdated=plan.outdated,
        sequences=tally.sequences,
        steps=tally.steps,
        dropped=tally.cleaning.total.dropped,
        filled=tally.cleaning.total.filled,
        cleaned=tally.cleaning.worst,
        several=tally.cleaning.total.several,
        bytes_read=tally.bytes_read,
        bytes_decoded=tally.bytes_decoded,
        bytes_written=tally.bytes_written,
        total_sequences=tally.committed,
        seconds=tally.seconds,
        codec=None if choice is None else str(choice),
        uncompared=plan.reading.code.uncompared,
    )


def planned(options: BuildOptions) -> tuple[Packing, Plan]:
    """Return how rows will be packed, and which sources will be processed.

    Raises:
        UsageError: A folder, column or function that is not there, or options that clash.
        StoreError: There is something else than a store.
    """
    packing = Packing.parse(options.chunk, options.shard, options.codec)
    plan = make_plan(options)
    if plan.vanished and options.retire_missing and not options.yes:
        check_vanished(plan)
    return packing, plan


def read_again(
    store: Path,
    sources: str | PathLike[str],
    process: ProcessFunction | str | None,
    manifest: str | PathLike[str] | None,
) -> tuple[store_spec.Store, Reading]:
    """Return a store, and how to read its sources as the build did that made it.

    Raises:
        UsageError: There is no such folder or store, no build made the store, or options clash.
        StoreError: What is at `store` cannot be read.
    """
    held = opened(store)
    if held is None:
        raise UsageError(f"{store}: there is no store")
    options = BuildOptions(sources, store, process=process, manifest=manifest)
    reading = find_sources(options, held, allow_none=True)
    return held, reading.for_schema(held.schema)


def worker_count(workers: int | None, *, small: bool) -> int:
    """Return how many worker processes there will be: if not given, one a core, or none for a small build."""
    if workers is None and small:
        return 0
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 0:
        raise UsageError(f"workers={workers}; it is a number of processes, or 0 to work in this one")
    return workers


def _first_usable(engine: Engine, plan: Plan, tally: Tally, most: float) -> Found | None:
    """Have sources probed until one is usable: few at first, since nearly always the first is, and all if need be.

    One without rows does where no other has any. Where none is usable, the tally has why.

    Raises:
        BuildError: More failed than may, before one was found.
    """
    untried, failures = tally.failures, list[Failure]()
    without_rows: Found | None = None
    start, count = 0, PROBED
    while start < len(plan.numbers):
        batch = plan.batch(slice(start, start + count))
        found: Found | list[Failure] = _asked(engine, batch, probe, plan.reading.label_axis, plan.reading.missing)
        if isinstance(found, Found) and found.steps:
            return found
        if isinstance(found, Found):
            without_rows = without_rows or found
        else:
            failures += found
        start, count = start + count, 4 * count
        if len(untried) + len(failures) > most:
            tally.failures, tally.done = untried + failures, len(untried) + len(failures)
            raise too_many_failed(tally, most)
    if without_rows is None:
        tally.failures, tally.done = untried + failures, tally.sources
    return without_rows


def _asked(engine: Engine, batch: Batch, function: Callable[..., Any], *arguments: Any) -> Any:
    """Have one worker call a function of a batch, and wait for what it returns; again without sources that kill it."""
    engine.submit(function, batch, *arguments, watch=True)
    try:
        return engine.finished().result()
    except engine.lost as error:
        crashed = {} if batch.crashed else find_crashes(batch, worker_memory(engine.workers), function, *arguments)
        if not crashed:
            raise workers_died(batch.names) from error
    return _asked(engine, replace(batch, crashed=crashed), function, *arguments)


def _measured(engine: Engine, plan: Plan, schema: Schema) -> Choice:
    choice: Choice = _asked(engine, plan.for_schema(schema).batch(slice(SAMPLE_SOURCES)), measured_on_sources, schema)
    return choice


@contextmanager
def _seen_kept(plan: Plan) -> Iterator[None]:
    """Write down at the end, under the lock, which files were seen, if there is a store then."""
    try:
        yield
    finally:
        if plan.store.exists():
            plan.seen.save(plan.store)


@contextmanager
def _opened(plan: Plan) -> Iterator[Ledger]:
    with Ledger.open(plan.store) as ledger:
        if plan.held is None or ledger.root.whole_identity != plan.held.identity:
            raise BuildError(
                f"{plan.store}: another build changed it while this one looked at the sources; nothing was done: "
                "start again"
            )
        with _seen_kept(plan):
            yield ledger


def parse_limit(limit: int | str | None) -> Callable[[int], float]:
    """Return how many of a number of sources may fail: "10%" of them, or a number.

    >>> parse_limit("10%")(270), parse_limit(3)(270), parse_limit(None)(270)
    (27.0, 3.0, inf)
    """
    text = "inf" if limit is None else str(limit).strip()
    try:
        value = float(text.removesuffix("%"))
    except ValueError:
        value = math.nan
    if not value >= 0 or (text.endswith("%") and value > 100):
        raise UsageError(f"max_failures={limit!r} is no number of sources, and no share of them as '10%'")
    return lambda sources: value / 100 * sources if text.endswith("%") else value


def check_vanished(plan: Plan) -> None:
    """Refuse to retire most of a store: its sources may only be somewhere else today.

    Raises:
        UsageError: Half of the sources or more are not there.
    """
    gone, held = len(plan.compared.vanished), plan.compared.held
    if 2 * gone >= held:
        raise UsageError(
            f"{plan.store}: {gone:,} of its {held:,} sources are not in {plan.reading.sources.root}, such as "
            f"{plan.compared.vanished[0]}; is that the right folder, and is it mounted? Nothing was changed; with "
            "yes=True (--yes) they are retired"
        )


@contextmanager
def _ledger(plan: Plan, found: Found, packing: Packing) -> Iterator[Ledger]:
    if plan.exists:
        with _opened(plan) as ledger:
            yield ledger
        return
    schema = schema_of(plan, found, packing)
    with Ledger.create(plan.store, schema, {"build": plan.reading.described}) as ledger, _seen_kept(plan):
        yield ledger


def schema_of(plan: Plan, found: Found, packing: Packing) -> Schema:
    """Return the schema of a new store, from what the first usable source is like."""
    process = plan.reading.process
    features, targets = process.columns(plan.reading.sources.root.absolute() / found.source)
    inputs, labels = _named(found.inputs, features), _named(found.labels, plan.reading.label_names or targets)
    texts = found.texts or dict.fromkeys(map(str, range(labels.features)))  # a function's targets go by their places
    labels = replace(labels, classes=first_classes(texts, process.classes))
    return packing.schema(
        inputs,
        labels,
        found.label_axis,
        plan.reading.missing,
        columns=found.columns,
        time=found.time,
        filled=found.filled,
    )


def _named(rows: Rows, names: tuple[str, ...] | None) -> Rows:
    return Rows(rows.dtype, rows.shape, names) if names is not None and len(names) == rows.features else rows


def memory_in_flight(schema: Schema, batch_bytes: int, workers: int) -> int:
    """Return how many bytes of rows may be in flight: enough to fill each worker's shard and its next batches."""
    shard_bytes = schema.steps.shard * sum(schema.rows(name).nbytes for name in schema.row_arrays)
    return (shard_bytes + batch_bytes * 2) * max(1, workers)
