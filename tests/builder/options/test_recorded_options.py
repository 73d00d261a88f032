"""A later build needs only sources and the store: the options that it records, and differences from them."""

import json
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import builder
import store_spec
from builder import Tabular, UsageError, tabular
from builder.planning.resolved_options import tabular_from_json
from builder.sources.folder import LocalFolder
from store_spec.disk.ledger import Ledger
from store_spec.schema import Rows, Schema
from tests.builder.command import recorded, seqzarr
from tests.builder.command import seqzarr_build as build
from tests.builder.made_sources import Made, made_sequences, read_made, write_made
from tests.builder.source_files import write_files
from tests.store.oracle import files

OF_TEXT = ["--inputs", "a,b", "--labels", "c", "--dtype", "float32", "--delimiter", ";"]


@pytest.fixture
def tables(tmp_path):
    """Three text files; another one sorts after them and is added later."""
    write_files(tmp_path / "src", {f"{number}.txt": f"a;b;c\n{number};2;3\n4;5;6\n" for number in range(2)})
    return tmp_path


def test_a_later_build_of_tables_needs_no_options_and_equals_one_build(tables):
    src, store = tables / "src", tables / "t.zarr"
    assert build(src, store, *OF_TEXT).exit_code == 0
    (src / "2.txt").write_text("c;b;a\n1;2;3\n")
    dry = seqzarr("build", src, store, "--dry-run")
    assert (dry.exit_code, dry.stderr) == (0, "")
    assert "3 found, 1 to process" in dry.stdout
    assert build(src, store).stdout.startswith("t.zarr: 1 source added, 2 unchanged")
    assert build(src, tables / "whole.zarr", *OF_TEXT).exit_code == 0
    assert files(store) == files(tables / "whole.zarr")
    assert store_spec.open_store(store)[2][0].tolist() == [[3, 2]]
    report = builder.build(src, store)
    assert (report.added, report.unchanged, report.outdated) == (0, 3, ())


BESIDE = "--labels-from y/{stem}.csv"
COMPARED = [
    # Options of the first build; as few as suffice; other ones; and the message about these.
    ("--inputs t,x --labels x", "--inputs 't, x'", "--inputs x", "with inputs t,x, but the option is now inputs x;"),
    ("--dtype float32", "--dtype f4", "--dtype f8", "dtype float32, but the option is now dtype float64"),
    ("", "--label-axis step", "--label-axis own", "label_axis step, but the option is now label_axis own"),
    ("", "--exclude k", "--exclude d", "exclude k, but the option is now exclude d"),
    ("", "", "--no-header", "header not given, but the option is now header False"),
    ("", "", "--column-names x,y", "column_names not given, but the option is now column_names x,y"),
    ("", "", r"--label-pattern '(\d)'", r"label_pattern not given, but the option is now label_pattern (\d)"),
    ("", "", "--process tests.builder.made_sources:read_made", "tabular, but the option is now function tests."),
    ("", "", "--manifest m.csv", "manifest not given, but the option is now manifest m.csv"),
    ("--missing ffill --ffill-limit 3", "--ffill-limit 3", "--ffill-limit 4", "ffill_limit 3, but the option is now"),
    ("--missing ffill", "", "--ffill-limit 4", "ffill_limit not given, but the option is now ffill_limit 4"),
    ("--missing ffill --mask", "--mask", "--missing ffill+drop", "missing ffill, but the option is now missing ffill+"),
    ("--missing ffill", "", "--mask", "mask False, but the option is now mask True"),
    ("--missing drop", "--missing ' drop '", "--missing split", "missing drop, but the option is now missing split"),
    ("--missing drop", "", "--missing error", "missing drop, but the option is now missing not given"),
    ("", "", "--ffill-limit 4", "ffill_limit=4 goes with missing=ffill (--missing ffill)"),
    ("", "", "--na-values 5", "na_values not given, but the option is now na_values 5"),
    ("--time t --time-unit s --max-gap 2h", "--max-gap '120 min' --time-unit s", "--max-gap 1h", "max_gap 2h, but"),
    ("--time t --time-unit s", "--time-unit s", "--sort-time", "sort_time False, but the option is now sort_time"),
    ("--time t --time-unit s --elapsed", "--elapsed", "--every 1s", "every not given, but the option is now"),
    ("", "", "--max-gap 1h", "max_gap (--max-gap) goes with time"),
    ("--labels k --classes p,q", "--classes 'p, q'", "--classes p,q,r", "p,q,r"),
    ("--labels k", "", "--classes p,q", "classes not given, but the option is now classes p,q"),
    ("", "", "--classes p,q", "but no labels are named; name the labels"),
    (f"{BESIDE} --on t --join left", "--join left", "--on x", "on t, but the option is now on x"),
    (f"{BESIDE} --on t", "--on t", "--join left", "inner, but the option is now join left"),
    (f"{BESIDE} --on t --join left", "--on t", "--on t --join inner", "the option is now join inner"),
    (f"{BESIDE} --label-axis own", BESIDE, "--label-axis step", "own, but the option is now label_axis step"),
    ("--log x --scale x=2", "--log x --scale x=2", "--scale x=2 --log x", "log x,scale x=2, but the option is now"),
    ("--sequence-from '(a)'", "--sequence-from '(a)'", "--sequence-from '(.)'", "(a), but the option is now sequence_"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "alone", "other", "message"), COMPARED)
