"""A later build needs sources and store alone: what the store records of the first one, and what differs from it."""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st

import builder
import store_spec
from builder.build_errors import UsageError
from builder.cli.build_command import OF_COMMAND, OF_TABLES, BuildCommand, options_of_tables
from builder.cli.build_command import build as build_command
from builder.execution.preview import preview
from builder.frames.tabular import Tabular, tabular
from builder.planning.resolved_options import tabular_from_json
from builder.processes.function_options import FunctionOptions, is_valid_record
from builder.processes.process import load_process
from builder.processes.process_code import code_of
from builder.sources.folder import LocalFolder
from store_spec.disk.ledger import Ledger
from store_spec.disk.storage import LocalStorage
from store_spec.errors import StorageError
from store_spec.format.layout import ROOT
from store_spec.schema import Rows, Schema
from tests.builder.command import seqzarr
from tests.builder.made_sources import Made, made_sequences, read_made, write_made
from tests.builder.source_files import write_files
from tests.store.oracle import files

OF_TEXT = ["--inputs", "a,b", "--labels", "c", "--dtype", "float32", "--delimiter", ";"]

READER = """
import json
from pathlib import Path
import numpy as np

def read(path):
    rows = json.loads(Path(path).read_text())
    return [(np.full((n, 2), {factor}, np.float32), np.zeros(n, np.int8)) for n in rows]

def other(path):
    return read(path)
"""

ONCE = """
calls, read_always = [], read

def read(path):
    calls.append(path)
    if len(calls) == 2:
        raise ValueError("not twice")
    return read_always(path)
"""


def build(*arguments: object) -> Result:
    return seqzarr("build", *arguments, "--workers", 0)


def code(factor: int) -> str:
    """Return the fingerprint of `read` in this version of the module, in a module of another name."""
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "any_reader.py")).write_text(READER.format(factor=factor))
        module = ModuleType("any_reader")
        exec(compile(path.read_text(), path, "exec"), vars(module))  # noqa: S102
        return str(code_of(module.read).sha256)


def recorded(store: Path) -> Any:
    return store_spec.open_store(store).provenance["build"]


@pytest.fixture
def tables(tmp_path):
    """Three text files, one of which sorts after the others and comes later."""
    write_files(tmp_path / "src", {f"{number}.txt": f"a;b;c\n{number};2;3\n4;5;6\n" for number in range(2)})
    return tmp_path


class Reader:
    """The module `my_reader` in the working folder: its code can change, as between two commands."""

    def __init__(self, place: Path) -> None:
        self.place = place
        (place / "src").mkdir()

    def write(self, factor: int) -> None:
        sys.modules.pop("my_reader", None)
        (self.place / "my_reader.py").write_text(READER.format(factor=factor))

    def add(self, **lengths: list[int]) -> None:
        for name, each in lengths.items():
            (self.place / "src" / f"{name}.rows").write_text(json.dumps(each))

    def build(self, store: str = "store", **options: Any) -> builder.Report:
        options = {"workers": 0, "batch": 1} | options
        return builder.build(self.place / "src", self.place / store, **options)


@pytest.fixture
def reader(tmp_path, monkeypatch) -> Iterator[Reader]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions within a second would be taken for one
    yield Reader(tmp_path)
    sys.modules.pop("my_reader", None)


