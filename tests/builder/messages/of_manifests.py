"""Mistakes with the manifest, with splits that it names, and with labels in the names of files."""

from typing import Final

import numpy as np

from tests.builder.messages.mistakes import Mistake

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


MISTAKES: Final = [
    Mistake("a manifest that is not there", _LABELS, _TWO),
    Mistake("a file named twice", _LABELS, _with("file,kind\na.csv,1\na.csv,2\nb.csv,1\n")),
    Mistake("a file named that is not there", _LABELS, _with("file,kind\na.csv,1\nc.csv,1\n")),
    Mistake("the same, to be refused", _LABELS + " --manifest-strict", _with("file,kind\na.csv,1\nb.csv,1\nc.csv,1\n")),
    Mistake(
        "a text file with commas, and no name of its column",
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
    Mistake("an array as manifest without a key", "--manifest m.npy", {**_TWO, "../m.npy": np.zeros((2, 2))}),
    Mistake("a column of labels that is not there", _LABELS, _with("file,sort\na.csv,1\nb.csv,1\n")),
    Mistake("a label that is missing in the manifest", _LABELS, _with("file,kind\na.csv,1\nb.csv,\n")),
    Mistake("a column to keep that is not there", _LABELS + " --keep site", _with("file,kind\na.csv,1\nb.csv,2\n")),
    Mistake(
        "a column to keep without any value", _LABELS + " --keep site", _with("file,kind,site\na.csv,1,\nb.csv,2,\n")
    ),
    Mistake("a column to keep of no manifest", "--keep site", _TWO),
    Mistake("labels in the manifest and in the files", _LABELS + " --labels x", _with("file,kind\na.csv,1\nb.csv,2\n")),
    Mistake(
        "labels in the manifest and in the files' names",
        _LABELS + " --label-pattern (.)",
        _with("file,kind\na.csv,1\nb.csv,2\n"),
    ),
    Mistake(
        "labels in the manifest, a row a step",
        _LABELS + " --process tests.builder.text_sources:inputs_alone --label-axis step",
        {"1.json": '{"x": [1], "y": 0}', "../m.csv": "file,kind\n1.json,1\n"},
    ),
    Mistake("a pattern without a group", "--label-pattern [ab]", _TWO),
    Mistake("a pattern that does not match a name", r"--label-pattern '(\d)'", _TWO),
    Mistake("a pattern whose group is optional", r"--label-pattern 'a(\d)?'", {"a.csv": "x\n1\n"}),
    Mistake(
        "a manifest beside the sources that a later build is not given",
        "",
        _with("file,kind\na.csv,1\nb.csv,2\n"),
        before=_LABELS,
    ),
]
