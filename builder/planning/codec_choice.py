"""`--codec auto`: choose a codec for a new store by the compressed sizes of some rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.workers.batch import process_batch
from builder.workers.process_source import SourceBatch
from builder.workers.row_blocks import Space
from store_spec import Codec, Schema

SAMPLE_BYTES = 2**24
SAMPLE_SOURCES = 256  # at most
CANDIDATES = (Codec("none"), Codec("lz4"), Codec("zstd"))
# Only sizes decide, not times, so that the same sources give the same store on every machine. Reading zstd takes two to
# three times as long as lz4; reading uncompressed rows takes hardly any time.
LEAST_SAVED = 0.05  # a codec must save this share of the uncompressed size
LEAST_SAVED_MORE = 0.3  # zstd must save this share of the size with lz4


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The chosen codec, and how the candidates compare."""

    codec: Codec
    shares: Mapping[str, float]  # the compressed size with each candidate, as a share of the decoded size
    nbytes: int  # decoded bytes of the rows that were compressed

    def __str__(self) -> str:
        """Return the choice and the reason for it."""
        if not self.nbytes:
            return f"codec {self.codec}: there are no rows to measure"
        names = {"none": "uncompressed"}
        sizes = ", ".join(f"{share:.0%} {names.get(name, f'with {name}')}" for name, share in self.shares.items())
        why = {
            "none": f"compression saves less than {LEAST_SAVED:.0%}",
            "lz4": "it is read fastest",
            "zstd": f"it saves {LEAST_SAVED_MORE:.0%} or more beyond lz4, which is read faster",
        }
        return f"codec {self.codec}, as {why[self.codec.name]}: the first rows take {sizes}"


def choose_by_sizes(sizes: Mapping[str, int], nbytes: int) -> Choice:
    """Choose by the compressed size of some rows with each candidate; `nbytes` is their decoded size.

    >>> str(choose_by_sizes({"none": 1000, "lz4": 600, "zstd": 500}, 1000))
    'codec lz4:9, as it is read fastest: the first rows take 100% uncompressed, 60% with lz4, 50% with zstd'
    """
    codec = Codec("lz4")
    if nbytes and min(sizes.values()) > (1 - LEAST_SAVED) * sizes["none"]:
        codec = Codec("none")
    elif nbytes and sizes["zstd"] <= (1 - LEAST_SAVED_MORE) * sizes["lz4"]:
        codec = Codec("zstd")
    return Choice(codec=codec, shares={name: size / max(1, nbytes) for name, size in sizes.items()}, nbytes=nbytes)


def choose_by_sources(batch: SourceBatch, schema: Schema) -> Choice:
    """Choose by the first SAMPLE_BYTES of the usable sources of a batch."""
    rows: dict[str, list[NDArray[Any]]] = {}
    for number in range(len(batch)):
        processed = process_batch(batch.only(number), schema, Space(memory=SAMPLE_BYTES))
        batch = batch.with_classes(processed.summary.classes)
        for name, blocks in processed.rows.items():
            rows.setdefault(name, []).extend(map(np.asarray, blocks.between(0, blocks.rows)))
        if sum(block.nbytes for blocks in rows.values() for block in blocks) >= SAMPLE_BYTES:
            break
    return choose_by_rows(rows, schema)


def choose_by_rows(rows: Mapping[str, Sequence[NDArray[Any]]], schema: Schema) -> Choice:
    """Choose by the first rows of some arrays, compressed in chunks of the schema's size."""
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
    return choose_by_sizes(sizes, nbytes)