def test_a_later_build_of_tables_needs_no_options_and_makes_what_one_build_of_all_would(tables):
    src, store = tables / "src", tables / "t.zarr"
    assert build(src, store, *OF_TEXT).exit_code == 0
    (src / "2.txt").write_text("c;b;a\n1;2;3\n")
    dry = seqzarr("build", src, store, "--dry-run")
    assert (dry.exit_code, dry.stderr) == (0, "")
    assert "3 found, 1 to process" in dry.stdout
    again = build(src, store)
    assert again.stdout.startswith("t.zarr: 1 source added, 2 unchanged")
    assert build(src, tables / "whole.zarr", *OF_TEXT).exit_code == 0
    assert files(store) == files(tables / "whole.zarr")
    assert store_spec.open_store(store)[2][0].tolist() == [[3, 2]]
    report = builder.build(src, store)
    assert (report.added, report.unchanged, report.outdated) == (0, 3, ())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["--inputs", "a,b"], ""),
        (["--inputs", "a, b", "--delimiter", ";"], ""),
        (["--dtype", "f4"], ""),
        (["--label-axis", "step"], ""),
        (["--inputs", "a"], "was built with inputs a,b, but the option is now inputs a; leave it out"),
        (["--labels", "c", "--inputs", "b"], "inputs a,b, but the option is now inputs b"),
        (["--exclude", "d"], "exclude not given, but the option is now exclude d"),
        (["--dtype", "f8"], "dtype float32, but the option is now dtype float64"),
        (["--no-header"], "header not given, but the option is now header False"),
        (["--header"], "header not given, but the option is now header True"),
        (["--format", "csv"], "format not given, but the option is now format csv"),
        (["--column-names", "x,y"], "column_names not given, but the option is now column_names x,y"),
        (["--label-key", "y"], "label_key labels, but the option is now label_key y"),
        (["--label-pattern", r"(\d)"], r"label_pattern not given, but the option is now label_pattern (\d)"),
        (["--label-axis", "own"], "label_axis step, but the option is now label_axis own"),
        (
            ["--process", "tests.builder.made_sources:read_made"],
            "tabular, but the option is now function tests.builder.made_sources",
        ),
        (["--manifest", "m.csv"], "manifest not given, but the option is now manifest m.csv"),
        (["--key", "file"], "key goes with a manifest, and none is given"),
        (["--keep", "site"], "keep goes with a manifest, and none is given"),
        (["--manifest-only"], "manifest_only goes with a manifest, and none is given"),
    ],
)
def test_only_what_is_given_is_compared_and_what_differs_is_refused_with_both_values(tables, asked, message):
    src, store = tables / "src", tables / "t.zarr"
    build(src, store, *OF_TEXT)
    before = files(store)
    for dry in ([], ["--dry-run"]):
        result = build(src, store, *asked, *dry)
        assert message in result.stderr
        assert result.exit_code == (2 if message else 0)
        assert files(store) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "alone", "other", "message"),
    [
        (
            ["--missing", "ffill", "--ffill-limit", "3"],
            ["--ffill-limit", "3"],
            ["--ffill-limit", "4"],
            "ffill_limit 3, but the option is now ffill_limit 4",
        ),
        (
            ["--missing", "ffill"],
            [],
            ["--ffill-limit", "4"],
            "ffill_limit not given, but the option is now ffill_limit 4",
        ),
        ([], [], ["--ffill-limit", "4"], "ffill_limit=4 goes with missing=ffill (--missing ffill)"),
        (
            ["--time", "t", "--time-unit", "s", "--max-gap", "2h"],
            ["--max-gap", "120 min", "--time-unit", "s"],
            ["--max-gap", "1h"],
            "max_gap 2h, but the option is now max_gap 1h",
        ),
        (
            ["--time", "t", "--time-unit", "s"],
            ["--time-unit", "s"],
            ["--sort-time"],
            "sort_time False, but the option is now sort_time",
        ),
        (
            ["--time", "t", "--time-unit", "s", "--elapsed"],
            ["--elapsed"],
            ["--every", "1s"],
            "every not given, but the option is now",
        ),
        ([], [], ["--max-gap", "1h"], "max_gap (--max-gap) goes with time"),
        (["--labels", "k", "--classes", "p,q"], ["--classes", "p, q"], ["--classes", "p,q,r"], "p,q,r"),
        (["--labels", "k"], [], ["--classes", "p,q"], "classes not given, but the option is now classes p,q"),
        ([], [], ["--classes", "p,q"], "but no labels are named; name the labels"),
        (
            ["--labels-from", "y/{stem}.csv", "--on", "t", "--join", "left"],
            ["--join", "left"],
            ["--on", "x"],
            "on t, but the option is now on x",
        ),
        (
            ["--labels-from", "y/{stem}.csv", "--on", "t"],
            ["--on", "t"],
            ["--join", "left"],
            "inner, but the option is now join left",
        ),
        (
            ["--labels-from", "y/{stem}.csv", "--on", "t", "--join", "left"],
            ["--labels-from", "y/{stem}.csv", "--on", "t", "--join", "left"],
            ["--labels-from", "y/{stem}.csv", "--on", "t", "--join", "inner"],
            "join left, but the option is now join inner",
        ),
        (
            ["--labels-from", "y/{stem}.csv", "--label-axis", "own"],
            ["--labels-from", "y/{stem}.csv"],
            ["--label-axis", "step"],
            "label_axis own, but the option is now label_axis step",
        ),
        (
            ["--missing", "drop"],
            ["--missing", " drop "],
            ["--missing", "split"],
            "missing drop, but the option is now missing split",
        ),
        (["--missing", "drop"], [], ["--missing", "error"], "missing drop, but the option is now missing not given"),
        ([], [], ["--na-values", "5"], "na_values not given, but the option is now na_values 5"),
        (
            ["--log", "x", "--scale", "x=2"],
            ["--log", "x", "--scale", "x=2"],
            ["--scale", "x=2", "--log", "x"],
            "transforms log x,scale x=2, but the option is now transforms scale x=2,log x",
        ),
        (
            ["--missing", "ffill", "--mask"],
            ["--mask"],
            ["--missing", "ffill+drop"],
            "missing ffill, but the option is now missing ffill+dr",
        ),
        (["--missing", "ffill"], [], ["--mask"], "mask False, but the option is now mask True"),
        (
            ["--sequence-from", "(a)"],
            ["--sequence-from", "(a)"],
            ["--sequence-from", "(.)"],
            "(a), but the option is now sequence_f",
        ),
    ],
)
def test_an_option_that_goes_with_others_may_be_given_alone_where_the_store_records_those(
    tmp_path, first, alone, other, message
):
    src, store = tmp_path / "src", tmp_path / "t.zarr"
    (src / "y").mkdir(parents=True)
    (src / "a.csv").write_text("t,x,k\n1,2,p\n2,3,q\n")
    if "--labels-from" in first:
        (src / "y" / "a.csv").write_text("t,z\n2,5\n1,6\n")
    exclude = [] if "k" in first else ["--exclude", "k"]
    assert build(src, store, *first, *exclude).stderr == ""
    before = files(store)
    for dry in ([], ["--dry-run"]):
        result = build(src, store, *alone, *dry)
        assert (result.exit_code, result.stderr) == (0, "")
        result = build(src, store, *other, *dry)
        assert message in result.stderr
        assert result.exit_code == 2
    assert files(store) == before


