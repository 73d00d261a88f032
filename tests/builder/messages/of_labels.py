"""Mistakes with labels in another file, labels that are text, manifests, and labels in the names of files."""

from typing import Final

import numpy as np

from tests.builder.messages.mistakes import Mistake

_PAIR: Final = {"a.csv": "t,x\n1,1\n2,2\n", "y/a.csv": "t,y\n1,5\n2,6\n"}
_Y: Final = {"t": [1], "y": [5]}
_FROM: Final = "--labels-from y/{stem}.csv"

BESIDE: Final = (
    Mistake("one file of labels for all sources", "--labels-from y/labels.csv", _PAIR),
    Mistake("a placeholder that is none", "--labels-from y/{file}.csv", _PAIR),
    Mistake("a regular expression that is none", "--labels-from '(a -> y/{1}.csv'", _PAIR),
    Mistake("a group that is not there", "--labels-from '(a) -> y/{2}.csv'", _PAIR),
    Mistake("an absolute path", "--labels-from /data/{stem}.csv", _PAIR),
    Mistake("two sources with one label file", _FROM, {"d/a.csv": "x\n1\n", "e/a.csv": "x\n1\n", "y/a.csv": "y\n1\n"}),
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
    Mistake("label files of no known format", "--labels-from y/{stem}.lab", {"a.csv": "t,x\n1,1\n", "y/a.lab": "5\n"}),
    Mistake("another file of labels than the store was built with", "--labels-from z/{stem}.csv", _PAIR, before=_FROM),
    Mistake("labels beside whole arrays", _FROM, {"a.npz": {"inputs": [1.0]}, "y/a.csv": "y\n1\n"}),
)

_ANIMALS: Final = {"a.csv": "x,kind,n\n1,cat,0\n2,dog,1\n", "b.csv": "x,kind,n\n1,eel,2\n"}
_KIND: Final = "--inputs x --labels kind"
_NAMED: Final = {"sun.json": '{"x": [1], "y": 0}', "7.json": '{"x": [1], "y": 0}', "../m.csv": "source,n\nsun,1\n7,2\n"}
_READ: Final = "--process tests.builder.text_sources:inputs_alone"
_NAMES: Final = _READ + " --label-pattern (.+)[.]json"
_CAT, _SEVEN = "x,kind\n1,cat\n", "x,kind\n1,7\n"
_TABLE: Final = {"a.csv": "x\n1\n", "b.csv": "x\n2\n", "../m.csv": "source,kind,n\na,cat,1\nb,7,2\n"}

CLASSES: Final = (
    Mistake("a class that the list misses", _KIND + " --classes cat,dog", _ANIMALS),
    Mistake("a class, twice", _KIND + " --classes cat,dog,cat", _ANIMALS),
    Mistake("a class without a name", _KIND + " --classes cat,,dog", _ANIMALS),
    Mistake("a class that stands for a missing value", _KIND + " --classes cat,None", _ANIMALS),
    Mistake("classes of numbers", "--inputs x --labels n --classes cat,dog", _ANIMALS),
    Mistake("classes of numbers in Parquet", "--labels n --classes cat,dog", {"a.parquet": {"x": [1.0], "n": [0]}}),
    Mistake("classes of two columns in one list", "--inputs x --labels kind,n --classes cat,dog", _ANIMALS),
    Mistake("classes of a column that is no label", _KIND + " --classes sort=cat,dog", _ANIMALS),
    Mistake("classes of a column, twice", _KIND + " --classes kind=cat --classes kind=dog", _ANIMALS),
    Mistake("classes without labels", "--classes cat,dog", _ANIMALS),
    Mistake("classes of no labels", "--labels none --classes cat,dog", _ANIMALS),
    Mistake("numbers among text", "--labels kind", {"a.csv": "x,kind\n1,cat\n2,7\n", "b.csv": "x,kind\n1,cat\n"}),
    Mistake("text and numbers in the first file", "--labels kind", {"a.csv": "x,kind\n1,cat\n2,7\n"}),
    Mistake("a mark for a missing label among numbers", "--labels kind", {"a.csv": "x,kind\n1,7\n2,?\n"}),
    Mistake("numbers in a file, text in those before", "--labels kind", {"a.csv": _CAT, "b.csv": _SEVEN}),
    Mistake("text in a file, numbers in those before", "--labels kind", {"a.csv": _SEVEN, "b.csv": _CAT}),
    Mistake("a label that is missing", "--labels kind", {"a.csv": "x,kind\n1,cat\n2,\n3,dog\n"}),
    Mistake("missing classes kept", "--labels kind --missing keep", {"a.csv": "x,kind\n1,cat\n2,\n3,dog\n"}),
    Mistake("a factor of classes", _KIND + " --scale kind=2", _ANIMALS),
    Mistake("classes that are inputs", "--inputs x,kind --labels kind", _ANIMALS),
    Mistake("fractions beside classes", "--labels kind,n", {"a.csv": "x,kind,n\n1,cat,0.5\n"}),
    Mistake("a name of no class", "--label-pattern ([a-z]*)[.]csv", {"a/sun.csv": "x\n1\n", "b/1.csv": "x\n1\n"}),
    Mistake(
        "a class in a name that the list misses",
        "--label-pattern ([a-z]+)[.]csv --classes sun,rain",
        {"sun.csv": "x\n1\n", "fog.csv": "x\n1\n"},
    ),
    Mistake("names without labels, for a function", _READ + " --label-pattern ([a-z]+)[.]json", _NAMED),
    Mistake("a number among classes in names, for a function", _NAMES + " --classes rain,sun", _NAMED),
    Mistake("labels in names and in a manifest", _NAMES + " --manifest m.csv --label-column n", _NAMED),
    Mistake("labels in names, a row a step", _NAMES + " --label-axis step", _NAMED),
    Mistake("labels in names, of their own length", _NAMES + " --label-axis own", _NAMED),
    Mistake("a pattern without a group for a function", _READ + " --label-pattern [.]json", _NAMED),
    Mistake(
        "another pattern than the store was built with",
        "--label-pattern (.+)[.]json",
        {"7.json": _NAMED["7.json"]},
        before=_READ + " --label-pattern (.)[.]json",
    ),
    Mistake("numbers among the text of a manifest", "--manifest m.csv --label-column kind", _TABLE),
    Mistake(
        "a manifest's class that the list misses", "--manifest m.csv --label-column kind --classes cat,dog", _TABLE
    ),
    Mistake("other classes than the store has", _KIND + " --classes dog,cat,eel", _ANIMALS, before=_KIND),
)

