"""Mistakes with labels that are text."""

from __future__ import annotations

from typing import Final

from tests.builder.messages.mistakes import Mistake

_ANIMALS: Final = {"a.csv": "x,kind,n\n1,cat,0\n2,dog,1\n", "b.csv": "x,kind,n\n1,eel,2\n"}
_NAMED: Final = {"sun.json": '{"x": [1], "y": 0}', "7.json": '{"x": [1], "y": 0}', "../m.csv": "source,n\nsun,1\n7,2\n"}
_READ: Final = ("--process", "tests.builder.text_sources:inputs_alone")
_TABLE: Final = {"a.csv": "x\n1\n", "b.csv": "x\n2\n", "../m.csv": "source,kind,n\na,cat,1\nb,7,2\n"}

MISTAKES: Final = (
    Mistake(
        what="a class that the list misses",
        options=("--inputs", "x", "--labels", "kind", "--classes", "cat,dog"),
        files=_ANIMALS,
    ),
    Mistake(
        what="a class, twice", options=("--inputs", "x", "--labels", "kind", "--classes", "cat,dog,cat"), files=_ANIMALS
    ),
    Mistake(
        what="a class without a name",
        options=("--inputs", "x", "--labels", "kind", "--classes", "cat,,dog"),
        files=_ANIMALS,
    ),
    Mistake(
        what="a class that stands for a missing value",
        options=("--inputs", "x", "--labels", "kind", "--classes", "cat,None"),
        files=_ANIMALS,
    ),
    Mistake(
        what="classes of numbers",
        options=("--inputs", "x", "--labels", "n", "--classes", "cat,dog"),
        files=_ANIMALS,
    ),
    Mistake(
        what="classes of numbers in Parquet",
        options=("--labels", "n", "--classes", "cat,dog"),
        files={"a.parquet": {"x": [1.0], "n": [0]}},
    ),
    Mistake(
        what="classes of two columns in one list",
        options=("--inputs", "x", "--labels", "kind,n", "--classes", "cat,dog"),
        files=_ANIMALS,
    ),
    Mistake(
        what="classes of a column that is no label",
        options=("--inputs", "x", "--labels", "kind", "--classes", "sort=cat,dog"),
        files=_ANIMALS,
    ),
    Mistake(
        what="classes of a column, twice",
        options=("--inputs", "x", "--labels", "kind", "--classes", "kind=cat", "--classes", "kind=dog"),
        files=_ANIMALS,
    ),
    Mistake(what="classes without labels", options=("--classes", "cat,dog"), files=_ANIMALS),
    Mistake(
        what="numbers among text",
        options=("--labels", "kind"),
        files={"a.csv": "x,kind\n1,cat\n2,7\n", "b.csv": "x,kind\n1,cat\n"},
    ),
    Mistake(
        what="text and numbers in the first file",
        options=("--labels", "kind"),
        files={"a.csv": "x,kind\n1,cat\n2,7\n"},
    ),
    Mistake(
        what="a mark for a missing label among numbers",
        options=("--labels", "kind"),
        files={"a.csv": "x,kind\n1,7\n2,?\n"},
    ),
    Mistake(
        what="numbers in a file, text in those before",
        options=("--labels", "kind"),
        files={"a.csv": "x,kind\n1,cat\n", "b.csv": "x,kind\n1,7\n"},
    ),
    Mistake(
        what="text in a file, numbers in those before",
        options=("--labels", "kind"),
        files={"a.csv": "x,kind\n1,7\n", "b.csv": "x,kind\n1,cat\n"},
    ),
    Mistake(
        what="a label that is missing", options=("--labels", "kind"), files={"a.csv": "x,kind\n1,cat\n2,\n3,dog\n"}
    ),
    Mistake(
        what="missing classes kept",
        options=("--labels", "kind", "--missing", "keep"),
        files={"a.csv": "x,kind\n1,cat\n2,\n3,dog\n"},
    ),
    Mistake(
        what="a factor of classes", options=("--inputs", "x", "--labels", "kind", "--scale", "kind=2"), files=_ANIMALS
    ),
    Mistake(what="classes that are inputs", options=("--inputs", "x,kind", "--labels", "kind"), files=_ANIMALS),
    Mistake(
        what="fractions beside classes",
        options=("--labels", "kind,n"),
        files={"a.csv": "x,kind,n\n1,cat,0.5\n"},
    ),
    Mistake(
        what="a name of no class",
        options=("--label-pattern", "([a-z]*)[.]csv"),
        files={"a/sun.csv": "x\n1\n", "b/1.csv": "x\n1\n"},
    ),
    Mistake(
        what="a name of a class that the list misses",
        options=("--label-pattern", "([a-z]+)[.]csv", "--classes", "sun,rain"),
        files={"sun.csv": "x\n1\n", "fog.csv": "x\n1\n"},
    ),
    Mistake(
        what="names without labels, where a function reads the files",
        options=(*_READ, "--label-pattern", "([a-z]+)[.]json"),
        files=_NAMED,
    ),
    Mistake(
        what="a number among classes in names, where a function reads the files",
        options=(*_READ, "--label-pattern", "(.+)[.]json", "--classes", "rain,sun"),
        files=_NAMED,
    ),
    Mistake(
        what="labels in names and in a manifest",
        options=(*_READ, "--label-pattern", "(.+)[.]json", "--manifest", "m.csv", "--label-column", "n"),
        files=_NAMED,
    ),
    Mistake(
        what="labels in names, a row a step",
        options=(*_READ, "--label-pattern", "(.+)[.]json", "--label-axis", "step"),
        files=_NAMED,
    ),
    Mistake(
        what="another pattern than the store was built with",
        before=(*_READ, "--label-pattern", "(.)[.]json"),
        options=("--label-pattern", "(.+)[.]json"),
        files={"7.json": _NAMED["7.json"]},
    ),
    Mistake(
        what="numbers among the text of a manifest",
        options=("--manifest", "m.csv", "--label-column", "kind"),
        files=_TABLE,
    ),
    Mistake(
        what="a class of the manifest that the list misses",
        options=("--manifest", "m.csv", "--label-column", "kind", "--classes", "cat,dog"),
        files=_TABLE,
    ),
    Mistake(
        what="other classes than the store has",
        before=("--inputs", "x", "--labels", "kind"),
        options=("--inputs", "x", "--labels", "kind", "--classes", "dog,cat,eel"),
        files=_ANIMALS,
    ),
)
