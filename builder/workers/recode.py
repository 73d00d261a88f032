"""Replace the class codes in the labels of a batch by those of the store, and describe the labels again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.labels.class_codes import Recoding, recode_labels
from builder.workers.batch import ProcessedBatch
from builder.workers.row_blocks import SpilledRows
from store_spec import Rows, Schema
from store_spec.building import RunningRows

READ_BYTES = 2**24  # of rows in a file that are in memory at a time


def recode(processed: ProcessedBatch, recoding: Recoding, schema: Schema) -> ProcessedBatch:
    """Return a batch with other class codes. Rows in files are recoded when they are read."""
    records, rows = processed.summary.records, processed.rows
    columns = dict(records.columns)
    if schema.label_axis == "sequence":
        columns["labels"] = recode_labels(columns["labels"], recoding)
        blocks: list[NDArray[Any] | SpilledRows] = [columns["labels"]]
        lengths = np.ones(len(records), np.int64)
    else:
        rows = {**rows, "labels": rows["labels"].recoded(partial(recode_labels, recoding=recoding))}
        blocks = rows["labels"].blocks
        lengths = records.label_lengths if schema.label_axis == "own" else records.lengths
    columns |= describe_labels(_in_memory(blocks), lengths.tolist(), schema.labels)
    return ProcessedBatch(replace(processed.summary, records=replace(records, columns=columns)), rows)


def describe_labels(blocks: Iterator[NDArray[Any]], lengths: Iterable[int], labels: Rows) -> dict[str, NDArray[Any]]:
    """Return the table columns about the labels of consecutive sequences.

    Args:
        blocks: The rows, in blocks that may begin and end anywhere.
        lengths: The number of rows of each sequence; at least one sequence.
        labels: The description of a row.
    """
    facts, block = [], labels.empty(0)
    for length in lengths:
        running = RunningRows("labels", labels)
        while running.length < length:
            block = block if len(block) else next(blocks)
            piece, block = np.split(block, [length - running.length])
            running.add(piece)
        facts.append(running.result().columns("labels"))
    return {name: np.concatenate([one[name] for one in facts]) for name in facts[0]}


def _in_memory(blocks: Iterable[NDArray[Any] | SpilledRows]) -> Iterator[NDArray[Any]]:
    for block in blocks:
        step = max(1, READ_BYTES // block[:1].nbytes) if len(block) else 1
        yield from (np.asarray(block[start : start + step]) for start in range(0, len(block), step))