def test_an_option_that_goes_with_others_is_refused_alone_of_a_new_store_and_of_what_is_none(tmp_path):
    (tmp_path / "a.csv").write_text("x\n1\n")
    (tmp_path / "other").mkdir()
    for store in ("t.zarr", "other"):
        result = build(tmp_path / "a.csv", tmp_path / store, "--ffill-limit", "3")
        assert (result.exit_code, "goes with missing=ffill" in result.stderr) == (2, True)


def test_every_option_for_tables_is_recorded():
    assert set(options_of_tables([flag.name for flag in OF_TABLES])) <= set(tabular().describe())


def test_every_option_of_the_command_has_a_section_and_is_an_argument_of_that_name():
    options = {one.name for one in build_command.params} - {"places"}
    sections = [name for names in BuildCommand.sections.values() for name in names]
    assert sorted(sections) == sorted(options)
    of_tables, of_build, of_preview = (signature(one).parameters.keys() for one in (tabular, builder.build, preview))
    assert set(options_of_tables([flag.name for flag in OF_TABLES])) <= of_tables
    assert of_build == of_preview
    of_command = {flag.name for flag in OF_COMMAND}
    assert options - of_command - {flag.name for flag in OF_TABLES} <= of_build
    assert not of_command & (of_build | of_tables)


def test_in_python_a_tabular_object_is_compared_as_a_whole(tables):
    src, store = tables / "src", tables / "t.zarr"
    whole = tabular(inputs="a,b", labels="c", delimiter=";")
    builder.build(src, store, process=whole)
    builder.build(src, store, process=tabular(inputs=["a", "b"], labels=["c"], delimiter=";"))
    for other, message in (
        (tabular(), "delimiter ;, but the option is now delimiter not given"),
        (tabular(inputs="a,b", labels="c"), "delimiter ;, but the option is now delimiter not given"),
        (
            tabular(inputs="a,b", delimiter=";"),
            "label_source columns, but the option is now label_source inputs|labels c, but the option is now",
        ),
        (tabular(inputs=["a,b"], labels="c", delimiter=";"), "inputs a,b, but the option is now inputs a,b"),
    ):
        with pytest.raises(UsageError, match=message):
            builder.build(src, store, process=other)


columns = st.lists(st.text(min_size=1, max_size=4), min_size=1, max_size=3, unique=True)
some: st.SearchStrategy[list[str]] = st.just([]) | columns


TIMES: list[dict[str, Any]] = [
    {},
    {"time": "t", "time_unit": "ms", "elapsed": True},
    {"time": "y,m,d", "sort_time": True, "duplicates": "mean"},
    {"time": ["t"], "time_format": ["%Y, %d %b", "%d.%m.%y"], "max_gap": "1.5 h", "every": "10s"},
]


@st.composite
def tabulars(draw: st.DrawFn) -> Tabular:
    """Draw any options that go together."""
    source = draw(st.sampled_from(["inputs", "columns", "pattern", "manifest"]))
    names = draw(some)
    fills = draw(st.booleans())
    return tabular(
        inputs=draw(some),
        labels=draw(columns) if source == "columns" else (),
        exclude=draw(some),
        dtype=draw(st.sampled_from([None, "float32", ">i2", "bool"])),
        format=draw(st.sampled_from([None, "csv", "blank"])),
        delimiter=draw(st.sampled_from([None, "\t", "|"])),
        decimal=draw(st.sampled_from([".", ","])),
        header=draw(st.sampled_from([None, False] if names else [None, False, True])),
        column_names=names,
        input_key=draw(st.text(max_size=3)),
        label_key=draw(st.text(max_size=3)),
        label_pattern=draw(st.sampled_from([r"(\d)", "a(?P<x>.)"])) if source == "pattern" else None,
        labels_in_manifest=source == "manifest",
        group_by=draw(some),
        **draw(st.sampled_from(TIMES)),
        missing=draw(st.sampled_from([[], ["error"], ["drop"], ["a=split", " drop "]])) + (["b,c= ffill+drop"] * fills),
        ffill_limit=draw(st.none() | st.integers(1)) if fills else None,
        mask=fills and draw(st.booleans()),
        na_values=draw(some),
        transforms=draw(st.lists(st.sampled_from(["scale a=2", "clip a,b = 0.50:", "diff a:c", "log x=y"]))),
    )


@given(made=tabulars())
def test_what_a_store_records_of_tabular_makes_it_again(made):
    assert tabular_from_json(json.loads(json.dumps(made.recorded()))) == made


