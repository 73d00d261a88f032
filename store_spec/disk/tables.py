"""Chunks of the arrays that do not lie in shards, as they are written."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.storage import LocalStorage
from store_spec.format.layout import chunk_key, table_chunk
from store_spec.format.text import encode_text
from store_spec.schema import ArrayFact, Schema


def put_rows(storage: LocalStorage, schema: Schema, fact: ArrayFact, first: int, rows: NDArray[Any]) -> None:
    """Put the chunks of a table that begin with row `first`, which begins one; the last may not be full."""
    size = table_chunk(schema, fact)
    if first % size:
        raise ValueError(f"{fact.name}: row {first:,} does not begin a chunk of {size:,}")
    with ThreadPoolExecutor(1) as pool:  # never in the main thread: see Codec.encode
        for start in range(0, len(rows), size):
            chunk = _padded(rows[start : start + size], size)
            stored = pool.submit(schema.codec_of(fact).encode, chunk).result()
            storage.put(chunk_key(fact.name, (first + start) // size, rows.ndim), [stored])


def _padded(rows: NDArray[Any], size: int) -> NDArray[Any]:
    """Return a whole chunk: zeros, or empty strings, after the last row."""
    if rows.dtype == object:
        return np.frombuffer(encode_text(list(rows), size), np.uint8)
    if len(rows) == size:
        return np.ascontiguousarray(rows)
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])
