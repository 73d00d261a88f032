"""The rows of a store in parts that can be checked each on its own, in any process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.format import retired
from store_spec.format.layout import rows_in_file
from store_spec.format.missing_runs import Runs
from store_spec.format.retired import Ranges
from store_spec.verification.problems import ProblemList

PART_BYTES = 2**26  # decoded: so much that the chunks at both ends, which two parts decode, hardly count
PART_SEQUENCES = 2**14

Bounds = NDArray[np.int64]  # offsets or label offsets that can be used


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Part:
    """Some rows of `inputs`, `labels` or `time`, and the whole sequences that they are.

    Args:
        array: Whose rows these are.
        start: The first row.
        stop: The one after the last.
        files: Numbers of the files (shards, or chunks of a table) that hold them and are there, rising.
        first: Number of the first sequence.
        bounds: Int64 (sequences + 1,): where each begins, and the last one ends; None where nobody knows.
        nbytes: Decoded bytes of the rows.
        missing: Int64 (runs, 2): which of them miss a value, as the store says; None where it does not say, or nobody
            knows.
    """

    array: str
    start: int
    stop: int
    files: tuple[int, ...]
    first: int
    bounds: Bounds | None
    nbytes: int
    missing: Runs | None = None


@dataclass(slots=True)
class Checked:
    """What a part gave: its problems, and the chunks of tables that were read for it."""

    report: ProblemList
    seen: dict[str, set[int]] = field(default_factory=dict)


def cut(
    snapshot: Snapshot, array: str, bounds: Bounds | None, present: set[int], missing: Runs | None = None
) -> Iterator[Part]:
    """Cut an array into parts that can be checked each on its own; they depend on the store alone.

    Args:
        snapshot: The store.
        array: `inputs`, `labels` or `time`.
        bounds: Where its sequences begin and end; None where nobody knows.
        present: Numbers of its files that are there.
        missing: Its runs of rows that miss a value; None where nobody knows.
    """
    schema = snapshot.root.schema
    count, size = snapshot.root.committed(array), rows_in_file(schema, array)
    nbytes = schema.rows(array).nbytes
    files = np.array(sorted(present), np.int64)
    most = max(1, PART_BYTES // max(1, nbytes))
    if bounds is None:
        # A root may count more rows than there are: only those in files are looked at.
        together = max(1, most // size)
        for at in range(0, len(files), together):
            some = files[at : at + together]
            start, stop = int(some[0]) * size, min(count, (int(some[-1]) + 1) * size)
            yield Part(
                array=array, start=start, stop=stop, files=tuple(some.tolist()), first=0, bounds=None,
                nbytes=min(len(some) * size, count) * nbytes,
            )  # fmt: skip
        return
    first = 0
    while first < len(bounds) - 1:
        start = int(bounds[first])
        last = int(np.searchsorted(bounds, start + most, "right")) - 1
        last = min(max(last, first + 1), first + PART_SEQUENCES, len(bounds) - 1)
        stop = int(bounds[last])
        low, high = np.searchsorted(files, [start // size, -(-stop // size)])
        some = files[low:high] if start < stop else files[:0]
        mine = None if missing is None else missing[slice(*np.searchsorted(missing[:, 0], [start, stop]))]
        yield Part(
            array=array, start=start, stop=stop, files=tuple(some.tolist()), first=first,
            bounds=bounds[first : last + 1], nbytes=min(stop - start, len(some) * size) * nbytes, missing=mine,
        )  # fmt: skip
        first = last


def overlapping(bounds: Bounds | None, start: int, stop: int) -> Ranges:
    """Return which sequences have some of these rows; none where nobody knows where they begin."""
    if bounds is None:
        return ()
    first = int(np.searchsorted(bounds, start, "right")) - 1
    last = int(np.searchsorted(bounds, stop, "left"))
    with_rows = np.flatnonzero(np.diff(bounds[first : last + 1]))
    return ((first, last),) if len(with_rows) == last - first else retired.add((), first + with_rows)