@pytest.fixture
def listed(tmp_path):
    """Three arrays and a manifest of them in one folder."""
    (tmp_path / "src").mkdir()
    for number in range(3):
        np.save(tmp_path / "src" / f"{number}.npy", np.full((2, 1), number, np.float32))
    (tmp_path / "src" / "labels.csv").write_text("file,y,z\n0,5,6\n1,7,8\n")
    return tmp_path


OF_LIST = ["--key", "file", "--label-column", "y,z", "--manifest-only"]


def test_a_manifest_below_the_sources_is_found_again_and_is_never_a_source(listed, monkeypatch):
    src, store = listed / "src", listed / "t.zarr"
    monkeypatch.chdir(src)
    assert build(".", store, "--manifest", "labels.csv", *OF_LIST, "--keep", "z,y").exit_code == 0
    manifest = {"key": "file", "columns": ["y", "z"], "keep": ["z", "y"], "only_listed": True, "path": "labels.csv"}
    assert recorded(store)["manifest"] == manifest
    monkeypatch.chdir(listed)
    (src / "labels.csv").write_text("file,y,z\n0,5,6\n1,7,8\n2,9,10\n")
    (listed / "link").symlink_to("src")
    assert build("link", store).stdout.startswith("t.zarr: 1 source added, 2 unchanged")
    assert [labels.tolist() for _, labels in store_spec.open_store(store)] == [[5, 6], [7, 8], [9, 10]]
    assert build("src/*.npy", store, "--label-column", "y, z", "--manifest-only").exit_code == 0
    # Another one is used where it is given; the first is no source all the same.
    shutil.copy(src / "labels.csv", listed / "other.csv")
    again = build("src", store, "--manifest", "other.csv")
    assert again.stdout == "t.zarr: nothing new, 3 unchanged; 0 failed\n"
    assert recorded(store)["manifest"] == manifest
    for asked, message in (
        (["--key", "y"], "was built with key file, but the option is now key y"),
        (["--label-column", "y"], "was built with label_column y,z, but the option is now label_column y"),
        (["--keep", "y,z"], "was built with keep z,y, but the option is now keep y,z"),
        (["--inputs", "0"], "was built with inputs not given, but the option is now inputs 0"),
    ):
        assert message in build("src", store, *asked).stderr
    (src / "labels.csv").unlink()
    gone = build("src", store)
    assert gone.exit_code == 2
    assert "a manifest that was labels.csv in src, and no longer exists; repeat the option manifest (--m" in gone.stderr
    assert build("src", store, "--manifest", "other.csv").exit_code == 0


def test_the_first_manifest_is_no_source_where_another_is_given(listed):
    src, store = listed / "src", listed / "t.zarr"
    (src / "labels.csv").write_text("source,y\n0,5\n1,6\n2,7\n")
    assert build(src, store, "--manifest", src / "labels.csv", "--label-column", "y").exit_code == 0
    shutil.copy(src / "labels.csv", listed / "other.csv")
    again = build(src, store, "--manifest", listed / "other.csv")
    assert (again.stderr, again.stdout) == ("", "t.zarr: nothing new, 3 unchanged; 0 failed\n")


def test_a_manifest_that_lies_elsewhere_has_to_be_given_again(listed):
    src, store = listed / "src", listed / "t.zarr"
    manifest = (src / "labels.csv").rename(listed / "labels.csv")
    build(src, store, "--manifest", manifest, "--key", "file", "--manifest-only")
    whole = {"key": "file", "columns": None, "keep": None, "only_listed": True, "path": None}
    assert recorded(store)["manifest"] == whole
    result = build(src, store)
    assert result.exit_code == 2
    assert "was built with a manifest that was outside the sources; repeat the option" in result.stderr
    assert build(src, store, "--manifest", manifest).exit_code == 0
    result = build(src, store, "--manifest", manifest, "--label-column", "y")
    assert "label_column not given, but the option is now label_column y" in result.stderr
    result = build(src, store, "--manifest", manifest, "--keep", "y")
    assert "keep not given, but the option is now keep y" in result.stderr


def test_no_manifest_is_opened_outside_of_the_sources_whatever_a_store_says(tmp_path):
    root = tmp_path / "root"
    (root / "in").mkdir(parents=True)
    for path in (tmp_path / "out.csv", root / "in" / "m.csv"):
        path.write_text("")
    (root / "link.csv").symlink_to(tmp_path / "out.csv")
    (root / "inner.csv").symlink_to("in/m.csv")
    (root / "loop.csv").symlink_to("loop.csv")
    (root / "up").symlink_to(tmp_path)
    inside = root / "in" / "m.csv"
    assert LocalFolder(root).find("in/m.csv") == inside.resolve()
    assert LocalFolder(root).find("inner.csv") == inside.resolve()
    bad = ["../out.csv", "in/../../out.csv", "in/../in/m.csv", str(inside), "/etc/passwd", "link.csv", "up/out.csv"]
    for place in [*bad, "loop.csv", "in", "", ".", "a\0b", "x" * 5_000, "none.csv"]:
        assert LocalFolder(root).find(place) is None, place
    assert LocalFolder(root / "in" / "..").place_of(inside) == "in/m.csv"
    assert LocalFolder(root).place_of(root / "link.csv") is None
    assert LocalFolder(root).place_of(tmp_path / "out.csv") is None
    assert LocalFolder(root).place_of(root / "in" / "\udc80.csv") is None