_TWO = {"a.csv": "x\n1\n2\n", "b.csv": "x\n3\n4\n"}
_LABELS = "--manifest m.csv --key file --label-column kind"
_NO_LABELS = {
    "a date": ("2020-01-01", "2020-01-02"),
    "a word for a missing value": ("0.5", "NA"),
    "an infinite value": ("inf", "1"),
    "an integer beyond floats": ("123456789012345678901", "0"),
}
_UNUSABLE = {
    "a row too short": ("m.csv", "source,y\na.csv\n"),
    "a row too short between semicolons": ("m.csv", "source;y\na.csv;1\nb.csv\n"),
    "a column twice": ("m.csv", "source,source\na.csv,b.csv\n"),
    "nothing in it": ("m.csv", ""),
    "text in Parquet": ("m.parquet", "nonsense"),
    "a spreadsheet": ("m.xlsx", "x"),
}


def _with(manifest: str, **others: str) -> dict[str, str]:
    return {**_TWO, "../m.csv": manifest, **others}


_BOTH: Final = _with("file,kind\na.csv,1\nb.csv,2\n")

MANIFESTS: Final = [
    Mistake("a manifest that is not there", _LABELS, _TWO),
    Mistake("a file named twice", _LABELS, _with("file,kind\na.csv,1\na.csv,2\nb.csv,1\n")),
    Mistake("a file named that is not there", _LABELS, _with("file,kind\na.csv,1\nc.csv,1\n")),
    Mistake("the same, to be refused", _LABELS + " --manifest-strict", _with("file,kind\na.csv,1\nb.csv,1\nc.csv,1\n")),
    Mistake(
        "a text file with commas as manifest",
        "--manifest src/m.txt",
        {"a.csv": "x,y\n1,2\n", "m.txt": "file,kind\na.csv,1\n"},
    ),
    Mistake("a file that it does not name", _LABELS, _with("file,kind\na.csv,1\n")),
    Mistake("a key that is not there", _LABELS, _with("name,kind\na.csv,1\nb.csv,1\n")),
    Mistake("a row that names no file", _LABELS, _with("file,kind\na.csv,1\n,1\n")),
    *(
        Mistake(f"a label that is {what}", _LABELS, _with(f"file,kind\na.csv,{first}\nb.csv,{second}\n"))
        for what, (first, second) in _NO_LABELS.items()
    ),
    *(
        Mistake(f"a manifest with {what}", f"--manifest {name}", {**_TWO, f"../{name}": text})
        for what, (name, text) in _UNUSABLE.items()
    ),
    Mistake("an array as manifest", "--manifest m.npy --key 0", {**_TWO, "../m.npy": np.zeros((2, 2))}),
    Mistake("a column of labels that is not there", _LABELS, _with("file,sort\na.csv,1\nb.csv,1\n")),
    Mistake("a label that is missing in the manifest", _LABELS, _with("file,kind\na.csv,1\nb.csv,\n")),
    Mistake("a column to keep that is not there", _LABELS + " --keep site", _BOTH),
    Mistake("a column to keep without values", _LABELS + " --keep site", _with("file,kind,site\na.csv,1,\nb.csv,2,\n")),
    Mistake("a column to keep of no manifest", "--keep site", _TWO),
    Mistake("labels in the manifest and in the files", _LABELS + " --labels x", _BOTH),
    Mistake("labels in the manifest and in the files' names", _LABELS + " --label-pattern (.)", _BOTH),
    Mistake(
        "labels in the manifest, a row a step",
        _LABELS + " --process tests.builder.text_sources:inputs_alone --label-axis step",
        {"1.json": '{"x": [1], "y": 0}', "../m.csv": "file,kind\n1.json,1\n"},
    ),
    Mistake("a pattern without a group", "--label-pattern [ab]", _TWO),
    Mistake("a pattern that does not match a name", r"--label-pattern '(\d)'", _TWO),
    Mistake("a pattern whose group is optional", r"--label-pattern 'a(\d)?'", {"a.csv": "x\n1\n"}),
    Mistake("a manifest beside the sources that a later build is not given", "", _BOTH, before=_LABELS),
]
