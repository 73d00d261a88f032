"""`compact`: write a store again without what is retired, packed or ordered in another way, or of another dtype."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import store_spec
from builder.build_errors import UsageError
from builder.execution.build import memory_in_flight, worker_count
from builder.execution.run import Run, Tally
from builder.formats.table import DType
from builder.maintenance.copying import Copy, converted_rows, copy
from builder.maintenance.partial_copy import Ahead, Begun, already_converted, described_copy, note_copied
from builder.maintenance.row_order import Order
from builder.planning.build_options import BATCH_BYTES
from builder.planning.codec_choice import SAMPLE_BYTES, Choice, measured
from builder.planning.packing import Packing
from builder.planning.resolved_sources import opened
from builder.processes.row_dtypes import ARRAYS, check_narrowing, conversions, costs, dtypes_asked
from builder.workers.engine import start_engine
from store_spec import Schema
from store_spec.building import Ledger, Snapshot, SourceId

SMALL_BYTES = 2**26  # decoded: copied in less time than worker processes take to start


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """What a compaction did."""

    store: Path  # the new one
    sequences: int  # in it now
    copied: int  # of them, this time
    retired: int  # left behind
    steps: int  # copied
    bytes_decoded: int
    bytes_written: int
    seconds: float
    codec: str | None = None  # what `auto` chose, and why
    costs: tuple[str, ...] = ()  # what other dtypes did to the values


def compact(
    store: str | PathLike[str],
    new: str | PathLike[str],
    *,
    chunk: int | str | None = None,
    shard: int | str | None = None,
    codec: str | None = None,
    dtype: DTypeLike | None = None,
    label_dtype: DTypeLike | None = None,
    order: str | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Compacted:
    """Write the sequences of a store that are not retired to a new one; the old one stays as it is.

    Every sequence is held against its checksum. Without another dtype, rows and checksums are the same. What is
    recorded of the build goes along: a later build of the new store finds its sources, and gives their rows the dtype
    that it has. The new store depends on the old one and the options alone. Cut off, the same call goes on.

    Args:
        store: The store.
        new: Where the new one will be, or is, in part.
        chunk: Decoded bytes that are compressed together, as `"1MB"`. Without it and `shard` both are as in the old
            store; without one of the two, that one is as in a store that `build` makes.
        shard: Decoded bytes in one file.
        codec: `zstd`, `lz4`, with a level as in `zstd:5`, or `none`; `auto` chooses by the first rows; by default as in
            the old store.
        dtype: Of inputs, as `"float32"`, and of labels too where these are floats. Floats, and whole numbers that
            become floats, may be rounded; what would become another number is refused, as is NaN in whole numbers.
        label_dtype: Of labels, whatever they are.
        order: Of sources, whose parts stay together: `name`; `length`, the shortest first; `shuffle` or `shuffle:SEED`,
            by a hash of the name; `store`, as in the old one, which is the default. Sequences that lie far apart in the
            old store are read one by one, each with whole chunks.
        workers: Processes on this machine; 0: work in this process. By default one a core, or none for a small store.
        scheduler: The address of a dask scheduler, or a dask client, to use instead.
        on_progress: Called with a `Tally` whenever something was done.

    Raises:
        UsageError: There is no such store, or nothing in it; `new` is the same; a value does not fit into the dtype, or
            an earlier copy made rows less than that; or at `new` is something else than a part of its copy, or one that
            was begun with other options.
        ChecksumError: Rows are not those that were written; `verify` says which. What was copied stays.
        StoreError: The disk refused, or another writer is there.
        BuildError: Worker processes died again and again.
    """
    place = Path(new)
    old, part = opened(Path(store)), opened(place)
    if old is None:
        raise UsageError(f"{store}: there is no store")
    if part is not None and os.path.samefile(store, new):
        raise UsageError(f"{new}: STORE and NEW are the same, as {store} is this folder too; give NEW another path")
    if not len(old):
        raise UsageError(f"{store}: has no sequence that is not retired, so there is nothing to copy")
    packing, asked = Packing.parse(chunk, shard, codec), dtypes_asked(old.schema, dtype, label_dtype)
    wanted = None if order is None else Order.parse(order)
    begun = None if part is None else Begun.of(part)
    by = begun.order if begun is not None else wanted or Order()
    if by.kind != "store":
        old = old.select(by.of(old.sources, old.parts, old.lengths))
    ahead = Ahead(old)
    choice = None
    if begun is not None:
        schema, done = begun.store.schema, begun.done(old, ahead, packing, asked, wanted)
    else:
        schema, done = _schema(old.schema, packing, asked), 0
        if packing.measure:
            choice = _measured(old, schema)
            schema = replace(schema, codec=choice.codec)
    changed = conversions(old.schema, schema)
    check_narrowing(already_converted(old), changed)
    same = not changed and by.kind == "store"
    sizes = _row_bytes(old)
    sources = len(set(old.sources[done:]))
    tally = Tally(sources=sources, bytes_to_read=int(sizes[done:].sum()), committed=done)
    on_progress(tally)
    small = scheduler is None and tally.bytes_to_read <= SMALL_BYTES
    count = worker_count(workers, small=small)
    if done < len(old) or schema.labels.classes != old.schema.labels.classes:
        described = None if begun is not None else described_copy(old, by, changed)
        with start_engine(count, scheduler) as engine, _ledger(old, place, schema, described) as ledger:
            memory = memory_in_flight(ledger.schema, BATCH_BYTES, engine.workers)
            run = Run(
                engine,
                ledger,
                _dealt(old, done, sizes, None if same else ahead),
                tally,
                memory=memory,
                on_progress=on_progress,
                process=copy,
                before_commit=partial(note_copied, ahead=ahead),
            )
            try:
                run.finish()
            except BaseException:
                engine.abandon()  # before the lock is free: no worker may put a shard any more
                raise
    return Compacted(
        store=place,
        sequences=tally.committed,
        copied=tally.sequences,
        retired=old.counts.sequences - len(old),
        steps=tally.steps,
        bytes_decoded=tally.bytes_decoded,
        bytes_written=tally.bytes_written,
        seconds=tally.seconds,
        codec=None if choice is None else str(choice),
        costs=costs(old.schema, schema),
    )


def _measured(old: store_spec.Store, schema: Schema) -> Choice:
    """Choose the codec by the first rows of the old store."""
    rows: dict[str, list[NDArray[Any]]] = {}
    for name in ARRAYS:
        if not schema.is_sharded(name):
            continue
        starts, lengths = old.places(name)
        most = SAMPLE_BYTES // schema.rows(name).nbytes or 1
        rows[name] = []
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            first = old.snapshot.rows(name, start, start + min(length, most))
            rows[name].append(converted_rows(first, schema.rows(name).dtype, name, SourceId(name=old.path.name)))
            most -= len(rows[name][-1])
            if most <= 0:
                break
    return measured(rows, schema)


def _schema(old: Schema, packing: Packing, dtypes: Mapping[str, DType]) -> Schema:
    """Return the schema of a copy. Chunks that a build would choose for the old rows are chosen again for the new."""
    codec = packing.codec or old.codec
    inputs, labels = (replace(old.rows(name), dtype=dtypes.get(name, old.rows(name).dtype)) for name in ARRAYS)
    plan = partial(
        Packing.schema,
        label_axis=old.label_axis,
        missing=old.missing,
        columns=old.columns,
        time=old.time,
        filled=old.filled,
    )
    usual = plan(packing, old.inputs, old.labels)
    if (
        packing.chunk is None
        and packing.shard is None
        and (old.steps, old.label_steps) != (usual.steps, usual.label_steps)
    ):
        return replace(old, inputs=inputs, labels=labels, codec=codec)
    return plan(replace(packing, codec=codec), inputs, labels)


def _row_bytes(store: store_spec.Store) -> NDArray[np.int64]:
    """Return the decoded bytes of each sequence."""
    each = (store.places(name)[1] * store.schema.rows(name).nbytes for name in store.schema.row_arrays)
    # A hostile root may count more sequences than there is memory for: those of the tables are there.
    return sum(each, np.zeros(len(store.selection), np.int64))


def _dealt(
    store: store_spec.Store, done: int, sizes: NDArray[np.int64], ahead: Ahead | None
) -> Iterator[tuple[Copy, int]]:
    """Deal sequences into batches of about the usual size, of whole sources; each with its decoded bytes."""
    snapshot = store.snapshot.slim()
    begins = np.flatnonzero(store.parts[done:] == 0) + done
    bounds = np.append(begins, len(store)).tolist()
    first, size = done, 0
    for begin, end in pairwise(bounds):
        more = int(sizes[begin:end].sum())
        if begin > first and size + more > BATCH_BYTES:
            yield _copy(store, snapshot, first, begin, ahead), size
            first, size = begin, 0
        size += more
    if first < len(store):
        yield _copy(store, snapshot, first, len(store), ahead), size


def _copy(store: store_spec.Store, snapshot: Snapshot, first: int, last: int, ahead: Ahead | None) -> Copy:
    starts, stops = dict[str, NDArray[np.int64]](), dict[str, NDArray[np.int64]]()
    for name in store.schema.row_arrays:
        begins, lengths = (each[first:last] for each in store.places(name))
        starts[name], stops[name] = begins, begins + lengths
    return Copy(
        snapshot=snapshot,
        numbers=store.selection[first:last],
        names=tuple(dict.fromkeys(store.sources[first:last])),
        starts=starts,
        stops=stops,
        records=None if ahead is None else ahead.records(first, last),
    )


@contextmanager
def _ledger(old: store_spec.Store, new: Path, schema: Schema, described: dict[str, Any] | None) -> Iterator[Ledger]:
    """Create the copy, which then records this; without that, open the one that was begun."""
    if described is None:
        with Ledger.open(new) as ledger:
            ledger.extend_classes(old.schema.labels.classes)  # it may have got more since
            yield ledger
        return
    with Ledger.create(new, schema, described) as ledger:
        yield ledger
