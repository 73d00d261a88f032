"""Write the tables of flags in builder/README.md from the declarations: python -m tests.option_reference.

A table stands between `<!-- flags: SECTION; SECTION -->` and `<!-- end of flags -->`; the sections are those of
`seqzarr build --help`.
"""

import re
from pathlib import Path

from builder.cli.build_command import FLAGS
from builder.options.declaration import Option

README = Path(__file__).parents[1] / "builder" / "README.md"
MARKED = re.compile(
    r"(?<=<!-- flags: )(?P<sections>.+?)(?P<mark> -->\n)(?P<table>.*?)(?=<!-- end of flags -->)", re.DOTALL
)
CODE = re.compile(r"(?<![\w`])(?:'(?P<quoted>[^']+)'|(?P<flag>--[a-z-]*[a-z]))(?!\w)")


def written(text: str) -> str:
    """Return a document with new tables of flags."""
    return MARKED.sub(lambda found: f"{found['sections']}{found['mark']}{table(found['sections'].split('; '))}", text)


def table(sections: list[str]) -> str:
    """Return the table of the flags of some sections."""
    rows = [f"| {flag_cell(flag)} | {meaning(flag)} |" for name in sections for flag in FLAGS if flag.section == name]
    return "\n".join(["", "| flag | meaning |", "|---|---|", *rows, "", ""])


def flag_cell(flag: Option) -> str:
    """Return a flag as it is written, with the name of its value."""
    negative = f", `--no-{flag.name}`" if flag.kind == "switch" and flag.default is None else ""
    return f"`{flag.written} {flag.metavar}`" if flag.metavar else f"`{flag.written}`{negative}"


def meaning(flag: Option) -> str:
    """Return what a flag does, with code marked as such."""
    code = CODE.sub(lambda found: f"`{found['quoted'] or found['flag']}`", flag.flag_help)
    return code.replace("|", "\\|")


if __name__ == "__main__":
    README.write_text(written(README.read_text(encoding="utf-8")), encoding="utf-8")
