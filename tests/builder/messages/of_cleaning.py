"""Mistakes with missing values, and with changes to columns."""

from __future__ import annotations

from typing import Final

import numpy as np

from tests.builder.messages.mistakes import Mistake

GAPS: Final = {"a.csv": "x,y\n,2\n3,\n5,6\n"}

MISTAKES: Final = (
    Mistake(what="nothing is said of missing values", options=(), files=GAPS),
    Mistake(what="a policy that is none", options=("--missing", "fill"), files=GAPS),
    Mistake(what="policies in the wrong order", options=("--missing", "drop+ffill"), files=GAPS),
    Mistake(what="two policies for all columns", options=("--missing", "drop", "--missing", "keep"), files=GAPS),
    Mistake(what="a policy for a column that is not there", options=("--missing", "z=drop"), files=GAPS),
    Mistake(
        what="a policy for a column that is not taken", options=("--inputs", "x", "--missing", "y=drop"), files=GAPS
    ),
    Mistake(what="two policies for a column", options=("--missing", "x:y=drop", "--missing", "y=keep"), files=GAPS),
    Mistake(what="ffill has nothing before a leading gap", options=("--missing", "ffill"), files=GAPS),
    Mistake(
        what="a policy that leaves nothing of a file",
        options=("--missing", "drop", "--empty", "error"),
        files={"a.csv": "x,y\n1,\n2,\n", "b.csv": "x,y\n1,2\n"},
    ),
    Mistake(what="NaN in whole numbers", options=("--missing", "keep", "--dtype", "int32"), files=GAPS),
    Mistake(what="a limit without ffill", options=("--missing", "drop", "--ffill-limit", "3"), files=GAPS),
    Mistake(what="a limit of nothing", options=("--missing", "ffill", "--ffill-limit", "0"), files=GAPS),
    Mistake(
        what="a sentinel that nothing is said of",
        options=("--na-values", "-999"),
        files={"a.csv": "x,y\n1,2\n3,-999\n"},
    ),
    Mistake(what="a mark for a missing value, at first", options=(), files={"a.csv": "x,my y\n1,**\n3,4\n"}),
    Mistake(what="a mark for a missing value, later", options=(), files={"a.csv": 'x,"y, %"\n1,2\n3,n.a.\n'}),
    Mistake(
        what="a sentinel of which the comma may stand in it or behind it",
        options=("--delimiter", ";", "--decimal", ",", "--na-values=-999,0"),
        files={"a.csv": "x;y\n1,5;2\n3;-999,0\n"},
    ),
    Mistake(
        what="decimals with a comma",
        options=("--delimiter", ";"),
        files={"a.csv": "x;y\n1,5;2\n"},
    ),
    Mistake(
        what="decimals with a point among those with a comma",
        options=("--delimiter", ";", "--decimal", ","),
        files={"a.csv": "x;y\n1,5;2\n2.5;3\n"},
    ),
    Mistake(
        what="decimals with a comma between columns of which nobody said what is between them",
        options=("--decimal", ","),
        files={"a.csv": "x;y\n1,5;2,5\n", "b.csv": "x,y\n1,2\n", "c.csv": "x;y\n1;2\n"},
    ),
    Mistake(what="the same mark between columns and before decimals", options=("--delimiter", ",", "--decimal", ",")),
    Mistake(what="another policy than the store has", options=("--missing", "split"), before=("--missing", "drop")),
    Mistake(what="policies for a function of one's own", options=("--process", "mine:read", "--missing", "drop")),
    Mistake(what="a factor that is no number", options=("--scale", "x=kW")),
    Mistake(what="a factor without a column", options=("--scale", "0.001")),
    Mistake(what="limits the wrong way round", options=("--clip", "x=100:0")),
    Mistake(
        what="limits beyond what the file's numbers hold",
        options=("--clip", "x=300:"),
        files={"a.parquet": {"x": np.array([1, 2], "uint8")}},
    ),
    Mistake(what="a logarithm of nothing", options=("--log", "x"), files={"a.csv": "x,y\n1,2\n0,4\n"}),
    Mistake(what="a transform of a column that is no input", options=("--inputs", "x", "--diff", "y")),
    Mistake(
        what="a result that floats do not hold",
        options=("--scale", "x=1e300"),
        files={"a.csv": "x,y\n1,2\n1e200,4\n"},
    ),
)