def test_the_label_axis_may_be_given_again_and_is_as_the_store_has_it(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made(lengths=(3,), axis="own")})
    builder.build(tmp_path / "src", tmp_path / "store", process=read_made, label_axis="own", workers=0)
    # In a new store nobody could tell what its labels are.
    several = (Made(lengths=(4,), axis="own", seed=seed) for seed in range(99))
    unlike = next(made for made in several if len(made_sequences("", made)[0].labels) != 4)
    write_made(tmp_path / "src", {"b.made": unlike})
    report = builder.build(tmp_path / "src", tmp_path / "store", workers=0)
    assert (report.added, report.failures) == (1, ())
    builder.build(tmp_path / "src", tmp_path / "store", label_axis="own", workers=0)
    with pytest.raises(UsageError, match="label_axis own, but the option is now label_axis step"):
        builder.build(tmp_path / "src", tmp_path / "store", label_axis="step", workers=0)


def test_a_function_is_found_by_the_name_that_the_store_records_and_another_is_refused(reader, monkeypatch):
    reader.write(1)
    reader.add(a=[3], b=[2, 2])
    assert build("src", "store", "--process", "my_reader:read", "--label-axis", "step").exit_code == 0
    assert recorded(reader.place / "store")["process"] == {"function": "my_reader:read"}
    reader.add(c=[1])
    sys.modules.pop("my_reader")
    assert build("src", "store").stdout.startswith("store: 1 source added, 2 unchanged")
    assert build("src", "store", "--process", "my_reader:read").exit_code == 0
    for asked, message in (
        (["--process", "my_reader:np.zeros"], "my_reader has no np.zeros"),
        (["--process", "my_reader:other"], "function my_reader:read, but the option is now function my_reader:other"),
        (["--inputs", "a"], "was built with function my_reader:read, but the option is now inputs a"),
        (["--label-axis", "own"], "label_axis step, but the option is now label_axis own"),
    ):
        result = build("src", "store", *asked)
        assert message in result.stderr
        assert result.exit_code == 2
    with pytest.raises(UsageError, match="built with function my_reader:read, but the option is now tabular"):
        reader.build(process=tabular())
    (reader.place / "elsewhere").mkdir()
    monkeypatch.chdir(reader.place / "elsewhere")
    sys.modules.pop("my_reader")
    with pytest.raises(UsageError, match="store: process 'my_reader:read': there is no module my_reader in"):
        reader.build()


def test_a_function_that_has_no_name_is_given_again(tmp_path):
    def mine(path: Path) -> Any:
        return read_made(path)

    write_made(tmp_path / "src", {"a.made": Made()})
    builder.build(tmp_path / "src", tmp_path / "store", process=mine, workers=0)
    with pytest.raises(
        UsageError, match=r"store: the process function .* cannot be found by its name; give the function with"
    ):
        builder.build(tmp_path / "src", tmp_path / "store", workers=0)
    builder.build(tmp_path / "src", tmp_path / "store", process=mine, workers=0)


AS_SCRIPT = """
if __name__ == "__main__":
    import builder

    builder.build("src", "store", process=read, workers=0)
"""


def as_script(reader: Reader) -> None:
    """Build as `python my_reader.py` does, where the function is one of `__main__`."""
    (reader.place / "my_reader.py").write_text(READER.format(factor=1) + AS_SCRIPT)
    root = str(Path(builder.__file__).parent.parent)
    subprocess.run([sys.executable, "my_reader.py"], check=True, env=os.environ | {"PYTHONPATH": root}, timeout=120)


def as_partial(reader: Reader) -> None:
    reader.build(process=functools.partial(load_process("my_reader:read")))


def as_lambda(reader: Reader) -> None:
    read = load_process("my_reader:read")
    reader.build(process=lambda path: [*read(path)])


def by_another_module(reader: Reader) -> None:
    (reader.place / "my_reader.py").rename(reader.place / "their_reader.py")
    reader.build(process="their_reader:read")
    (reader.place / "their_reader.py").rename(reader.place / "my_reader.py")
    sys.modules.pop("their_reader")


