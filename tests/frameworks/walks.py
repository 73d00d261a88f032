"""The store that the tests of frameworks read, and its batches without any framework."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

import store_spec

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
    rows, chunk = (dtype, (3,)), 24 * np.dtype(dtype).itemsize
    with store_spec.create_store(path, inputs=rows, labels=rows, chunk=chunk, shard=4 * chunk) as writer:
        for number, length in enumerate(LENGTHS):
            steps = (10 * rng.normal(size=(length, 3))).astype(dtype)
            writer.append(steps, steps[::-1], source=f"s{number}")
    return store_spec.open_store(path)


def make_gaps(path: Path) -> store_spec.Store:
    """Write sequences with missing values, in a store with missing values and a mask of filled ones."""
    rng = np.random.default_rng(1)
    rows = ("float32", (3,))
    with store_spec.create_store(
        path, inputs=rows, labels=rows, missing="keep", filled=True, chunk=96, shard=384
    ) as writer:
        for number, length in enumerate(LENGTHS):
            steps = rng.normal(size=(length, 3)).astype("float32")
            steps[rng.random(steps.shape) < 0.05] = np.nan
            writer.append(steps, steps[::-1], source=f"s{number}", filled=rng.random(steps.shape) < 0.1)
    return store_spec.open_store(path)


def same(found: Any, wanted: Any) -> bool:
    """Return whether batches are equal bit for bit, with their dtypes and number; `found` may be of any framework."""
    return [_keys(batch) for batch in found] == [_keys(batch) for batch in wanted]


def _keys(batch: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    arrays = [np.asarray(array) for array in batch]
    return [(array.dtype.name, array.shape, array.tobytes()) for array in arrays]
