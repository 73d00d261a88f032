"""Find the code blocks of the documents, and print a command of README.md, which CI runs as it is written.

A command is a code block with the comment `<!-- ci: NAME -->` on the line before its fence:

    python tests/documents.py main-job
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
README = REPOSITORY / "README.md"
DOCUMENTS = ("README.md", "builder/README.md", "store_spec/README.md")  # whose code blocks are run
SETUP = "python3 -m venv .venv && .venv/bin/pip install . && "  # how README.md begins
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>ci|file|set|untested): (?P<name>[\w.-]+) -->\n+)?(?P<fence>`{3,})(?P<language>[^`\n]*)\n"
    r"(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
# A command prints these every ten seconds; documents do not depend on how long it takes.
PROGRESS = re.compile(r"^\S+: (?:starting|listing the sources|reading the tables|\d+ %).*\n", re.MULTILINE)
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


class DocumentError(Exception):
    """A document has a block twice or not at all, or a block does not do what it shows."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block."""

    mark: str  # "ci", "file", "set" (of real files, in builder/README.md), "untested", or nothing
    name: str  # the name in the mark
    language: str
    text: str
    line: int  # the line of its fence in the document, from 1
    document: str

    @property
    def place(self) -> str:
        """Return document and line, for messages."""
        return f"{self.document}:{self.line}"


def read_document(name: str) -> str:
    """Return the text of a document, by its path in the repository."""
    return (REPOSITORY / name).read_text(encoding="utf-8")


def blocks(text: str, document: str = "README.md") -> list[Block]:
    """Return the code blocks of a document, in order."""
    return [
        Block(
            match["mark"] or "",
            match["name"] or "",
            match["language"],
            match["text"],
            text.count("\n", 0, match.start("fence")) + 1,
            document,
        )
        for match in BLOCK.finditer(text)
    ]


def sections(text: str, document: str = "README.md") -> dict[str, list[Block]]:
    """Return the code blocks under each heading of the second level."""
    every = blocks(text, document)
    titles = [(heading[1], text.count("\n", 0, heading.start()) + 1) for heading in HEADING.finditer(text)]
    inside = [(block.line, block.line + block.text.count("\n") + 1) for block in every]
    titles = [(title, line) for title, line in titles if not any(low < line < high for low, high in inside)]
    bounds = [line for _, line in titles[1:]] + [sys.maxsize]
    return {
        title: [block for block in every if line < block.line < stop]
        for (title, line), stop in zip(titles, bounds, strict=True)
    }


def command(name: str, text: str) -> str:
    """Return the text of the code block that is marked `ci: name`, without its last line end.

    Raises:
        DocumentError: No block, or more than one, is marked `name`.
    """
    marked = [block for block in blocks(text) if block.mark == "ci" and block.name == name]
    if len(marked) != 1:
        raise DocumentError(
            f"README.md: {len(marked)} code blocks are marked '<!-- ci: {name} -->', but 1 is needed; "
            "put that comment on the line before the block's fence"
        )
    return marked[0].text.rstrip("\n")


def installed(job: str) -> str:
    """Return a command of README.md as it is where the package is installed already."""
    if not job.startswith(SETUP):
        raise DocumentError(f"README.md: {job!r} does not install the package first")
    return job.removeprefix(SETUP).replace(".venv/bin/seqzarr", "seqzarr")


if __name__ == "__main__":
    try:
        print(command(sys.argv[1], README.read_text(encoding="utf-8")))
    except DocumentError as error:
        sys.exit(str(error))