def by_another_name(reader: Reader) -> None:
    before = (reader.place / "my_reader.py").read_text()
    (reader.place / "my_reader.py").write_text(before.replace("read(", "load("))
    reader.build(process="my_reader:load")
    sys.modules.pop("my_reader")
    (reader.place / "my_reader.py").write_text(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("first", "name", "same"),
    [
        (as_script, "__main__:read", True),
        (by_another_module, "their_reader:read", True),
        (by_another_name, "my_reader:load", False),
        (as_partial, "functools:partial()", False),
        (as_lambda, "tests.builder.test_recorded:as_lambda.<locals>.<lambda>", False),
    ],
)
def test_where_a_recorded_name_leads_nowhere_the_function_that_is_given_is_called(reader, first, name, same):
    reader.write(1)
    reader.add(a=[3], b=[2, 2])
    first(reader)
    store, given = reader.place / "store", ["--process", "my_reader:read"]
    assert recorded(store)["process"] == {"function": name}
    before = files(store)
    verified = ["verify", "store", "--sources", "src", "--workers", 0]
    for asked in (["build", "src", "store"], ["build", "src", "store", "--dry-run"], verified, [*verified, "--repair"]):
        result = seqzarr(*asked)
        assert result.exit_code == 2
        assert result.stderr.endswith("give the function with process (--process)\n")
    assert seqzarr(*verified, *given).stdout.startswith("all well: 3 sequences")
    next(store.glob("inputs/c*0")).unlink()
    assert seqzarr(*verified, *given, "--repair").exit_code == 0
    assert build("src", "store", *given).exit_code == 0
    assert files(store) == before
    assert reader.build(process="my_reader:read").outdated == (() if same else ("a.rows", "b.rows"))
    reader.add(c=[1])
    assert build("src", "store", *given).stdout.startswith("store: 1 source added, 2 unchanged")
    expected = recorded(store)["code"][:1] + ([] if same else [[3, code_of(load_process("my_reader:read")).sha256]])
    assert recorded(store) == {
        "process": {"function": name}, "label_axis": None, "manifest": None, "code": expected
    }  # fmt: skip
    if same:  # by whatever name, the store is what one build would have made
        grown = files(store)
        shutil.rmtree(store)
        first(reader)
        assert files(store) == grown


def test_another_function_is_refused_where_the_recorded_one_is_found_and_what_is_advised_can_be_done(reader):
    reader.write(1)
    reader.add(a=[3])
    (reader.place / "own.py").write_text("from my_reader import read\n\ndef mine(path):\n    return read(path)\n")
    reader.build(process="own:mine")
    sys.modules.pop("own")
    refused = "was built with function own:mine, but the option is now function my_reader:read; "
    result = build("src", "store", "--process", "my_reader:read")
    assert (result.exit_code, f"{refused}leave it out, since the store records it" in result.stderr) == (2, True)
    assert build("src", "store").exit_code == 0
    for text, why in (
        ("import no_such_module_anywhere", "module own cannot be imported"),
        ("1 / 0", "importing it failed: ZeroDivisionError"),
        ("from os import remove as mine", "is in an installed package"),
    ):
        (reader.place / "own.py").write_text(text)
        sys.modules.pop("own", None)
        assert why in build("src", "store").stderr
        result = build("src", "store", "--process", "my_reader:read")
        assert (
            f"{refused}give own:mine with process (--process), build to another path, or remove this store"
            in result.stderr
        )
        assert result.exit_code == 2
    sys.modules.pop("own", None)


def test_a_tabular_object_that_is_given_by_its_name_is_compared_as_one(tables, monkeypatch):
    monkeypatch.chdir(tables)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made = [f"{name} = tabular(inputs={column!r}, delimiter=';')" for name, column in (("table", "a"), ("other", "b"))]
    (tables / "my_tables.py").write_text("\n".join(["from builder import tabular", *made]))
    try:
        for _ in range(2):
            assert build("src", "t", "--process", "my_tables:table").exit_code == 0
        result = build("src", "t", "--process", "my_tables:other")
        assert "was built with inputs a, but the option is now inputs b; leave it out" in result.stderr
    finally:
        sys.modules.pop("my_tables", None)


def test_the_store_says_which_sequences_come_from_which_code_and_the_build_which_sources_from_another(reader):
    reader.write(1)
    reader.add(a=[3], b=[2, 2], d=[1])
    assert reader.build(process="my_reader:read").outdated == ()
    store = reader.place / "store"
    assert recorded(store)["code"] == [[0, code(1)]]
    before = files(store)
    reader.write(2)
    assert reader.build().outdated == ("a.rows", "b.rows", "d.rows")
    assert files(store) == before
    reader.add(c=[5, 5, 5], e=[1])
    assert reader.build().outdated == ("a.rows", "b.rows", "d.rows")
    assert recorded(store)["code"] == [[0, code(1)], [4, code(2)]]
    reader.add(f=[1])
    assert reader.build().outdated == ("a.rows", "b.rows", "d.rows")
    assert recorded(store)["code"] == [[0, code(1)], [4, code(2)]]
    reader.write(1)
    reader.add(g=[1])
    assert reader.build().outdated == ("c.rows", "e.rows", "f.rows")
    assert recorded(store)["code"] == [[0, code(1)], [4, code(2)], [9, code(1)]]
    opened = store_spec.open_store(store)
    assert [float(inputs.mean()) for inputs, _ in opened] == [1, 1, 1, 1, 2, 2, 2, 2, 2, 1]
    reader.write(3)
    assert reader.build().outdated == tuple(dict.fromkeys(opened.sources))


