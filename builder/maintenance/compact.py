"""`compact`: copy a store without its retired sequences, with other chunks, another order or another dtype."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

import store_spec
from builder.build_errors import UsageError
from builder.execution.build import memory_in_flight, open_ledger, worker_count
from builder.execution.report import Tally
from builder.execution.run import Run, RunSteps
from builder.formats.table import DType
from builder.maintenance.copying import Copy, convert_for_copy, copy
from builder.maintenance.partial_copy import (
    OldRecords,
    copy_provenance,
    count_copied,
    note_copied,
    order_of,
    parse_order,
    sort_sequences,
)
from builder.planning.build_options import BATCH_BYTES
from builder.planning.packing import SAMPLE_BYTES, Packing, choose_by_sizes, compressed_sizes
from builder.planning.provenance import earlier_conversions
from builder.planning.resolved_sources import open_if_exists
from builder.processes.row_dtypes import ARRAYS, check_narrowing, conversions, target_dtypes
from builder.workers.engine import start_engine
from store_spec import Codec, Schema
from store_spec.building import Ledger, SourceId, StorePlace, place_of, read_ranges, store_place

SMALL_BYTES = 2**26  # copying fewer decoded bytes takes less time than starting worker processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Compacted:
    """The result of a compaction."""

    store: StorePlace  # the new store
    sequences: int  # in the new store
    copied: int  # sequences that this call copied
    retired: int  # sequences that were not copied
    steps: int  # copied
    bytes_decoded: int
    bytes_written: int
    seconds: float
    codec: str | None = None  # what `auto` chose, and why


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
    """Copy the sequences of a store that are not retired to a new store; the old store does not change.

    Every sequence is verified by its checksum. Unless the dtype changes, rows and checksums stay the same. The new
    store has the record of the build, so that a later build finds its sources, and converts their rows to its dtype.
    It depends only on the old store and the options. After an interruption, the same call continues.

    Args:
        store: The path of the old store, or its URL as a str.
        new: The path or the URL of the new store, which can be an unfinished copy.
        chunk: Decoded bytes that are compressed together, such as `"1MB"`. Without `chunk` and `shard`, both are as in
            the old store; if only one is given, the other has the default of `build`.
        shard: Decoded bytes in one file.
        codec: `zstd` or `lz4`, with a level as in `zstd:5`, or `none`; `auto` chooses by the first rows; by default as
            in the old store.
        dtype: The dtype of inputs, such as `"float32"`, and of labels that are floats. Floats, and whole numbers that
            become floats, may be rounded; values that do not fit are refused, as is NaN in whole numbers.
        label_dtype: The dtype of labels.
        order: The order of sources, whose parts stay together: `name`; `length`, the shortest first; `shuffle` or
            `shuffle:SEED`, by a hash of the name; `store`, the default, as in the old store. Sequences that are far
            apart in the old store are read one by one, each with whole chunks.
        workers: Processes on this machine; 0: work in this process. By default one per core, or none for a small store.
        scheduler: The address of a dask scheduler, or a dask client, to use instead.
        on_progress: Called with a `Tally` whenever there is progress.

    Raises:
        UsageError: The store does not exist, or is empty; `new` is the same store; a value does not fit into the dtype;
            an earlier copy converted rows to a narrower dtype; or `new` exists and is not an unfinished copy of the
            store with the same options.
        ChecksumError: Rows are damaged; `verify` says which. Sequences that were copied stay.
        StoreError: The disk refused, or another process writes to the new store.
        BuildError: Worker processes died repeatedly, or another process changed the new store meanwhile.
    """
    place = store_place(new)
    old, existing = _open_both(place_of(store), place)
    packing, dtypes = Packing.parse(chunk, shard, codec), target_dtypes(old.schema, dtype, label_dtype)
    asked_order = None if order is None else parse_order(order)
    new_order = asked_order or "store" if existing is None else order_of(existing)
    if new_order != "store":
        old = old.view(sort_sequences(new_order, old.sources, old.parts, old.lengths))
    old_records = OldRecords(old)
    why: str | None = None
    if existing is not None:
        schema = existing.schema
        done = count_copied(existing, old, old_records, packing=packing, dtypes=dtypes, order=asked_order)
    else:
        schema, done = _schema(old.schema, packing, dtypes), 0
        if packing.measure:
            codec_chosen, why = _choose_codec(old, schema)
            schema = replace(schema, codec=codec_chosen)
    changed = conversions(old.schema, schema)
    check_narrowing(earlier_conversions(old), changed)
    sizes = _row_bytes(old)
    tally = Tally(sources=len(set(old.sources[done:])), bytes_to_read=int(sizes[done:].sum()), committed=done)
    on_progress(tally)
    count = worker_count(workers, small=scheduler is None and tally.bytes_to_read <= SMALL_BYTES)
    provenance = copy_provenance(old, new_order, changed)
    with (
        start_engine(count, scheduler, [store, place]) as engine,
        open_ledger(place, existing, schema, provenance) as ledger,
    ):
        ledger.extend_classes(old.schema.labels.classes)  # if the old store has grown since the copy was begun
        ledger.provenance = provenance
        memory = memory_in_flight(ledger.schema, BATCH_BYTES, engine.workers)
        steps = RunSteps(process=copy, before_commit=partial(_before_commit, old, old_records))
        has_same_tables = not changed and new_order == "store"
        batches = _batches(old, done, sizes, None if has_same_tables else old_records)
        Run(engine, ledger, batches, tally, memory=memory, on_progress=on_progress, steps=steps).finish()
    return Compacted(
        store=place,
        sequences=tally.committed,
        copied=tally.sequences,
        retired=old.counts.sequences - len(old),
        steps=tally.steps,
        bytes_decoded=tally.bytes_decoded,
        bytes_written=tally.bytes_written,
        seconds=tally.seconds,
        codec=why,
    )


def _open_both(store: StorePlace, new: StorePlace) -> tuple[store_spec.Store, store_spec.Store | None]:
    """Return the store to copy, and the unfinished copy, if there is one."""
    old, existing = open_if_exists(store), open_if_exists(new)
    if old is None:
        raise UsageError(f"{store}: there is no store")
    local = isinstance(store, Path) and isinstance(new, Path)
    if existing is not None and (os.path.samefile(store, new) if local else store == new):
        raise UsageError(f"{new}: STORE and NEW are the same folder, also known as {store}; give NEW another path")
    if not len(old):
        raise UsageError(f"{store}: has no sequence that is not retired, so there is nothing to copy")
    return old, existing


def _choose_codec(old: store_spec.Store, schema: Schema) -> tuple[Codec, str]:
    """Choose the codec by the first rows of the old store; return it, and the reason."""
    rows: dict[str, list[NDArray[Any]]] = {}
    for name in ARRAYS:
        if not schema.is_sharded(name):
            continue
        most = SAMPLE_BYTES // schema.rows(name).nbytes or 1
        starts, lengths = old.places(name)
        few = slice(int(np.searchsorted(np.cumsum(lengths), most)) + 1)
        first = read_ranges(old.snapshot, name, starts[few], starts[few] + np.minimum(lengths[few], most))
        origin = SourceId(name=old.path.name)
        rows[name] = [convert_for_copy(one, schema.rows(name).dtype, name, origin) for one in first]
    old.snapshot.check_not_replaced()
    return choose_by_sizes(*compressed_sizes(rows, schema))


def _before_commit(old: store_spec.Store, old_records: OldRecords, ledger: Ledger) -> None:
    """Check that all rows to commit are of the old store, not of one that replaced it; record what was copied."""
    old.snapshot.check_not_replaced()
    note_copied(ledger, old_records)


def _schema(old: Schema, packing: Packing, dtypes: Mapping[str, DType]) -> Schema:
    """Return the schema of a copy. If the chunk sizes of the old store are the default, they are chosen anew."""
    inputs, labels = (replace(old.rows(name), dtype=dtypes.get(name, old.rows(name).dtype)) for name in ARRAYS)
    usual = packing.plan(old.inputs, old.labels, old)
    is_usual = (old.steps, old.label_steps) == (usual.steps, usual.label_steps)
    if packing.chunk is None and packing.shard is None and not is_usual:
        return replace(old, inputs=inputs, labels=labels, codec=packing.codec or old.codec)
    return packing.plan(inputs, labels, old)


def _row_bytes(store: store_spec.Store) -> NDArray[np.int64]:
    """Return the decoded bytes of each sequence."""
    each = (store.places(name)[1] * store.schema.rows(name).nbytes for name in store.schema.row_arrays)
    # A hostile root may claim more sequences than fit into memory; the selection has those in the tables.
    return sum(each, np.zeros(len(store.selection), np.int64))


def _batches(
    store: store_spec.Store, done: int, sizes: NDArray[np.int64], old_records: OldRecords | None
) -> Iterator[tuple[Copy, int]]:
    """Yield batches of whole sources, of about BATCH_BYTES, each with its decoded bytes."""
    snapshot, firsts = store.snapshot.slim(), np.flatnonzero(store.parts == 0)
    bounds = np.unique([done, *firsts[firsts > done], len(store)])  # where each source begins, and the last one ends
    before = np.concatenate(([0], np.cumsum(sizes)))[bounds]  # bytes before each source
    at = 0
    while at < len(bounds) - 1:
        last = max(at + 1, int(np.searchsorted(before, before[at] + BATCH_BYTES, "right")) - 1)
        start, stop = bounds[[at, last]].tolist()
        places = {name: [each[start:stop] for each in store.places(name)] for name in store.schema.row_arrays}
        work = Copy(
            snapshot=snapshot,
            numbers=store.selection[start:stop],
            names=tuple(dict.fromkeys(store.sources[start:stop])),
            starts={name: first for name, (first, _) in places.items()},
            stops={name: first + lengths for name, (first, lengths) in places.items()},
            records=None if old_records is None else old_records.records[start:stop],
        )
        yield work, int(before[last] - before[at])
        at = last
