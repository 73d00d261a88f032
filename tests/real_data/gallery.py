"""The gallery of builder/README.md: the files and commands of each data set, which are run as written.

A block of commands has `<!-- set: NAME -->` on the line before it; NAME is the folder of the set. Its files are blocks
before it, with `<!-- file: NAME -->`.
"""

from dataclasses import dataclass
from pathlib import Path

from tests.document_section import environment_in, run_console
from tests.documents import Block, DocumentError, read_document, sections

DOCUMENT = "builder/README.md"
SECTION = "Seen on real files"


@dataclass(frozen=True, slots=True)
class Entry:
    """A set: its commands, and the files that they need besides the set."""

    name: str
    block: Block
    files: tuple[Block, ...]


def entries(text: str) -> dict[str, Entry]:
    """Parse the gallery.

    Raises:
        DocumentError: A block has no set, or two have the same.
    """
    found: dict[str, Entry] = {}
    files: list[Block] = []
    for block in sections(text, DOCUMENT)[SECTION]:
        if block.mark == "file":
            files.append(block)
            continue
        if block.mark != "set" or block.language != "console":
            raise DocumentError(f"{block.place}: mark a block of the gallery with <!-- set: NAME -->")
        if block.name in found:
            raise DocumentError(f"{block.place}: a second block of the set {block.name}")
        found[block.name] = Entry(block.name, block, tuple(files))
        files = []
    return found


def gallery() -> dict[str, Entry]:
    """Return the entries of the gallery."""
    return entries(read_document(DOCUMENT))


def run(entry: Entry, data: Path, folder: Path) -> None:
    """Run the commands of a set, which is in the folder `data`, in an empty folder, where the set is linked.

    Raises:
        DocumentError: A command fails, or prints something else than the gallery shows.
    """
    (folder / entry.name).symlink_to((data / entry.name).absolute(), target_is_directory=True)
    for block in entry.files:
        (folder / block.name).write_text(block.text, encoding="utf-8")
    run_console(entry.block, folder, environment_in(folder / ".programs"))
