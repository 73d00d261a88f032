"""Take README.md apart, and print a command of it, so that what CI runs is what the README says, letter for letter.

A command is a code block with the comment `<!-- ci: NAME -->` on the line before its fence:

    python tests/readme.py main-job
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCK = re.compile(
    r"^(?:<!-- (?P<mark>ci|file|set): (?P<name>[\w.-]+) -->\n+)?(?P<fence>`{3,})(?P<language>[^`\n]*)\n"
    r"(?P<text>.*?)^(?P=fence)$",
    re.MULTILINE | re.DOTALL,
)
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


class ReadmeError(Exception):
    """The README has no such command, or two of them; or one of its blocks does not do what it says."""


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced code block."""

    mark: str  # "ci", "file", "set" (of real files, in CONTRIBUTING.md), or nothing
    name: str  # what the mark names
    language: str
    text: str
    line: int  # of the README on which its fence stands, from 1


def blocks(readme: str) -> list[Block]:
    """Return the code blocks, in order."""
    return [
        Block(
            found["mark"] or "",
            found["name"] or "",
            found["language"],
            found["text"],
            readme.count("\n", 0, found.start("fence")) + 1,
        )
        for found in BLOCK.finditer(readme)
    ]


def sections(readme: str) -> dict[str, list[Block]]:
    r"""Return the code blocks under each heading of the second level.

    >>> [len(blocks) for blocks in sections("## One\n\n```sh\n# not a heading\n```\n\n## Two\n").values()]
    [1, 0]
    """
    found = blocks(readme)
    titles = [(heading[1], readme.count("\n", 0, heading.start()) + 1) for heading in HEADING.finditer(readme)]
    inside = [(block.line, block.line + block.text.count("\n") + 1) for block in found]
    titles = [(title, line) for title, line in titles if not any(low < line < high for low, high in inside)]
    bounds = [line for _, line in titles[1:]] + [sys.maxsize]
    return {
        title: [block for block in found if line < block.line < stop]
        for (title, line), stop in zip(titles, bounds, strict=True)
    }


def command(name: str, readme: str) -> str:
    r"""Return the text of the code block of `readme` that is marked `name`, without its last line end.

    Raises:
        ReadmeError: No block, or more than one, is marked `name`.

    >>> command("tests", "Run:\n\n<!-- ci: tests -->\n```sh\npython -m pytest\n```\n")
    'python -m pytest'
    """
    marked = [block for block in blocks(readme) if block.mark == "ci" and block.name == name]
    if len(marked) != 1:
        raise ReadmeError(
            f"README.md: {len(marked)} code blocks are marked '<!-- ci: {name} -->', but 1 is needed; "
            "put that comment on the line before the block's fence"
        )
    return marked[0].text.rstrip("\n")


if __name__ == "__main__":
    try:
        print(command(sys.argv[1], README.read_text(encoding="utf-8")))
    except ReadmeError as error:
        sys.exit(str(error))
