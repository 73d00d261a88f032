"""Options: impossible ones are refused at once; documentation and signatures follow from their declarations.

`tests/builder/messages/mistakes.txt` has the messages for most mistakes.
"""

import inspect
import re
from inspect import signature
from typing import Any

import pytest

import builder
from builder import UsageError, preview, tabular
from builder.cli.build_command import FLAGS, OF_COMMAND, OF_TABLES, options_of_tables
from builder.cli.build_command import build as build_command
from builder.options.declaration import describe, options_of, without_defaults
from builder.options.table_options import TableOptions
from builder.planning.build_options import BuildOptions
from tests.builder.messages.mistakes import SNAPSHOT, sections, snapshot
from tests.option_reference import MARKED, README, written

REFUSED = [
    # Formats and text.
    ({"format": "xml"}, "format='xml' is not one of csv, tsv, blank, jsonl, parquet, arrow, npy, npz"),
    ({"delimiter": "::"}, "delimiter='::' must be one ASCII character"),
    ({"delimiter": "\n"}, "must be one ASCII character, and no quote or line end"),
    ({"delimiter": ",", "format": "npy"}, "delimiter=',' has no meaning for format='npy'"),
    *(({"decimal": ",", "format": one}, "decimal=',' has no meaning") for one in ("parquet", "arrow", "npy", "npz")),
    *(({"decimal": mark}, "is not a decimal mark") for mark in ("", ";", ",,", "\u066b")),
    ({"column_names": ("a",), "header": True}, "column_names are for files without a header"),
    ({"column_names": ("a", "a")}, "column_names names 'a' twice"),
    ({"comment": "//"}, "comment='//' must be one ASCII character"),
    ({"skip_lines": -1}, "skip_lines=-1; it is a number of lines"),
    ({"skip_after_header": -1}, "skip_after_header=-1; it is a number of lines"),
    ({"skip_after_header": 1, "header": False}, r"skip_after_header=1 \(--skip-after-header\) is for files with a"),
    ({"encoding": "latin-1", "format": "parquet"}, "encoding='iso8859-1' has no meaning for format='parquet'"),
    *(({"encoding": name}, "is not known; latin-1, cp1252 and utf-16 are some") for name in ("klingon", "hex", "a\0b")),
    # Columns and labels.
    ({"inputs": ""}, "inputs='' names no column somewhere"),
    ({"inputs": "a,,b"}, "inputs='a,,b' names no column somewhere"),
    *(({"inputs": text}, "quotes go around a whole name") for text in ('"a', 'a,"b', '"a"b', 'a:"b,c', '"')),
    ({"label_pattern": "(1"}, "is not a regular expression: "),
    ({"dtype": "float23"}, "dtype='float23' is not a dtype"),
    ({"dtype": "4:"}, "dtype='4:' is not a dtype"),
    ({"dtype": "complex64"}, "dtype='complex64' cannot be stored"),
    ({"dtype": "str"}, "dtype='str' cannot be stored"),
    # Missing values and transforms.
    ({"missing": "drop+keep"}, "then at most one of"),
    ({"missing": "ffill+ffill"}, "each once"),
    ({"missing": ["a=drop", "a=keep"]}, "missing is given twice for a"),
    ({"missing": "=drop"}, "names no column somewhere"),
    *(({"missing": one, "mask": True}, "keeps which values were filled in, and goes with missing=")
      for one in (None, "drop", "keep", ["a=split"])),
    ({"transforms": "square a"}, "transform 'square a' begins with none of scale, clip, diff, log"),
    ({"transforms": "scale a=0"}, "a factor of 0 makes all values 0"),
    ({"transforms": "scale a=nan"}, "'nan' is not a number"),
    ({"transforms": "clip a=5"}, "is not of the form COL=LOW:HIGH"),
    ({"transforms": "clip a=:"}, "is not of the form COL=LOW:HIGH"),
    ({"transforms": "diff"}, "diff names no column; write COL"),
    # Times.
    ({"time": list("abcdefg")}, "time=a,b,c,d,e,f,g has 7 columns; give one, or a date and a time"),
    ({"time": "t,u", "elapsed": True, "time_unit": "s"}, "elapsed is for one column of numbers"),
    ({"time": "t", "duplicates": "median"}, "duplicates='median' is not one of error, first, last, mean"),
    ({"time": "t", "every": "0s"}, "every='0s' is not a duration"),
    ({"time": "t", "every": "0.5ns"}, "every='0.5ns' is not a duration"),
    *(({"time": "t", "every": one}, f"every='{one}' may mean months or minutes; write {number}min for minu")
      for one, number in (("15m", "15"), ("1M", "1"), ("1.5 M", "1.5"))),
    *(({"time": "t", "max_gap": one}, "is not a duration; write a number and one of ns, us, ms, s, min, h, d, w")
      for one in ("1MS", "1Ms", "1NS", "1US", "1ME", "1Y", "1 month", "2 years", "1L", "1t", "60T", "1hs", "2 hours",
                  "1hours2", "D", "1", "1B")),
    ({"time": "t", "time_zone": "Atlantis"}, "time_zone='Atlantis' is not a time zone; Europe/Berlin is one"),
    ({"time": "t", "time_zone": "../etc"}, "is not a time zone"),
    ({"time": "t", "time_zone": "UTC", "elapsed": True, "time_unit": "s"}, r"time_zone=UTC .* is for times of day"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "message"), REFUSED)
