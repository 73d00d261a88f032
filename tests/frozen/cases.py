"""The commands of the documents and of the gallery, as they are written, and some others."""

import doctest
import wave
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.document_section import commands
from tests.documents import DOCUMENTS, REPOSITORY, Block, blocks, command, installed, read_document, sections
from tests.real_data.gallery import SECTION, gallery

HERE = REPOSITORY / "tests" / "data"  # has the vowels, the data set of the gallery that needs no other folder
SMALL = {  # bytes of a shard of which a store has about ten
    "builder/README.md, Files with gaps, dates and many sequences": 32,
    "builder/README.md, Files of any other kind": 512,
    "gallery, nab": 256 * 1024,
    "gallery, cmapss": 1024 * 1024,
    "gallery, watch": 2 * 1024 * 1024,
    "gallery, spoken-digits": 4 * 1024 * 1024,
    "changed sources": 4 * 1024,
    "parts of sources": 2 * 1024,
    "rows cleaned": 64,
}
USUAL_SMALL = 32 * 1024

PARTS = """\
import numpy as np
from builder import LongSequence, Sequence

def read(path):
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    for number, half in enumerate(np.array_split(rows, 2)):
        whole = Sequence(
            half,
            half[::2, :1],
            columns={"half": number, "name": path.stem},
            time=np.arange(len(half)) * 10 + np.datetime64("2024-01-01", "s"),
        )
        yield LongSequence(pieces(whole)) if number else whole

def pieces(whole):
    for at in range(0, len(whole.inputs), 3):
        here = slice(at, at + 3)
        yield Sequence(whole.inputs[here], whole.labels[here], columns=whole.columns, time=whole.time[here])
"""

OTHERS = {
    "changed sources": r"""
        mkdir raw && cp tests/data/japanese-vowels/train/utt_00*.csv tests/data/japanese-vowels/train/utt_01*.csv raw
        seqzarr build raw changed.zarr --label-pattern 'spk(\d+)' --dtype float32
        cp tests/data/japanese-vowels/train/utt_02*.csv raw && rm raw/utt_015*.csv && echo broken >raw/utt_099_spk1.csv
        for file in raw/utt_003*.csv raw/utt_017*.csv; do sed '$d' $file >shorter && mv shorter $file; done
        seqzarr build raw changed.zarr || echo "exit status $?"
        seqzarr build raw changed.zarr --update --retire-missing || echo "exit status $?"
        seqzarr compact changed.zarr compacted.zarr
        seqzarr compact changed.zarr by-length.zarr --order length --codec zstd:5 --dtype float64
    """,
    "parts of sources": """
        seqzarr build 'tests/data/japanese-vowels/train/utt_0[01]*.csv' parts.zarr --process parts:read --label-axis own
    """,
    "rows cleaned": """
        cp pumps.csv a.csv && sed 's/,b,/,c,/' pumps.csv >b.csv
        seqzarr build '[ab].csv' split.zarr --time time --group-by unit --missing split --clip flow=0:8
        seqzarr build '[ab].csv' filled.zarr --time time --group-by unit --missing ffill+drop --mask --diff flow
        seqzarr build '[ab].csv' kept.zarr --group-by unit:text --exclude time --missing keep --scale level=2
    """,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Commands, and the files that they need besides `tests/data`.

    Args:
        name: The document and section of the commands.
        commands: For bash, in order, in an empty folder.
        files: Names and texts of files in that folder.
        data_set: A folder of real files that is linked there; empty: none.
        small: Bytes of a small shard; 0: the commands have no such option.
    """

    name: str
    commands: list[str]
    files: dict[str, str] = field(default_factory=dict)
    data_set: str = ""
    small: int = USUAL_SMALL

    def lay_out(self, folder: Path, data: Path) -> None:
        """Write the files of the commands into an empty folder; `data` holds the real data sets."""
        (folder / "tests").mkdir()
        (folder / "tests" / "data").symlink_to(HERE)
        if self.data_set:
            (folder / self.data_set).symlink_to((data / self.data_set).absolute())
        for name, text in self.files.items():
            (folder / name).write_text(text, encoding="utf-8")
        write_recordings(folder / "recordings")


def write_recordings(folder: Path) -> None:
    """Write the WAV files that the README assumes."""
    folder.mkdir()
    for number in range(6):
        with wave.open(str(folder / f"{number}_take_1.wav"), "wb") as recording:
            recording.setparams((1, 2, 8000, 0, "NONE", ""))
            recording.writeframes(np.arange(100 + number, dtype="<i2").tobytes())


def of_repository() -> list[Case]:
    """Return the cases that need only this repository."""
    texts = {name: read_document(name) for name in DOCUMENTS}
    every = [block for name, text in texts.items() for block in blocks(text, name)]
    files = {block.name: block.text for block in every if block.mark == "file"}
    others = [
        Case(
            name=name,
            commands=[line.strip() for line in text.strip().splitlines()],
            files={"parts.py": PARTS, "pumps.csv": files["pumps.csv"]},
            small=SMALL.get(name, USUAL_SMALL),
        )
        for name, text in OTHERS.items()
    ]
    return [*of_documents(texts), *of_gallery({"japanese-vowels"}), *others]


def of_documents(texts: Mapping[str, str]) -> list[Case]:
    """Return a case for each section that builds stores in folders, except the gallery.

    Commands of an earlier section are not repeated.
    """
    cases: list[Case] = []
    known: set[str] = set()
    parts = {
        f"{document}, {title}": section
        for document, text in texts.items()
        for title, section in sections(text, document).items()
        if title != SECTION
    }
    for name, section in parts.items():
        files = {block.name: block.text for block in section if block.mark == "file"}
        new: list[str] = []
        session = ""
        for block in section:
            if block.mark == "ci" and "seqzarr build" in block.text:
                new.append(installed(command(block.name, texts[block.document])))
            elif block.mark != "ci" and block.language in {"console", "sh"} and "seqzarr build" in block.text:
                new += [each for each in _texts(block) if each not in known and "s3://" not in each]
            elif block.language == "python" and ("build(" in block.text or "create_store(" in block.text):
                session += "".join(example.source for example in doctest.DocTestParser().get_examples(block.text))
        if session:
            cases.append(Case(name=name, commands=["python session.py"], files={"session.py": session}, small=0))
        elif any("seqzarr build" in each for each in new):
            cases.append(Case(name=name, commands=new, files=files, small=SMALL.get(name, USUAL_SMALL)))
        known |= set(new)
    return cases


def of_gallery(names: set[str] | None = None) -> list[Case]:
    """Return a case for each data set of the gallery, or for the named ones."""
    return [
        Case(
            name=f"gallery, {entry.name}",
            commands=_texts(entry.block),
            files={block.name: block.text for block in entry.files},
            data_set=entry.name,
            small=SMALL.get(f"gallery, {entry.name}", USUAL_SMALL),
        )
        for entry in gallery().values()
        if names is None or entry.name in names
    ]


def _texts(block: Block) -> list[str]:
    return [each.text for each in commands(block)] if block.language == "console" else [block.text.strip()]