def test_code_that_adds_no_sequence_leaves_no_trace(reader):
    reader.write(1)
    reader.add(a=[3])
    reader.build(process="my_reader:read")
    reader.write(2)
    (reader.place / "src" / "b.rows").write_text("broken")
    assert len(reader.build().failures) == 1
    assert store_spec.open_store(reader.place / "store").provenance["failures"]["count"] == 1
    assert recorded(reader.place / "store")["code"] == [[0, code(1)]]
    # The same where the source can be used when it is looked at, and no more when it is read.
    reader.add(b=[2])
    sys.modules.pop("my_reader")
    (reader.place / "my_reader.py").write_text(READER.format(factor=2) + ONCE)
    (failure,) = reader.build().failures
    assert re.fullmatch(r"ValueError: not twice \(my_reader\.py, line \d+, in read\)", failure.reason)
    assert recorded(reader.place / "store")["code"] == [[0, code(1)]]


@pytest.mark.slow
@pytest.mark.parametrize("commits", [0, 1, 2, 5])
def test_a_build_with_new_code_that_was_cut_off_after_some_commits_ends_with_the_same_bytes(
    reader, monkeypatch, commits
):
    store, whole = reader.place / "store", reader.place / "whole"
    reader.write(1)
    reader.add(a=[3], b=[2, 2])
    reader.build("store", process="my_reader:read", chunk=40, shard=80)
    shutil.copytree(store, whole)
    reader.write(2)
    reader.add(**{f"c{number}": [number, 4] for number in range(8)})
    reader.build("whole")
    monkeypatch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
    with monkeypatch.context() as patch:
        refuse_after(commits, patch)
        with pytest.raises(StorageError):
            reader.build("store")
    both = [[0, code(1)], [3, code(2)]]
    assert recorded(store)["code"] == (both if commits else both[:1])
    assert 3 + commits <= len(store_spec.open_store(store)) < 19
    reader.build("store")
    assert recorded(store)["code"] == both
    assert files(store) == files(whole)


def refuse_after(commits: int, patch: pytest.MonkeyPatch) -> None:
    """Let the disk refuse every put after so many commits."""
    done, put = 0, LocalStorage.put

    def refusing(storage: LocalStorage, key: str, parts: Any, check: Any = None) -> None:
        nonlocal done
        if done == commits:
            raise StorageError(28, f"{key}: no space left")
        put(storage, key, parts, check)
        done += key == ROOT

    patch.setattr(LocalStorage, "put", refusing)


def test_the_command_says_in_one_line_which_sources_older_code_made(reader):
    reader.write(1)
    reader.add(**{f"s{number}": [1] for number in range(7)})
    build("src", "store", "--process", "my_reader:read")
    reader.write(2)
    line = "made by other code of the process function: 7 sources (s0.rows, s1.rows, s2.rows, "
    result = build("src", "store")
    assert (result.exit_code, result.stdout) == (0, "store: nothing new, 7 unchanged; 0 failed\n")
    assert result.stderr.startswith(line)
    assert result.stderr.endswith("s3.rows, s4.rows, ...); --update builds such sources again\n")
    assert result.stderr.count("\n") == 1
    assert build("src", "store", "--quiet").output == ""
    assert len(json.loads(build("src", "store", "--json").stdout)["outdated"]) == 7
    dry = seqzarr("build", "src", "store", "--dry-run")
    assert "  other code        7  leaves them as they are;" in dry.stdout
    shown = seqzarr("inspect", "store").stdout
    assert f"{code(1)[:12]} from sequence 0\n" in shown


