"""Mistakes with labels that are text."""

from __future__ import annotations

from typing import Final

from tests.builder.messages.mistakes import Mistake

_ANIMALS: Final = {"a.csv": "x,kind,n\n1,cat,0\n2,dog,1\n", "b.csv": "x,kind,n\n1,eel,2\n"}
_NAMED: Final = {"sun.json": '{"x": [1], "y": 0}', "7.json": '{"x": [1], "y": 0}', "../m.csv": "source,n\nsun,1\n7,2\n"}
_READ: Final = "--process tests.builder.text_sources:inputs_alone"
_TABLE: Final = {"a.csv": "x\n1\n", "b.csv": "x\n2\n", "../m.csv": "source,kind,n\na,cat,1\nb,7,2\n"}

MISTAKES: Final = (
    Mistake("a class that the list misses", "--inputs x --labels kind --classes cat,dog", _ANIMALS),
    Mistake("a class, twice", "--inputs x --labels kind --classes cat,dog,cat", _ANIMALS),
    Mistake("a class without a name", "--inputs x --labels kind --classes cat,,dog", _ANIMALS),
    Mistake("a class that stands for a missing value", "--inputs x --labels kind --classes cat,None", _ANIMALS),
    Mistake("classes of numbers", "--inputs x --labels n --classes cat,dog", _ANIMALS),
    Mistake("classes of numbers in Parquet", "--labels n --classes cat,dog", {"a.parquet": {"x": [1.0], "n": [0]}}),
    Mistake("classes of two columns in one list", "--inputs x --labels kind,n --classes cat,dog", _ANIMALS),
    Mistake("classes of a column that is no label", "--inputs x --labels kind --classes sort=cat,dog", _ANIMALS),
    Mistake("classes of a column, twice", "--inputs x --labels kind --classes kind=cat --classes kind=dog", _ANIMALS),
    Mistake("classes without labels", "--classes cat,dog", _ANIMALS),
    Mistake("classes of no labels", "--labels none --classes cat,dog", _ANIMALS),
    Mistake("numbers among text", "--labels kind", {"a.csv": "x,kind\n1,cat\n2,7\n", "b.csv": "x,kind\n1,cat\n"}),
    Mistake("text and numbers in the first file", "--labels kind", {"a.csv": "x,kind\n1,cat\n2,7\n"}),
    Mistake("a mark for a missing label among numbers", "--labels kind", {"a.csv": "x,kind\n1,7\n2,?\n"}),
    Mistake(
        "numbers in a file, text in those before",
        "--labels kind",
        {"a.csv": "x,kind\n1,cat\n", "b.csv": "x,kind\n1,7\n"},
    ),
    Mistake(
        "text in a file, numbers in those before",
        "--labels kind",
        {"a.csv": "x,kind\n1,7\n", "b.csv": "x,kind\n1,cat\n"},
    ),
    Mistake("a label that is missing", "--labels kind", {"a.csv": "x,kind\n1,cat\n2,\n3,dog\n"}),
    Mistake("missing classes kept", "--labels kind --missing keep", {"a.csv": "x,kind\n1,cat\n2,\n3,dog\n"}),
    Mistake("a factor of classes", "--inputs x --labels kind --scale kind=2", _ANIMALS),
    Mistake("classes that are inputs", "--inputs x,kind --labels kind", _ANIMALS),
    Mistake("fractions beside classes", "--labels kind,n", {"a.csv": "x,kind,n\n1,cat,0.5\n"}),
    Mistake("a name of no class", "--label-pattern ([a-z]*)[.]csv", {"a/sun.csv": "x\n1\n", "b/1.csv": "x\n1\n"}),
    Mistake(
        "a name of a class that the list misses",
        "--label-pattern ([a-z]+)[.]csv --classes sun,rain",
        {"sun.csv": "x\n1\n", "fog.csv": "x\n1\n"},
    ),
    Mistake(
        "names without labels, where a function reads the files", _READ + " --label-pattern ([a-z]+)[.]json", _NAMED
    ),
    Mistake(
        "a number among classes in names, where a function reads the files",
        _READ + " --label-pattern (.+)[.]json --classes rain,sun",
        _NAMED,
    ),
    Mistake(
        "labels in names and in a manifest",
        _READ + " --label-pattern (.+)[.]json --manifest m.csv --label-column n",
        _NAMED,
    ),
    Mistake("labels in names, a row a step", _READ + " --label-pattern (.+)[.]json --label-axis step", _NAMED),
    Mistake("labels in names, of their own length", _READ + " --label-pattern (.+)[.]json --label-axis own", _NAMED),
    Mistake("a pattern without a group for a function", _READ + " --label-pattern [.]json", _NAMED),
    Mistake(
        "another pattern than the store was built with",
        "--label-pattern (.+)[.]json",
        {"7.json": _NAMED["7.json"]},
        before=_READ + " --label-pattern (.)[.]json",
    ),
    Mistake("numbers among the text of a manifest", "--manifest m.csv --label-column kind", _TABLE),
    Mistake(
        "a class of the manifest that the list misses", "--manifest m.csv --label-column kind --classes cat,dog", _TABLE
    ),
    Mistake(
        "other classes than the store has",
        "--inputs x --labels kind --classes dog,cat,eel",
        _ANIMALS,
        before="--inputs x --labels kind",
    ),
)
