"""The gallery of builder/README.md: the files and commands of each data set, which are run as written.

A block of commands has `<!-- set: NAME -->` on the line before it; NAME is the folder of the set. Its files are blocks
before it, with `<!-- file: NAME -->`.
"""

from __future__ import annotations

import doctest
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.document_section import OPTIONS, commands
from tests.documents import PROGRESS, REPOSITORY, Block, read_document, sections

DOCUMENT = "builder/README.md"
SECTION = "Seen on real files"


class GalleryError(Exception):
    """The gallery has a block without a set, or a command does not do what it shows."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A set: its commands, and the files that they need besides the set."""

    name: str
    block: Block
    files: tuple[Block, ...]


def entries(text: str) -> dict[str, Entry]:
    """Parse the gallery.

    Raises:
        GalleryError: A block has no set, or two have the same.
    """
    found: dict[str, Entry] = {}
    files: list[Block] = []
    for block in sections(text, DOCUMENT)[SECTION]:
        if block.mark == "file":
            files.append(block)
            continue
        if block.mark != "set" or block.language != "console":
            raise GalleryError(f"{block.place}: mark a block of the gallery with <!-- set: NAME -->")
        if block.name in found:
            raise GalleryError(f"{block.place}: a second block of the set {block.name}")
        found[block.name] = Entry(block.name, block, tuple(files))
        files = []
    if files:
        raise GalleryError(f"{files[0].place}: {files[0].name} stands behind all sets")
    return found


def gallery() -> dict[str, Entry]:
    """Return the entries of the gallery."""
    return entries(read_document(DOCUMENT))


def run(entry: Entry, data: Path, folder: Path) -> None:
    """Run the commands of a set in an empty folder, beside the set.

    Args:
        entry: The set.
        data: The folder that holds it, under its name.
        folder: The working folder; the set is linked there.

    Raises:
        GalleryError: A command fails, or prints something else than the gallery shows.
    """
    (folder / entry.name).symlink_to((data / entry.name).absolute(), target_is_directory=True)
    for block in entry.files:
        (folder / block.name).write_text(block.text, encoding="utf-8")
    programs = folder / ".programs"
    programs.mkdir()
    # The command of this checkout, even if another one of that name is installed.
    (programs / "seqzarr").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m builder "$@"\n', encoding="utf-8")
    (programs / "seqzarr").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": "80",
    }
    for command in commands(entry.block):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command.text],
            cwd=folder,
            env=environment,
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        where = f"{command.place}: {command.text}"
        if done.returncode:
            raise GalleryError(f"{where}\nexit status {done.returncode}\n{done.stdout}")
        if not doctest.OutputChecker().check_output(command.expected, PROGRESS.sub("", done.stdout), OPTIONS):
            raise GalleryError(f"{where}\nExpected:\n{command.expected}\nGot:\n{done.stdout}")
