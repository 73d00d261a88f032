"""Mistakes with files that hold many sequences."""

from __future__ import annotations

from typing import Final

from tests.builder.messages.mistakes import Mistake

MISTAKES: Final = (
    Mistake(what="a column to group by that is not there", options=("--group-by", "unit")),
    Mistake(what="a column to group by, twice", options=("--group-by", "x,x")),
    Mistake(what="a row of no group", options=("--group-by", "k"), files={"a.csv": "k,y\nA,1\n,2\n"}),
    Mistake(
        what="groups of fractions", options=("--group-by", "k"), files={"a.parquet": {"k": [1.0, 1.5], "y": [1.0, 2.0]}}
    ),
    Mistake(
        what="groups by a list", options=("--group-by", "k"), files={"a.parquet": {"k": [[1], [2]], "y": [1.0, 2.0]}}
    ),
    Mistake(
        what="groups of whole arrays", options=("--group-by", "k"), files={"a.npz": {"inputs": [1.0], "labels": 1}}
    ),
    Mistake(
        what="a file without rows",
        options=("--group-by", "k", "--empty", "error"),
        files={"a.csv": "k,y\n", "b.csv": "k,y\n1,2\n"},
    ),
    Mistake(what="nothing but what is grouped by", options=("--group-by", "x,y")),
    Mistake(
        what="a group's column that counts what is done",
        options=("--group-by", "dropped", "--missing", "drop"),
        files={"a.csv": "dropped,y\n1,2\n"},
    ),
)
