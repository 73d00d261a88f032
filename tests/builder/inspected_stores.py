"""Stores to inspect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from store_spec import Rows, create_store, open_store
from store_spec.disk.ledger import Ledger
from store_spec.format.records import Records, SourceId, check_sequence, describe
from store_spec.format.sequence_columns import ColumnType, as_columns
from store_spec.schema import Schema

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
    """Make a store of 500 features."""
    random = np.random.default_rng(1)
    with create_store(path, inputs=("float64", (500,)), labels=("float32", (1,))) as writer:
        for number in range(20):
            rows = random.normal(size=(60, 500)) * np.arange(1, 501)
            writer.append(rows, rows[:, :1].astype(np.float32), source=f"s{number}")
    return path


SHORT_COLUMNS: dict[str, ColumnType] = {"site": "string", "age": "float64"}


def short_sequence(number: int) -> tuple[np.ndarray, np.ndarray, dict[str, object]]:
    """Return inputs, labels and further columns of one sequence; they repeat after 15 sequences."""
    steps = number % 5
    rows = np.arange(2 * steps, dtype=np.float32).reshape(steps, 2)
    rows[1::2, 1] = np.nan
    return rows, np.array(number % 3, np.int8), {"site": f"site-{number % 3}", "age": float(number % 5)}


def short_sequences(path: Path, count: int) -> Path:
    """Make a store of very many short sequences, faster than by appending them one by one.

    Only the different ones are described, and the tables get their rows many times.
    """
    schema = Schema.plan(
        Rows(np.dtype("float32"), (2,)),
        Rows(np.dtype("int8"), ()),
        label_axis="sequence",
        missing="keep",
        columns=as_columns(SHORT_COLUMNS),
    )
    rows, described = [], []
    for number in range(15):
        inputs, labels, columns = short_sequence(number)
        source = SourceId(name=f"s{number}")
        checked = check_sequence(schema, inputs, labels, source, columns=columns)
        rows.append(checked.rows["inputs"])
        described.append(describe(schema, checked, source))
    times = -(-count // 15)
    records = Records.concatenate([Records.concatenate(described)] * times)[:count]
    every = np.concatenate(rows * times)
    with Ledger.create(path, schema) as ledger:
        ledger.register(replace(records, sources=tuple(f"s{number}" for number in range(count))))
        for job in ledger.jobs(final=True):
            job.write([every[job.start : job.stop]])
            ledger.mark_done(job)
        ledger.commit()
    return path
