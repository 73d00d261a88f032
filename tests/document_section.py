"""Run the code blocks of one section of a document, in order, in the working folder, as a reader would.

    python -m tests.document_section README.md "Train an LSTM"

The language of a block, or a comment on the line before it, says what it is:

* `sh`: commands, which must succeed; what they print is not compared.
* `console`: commands after `$`, each followed by all that it prints; `...` stands for anything.
* `python`: with `>>>`, a session whose output is compared; otherwise statements. A section has one namespace.
* `<!-- file: NAME -->`: a file that later blocks use.
* `<!-- ci: NAME -->`: a command that CI runs in a fresh clone, instead of this module.
* `<!-- untested: NAME -->`: Python that needs a system which tests do not have; nothing runs it.
* `text`: a picture.
"""

import doctest
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.documents import PROGRESS, REPOSITORY, Block, DocumentError, read_document, sections

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block, and what it should print."""

    text: str
    expected: str
    place: str


def commands(block: Block) -> Iterator[Command]:
    """Parse a console block."""
    lines = block.text.splitlines()
    if not lines or not lines[0].startswith("$ "):
        raise DocumentError(f"{block.place}: a console block begins with '$ ', or its language is another")
    starts = [number for number, line in enumerate(lines) if line.startswith("$ ")]
    for start, stop in zip(starts, [*starts[1:], len(lines)], strict=True):
        first_output = next(number for number in range(start, stop) if not lines[number].endswith("\\")) + 1
        text = "\n".join(lines[start:first_output]).removeprefix("$ ")
        yield Command(
            text, "".join(f"{line}\n" for line in lines[first_output:stop]), f"{block.document}:{block.line + start}"
        )


def run_section(blocks: list[Block]) -> int:
    """Run the blocks and print what fails; return how many were run."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    runs = {"sh": run_shell, "console": run_console, "file": write_file, "text": lambda _: None}
    count = 0
    for block in blocks:
        if block.mark in ("ci", "untested"):
            continue
        kind = "file" if block.mark == "file" else block.language
        if kind == "python":
            (run_session if ">>> " in block.text else run_statements)(block, namespace)
        elif kind in runs:
            runs[kind](block)
        else:
            raise DocumentError(f"{block.place}: a block of language {block.language!r}, which nothing runs")
        count += kind != "text"
    return count


def run_shell(block: Block) -> None:
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], check=False)
    if done.returncode:
        raise DocumentError(f"{block.place}: exit status {done.returncode} from\n{block.text}")


def environment_in(programs: Path, module: str = "builder") -> dict[str, str]:
    """Return an environment in which `seqzarr`, a module, and `python` belong to this checkout and this Python."""
    programs.mkdir()
    for name, arguments in (("seqzarr", f" -m {module}"), ("python", "")):
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}"{arguments} "$@"\n', encoding="utf-8")
        (programs / name).chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(REPOSITORY), "COLUMNS": "80"}


def run_console(block: Block, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> None:
    """Run the commands of a block, by default in the working folder, and compare what they print."""
    for command in commands(block):
        printed = bash(command.text, command.place, folder, environment)
        if not doctest.OutputChecker().check_output(command.expected, PROGRESS.sub("", printed), OPTIONS):
            raise DocumentError(f"{command.place}: {command.text}\nExpected:\n{command.expected}\nGot:\n{printed}")


def bash(text: str, place: str, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run commands, by default in the working folder; return what they print.

    Raises:
        DocumentError: They failed.
    """
    command, output = ["bash", "-euo", "pipefail", "-c", text], subprocess.PIPE
    done = subprocess.run(
        command, cwd=folder, env=environment, check=False, stdout=output, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise DocumentError(f"{place}: exit status {done.returncode} from {text}\n{done.stdout}")
    return done.stdout


def write_file(block: Block) -> None:
    Path(block.name).write_text(block.text, encoding="utf-8")


def run_statements(block: Block, namespace: dict[str, Any]) -> None:
    exec(compile("\n" * block.line + block.text, block.document, "exec"), namespace)  # noqa: S102 - the document's own code


def run_session(block: Block, namespace: dict[str, Any]) -> None:
    test = doctest.DocTestParser().get_doctest(
        block.text, namespace, block.document, str(REPOSITORY / block.document), block.line
    )
    test.globs = namespace  # not its copy: later blocks use the names
    if doctest.DocTestRunner(optionflags=OPTIONS).run(test, clear_globs=False).failed:
        raise DocumentError(f"{block.place}: the session above printed something else")


def main(document: str, title: str) -> None:
    """Run the section of that title."""
    every = sections(read_document(document), document)
    if title not in every:
        raise DocumentError(f"{document}: there is no section {title!r}; there are {', '.join(every)}")
    print(f"{run_section(every[title])} blocks run")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except DocumentError as error:
        sys.exit(str(error))