def test_only_given_options_are_compared_and_errors_have_both_values(tmp_path, first, alone, other, message):
    src, store = tmp_path / "src", tmp_path / "t.zarr"
    write_files(src, {"a.csv": "t,x,k\n1,2,p\n2,3,q\n"})
    if BESIDE in first:
        write_files(src, {"y/a.csv": "t,z\n2,5\n1,6\n"})
    exclude = [] if "--labels k" in first else ["--exclude", "k"]
    assert build(src, store, *shlex.split(first), *exclude).stderr == ""
    before = files(store)
    result = build(src, store, *shlex.split(alone))
    assert (result.exit_code, result.stderr) == (0, "")
    for dry in ([], ["--dry-run"]):
        assert message in build(src, store, *shlex.split(other), *dry, status=2).stderr
    assert files(store) == before


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
    """Draw any options that can be combined."""
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
def test_a_recorded_tabular_can_be_restored(made):
    assert tabular_from_json(json.loads(json.dumps(made.recorded()))) == made


@pytest.fixture
def listed(tmp_path):
    """Three arrays and a manifest of them in one folder."""
    arrays = {f"{number}.npy": np.full((2, 1), number, np.float32) for number in range(3)}
    write_files(tmp_path / "src", arrays | {"labels.csv": "file,y,z\n0,5,6\n1,7,8\n"})
    return tmp_path


OF_LIST = ["--key", "file", "--label-column", "y,z", "--manifest-only"]


def test_a_manifest_among_the_sources_is_found_again_and_is_not_a_source(listed, monkeypatch):
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
    # Another manifest is used if given; the first is not a source either way.
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


def test_a_manifest_outside_the_sources_has_to_be_given_again(listed):
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


def test_a_recorded_manifest_is_not_opened_outside_the_sources(tmp_path):
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


def test_a_repeated_label_axis_must_be_that_of_the_store(tmp_path):
    write_made(tmp_path / "src", {"a.made": Made(lengths=(3,), axis="own")})
    builder.build(tmp_path / "src", tmp_path / "store", process=read_made, label_axis="own", workers=0)
    # A new store would not show the origin of its labels.
    several = (Made(lengths=(4,), axis="own", seed=seed) for seed in range(99))
    unlike = next(made for made in several if len(made_sequences("", made)[0].labels) != 4)
    write_made(tmp_path / "src", {"b.made": unlike})
    report = builder.build(tmp_path / "src", tmp_path / "store", workers=0)
    assert (report.added, report.failures) == (1, ())
    builder.build(tmp_path / "src", tmp_path / "store", label_axis="own", workers=0)
    with pytest.raises(UsageError, match="label_axis own, but the option is now label_axis step"):
        builder.build(tmp_path / "src", tmp_path / "store", label_axis="step", workers=0)


def test_a_tabular_object_given_by_name_is_compared_by_its_options(tables, monkeypatch):
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


MANIFEST: dict[str, Any] = {"key": "a", "columns": None, "keep": None, "only_listed": False, "path": None}


def invalid(member: str, *values: Any) -> list[tuple[Any, str]]:
    """Return records of a build with an invalid member, each with its message."""
    return [({member: value}, f"records {member} {value} of its build, which is not valid") for value in values]


def tabular_with(message: str, **options: Any) -> tuple[Any, str]:
    """Return a record of a build of tables with an invalid option, which comes first, and the message about it."""
    (name, value), *_ = options.items()
    return {"process": {"tabular": options}}, message.format(name=name, value=repr(value))


def function_named(name: str, message: str) -> tuple[Any, str]:
    return {"process": {"function": name}}, f"the process function {name!r} {message}"


