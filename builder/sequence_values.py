"""What a store keeps of each sequence beside its rows, in a few numbers and words: further columns, and times."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec import Store

COMMON = 6  # values of text that are named


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnValues:
    """What the sequences have in one of their further columns.

    Args:
        missing: Sequences without a value: NaN, or text that is empty.
        distinct: Different values, but for missing ones.
        common: Of text: the most frequent values, and how often each comes.
        min: Of numbers and bools: the least value; None where there is none.
        max: The greatest.
    """

    name: str
    dtype: str
    missing: int
    distinct: int
    common: tuple[tuple[str, int], ...]
    min: float | None
    max: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """When the steps were. Within a sequence, times never fall.

    Args:
        unit: `s`, `ms`, `us` or `ns`: what is stored.
        elapsed: Whether they count from some beginning, and are no dates.
        zone: `UTC`, or None: local times, or elapsed ones.
        first: The first of all, as text; None where there is no step.
        last: The last of all.
        in_order: Whether each sequence begins no sooner than all before it ended.
    """

    unit: str
    elapsed: bool
    zone: str | None
    first: str | None
    last: str | None
    in_order: bool


def column_values(name: str, dtype: str, values: NDArray[Any]) -> ColumnValues:
    """Describe one column (sequences,): text as object, or numbers.

    >>> column_values("site", "string", np.array(["a", "", "b", "b"], object)).common
    (('b', 2), ('a', 1))
    """
    if values.dtype == object:
        counts = Counter(values.tolist())
        missing = counts.pop("", 0)
        # By name where equally frequent, so that the order of sequences does not show.
        common = tuple(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:COMMON])
        return ColumnValues(
            name=name, dtype=dtype, missing=missing, distinct=len(counts), common=common, min=None, max=None
        )
    there = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    return ColumnValues(
        name=name,
        dtype=dtype,
        missing=len(values) - len(there),
        distinct=len(np.unique(there)),
        common=(),
        min=there.min().item() if len(there) else None,
        max=there.max().item() if len(there) else None,
    )


def times_of(store: Store) -> Times | None:
    """Say when the steps of a store were; None: it keeps no time."""
    time = store.schema.time
    if time is None:
        return None
    first, last = (store.snapshot.table(f"sequences/time_{end}")[store.selection] for end in ("first", "last"))
    first, last = (ends[store.lengths > 0] for ends in (first, last))  # one without steps has none
    return Times(
        unit=time.unit,
        elapsed=time.since is None,
        zone=time.zone,
        first=time.shown(int(first.min())) if len(first) else None,
        last=time.shown(int(last.max())) if len(last) else None,
        in_order=bool((first[1:] >= np.maximum.accumulate(last)[:-1]).all()),
    )
