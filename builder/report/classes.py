"""How labels that are classes are dealt: in all, and in each split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from builder.inspection import ColumnStatistics
from builder.report.drawings import name_of
from builder.report.sampling import Sample

MOST_CLASSES = 64  # different values up to which whole numbers are taken for classes
SHOWN_CLASSES = 32
SHOWN_TARGETS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """One class.

    Args:
        code: The label; None: all further ones together.
        count: Label values that are of it, of those looked at.
        splits: Of them, those in each split.
    """

    code: int | None
    count: int
    splits: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The classes of one target, the most frequent first.

    Args:
        distinct: Different ones.
        codes: They.
        totals: Label values in each split, of those looked at.
        whole: All label values were looked at.
    """

    target: str
    column: int
    distinct: int
    codes: frozenset[int]
    classes: tuple[ClassCount, ...]
    totals: tuple[int, ...]
    whole: bool


def balance_of(
    statistics: tuple[ColumnStatistics, ...], sample: Sample, splits: NDArray[np.int64], count: int
) -> tuple[Balance, ...]:
    """Count the classes of each target that has some: labels are whole numbers, of a few values.

    Args:
        statistics: Of the targets.
        sample: Of the labels.
        splits: (sequences,), which split each sequence is in.
        count: Splits that there are.
    """
    if sample.rows.dtype.kind not in "biu" or not len(sample.rows):
        return ()
    split = np.repeat(splits[sample.sequence], sample.rows.shape[1])
    found = []
    for one in statistics[:SHOWN_TARGETS]:
        codes, which = np.unique(sample.rows[:, :, one.column].reshape(-1), return_inverse=True)
        if len(codes) > MOST_CLASSES:
            continue
        table = np.zeros((len(codes), count), np.int64)
        np.add.at(table, (which, split), 1)
        order = np.argsort(-table.sum(axis=1), kind="stable")
        shown = [_count(int(codes[place]), table[place]) for place in order[:SHOWN_CLASSES].tolist()]
        if len(order) > SHOWN_CLASSES:
            shown.append(_count(None, table[order[SHOWN_CLASSES:]].sum(axis=0)))
        found.append(
            Balance(
                target=name_of(one),
                column=one.column,
                distinct=len(codes),
                codes=frozenset(codes.tolist()),
                classes=tuple(shown),
                totals=tuple(table.sum(axis=0).tolist()),
                whole=sample.whole,
            )
        )
    return tuple(found)


def _count(code: int | None, row: NDArray[np.int64]) -> ClassCount:
    return ClassCount(code=code, count=int(row.sum()), splits=tuple(row.tolist()))