ODD: list[Any] = [
    None,
    17,
    {},
    {"process": None},
    {"process": {"tabular": {}, "function": "a:b"}},
    {"process": {"function": 17}},
    {"process": {"tabular": []}},
    {"process": {"tabular": {"colour": "red"}}},
    {"process": {"tabular": {"header": "yes"}}},
    {"process": {"tabular": {"delimiter": True}}},
    {"process": {"tabular": {"inputs": "a,b"}}},
    {"process": {"tabular": {"inputs": []}}},
    {"process": {"tabular": {"dtype": "float23"}}},
    {"process": {"tabular": {"label_pattern": "("}}},
    {"process": {"tabular": {"label_source": "stars"}}},
    {"process": {"tabular": {"label_source": "manifest", "labels": ["a"]}}},
    {"process": {"tabular": {"input_key": None}}},
    {"process": {"tabular": {"missing": "drop"}}},
    {"process": {"tabular": {"missing": ["error"]}}},
    {"process": {"tabular": {"missing": ["x=y=z"]}}},
    {"process": {"tabular": {"time": "t"}}},
    {"process": {"tabular": {"time": ["t"], "elapsed": 1}}},
    {"process": {"tabular": {"time": ["t"], "duplicates": None}}},
    {"process": {"tabular": {"time": ["t"], "max_gap": "2"}}},
    {"process": {"tabular": {"every": "2s"}}},
    {"process": {"tabular": {"group_by": [""]}}},
    {"process": {"tabular": {"ffill_limit": True, "missing": ["ffill"]}}},
    {"process": {"tabular": {"mask": 1, "missing": ["ffill"]}}},
    {"process": {"tabular": {"mask": True}}},
    {"process": {"tabular": {"na_values": [1]}}},
    {"process": {"tabular": {"transforms": ["scale a=0x10"]}}},
    {"process": {"tabular": {"join": "left"}}},
    {"process": {"tabular": {"join": 1}}},
    {"process": {"tabular": {"join": "outer", "on": ["t"], "labels_from": "{stem}"}}},
    {"process": {"function": "os:remove"}},
    {"process": {"function": "shutil:rmtree"}},
    {"process": {"function": "subprocess"}},
    {"process": {"function": ":"}},
    {"process": {"function": "a\0b:c"}},
    {"process": {"function": "made:read", "missing": "drop"}},
    {"process": {"function": "made:read", "classes": "cat,dog"}},
    {"process": {"function": "made:read", "classes": [7]}},
    {"process": {"function": "made:read", "classes": ["cat,cat"]}},
    {"process": {"function": "made:read", "colour": "red"}},
    {"manifest": []},
    {"manifest": {"key": "a"}},
    {"manifest": {"key": 1, "columns": None, "keep": None, "only_listed": False, "path": None}},
    {"manifest": {"key": "a", "columns": [], "keep": None, "only_listed": False, "path": None}},
    {"manifest": {"key": "a", "columns": [1], "keep": None, "only_listed": False, "path": None}},
    {"manifest": {"key": "a", "columns": None, "keep": [], "only_listed": False, "path": None}},
    {"manifest": {"key": "a", "columns": None, "keep": "site", "only_listed": False, "path": None}},
    {"manifest": {"key": "a", "columns": None, "only_listed": False, "path": None}},
    {"manifest": {"key": "a", "columns": None, "keep": None, "only_listed": False, "path": "../../etc/passwd"}},
    {"manifest": {"key": "a", "columns": None, "keep": None, "only_listed": False, "path": "/etc/passwd"}},
    {"code": None},
    {"code": [[0]]},
    {"code": [["0", "a"]]},
    {"code": [[True, "a"]]},
    {"code": [[-1, "a"]]},
    {"code": [[2**64, "a"]]},
    {"code": [[3, "a"], [3, "b"]]},
    {"code": [[0, None]]},
    {"converted": "float32"},
    {"converted": [["inputs", "text"]]},
    {"converted": [["time", "float32"]]},
    {"converted": [["inputs"]]},
]


@pytest.mark.slow
@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_a_store_that_records_nonsense_of_its_build_is_refused_with_a_message(tmp_path, odd):
    (tmp_path / "src").mkdir()
    np.save(tmp_path / "src" / "0.npy", np.zeros((2, 1), np.float32))
    good: dict[str, Any] = {"process": {"tabular": {}}, "label_axis": None, "manifest": None, "code": []}
    rows = Rows(np.dtype("float32"), (1,))
    record = good | odd if isinstance(odd, dict) and odd else odd
    with Ledger.create(tmp_path / "store", Schema.plan(rows, rows), {"build": record}) as ledger:
        ledger.commit()
    before = files(tmp_path)
    for arguments in ([], ["--dry-run"], ["--inputs", "0"]):
        result = build(tmp_path / "src", tmp_path / "store", *arguments)
        assert result.exit_code == 2
        assert "store: " in result.stderr
    assert files(tmp_path) == before
    assert seqzarr("inspect", tmp_path / "store").exit_code == 0
    if odd == ODD[-1]:  # and one that records no nonsense is built
        with Ledger.create(tmp_path / "well", Schema.plan(rows, rows), {"build": good}) as ledger:
            ledger.commit()
        assert build(tmp_path / "src", tmp_path / "well").exit_code == 0


@pytest.mark.parametrize("member", ["process", "manifest", "code"])
def test_a_store_that_lacks_a_member_of_its_build_is_refused_with_a_message(tmp_path, member):
    (tmp_path / "src").mkdir()
    np.save(tmp_path / "src" / "0.npy", np.zeros((2, 1), np.float32))
    record: dict[str, Any] = {"process": {"tabular": {}}, "label_axis": None, "manifest": None, "code": []}
    del record[member]
    rows = Rows(np.dtype("float32"), (1,))
    with Ledger.create(tmp_path / "store", Schema.plan(rows, rows), {"build": record}) as ledger:
        ledger.commit()
    for arguments in (["build"], ["build", "--dry-run"], ["verify"], ["verify", "--repair"]):
        places = [tmp_path / "src", tmp_path / "store"]
        if arguments[0] == "verify":
            places = [tmp_path / "store", "--sources", tmp_path / "src"]
        result = seqzarr(*arguments, *places)
        assert result.exit_code == 2, result.output
        assert f"store: records no {member} of its build, so it cannot be brought up to date" in result.stderr


def test_what_is_null_of_a_function_is_not_given():
    options = {"arguments": None, "missing": None, "classes": None, "label_pattern": None}
    assert is_valid_record({"function": "made:read"} | options)
    assert FunctionOptions.from_record({"function": "made:read"} | options) == FunctionOptions()
