"""Mistakes with labels in another file beside each source."""

from __future__ import annotations

from typing import Final

from tests.builder.messages.mistakes import Mistake

_PAIR: Final = {"a.csv": "t,x\n1,1\n2,2\n", "y/a.csv": "t,y\n1,5\n2,6\n"}
_FROM: Final = ("--labels-from", "y/{stem}.csv")

MISTAKES: Final = (
    Mistake(what="one file of labels for all sources", options=("--labels-from", "y/labels.csv"), files=_PAIR),
    Mistake(what="a placeholder that is none", options=("--labels-from", "y/{file}.csv"), files=_PAIR),
    Mistake(what="a regular expression that is none", options=("--labels-from", "(a -> y/{1}.csv"), files=_PAIR),
    Mistake(what="a group that is not there", options=("--labels-from", "(a) -> y/{2}.csv"), files=_PAIR),
    Mistake(what="an absolute path", options=("--labels-from", "/data/{stem}.csv"), files=_PAIR),
    Mistake(
        what="two sources with one file of labels",
        options=_FROM,
        files={"d/a.csv": "x\n1\n", "e/a.csv": "x\n1\n", "y/a.csv": "y\n1\n"},
    ),
    Mistake(what="no file of labels", options=_FROM, files={"b.csv": "x\n1\n", **_PAIR}),
    Mistake(what="a name that does not match", options=("--labels-from", r"(\d) -> y/{1}.csv"), files=_PAIR),
    Mistake(what="every file is one of labels", options=("--labels-from", "{stem}.csv"), files={"a.csv": "x\n1\n"}),
    Mistake(what="other numbers of rows", options=_FROM, files=_PAIR | {"y/a.csv": "t,y\n1,5\n"}),
    Mistake(what="labels that are not there", options=(*_FROM, "--labels", "z"), files=_PAIR),
    Mistake(what="rows paired by a column of one file alone", options=(*_FROM, "--on", "x"), files=_PAIR),
    Mistake(what="nothing left for labels", options=(*_FROM, "--on", "t"), files=_PAIR | {"y/a.csv": "t\n1\n"}),
    Mistake(what="no common key", options=(*_FROM, "--on", "t"), files=_PAIR | {"y/a.csv": "t,y\n01.02.,5\n"}),
    Mistake(what="a key that comes twice", options=(*_FROM, "--on", "t"), files=_PAIR | {"y/a.csv": "t,y\n1,5\n1,6\n"}),
    Mistake(what="a row without a key", options=(*_FROM, "--on", "t"), files=_PAIR | {"a.csv": "t,x\n1,1\n,2\n"}),
    Mistake(what="a missing label", options=_FROM, files=_PAIR | {"y/a.csv": "t,y\n1,5\n2,\n"}),
    Mistake(
        what="a row without labels",
        options=(*_FROM, "--on", "t", "--join", "left"),
        files=_PAIR | {"y/a.csv": "t,y\n2,6\n"},
    ),
    Mistake(what="a join of rows by number", options=(*_FROM, "--join", "left"), files=_PAIR),
    Mistake(what="rows paired with nothing", options=("--on", "t"), files=_PAIR),
    Mistake(
        what="labels of their own length, joined", options=(*_FROM, "--on", "t", "--label-axis", "own"), files=_PAIR
    ),
    Mistake(what="labels beside, one a sequence", options=(*_FROM, "--label-axis", "sequence"), files=_PAIR),
    Mistake(what="labels from two places", options=(*_FROM, "--label-pattern", "(1)"), files=_PAIR),
    Mistake(
        what="files of labels with a suffix of no format",
        options=("--labels-from", "y/{stem}.lab"),
        files={"a.csv": "t,x\n1,1\n", "y/a.lab": "1 5\n"},
    ),
    Mistake(
        what="another file of labels than the store was built with",
        options=("--labels-from", "z/{stem}.csv"),
        files=_PAIR,
        before=_FROM,
    ),
    Mistake(what="labels beside whole arrays", options=_FROM, files={"a.npz": {"inputs": [1.0]}, "y/a.csv": "y\n1\n"}),
)
