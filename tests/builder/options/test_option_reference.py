"""What follows from the declarations of options: documentation, signatures, and normalised values."""

from __future__ import annotations

import inspect
import re
from inspect import signature
from typing import Any

import pytest

import builder
from builder import UsageError, preview, tabular
from builder.cli.build_command import FLAGS, OF_COMMAND, OF_TABLES, options_of_tables
from builder.cli.build_command import build as build_command
from builder.options.declaration import Option, describe, options_of, without_defaults
from builder.options.table_options import TableOptions
from builder.planning.build_options import BuildOptions
from tests.option_reference import MARKED, README, written


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


def test_a_value_that_is_no_choice_is_refused():
    with pytest.raises(UsageError, match="axis='up' is not one of step, own"):
        Option("axis", None, help="", choices=("step", "own")).normalize("up")


def test_every_option_for_tables_is_recorded():
    assert set(options_of_tables({flag.name for flag in OF_TABLES})) <= set(tabular().describe())


def test_every_option_of_the_command_has_a_section_and_is_an_argument_of_that_name():
    options = {one.name for one in build_command.params} - {"places"}
    assert sorted(flag.name for flag in FLAGS if flag.section is not None) == sorted(options)
    of_tables, of_build, of_preview = (signature(one).parameters.keys() for one in (tabular, builder.build, preview))
    assert set(options_of_tables({flag.name for flag in OF_TABLES})) <= of_tables
    assert of_build == of_preview
    of_command = {flag.name for flag in OF_COMMAND}
    assert options - of_command - {flag.name for flag in OF_TABLES} <= of_build
    assert not of_command & (of_build | of_tables)
