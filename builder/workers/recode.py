"""The labels of a batch with the codes that the store has for their classes, and what the tables record about them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.labels.class_codes import Recoding, recode_labels
from builder.workers.batch import Processed
from builder.workers.row_blocks import Spilled
from store_spec import Rows, Schema
from store_spec.building import Records, RunningRows

READ_BYTES = 2**24  # of rows in a file that are in memory at a time


def recode(processed: Processed, recoding: Recoding, schema: Schema) -> Processed:
    """Return a batch with other codes of classes. Rows in files stay as they are: they are recoded when they are read.

    Args:
        processed: The batch.
        recoding: What its codes become.
        schema: Of the store.
    """
    records, rows = processed.records, processed.rows
    columns = dict(records.columns)
    if schema.label_axis == "sequence":
        columns["labels"] = recode_labels(columns["labels"], recoding)
        blocks: list[NDArray[Any] | Spilled] = [columns["labels"]]
        lengths = np.ones(len(records), np.int64)
    else:
        rows = {**rows, "labels": rows["labels"].recoded(partial(recode_labels, recoding=recoding))}
        blocks = rows["labels"].blocks
        lengths = records.label_lengths if schema.label_axis == "own" else records.lengths
    columns |= described(_in_memory(blocks), lengths.tolist(), schema.labels)
    return replace(processed, records=replace(records, columns=columns), rows=rows)


def records_of(processed: Processed) -> Records:
    """Return what the tables record about a batch."""
    return processed.records


def described(blocks: Iterator[NDArray[Any]], lengths: Iterable[int], of: Rows) -> dict[str, NDArray[Any]]:
    """Return what the tables record about labels of consecutive sequences.

    Args:
        blocks: The rows, in parts that may begin and end anywhere.
        lengths: The rows of each sequence; there is at least one.
        of: One row.
    """
    facts, block = [], of.empty(0)
    for length in lengths:
        running = RunningRows("labels", of)
        while running.length < length:
            block = block if len(block) else next(blocks)
            piece, block = np.split(block, [length - running.length])
            running.add(piece)
        facts.append(running.result().columns("labels"))
    return {name: np.concatenate([one[name] for one in facts]) for name in facts[0]}


def _in_memory(blocks: Iterable[NDArray[Any] | Spilled]) -> Iterator[NDArray[Any]]:
    for block in blocks:
        step = max(1, READ_BYTES // block[:1].nbytes) if len(block) else 1
        yield from (np.asarray(block[start : start + step]) for start in range(0, len(block), step))