VALUE, CONFLICT = "{name} is {value}, which is not a valid value", "{name} is {value}, which conflicts with the other"
INVALID: list[tuple[Any, str]] = [
    *((record, "no build made this store, so it cannot be brought up to date") for record in (None, 17)),
    *invalid("process", None, {"tabular": []}, {"tabular": {}, "function": "a:b"}, {"function": 17}),
    *(function_named(name, "is in an installed package") for name in ("os:remove", "shutil:rmtree")),
    *(function_named(name, "cannot be found by its name") for name in ("subprocess", ":", "a\0b:c")),
    *invalid("process", {"function": "made:read", "missing": "drop"}, {"function": "made:read", "colour": "red"}),
    *invalid("process", *({"function": "made:read", "classes": names} for names in ("cat,dog", [7], ["cat,cat"]))),
    tabular_with("option 'colour' is not known to this version of seqzarr", colour="red"),
    *(tabular_with(VALUE, inputs="a,b"), tabular_with(CONFLICT, inputs=[])),
    *(tabular_with(VALUE, header="yes"), tabular_with(VALUE, delimiter=True), tabular_with(VALUE, input_key=None)),
    tabular_with("decimal=';' is not a decimal mark", decimal=";"),
    tabular_with("dtype='float23' is not a dtype", dtype="float23"),
    tabular_with("label_pattern='(' is not a regular expression", label_pattern="("),
    tabular_with(CONFLICT, label_source="stars"),
    tabular_with("labels come from labels and from the manifest", label_source="manifest", labels=["a"]),
    *(tabular_with(VALUE, missing="drop"), tabular_with(CONFLICT, missing=["error"])),
    tabular_with("missing='x=y=z': 'z' is not one of", missing=["x=y=z"]),
    *(tabular_with(VALUE, time="t"), tabular_with(VALUE, elapsed=1, time=["t"])),
    *(tabular_with(VALUE, duplicates=None, time=["t"]), tabular_with("'2' is not a duration", max_gap="2", time=["t"])),
    tabular_with("every (--every) goes with time", every="2s"),
    tabular_with("group_by={value} names no column somewhere", group_by=[""]),
    *(tabular_with(VALUE, ffill_limit=True, missing=["ffill"]), tabular_with(VALUE, mask=1, missing=["ffill"])),
    tabular_with("mask (--mask) keeps which values were filled in, and goes with missing=ffill", mask=True),
    tabular_with(VALUE, na_values=[1]),
    tabular_with("scale 'a=0x10': '0x10' is not a number", transforms=["scale a=0x10"]),
    *(tabular_with(VALUE, join=1), tabular_with("join=left (--join) goes with on", join="left")),
    tabular_with("join='outer' is not one of inner, left", join="outer", on=["t"], labels_from="{stem}"),
    *invalid("manifest", [], {"key": "a"}, MANIFEST | {"key": 1}, MANIFEST | {"columns": []}),
    *invalid("manifest", MANIFEST | {"columns": [1]}, MANIFEST | {"keep": []}, MANIFEST | {"keep": "site"}),
    *invalid("manifest", {name: value for name, value in MANIFEST.items() if name != "keep"}),
    *(
        ({"manifest": MANIFEST | {"path": path}}, f"was built with a manifest that was {path} in ")
        for path in ("../../etc/passwd", "/etc/passwd")
    ),
    *invalid("code", None, [[0]], [["0", "a"]], [[True, "a"]], [[-1, "a"]], [[2**64, "a"]], [[3, "a"], [3, "b"]]),
    *invalid("code", [[0, None]]),
    *invalid("converted", "float32", [["inputs", "text"]], [["time", "float32"]], [["inputs"]]),
]
GOOD: dict[str, Any] = {"process": {"tabular": {}}, "label_axis": None, "manifest": None, "code": []}


def recording(place: Path, record: Any) -> Path:
    """Make an empty store that records this about its build, beside one source."""
    write_files(place / "src", {"0.npy": np.zeros((2, 1), np.float32)})
    rows = Rows(np.dtype("float32"), (1,))
    with Ledger.create(place / "store", Schema.plan(rows, rows), {"build": record}) as ledger:
        ledger.commit()
    return place / "store"


@pytest.mark.slow
@pytest.mark.parametrize(("record", "message"), INVALID, ids=repr)
def test_a_store_with_invalid_records_is_refused_with_a_message(tmp_path, record, message):
    store = recording(tmp_path, GOOD | record if isinstance(record, dict) else record)
    before = files(tmp_path)
    for arguments in ([], ["--dry-run"]):
        result = build(tmp_path / "src", store, *arguments, status=2)
        assert f"{store}: " in result.stderr
        assert message in result.stderr
    assert files(tmp_path) == before
    assert seqzarr("inspect", store).exit_code == 0


def test_a_store_with_valid_records_is_built(tmp_path):
    assert build(tmp_path / "src", recording(tmp_path, GOOD)).exit_code == 0


@pytest.mark.parametrize("member", ["process", "manifest", "code"])
def test_a_store_that_lacks_a_member_of_its_build_is_refused_with_a_message(tmp_path, member):
    store = recording(tmp_path, {name: value for name, value in GOOD.items() if name != member})
    verify = ["verify", store, "--sources", tmp_path / "src"]
    make = ["build", tmp_path / "src", store]
    for arguments in (make, [*make, "--dry-run"], verify, [*verify, "--repair"]):
        result = seqzarr(*arguments)
        assert result.exit_code == 2, result.output
        assert f"store: records no {member} of its build, so it cannot be brought up to date" in result.stderr
