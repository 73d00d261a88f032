"""Mistakes that people make with the command, and its messages, in one file for reviews.

`python -m tests.builder.messages.mistakes` writes `mistakes.txt` again; read the difference.
"""

import contextlib
import re
import shlex
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.builder.command import seqzarr_build
from tests.builder.source_files import Content, write_files

SNAPSHOT: Final = Path(__file__).with_suffix(".txt")


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake.

    Args:
        what: A description.
        options: The options of `seqzarr build src t.zarr`, as in a shell.
        files: The files in the folder `src`, or beside it if the name begins with `../`: text, the columns of a
            Parquet file, or the arrays of an NPZ file, each by name.
        before: Options of an earlier build of the store; None: there was none.
    """

    what: str
    options: str
    files: Mapping[str, Content] = field(default_factory=lambda: {"a.csv": "x,y\n1,2\n3,4\n"})
    before: str | None = None


def sections() -> dict[str, Sequence[Mistake]]:
    """Yield the mistakes, by topic."""
    from tests.builder.messages import of_arguments, of_labels, of_tables

    return {
        "missing values, and changes to columns": of_tables.CLEANING,
        "many sequences in a file": of_tables.GROUPS,
        "when steps were": of_tables.TIMES,
        "labels in another file": of_labels.BESIDE,
        "arguments of a process function": of_arguments.MISTAKES,
        "labels that are text": of_labels.CLASSES,
        "a manifest, and labels in names": of_labels.MANIFESTS,
    }


def snapshot() -> str:
    """Make each mistake in a new folder, and return the messages of the command."""
    lines = ["# What the command says of mistakes. Made by `python -m tests.builder.messages.mistakes`."]
    for title, mistakes in sections().items():
        lines += ["", f"== {title}"]
        for mistake in mistakes:
            command = shlex.join(["seqzarr", "build", "src", "t.zarr", *shlex.split(mistake.options)])
            lines += ["", f"{mistake.what}:", f"    $ {command}", *(f"    {line}" for line in said(mistake))]
    return "\n".join(lines) + "\n"


def said(mistake: Mistake) -> list[str]:
    """Return what the command prints to stderr, without words of libraries, and its exit status."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        write_files(Path("src"), mistake.files)
        if mistake.before is not None:
            first = seqzarr_build("src", "t.zarr", *shlex.split(mistake.before))
            assert first.exit_code == 0, first.output
        result = seqzarr_build("src", "t.zarr", *shlex.split(mistake.options))
        text = re.sub(r'the reader says "[^"]*"', 'the reader says "..."', result.stderr)
        text = text.replace("required keyword-only argument", "required argument")  # Python 3.12 and later
        lines = text.replace(str(Path(folder).resolve()), "FOLDER").splitlines()
        return [*lines, f"[exit status {result.exit_code}]"]


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
    print(f"{SNAPSHOT}: {sum(map(len, sections().values()))} mistakes")
