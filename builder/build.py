"""The build: bring a store up to date with its sources."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from builder.batch import Failure, Found, probe
from builder.engine import Engine, start_engine
from builder.errors import UsageError
from builder.packing import Packing
from builder.plan import LARGEST_RATIO, LEAST_RATIO, ManifestLabels, Plan, make_plan
from builder.process import Process
from builder.run import Run, Tally, commit, workers_died
from builder.tabular import Tabular
from store_spec.ledger import Ledger
from store_spec.schema import LabelAxis, Rows, Schema
from store_spec.sizes import parse_bytes

BATCH_BYTES = 2**24  # smaller ones take longer in all, larger ones more memory, and longer to end


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a build did."""

    store: Path
    sources: int  # that were there
    unchanged: int  # of them in the store before
    added: int  # of them that this build added
    failures: tuple[Failure, ...]
    sequences: int  # added
    steps: int  # added
    bytes_read: int
    bytes_decoded: int
    bytes_written: int
    total_sequences: int  # in the store now
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON can hold it."""
        failures = [{"source": one.source, "reason": one.reason} for one in self.failures]
        others = {name: getattr(self, name) for name in self.__slots__ if name not in ("store", "failures")}
        return {"store": str(self.store), **others, "failures": failures}


def build(
    sources: str | PathLike[str],
    store: str | PathLike[str],
    *,
    process: Process | str | None = None,
    manifest: str | PathLike[str] | None = None,
    key: str | None = None,
    label_column: str | None = None,
    manifest_only: bool = False,
    label_axis: LabelAxis | None = None,
    chunk: int | str | None = None,
    shard: int | str | None = None,
    codec: str | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    batch: int | str = BATCH_BYTES,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Report:
    """Bring a store up to date with its sources: process those that are new, each on its own, and append them.

    A source that fails is left out and named in the report; the others go on, and the next build tries it again.
    The finished store depends on the sources and the options alone, not on workers, batches or interruptions.
    It returns after its last commit, or raises; nothing goes on working behind it.

    Args:
        sources: A folder, with all below it, or a glob pattern.
        store: Where the store is, or will be.
        process: What makes sequences of one source: `tabular(...)` for tables (the default takes every column),
            a function of a path that returns (inputs, labels) or yields several such pairs, or its name
            `module:function`. Workers must be able to import it.
        manifest: A table (CSV or Parquet) with one row a source.
        key: Its column that names the source, by path, file name or stem; `source` if not given.
        label_column: Its columns, separated by commas, that are the sequence's labels.
        manifest_only: Take only the sources that it lists.
        label_axis: `step`, `sequence` or `own`; if not given, the first source's labels tell.
        chunk: Decoded bytes that are compressed together, as `"1MB"`; by default 1 MiB. An old store keeps its own.
        shard: Decoded bytes in one file; by default 64 MiB.
        codec: `zstd`, `lz4`, with a level as in `zstd:5`, or `none`; by default `zstd`.
        workers: Processes on this machine; 0: work in this process. By default one a core, or none where there is
            so little for `tabular` to read that starting them would take longer.
        scheduler: The address of a dask scheduler, or a dask client, to use instead.
        batch: Decoded bytes that one task processes, about; a larger source is a task of its own.
        on_progress: Called with a `Tally` whenever something was done.

    Returns:
        A Report; its `failures` are empty if all went well.

    Raises:
        UsageError: A folder, column or function that is not there, or options that clash; nothing was changed.
        BuildError: The build cannot go on; what was committed stays, and the next build goes on from there.
        StoreError: There is something else than a store at `store`, another build is writing to it, or the disk
            refused.
    """
    packing = Packing.parse(chunk, shard, codec)
    labels = manifest_labels(manifest, key, label_column, manifest_only=manifest_only)
    plan = make_plan(Path(sources), Path(store), process=process, manifest=labels, label_axis=label_axis)
    tally = Tally(sources=len(plan.new), bytes_to_read=plan.bytes_to_read())
    batch_bytes = parse_bytes(batch)
    count = worker_count(workers, small=scheduler is None and plan.is_small(batch_bytes))
    if plan.held is not None:
        packing.check(plan.held.schema, plan.store)
    on_progress(tally)
    ledger: Ledger | None = None
    with ExitStack() as stack:
        if plan.new:
            engine = stack.enter_context(start_engine(count, scheduler))
            found = _first_usable(engine, plan)
            if isinstance(found, Found):
                ledger = stack.enter_context(_ledger(plan, found, packing))
                plan = plan.for_schema(ledger.schema)
                ratio = min(max(found.nbytes / max(found.bytes_read, 1), LEAST_RATIO), LARGEST_RATIO)
                batches = plan.batches(batch_bytes, ratio)
                memory = memory_in_flight(ledger.schema, batch_bytes, max(1, count))
                try:
                    Run(engine, ledger, batches, tally, memory=memory, on_progress=on_progress).finish()
                except BaseException:
                    engine.abandon()  # before the lock is free: no worker may put a shard any more
                    raise
            else:
                tally.failures, tally.done = found, len(plan.new)
        if plan.exists and ledger is None:  # what failed before may be gone, or fail in another way
            ledger = stack.enter_context(Ledger.open(plan.store))
            commit(ledger, tally)
    failed = len(tally.failures)
    return Report(
        store=plan.store,
        sources=plan.unchanged + len(plan.new),
        unchanged=plan.unchanged,
        added=len(plan.new) - failed,
        failures=tuple(tally.failures),
        sequences=tally.sequences,
        steps=tally.steps,
        bytes_read=tally.bytes_read,
        bytes_decoded=tally.bytes_decoded,
        bytes_written=tally.bytes_written,
        total_sequences=tally.committed,
        seconds=tally.seconds,
    )


def manifest_labels(
    manifest: str | PathLike[str] | None, key: str | None, label_column: str | None, *, manifest_only: bool
) -> ManifestLabels | None:
    """Return what the options of a manifest say; None where there is none."""
    if manifest is None:
        for option, given in (("key", key), ("label_column", label_column), ("manifest_only", manifest_only or None)):
            if given is not None:
                raise UsageError(f"{option} goes with a manifest, and none is given")
        return None
    return ManifestLabels(path=Path(manifest), key=key, columns=label_column, only_listed=manifest_only)


def worker_count(workers: int | None, *, small: bool) -> int:
    """Return how many worker processes there will be: if not given, one a core, or none for a small build."""
    if workers is None and small:
        return 0
    if workers is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if workers < 0:
        raise UsageError(f"workers={workers}; it is a number of processes, or 0 to work in this one")
    return workers


def _first_usable(engine: Engine, plan: Plan) -> Found | list[Failure]:
    engine.submit(probe, plan.batch(slice(None)), plan.label_axis, "error", watch=True)
    try:
        found: Found | list[Failure] = engine.finished().result()
    except engine.lost as error:
        raise workers_died(plan.new) from error
    return found


@contextmanager
def _ledger(plan: Plan, found: Found, packing: Packing) -> Iterator[Ledger]:
    if plan.exists:
        with Ledger.open(plan.store) as ledger:
            yield ledger
        return
    schema = schema_of(plan, found, packing)
    with Ledger.create(plan.store, schema, {"build": plan.described}) as ledger:
        yield ledger


def schema_of(plan: Plan, found: Found, packing: Packing) -> Schema:
    """Return the schema of a new store, from what the first usable source is like."""
    names: tuple[tuple[str, ...] | None, tuple[str, ...] | None] = (None, None)
    if isinstance(plan.process, Tabular):
        names = plan.process.columns(plan.sources.root.absolute() / found.source)
    inputs, labels = _named(found.inputs, names[0]), _named(found.labels, plan.label_names or names[1])
    return packing.schema(inputs, labels, found.label_axis)


def _named(rows: Rows, names: tuple[str, ...] | None) -> Rows:
    return Rows(rows.dtype, rows.shape, names) if names is not None and len(names) == rows.features else rows


def memory_in_flight(schema: Schema, batch_bytes: int, workers: int) -> int:
    """Return how many bytes of rows may be in flight: enough to fill each worker's shard and its next batches."""
    shard_bytes = schema.steps.shard * (schema.inputs.nbytes + schema.labels.nbytes)
    return shard_bytes * workers + batch_bytes * 2 * workers