def test_impossible_options_are_refused_with_the_reason(options, message):
    with pytest.raises(UsageError, match=message):
        tabular(**options)


def test_messages_are_those_that_were_reviewed():
    """After an improvement, run python -m tests.builder.messages.mistakes, and read the difference."""
    assert snapshot() == SNAPSHOT.read_text(encoding="utf-8")


def test_every_mistake_is_refused_with_a_message_and_is_unique():
    mistakes = [mistake for section in sections().values() for mistake in section]
    assert len({mistake.what for mistake in mistakes}) == len(mistakes) >= 40
    text = SNAPSHOT.read_text(encoding="utf-8")
    assert "[exit status 0]" not in text
    assert "Traceback" not in text
    assert text.count("[exit status ") == len(mistakes)


def test_the_tables_of_flags_are_those_of_the_declarations():
    text = README.read_text(encoding="utf-8")
    assert written(text) == text, "run: python -m tests.option_reference"
    sections = [name for found in MARKED.finditer(text) for name in found["sections"].split("; ")]
    assert sorted(sections) == sorted({str(flag.section) for flag in FLAGS})


@pytest.mark.parametrize(
    ("function", "declaration"),
    [(builder.tabular, TableOptions), (builder.build, BuildOptions), (builder.preview, BuildOptions)],
)
def test_functions_have_the_declared_arguments_and_document_each(function, declaration):
    parameters = inspect.signature(function).parameters
    assert {name: one.default for name, one in parameters.items() if one.default is not one.empty} == {
        name: one.default for name, one in options_of(declaration).items() if name not in ("sources", "store")
    }
    documented = re.findall(r"^    (\w+): ", str(inspect.getdoc(function)).partition("\nReturns:")[0], re.MULTILINE)
    assert documented == [*parameters] == [*options_of(declaration)]
    with pytest.raises(TypeError, match=r"^got an unexpected keyword argument 'inptus'"):
        function(*["x"] * (declaration is BuildOptions) * 2, inptus="a")


def test_flags_in_documents_exist():
    known = {flag.written for flag in FLAGS}
    every = [*options_of(TableOptions).values(), *options_of(BuildOptions).values(), *FLAGS]
    assert {flag for one in every for flag in re.findall(r"--[a-z][a-z-]*[a-z]", one.help)} <= known


@pytest.mark.parametrize("option", options_of(TableOptions).values(), ids=lambda option: option.name)
def test_none_and_nothing_are_the_default_of_an_option(option):
    values = [None, option.default, *([[]] if option.kind in ("list", "columns") else [])]
    for value in values:
        given: dict[str, Any] = {option.name: value}
        assert TableOptions(**given) == TableOptions()


def test_options_recorded_only_if_given_are_otherwise_left_out():
    usual = {name for name, one in options_of(TableOptions).items() if one.record == "if given"}
    assert usual == {"decimal", "skip_after_header", "encoding", "comment", "time_zone"}
    assert describe(TableOptions()).keys() - without_defaults(TableOptions, describe(TableOptions())).keys() == usual
    given = describe(TableOptions(comment="#"))
    assert without_defaults(TableOptions, given)["comment"] == "#"


def test_every_option_of_the_command_has_a_section_and_is_an_argument_of_that_name():
    options = {one.name for one in build_command.params} - {"sources", "store", "more"}
    assert sorted(flag.name for flag in FLAGS if flag.section is not None) == sorted(options)
    of_tables, of_build, of_preview = (signature(one).parameters.keys() for one in (tabular, builder.build, preview))
    assert set(options_of_tables({flag.name for flag in OF_TABLES})) <= of_tables & tabular().describe().keys()
    assert of_build == of_preview
    of_command = {flag.name for flag in OF_COMMAND}
    assert options - of_command - {flag.name for flag in OF_TABLES} <= of_build
    assert not of_command & (of_build | of_tables)
