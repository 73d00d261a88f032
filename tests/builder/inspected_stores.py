"""Stores to inspect."""

from pathlib import Path

import numpy as np

from store_spec import Rows, create_store, open_store
from tests.store.oracle import store_of

HOSTILE = (
    "<script>alert(1)</script>",
    "\"'><img src=https://example.org/x onerror=alert(1)>",
    "{{ 7 * 6 }} {% raw %} &amp;",
    "turned \u202e round \x1b[2J",
)
SECTIONS = (
    *("overview", "lengths", "features", "labels", "sequences"),
    *("splits", "failures", "arrays", "shuffle", "build"),
)


def hostile_store(path: Path) -> Path:
    """Make a store in which each name is an attack; it has missing values, runs, classes and retired sequences."""
    random = np.random.default_rng(0)
    with create_store(
        path,
        inputs=Rows(np.dtype("float32"), (5,), (*HOSTILE, "long " * 60)),
        labels=Rows(np.dtype("int8"), (1,), (HOSTILE[0],)),
        missing="keep",
        chunk="4kB",
        shard="64kB",
        provenance={
            "build": {"process": {"function": HOSTILE[0]}, "label_axis": HOSTILE[1]},
            "failures": {"count": 2, "listed": [{"source": HOSTILE[0], "reason": f"{HOSTILE[1]}: broken"}]},
        },
    ) as writer:
        for number in range(30):
            steps = int(random.integers(0, 400))
            rows = random.normal(size=(steps, 5)).cumsum(axis=0).astype(np.float32)
            rows[:, 1] = 7
            rows[random.random(steps) < 0.2, 2] = np.nan
            rows[steps // 3 : steps // 2, 3] = 1.5
            labels = (np.arange(steps) // 50 % 3).astype(np.int8)[:, None]
            writer.append(rows, labels, source=f"{HOSTILE[number % 4]}/{number}")
    with open_store(path, "a") as writer:
        writer.retire(f"{HOSTILE[0]}/4")
    return path


def wide_store(path: Path) -> Path:
    random = np.random.default_rng(1)
    rows = [random.normal(size=(60, 500)) * np.arange(1, 501) for _ in range(20)]
    store_of(path, rows, [each[:, :1].astype(np.float32) for each in rows])
    return path
