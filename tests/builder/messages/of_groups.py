"""Mistakes with files that hold many sequences."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Final

import numpy as np

from tests.builder.messages.mistakes import Mistake

MISTAKES: Final = (
    Mistake("a column to group by that is not there", "--group-by unit"),
    Mistake("a column to group by, twice", "--group-by x,x"),
    Mistake("a row of no group", "--group-by k", {"a.csv": "k,y\nA,1\n,2\n"}),
    Mistake("groups of fractions", "--group-by k", {"a.parquet": {"k": [1.0, 1.5], "y": [1.0, 2.0]}}),
    Mistake("groups of decimals", "--group-by k", {"a.parquet": {"k": [Decimal(7), Decimal("7.50")], "y": [1.0, 2.0]}}),
    Mistake(
        "groups beyond int64", "--group-by k", {"a.parquet": {"k": np.array([1, 2**63], np.uint64), "y": [1.0, 2.0]}}
    ),
    Mistake("groups of NaN", "--group-by k", {"a.parquet": {"k": [1.0, math.nan], "y": [1.0, 2.0]}}),
    Mistake("groups of times", "--group-by k", {"a.parquet": {"k": np.zeros(2, "M8[s]"), "y": [1.0, 2.0]}}),
    Mistake("groups by a list", "--group-by k", {"a.parquet": {"k": [[1], [2]], "y": [1.0, 2.0]}}),
    Mistake("groups of whole arrays", "--group-by k", {"a.npz": {"inputs": [1.0], "labels": 1}}),
    Mistake("a file without rows", "--group-by k --empty error", {"a.csv": "k,y\n", "b.csv": "k,y\n1,2\n"}),
    Mistake("nothing but what is grouped by", "--group-by x,y"),
    Mistake("a column to group by with a name of the format", "--group-by part", {"a.csv": "part,y\n1,2\n"}),
    Mistake(
        "a group's column that counts what is done", "--group-by dropped --missing drop", {"a.csv": "dropped,y\n1,2\n"}
    ),
)
