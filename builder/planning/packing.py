"""The options for chunks, shards and codec of a new store; for an old store they must agree with its own.

`--codec auto` chooses a codec for a new store by the compressed sizes of some rows.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import UsageError
from builder.workers.batch import process_batch
from builder.workers.process_source import SourceBatch
from builder.workers.row_blocks import Space
from store_spec import Chunking, Codec, Rows, Schema, SchemaError, parse_bytes
from store_spec.building import StorePlace

AUTO = "auto"
SAMPLE_BYTES = 2**24
SAMPLE_SOURCES = 256  # at most
CANDIDATES = (Codec("none"), Codec("lz4"), Codec("zstd"))
# Only sizes decide, not times, so that the same sources give the same store on every machine. Reading zstd takes two to
# three times as long as lz4; reading uncompressed rows takes hardly any time.
LEAST_SAVED = 0.05  # a codec must save this share of the uncompressed size
LEAST_SAVED_MORE = 0.3  # zstd must save this share of the size with lz4


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """The options of chunks, shards and codec. None means the default in a new store, and any value in an old one."""

    chunk: int | None = None  # decoded bytes that are compressed together
    shard: int | None = None  # decoded bytes in one file
    codec: Codec | None = None
    measure: bool = False  # whether to choose the codec of a new store by its first rows

    def __post_init__(self) -> None:
        Chunking.for_rows(1, **self.sizes)

    @classmethod
    def parse(cls, chunk: int | str | None, shard: int | str | None, codec: str | None) -> Self:
        """Parse sizes such as `"1MB"`, and a codec such as `"zstd:5"` or `"auto"`; invalid text is a SchemaError."""
        given = None if codec == AUTO else codec
        if given is not None and given.partition(":")[0] not in Codec.NAMES:
            known = ", ".join(Codec.NAMES)
            raise SchemaError(
                f"codec {given!r:.80} is not known; use one of {known}, {AUTO}, or with a level as 'zstd:5'"
            )
        return cls(
            chunk=None if chunk is None else parse_bytes(chunk),
            shard=None if shard is None else parse_bytes(shard),
            codec=None if given is None else Codec.parse(given),
            measure=codec == AUTO,
        )

    @property
    def sizes(self) -> dict[str, int | None]:
        """The decoded bytes of a chunk and of a shard of a new store, as arguments; None for the default."""
        return {"chunk_bytes": self.chunk, "shard_bytes": self.shard}

    def plan(self, inputs: Rows, labels: Rows, like: Schema) -> Schema:
        """Return a schema for these rows with these chunks, shards and codec, and otherwise like another schema."""
        kept = {name: getattr(like, name) for name in ("label_axis", "missing", "columns", "time", "filled")}
        return Schema.plan(inputs, labels, codec=self.codec or like.codec, **kept, **self.sizes)

    def check(self, schema: Schema, store: StorePlace) -> None:
        """Refuse options that differ from those of a store; the message names both values."""
        row_bytes, steps = schema.step_bytes, schema.steps
        chunk, shard = steps.chunk, steps.shard
        if self.chunk is not None:
            chunk = Chunking.for_rows(row_bytes, **self.sizes).chunk
        if self.shard is not None:
            least = steps.chunk * max(1, row_bytes)
            shard = Chunking.for_rows(row_bytes, chunk_bytes=least, shard_bytes=max(least, self.shard)).shard
        for before, now in (
            (f"chunks of {steps.chunk:,} steps", f"chunks of {chunk:,} steps"),
            (f"shards of {steps.shard:,} steps", f"shards of {shard:,} steps"),
            (f"codec {schema.codec}", f"codec {self.codec or schema.codec}"),
        ):
            if before != now:
                raise UsageError(
                    f"{store}: has {before}, but the option is now {now}; leave it out, or build to another path"
                )


def choose_by_sizes(sizes: Mapping[str, int], nbytes: int) -> tuple[Codec, str]:
    """Choose by the compressed size of some rows with each candidate; return the codec, and the reason as text.

    `nbytes` is the decoded size of the rows.

    >>> choose_by_sizes({"none": 1000, "lz4": 600, "zstd": 500}, 1000)[1]
    'codec lz4:9, as it is read fastest: the first rows take 100% uncompressed, 60% with lz4, 50% with zstd'
    """
    codec, why = Codec("lz4"), "it is read fastest"
    if not nbytes:
        return codec, f"codec {codec}: there are no rows to measure"
    if min(sizes.values()) > (1 - LEAST_SAVED) * sizes["none"]:
        codec, why = Codec("none"), f"compression saves less than {LEAST_SAVED:.0%}"
    elif sizes["zstd"] <= (1 - LEAST_SAVED_MORE) * sizes["lz4"]:
        codec, why = Codec("zstd"), f"it saves {LEAST_SAVED_MORE:.0%} or more beyond lz4, which is read faster"
    names = {"none": "uncompressed"}
    shares = ", ".join(f"{size / nbytes:.0%} {names.get(name, f'with {name}')}" for name, size in sizes.items())
    return codec, f"codec {codec}, as {why}: the first rows take {shares}"


def choose_by_sources(batch: SourceBatch, schema: Schema) -> tuple[Codec, str]:
    """Choose by the first SAMPLE_BYTES of the usable sources of a batch."""
    rows: dict[str, list[NDArray[Any]]] = {}
    for number in range(len(batch)):
        processed = process_batch(batch.take([number]), schema, Space(memory=SAMPLE_BYTES))
        batch = batch.with_classes(processed.summary.classes)
        present = {name: blocks for name, blocks in processed.rows.items() if blocks.rows}  # there may be no labels
        for name, blocks in present.items():
            rows.setdefault(name, []).extend(map(np.asarray, blocks.between(0, blocks.rows)))
        if sum(block.nbytes for blocks in rows.values() for block in blocks) >= SAMPLE_BYTES:
            break
    return choose_by_sizes(*compressed_sizes(rows, schema))


def compressed_sizes(rows: Mapping[str, Sequence[NDArray[Any]]], schema: Schema) -> tuple[dict[str, int], int]:
    """Return the size of the first rows of some arrays with each candidate, in the schema's chunks, and decoded."""
    sizes, nbytes = dict.fromkeys((codec.name for codec in CANDIDATES), 0), 0
    with ThreadPoolExecutor(1) as pool:  # not in the main thread: see Codec.encode
        for name, blocks in rows.items():
            chunking = schema.chunking(name)
            sample = np.concatenate(blocks)[: SAMPLE_BYTES // schema.rows(name).nbytes or 1]
            for start in range(0, len(sample), chunking.chunk):
                piece = sample[start : start + chunking.chunk]
                nbytes += piece.nbytes
                for codec in CANDIDATES:
                    sizes[codec.name] += len(pool.submit(codec.encode, piece).result())
    return sizes, nbytes
