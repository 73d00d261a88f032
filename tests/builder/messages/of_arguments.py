"""Mistakes with the arguments of a process function."""

from __future__ import annotations

from typing import Final

from tests.builder.messages.mistakes import Mistake

_MADE: Final = ("--process", "tests.builder.test_arguments:scaled")
_FILES: Final = {"1.raw": "1"}

MISTAKES: Final = (
    Mistake(what="a codec that is none", options=("--codec", "gzip:5")),
    Mistake(
        what="a pattern that no file fits",
        options=("--sequence-from", r"(\w+)_\d{8}"),
        files={"p7-20240101.csv": "x\n1\n"},
    ),
    Mistake(
        what="files of one sequence that differ",
        options=("--sequence-from", r"(\w+)_"),
        files={"p7_1.csv": "x\n1\n", "p7_2.csv": "y\n1\n", "p8_1.csv": "x\n1\n"},
    ),
    Mistake(what="an argument without a value", options=(*_MADE, "--arg", "factor"), files=_FILES),
    Mistake(what="an argument twice", options=(*_MADE, "--arg", "factor=1", "--arg", "factor=2"), files=_FILES),
    Mistake(what="an argument that the function has not", options=(*_MADE, "--arg", "rate=1"), files=_FILES),
    Mistake(what="an argument that the function needs", options=(*_MADE, "--arg", "shift=1"), files=_FILES),
    Mistake(what="an argument that is no name", options=(*_MADE, "--arg", "my rate=1"), files=_FILES),
    Mistake(
        what="text as labels of a function",
        options=("--process", "tests.builder.text_sources:given"),
        files={"a.json": '{"x": [1], "y": ["cat"]}'},
    ),
    Mistake(
        what="classes of labels of a function that are numbers",
        options=("--process", "tests.builder.text_sources:given", "--classes", "cat,dog"),
        files={"a.json": '{"x": [1], "y": [3]}'},
    ),
    Mistake(
        what="text of a function that the list misses",
        options=("--process", "tests.builder.text_sources:given", "--classes", "cat,dog"),
        files={"a.json": '{"x": [1], "y": ["eel"]}'},
    ),
    Mistake(what="an argument without a function", options=("--arg", "factor=1")),
    Mistake(
        what="another argument than the store was built with",
        options=("--arg", "factor=3"),
        files=_FILES,
        before=(*_MADE, "--arg", "factor=2"),
    ),
    Mistake(
        what="commas in a file whose suffix says blanks",
        options=(),
        files={"a.txt": "1,2,3\n4,5,6\n", "b.txt": "1, 2\n3, 4\n", "c.txt": "1,5\n2,5\n"},
    ),
)
