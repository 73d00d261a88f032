"""`compact`: write a store again without what is retired, or packed in another way; in parallel, as a build."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.batch import Processed, RowBlocks
from builder.build import BATCH_BYTES, memory_in_flight, worker_count
from builder.engine import start_engine
from builder.errors import UsageError
from builder.fingerprints import Seen
from builder.packing import Packing
from builder.reading import opened
from builder.recorded import of_some
from builder.run import Run, Tally
from store_spec.codec import crc32c
from store_spec.ledger import Ledger
from store_spec.records import RECORDED, Records
from store_spec.schema import Schema
from store_spec.snapshot import Snapshot
from store_spec.spans import read_spans

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


def compact(
    store: str | PathLike[str],
    new: str | PathLike[str],
    *,
    chunk: int | str | None = None,
    shard: int | str | None = None,
    codec: str | None = None,
    workers: int | None = None,
    scheduler: Any = None,
    on_progress: Callable[[Tally], None] = lambda _: None,
) -> Compacted:
    """Write the sequences of a store that are not retired to a new one, in their order; the old one stays as it is.

    Rows, checksums, statistics and what is recorded of the build are the same; every sequence is held against its
    checksum. The new store depends on the old one and the options alone. Cut off, the same call goes on.

    Args:
        store: The store.
        new: Where the new one will be, or is, in part.
        chunk: Decoded bytes that are compressed together, as `"1MB"`. Without it and `shard` both are as in the old
            store; without one of the two, that one is as in a store that `build` makes.
        shard: Decoded bytes in one file.
        codec: `zstd`, `lz4`, with a level as in `zstd:5`, or `none`; by default as in the old store.
        workers: Processes on this machine; 0: work in this process. By default one a core, or none for a small store.
        scheduler: The address of a dask scheduler, or a dask client, to use instead.
        on_progress: Called with a `Tally` whenever something was done.

    Raises:
        UsageError: There is no such store, or nothing in it; or at `new` is something else than a part of its copy.
        ChecksumError: Rows are not those that were written; `verify` says which. What was copied stays.
        StoreError: The disk refused, or another writer is there.
        BuildError: Worker processes died again and again.
    """
    place = Path(new)
    old, part = opened(Path(store)), opened(place)
    if old is None:
        raise UsageError(f"{store}: there is no store")
    if not len(old):
        raise UsageError(f"{store}: has no sequence that is not retired, so there is nothing to copy")
    packing = Packing.parse(chunk, shard, codec)
    schema = _schema(old.schema, packing)
    done = 0 if part is None else _copied_before(old, part, packing)
    sizes = _row_bytes(old)
    sources = len(set(old.sources[done:]))
    tally = Tally(sources=sources, bytes_to_read=int(sizes[done:].sum()), committed=done)
    on_progress(tally)
    small = scheduler is None and tally.bytes_to_read <= SMALL_BYTES
    count = worker_count(workers, small=small)
    if done < len(old):
        with start_engine(count, scheduler) as engine, _ledger(old, place, schema, exists=part is not None) as ledger:
            memory = memory_in_flight(ledger.schema, BATCH_BYTES, max(1, count))
            work = _dealt(old, done, sizes)
            run = Run(engine, ledger, work, tally, memory=memory, on_progress=on_progress, process=copy)
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
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Copy:
    """Some sequences of a store, of whole sources.

    Args:
        snapshot: The store.
        numbers: Int64 (sequences,), rising.
        names: Of their sources, each once.
        starts: Int64 (sequences,) for each array: the row at which each begins.
        stops: The one after its last.
    """

    snapshot: Snapshot
    numbers: NDArray[np.int64]
    names: tuple[str, ...]
    starts: dict[str, NDArray[np.int64]]
    stops: dict[str, NDArray[np.int64]]


def copy(work: Copy, schema: Schema) -> Processed:
    """Read sequences, and hold each against its checksum.

    Raises:
        ChecksumError: One of them has other rows.
    """
    first, last = int(work.numbers[0]), int(work.numbers[-1]) + 1

    def column(name: str) -> NDArray[Any]:
        return work.snapshot.table(name, first, last)[work.numbers - first]

    wanted = [fact.name for fact in schema.arrays() if fact.name in RECORDED]
    columns = {name: column(name) for name in [*wanted, *(["labels"] if schema.label_axis == "sequence" else [])]}
    rows = {name: RowBlocks() for name in ("inputs", "labels") if schema.chunking(name) is not None}
    for name in ("inputs", "labels"):
        read = read_spans(work.snapshot, name, work.starts[name], work.stops[name])
        for number, checksum, one in zip(
            work.numbers.tolist(), columns[f"sequences/{name}_crc32c"].tolist(), read, strict=True
        ):
            if crc32c(one) != checksum:
                work.snapshot.check(name, number, one)
            if name in rows:
                rows[name].add(one)
        if name in rows:
            rows[name].close()
    lengths = {name: work.stops[name] - work.starts[name] for name in work.starts}
    own = lengths["labels"] if schema.label_axis == "own" else np.zeros_like(lengths["inputs"])
    records = Records(tuple(map(str, column("sequences/source"))), lengths["inputs"], own, columns)
    return Processed(records, rows, [], Seen.of({}), sum(one.nbytes for one in rows.values()))


def _schema(old: Schema, packing: Packing) -> Schema:
    codec = packing.codec or old.codec
    if packing.chunk is None and packing.shard is None:
        return replace(old, codec=codec)
    return replace(packing, codec=codec).schema(old.inputs, old.labels, old.label_axis, old.missing)


def _copied_before(old: store_spec.Store, part: store_spec.Store, packing: Packing) -> int:
    """Return how many sequences an earlier call copied.

    Raises:
        UsageError: What is there is no copy of the first ones, or packed in another way than is asked for now.
    """
    packing.check(part.schema, part.path)
    done = part.counts.sequences
    same = (part.schema.inputs, part.schema.labels) == (old.schema.inputs, old.schema.labels)
    if same and done <= len(old) and done == len(part):
        for name in ("source", "part", "inputs_crc32c", "labels_crc32c"):
            first = old.snapshot.table(f"sequences/{name}")[old.selection[:done]]
            same = same and np.array_equal(part.snapshot.table(f"sequences/{name}"), first)
        if same:
            return done
    raise UsageError(
        f"{part.path}: is another store, and no copy of the first sequences of {old.path}; give another path"
    )


def _row_bytes(store: store_spec.Store) -> NDArray[np.int64]:
    """Return the decoded bytes of each sequence."""
    inputs, labels = store.schema.inputs.nbytes, store.schema.labels.nbytes
    return store.lengths * inputs + store.label_lengths * labels


def _dealt(store: store_spec.Store, done: int, sizes: NDArray[np.int64]) -> Iterator[tuple[Copy, int]]:
    """Deal sequences into batches of about the usual size, of whole sources; each with its decoded bytes."""
    snapshot = store.snapshot.slim()
    begins = np.flatnonzero(store.parts[done:] == 0) + done
    bounds = np.append(begins, len(store)).tolist()
    first, size = done, 0
    for begin, end in pairwise(bounds):
        more = int(sizes[begin:end].sum())
        if begin > first and size + more > BATCH_BYTES:
            yield _copy(store, snapshot, first, begin), size
            first, size = begin, 0
        size += more
    if first < len(store):
        yield _copy(store, snapshot, first, len(store)), size


def _copy(store: store_spec.Store, snapshot: Snapshot, first: int, last: int) -> Copy:
    starts = {"inputs": store.starts[first:last], "labels": store.label_starts[first:last]}
    lengths = {"inputs": store.lengths[first:last], "labels": store.label_lengths[first:last]}
    return Copy(
        snapshot=snapshot,
        numbers=store.selection[first:last],
        names=tuple(dict.fromkeys(store.sources[first:last])),
        starts=starts,
        stops={name: starts[name] + lengths[name] for name in starts},
    )


@contextmanager
def _ledger(old: store_spec.Store, new: Path, schema: Schema, *, exists: bool) -> Iterator[Ledger]:
    if exists:
        with Ledger.open(new) as ledger:
            yield ledger
        return
    with Ledger.create(new, schema, of_some(old.provenance, old.selection)) as ledger:
        yield ledger
