"""Mistakes with labels in another file beside each source."""

from __future__ import annotations

from typing import Final

from tests.builder.messages.mistakes import Mistake

_PAIR: Final = {"a.csv": "t,x\n1,1\n2,2\n", "y/a.csv": "t,y\n1,5\n2,6\n"}
_Y: Final = {"t": [1], "y": [5]}
_FROM: Final = "--labels-from y/{stem}.csv"

MISTAKES: Final = (
    Mistake("one file of labels for all sources", "--labels-from y/labels.csv", _PAIR),
    Mistake("a placeholder that is none", "--labels-from y/{file}.csv", _PAIR),
    Mistake("a regular expression that is none", "--labels-from '(a -> y/{1}.csv'", _PAIR),
    Mistake("a group that is not there", "--labels-from '(a) -> y/{2}.csv'", _PAIR),
    Mistake("an absolute path", "--labels-from /data/{stem}.csv", _PAIR),
    Mistake(
        "two sources with one file of labels", _FROM, {"d/a.csv": "x\n1\n", "e/a.csv": "x\n1\n", "y/a.csv": "y\n1\n"}
    ),
    Mistake("no file of labels", _FROM, {"b.csv": "x\n1\n", **_PAIR}),
    Mistake("a name that does not match", r"--labels-from '(\d) -> y/{1}.csv'", _PAIR),
    Mistake("every file is one of labels", "--labels-from {stem}.csv", {"a.csv": "x\n1\n"}),
    Mistake("other numbers of rows", _FROM, _PAIR | {"y/a.csv": "t,y\n1,5\n"}),
    Mistake("labels that are not there", _FROM + " --labels z", _PAIR),
    Mistake("rows paired by a column of one file alone", _FROM + " --on x", _PAIR),
    Mistake("nothing left for labels", _FROM + " --on t", _PAIR | {"y/a.csv": "t\n1\n"}),
    Mistake("no common key", _FROM + " --on t", _PAIR | {"y/a.csv": "t,y\n01.02.,5\n"}),
    Mistake("a key that comes twice", _FROM + " --on t", _PAIR | {"y/a.csv": "t,y\n1,5\n1,6\n"}),
    Mistake("a key that comes twice in the source", _FROM + " --on t", _PAIR | {"a.csv": "t,x\n1,1\n2,2\n1,3\n"}),
    *(
        Mistake(what, "--labels-from y/{stem}.parquet --on t", {"a.parquet": {"t": [key], "x": [1]}, "y/a.parquet": _Y})
        for what, key in (("keys of text and of numbers", "x"), ("keys that are lists", [1]))
    ),
    Mistake("a row without a key", _FROM + " --on t", _PAIR | {"a.csv": "t,x\n1,1\n,2\n"}),
    Mistake("a missing label", _FROM, _PAIR | {"y/a.csv": "t,y\n1,5\n2,\n"}),
    Mistake("a row without labels", _FROM + " --on t --join left", _PAIR | {"y/a.csv": "t,y\n2,6\n"}),
    Mistake("a join of rows by number", _FROM + " --join left", _PAIR),
    Mistake("rows paired with nothing", "--on t", _PAIR),
    Mistake("labels of their own length, joined", _FROM + " --on t --label-axis own", _PAIR),
    Mistake("labels beside, one a sequence", _FROM + " --label-axis sequence", _PAIR),
    Mistake("labels from two places", _FROM + " --label-pattern (1)", _PAIR),
    Mistake(
        "files of labels with a suffix of no format",
        "--labels-from y/{stem}.lab",
        {"a.csv": "t,x\n1,1\n", "y/a.lab": "1 5\n"},
    ),
    Mistake("another file of labels than the store was built with", "--labels-from z/{stem}.csv", _PAIR, before=_FROM),
    Mistake("labels beside whole arrays", _FROM, {"a.npz": {"inputs": [1.0]}, "y/a.csv": "y\n1\n"}),
)
