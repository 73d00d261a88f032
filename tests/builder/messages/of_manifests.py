"""Mistakes with the manifest, with splits that it names, and with labels in the names of files."""

from typing import Final

from tests.builder.messages.mistakes import Mistake

_TWO = {"a.csv": "x\n1\n2\n", "b.csv": "x\n3\n4\n"}
_LABELS = ["--manifest", "m.csv", "--key", "file", "--label-column", "kind"]


def _with(manifest: str, **others: str) -> dict[str, str]:
    return {**_TWO, "../m.csv": manifest, **others}


MISTAKES: Final = [
    Mistake(what="a manifest that is not there", options=_LABELS, files=_TWO),
    Mistake(what="a file named twice", options=_LABELS, files=_with("file,kind\na.csv,1\na.csv,2\nb.csv,1\n")),
    Mistake(what="a file named that is not there", options=_LABELS, files=_with("file,kind\na.csv,1\nc.csv,1\n")),
    Mistake(
        what="the same, to be refused",
        options=(*_LABELS, "--manifest-strict"),
        files=_with("file,kind\na.csv,1\nb.csv,1\nc.csv,1\n"),
    ),
    Mistake(
        what="a text file with commas, and no name of its column",
        options=("--manifest", "src/m.txt"),
        files={"a.csv": "x,y\n1,2\n", "m.txt": "file,kind\na.csv,1\n"},
    ),
    Mistake(what="a file that it does not name", options=_LABELS, files=_with("file,kind\na.csv,1\n")),
    Mistake(what="a key that is not there", options=_LABELS, files=_with("name,kind\na.csv,1\nb.csv,1\n")),
    Mistake(what="a row that names no file", options=_LABELS, files=_with("file,kind\na.csv,1\n,1\n")),
    Mistake(what="a column of labels that is not there", options=_LABELS, files=_with("file,sort\na.csv,1\nb.csv,1\n")),
    Mistake(
        what="a label that is missing in the manifest", options=_LABELS, files=_with("file,kind\na.csv,1\nb.csv,\n")
    ),
    Mistake(
        what="a column to keep that is not there",
        options=[*_LABELS, "--keep", "site"],
        files=_with("file,kind\na.csv,1\nb.csv,2\n"),
    ),
    Mistake(
        what="a column to keep without any value",
        options=[*_LABELS, "--keep", "site"],
        files=_with("file,kind,site\na.csv,1,\nb.csv,2,\n"),
    ),
    Mistake(what="a column to keep of no manifest", options=["--keep", "site"], files=_TWO),
    Mistake(
        what="labels in the manifest and in the files",
        options=[*_LABELS, "--labels", "x"],
        files=_with("file,kind\na.csv,1\nb.csv,2\n"),
    ),
    Mistake(
        what="labels in the manifest and in the files' names",
        options=[*_LABELS, "--label-pattern", "(.)"],
        files=_with("file,kind\na.csv,1\nb.csv,2\n"),
    ),
    Mistake(
        what="labels in the manifest, a row a step",
        options=[*_LABELS, "--process", "tests.builder.text_sources:inputs_alone", "--label-axis", "step"],
        files={"1.json": '{"x": [1], "y": 0}', "../m.csv": "file,kind\n1.json,1\n"},
    ),
    Mistake(what="a pattern without a group", options=["--label-pattern", "[ab]"], files=_TWO),
    Mistake(what="a pattern that does not match a name", options=["--label-pattern", r"(\d)"], files=_TWO),
    Mistake(
        what="a manifest beside the sources that a later build is not given",
        options=[],
        files=_with("file,kind\na.csv,1\nb.csv,2\n"),
        before=_LABELS,
    ),
]
