"""Mistakes with the arguments of a process function."""

from typing import Final

from tests.builder.messages.mistakes import Mistake

_MADE: Final = "--process tests.builder.functions.test_arguments:scaled"
_DOUBLED: Final = _MADE + " --arg factor=2"
_TEXT: Final = "--process tests.builder.text_sources:given"
_TEXT_OF_TWO: Final = _TEXT + " --classes cat,dog"
_FILES: Final = {"1.raw": "1"}

MISTAKES: Final = (
    Mistake("a codec that is none", "--codec gzip:5"),
    Mistake("a limit of failures that is no number", "--max-failures x"),
    Mistake("other chunks than the store has", "--chunk 8192", before=""),
    Mistake("other shards than the store has", "--shard 1MiB", before=""),
    Mistake("another codec than the store has", "--codec zstd", before=""),
    Mistake("a pattern that is no regular expression", "--sequence-from '(p'", {"p7.csv": "x\n1\n"}),
    Mistake("a group with a name of the format", r"--sequence-from '(?P<source>p\d)'", {"p7.csv": "x\n1\n"}),
    Mistake("a pattern that no file fits", r"--sequence-from '(\w+)_\d{8}'", {"p7-20240101.csv": "x\n1\n"}),
    Mistake(
        "files that differ",
        r"--sequence-from '(\w+)_'",
        {"p7_1.csv": "x\n1\n", "p7_2.csv": "y\n1\n", "p8_1.csv": "x\n1\n"},
    ),
    Mistake("an argument without a value", _MADE + " --arg factor", _FILES),
    Mistake("an argument twice", _MADE + " --arg factor=1 --arg factor=2", _FILES),
    Mistake("an argument that the function has not", _MADE + " --arg rate=1", _FILES),
    Mistake("an argument that the function needs", _MADE + " --arg shift=1", _FILES),
    Mistake("an argument that is no name", _MADE + " --arg 'my rate=1'", _FILES),
    Mistake("text as labels of a function", _TEXT, {"a.json": '{"x": [1], "y": ["cat"]}'}),
    Mistake("classes of labels of a function that are numbers", _TEXT_OF_TWO, {"a.json": '{"x": [1], "y": [3]}'}),
    Mistake("text of a function that the list misses", _TEXT_OF_TWO, {"a.json": '{"x": [1], "y": ["eel"]}'}),
    Mistake("an argument without a function", "--arg factor=1"),
    Mistake("another argument than the store was built with", "--arg factor=3", _FILES, before=_DOUBLED),
    Mistake("the same argument as another type", "--arg factor=2.0", _FILES, before=_DOUBLED),
    Mistake("an argument that the first build lacked", "--arg shift=1", _FILES, before=_DOUBLED),
    Mistake("commas in a .txt file", "", {"a.txt": "1,2,3\n4,5,6\n", "b.txt": "1, 2\n3, 4\n", "c.txt": "1,5\n2,5\n"}),
)
