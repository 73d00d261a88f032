"""The store that the tests of frameworks read, and its batches without any framework."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import store_spec
from tests.store.oracle import store_of

LENGTHS = (7, 0, 3, 12, 5, 30, 40)
WINDOW, HORIZON = 4, 2
OPTIONS: list[dict[str, Any]] = [  # of batches
    {},
    {"shuffle": True, "seed": 3, "epoch": 2},
    {"shuffle": True, "weights": [1, 1, 2, 3, 0, 5, 6]},
    {"shuffle": True, "rank": 1, "world_size": 3, "drop_last": True, "index": True, "memory": "40kB"},
]


def make_walks(path: Path, *, dtype: DTypeLike = "float32") -> store_spec.Store:
    """Write sequences of 3 features and as many targets, in chunks of 8 steps."""
    rng = np.random.default_rng(0)
    rows = [(10 * rng.normal(size=(length, 3))).astype(dtype) for length in LENGTHS]
    chunk = 24 * np.dtype(dtype).itemsize
    return store_of(path, rows, [steps[::-1] for steps in rows], chunk=chunk, shard=4 * chunk)


def same(found: Any, wanted: Any) -> bool:
    """Return whether batches are equal bit for bit, with their dtypes and number; `found` may be of any framework."""
    return [_keys(batch) for batch in found] == [_keys(batch) for batch in wanted]


def _keys(batch: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    arrays = [np.asarray(array) for array in batch]
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]
