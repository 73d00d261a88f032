"""Which files are sources, and in what order.

A file whose name is not UTF-8 is named and left out, all others are built, and renaming it is enough.
"""

import json
import os
import pickle
import uuid
from functools import partial
from pathlib import Path

import numpy as np
import obstore
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import store_spec
from builder import BuildError, SourceError, UsageError, build, preview
from builder.build_errors import of_source
from builder.sources.folder import LocalFolder
from builder.sources.source_list import SourceList, discover
from store_spec.disk.object_storage import object_store
from tests.builder.command import python, seqzarr
from tests.builder.source_files import write_files
from tests.store.oracle import store_of


def make(root: Path, *names: str) -> None:
    write_files(root, dict.fromkeys(names, "a\n1\n"))


def test_a_folder_has_its_known_files_at_any_depth_sorted_by_code_point(tmp_path):
    make(tmp_path, "b.csv", "a/z.csv", "a.csv", "a/b/c.TSV", "Z.parquet", "é.npy", "x.txt.gz", "readme.md", "noise")
    found = discover(tmp_path)
    assert found.names == tuple(sorted(["b.csv", "a/z.csv", "a.csv", "a/b/c.TSV", "Z.parquet", "é.npy", "x.txt.gz"]))
    assert found.ignored == ("noise", "readme.md")
    assert found.folder == LocalFolder(tmp_path)


def test_hidden_and_underscored_folders_have_no_sources(tmp_path):
    make(tmp_path, ".a.csv", "_b.csv", ".git/c.csv", "_tmp/d.csv", "e/_f.csv", "g.csv")
    found = discover(tmp_path)
    assert (found.names, found.ignored) == (("g.csv",), ())
    assert discover(f"{tmp_path}/.*.csv").names == (".a.csv",)  # a pattern that names them finds them
    assert discover(f"{tmp_path}/_*/*.csv").names == ("_tmp/d.csv",)


@pytest.mark.parametrize("pattern", ["", "**", "*/*", "**/*.npz", "**/zarr.json"])
def test_our_stores_contain_no_sources_but_other_stores_may(tmp_path, pattern):
    make(tmp_path, "a.csv", "b/c.csv", "b/s.zarr.build/seen.npz", "other.zarr/zarr.json", "made.build/x.npz")
    # Those of an unfinished and of a removed store.
    make(tmp_path, "begun.zarr.build/lock", "begun.zarr.build/new/stats/zarr.json", "gone.zarr.build/seen.npz")
    store_of(tmp_path / "b/s.zarr", [np.zeros((3, 1))])
    found = discover(str(tmp_path / pattern) if pattern else tmp_path, any_suffix=True)
    every = {"": {"a.csv", "b/c.csv", "other.zarr/zarr.json", "made.build/x.npz"}}
    every |= {"**": every[""], "*/*": every[""] - {"a.csv"}, "**/*.npz": {"made.build/x.npz"}}
    assert set(found.names) == every.get(pattern, {"other.zarr/zarr.json"})


def test_a_format_or_a_process_function_reads_all_files(tmp_path):
    make(tmp_path, "a.wav", "b", "c.csv", ".d")
    assert discover(tmp_path, any_suffix=True).names == ("a.wav", "b", "c.csv")


def test_excluded_files_are_not_sources(tmp_path):
    make(tmp_path, "labels.csv", "a.csv", "s.zarr/c/a.csv")
    exclude = [tmp_path / "labels.csv", tmp_path / "x" / ".." / "s.zarr", Path("elsewhere.csv")]
    assert discover(tmp_path, exclude=exclude).names == ("a.csv",)
    assert discover(str(tmp_path / "**/*.csv"), exclude=exclude).names == ("a.csv",)


def test_an_empty_name_is_not_the_working_folder():
    with pytest.raises(UsageError, match="the name of the sources is empty"):
        discover("")


def test_a_single_file_is_a_source_whatever_its_name(tmp_path):
    make(tmp_path, "run[1].csv", "run1.csv", "x.unknown")
    assert discover(tmp_path / "run[1].csv").names == ("run[1].csv",)
    assert discover(tmp_path / "x.unknown") == SourceList(folder=LocalFolder(tmp_path), names=("x.unknown",))


def test_relative_roots_stay_relative(tmp_path, monkeypatch):
    make(tmp_path, "d/a.csv")
    monkeypatch.chdir(tmp_path)
    assert discover("*/a.csv") == SourceList(folder=LocalFolder(Path()), names=("d/a.csv",))
    assert discover("d") == SourceList(folder=LocalFolder(Path("d")), names=("a.csv",))


def test_links_to_files_are_followed_and_links_to_folders_are_not(tmp_path):
    make(tmp_path, "real/a.csv")
    root = tmp_path / "root"
    root.mkdir()
    (root / "a.csv").symlink_to(tmp_path / "real/a.csv")
    (root / "gone.csv").symlink_to(tmp_path / "nowhere.csv")
    (root / "folder").symlink_to(tmp_path / "real")
    (root / "cycle").symlink_to(root)
    found = discover(root)
    assert found.names == ("a.csv", "gone.csv")
    assert found.ignored == ("cycle/", "folder/")
    assert discover(str(root / "**/*.csv")).names == ("a.csv", "gone.csv")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("nowhere", "nowhere: no such file or folder"),
        ("nowhere/*.csv", "there is no folder .*nowhere"),
        ("full/*.csv", r"the pattern matches no file; .*full holds 3 files: 2 with \.wav, 1 with no suffix"),
        ("full", r"no file has a known format; .* holds 3 files: 2 with \.wav, .*Known: \.csv .*--format"),
        ("empty", "no file has a known format; .*empty holds no files"),
    ],
)
def test_finding_no_sources_is_an_error_that_says_what_exists(tmp_path, where, message):
    make(tmp_path, "full/a.wav", "full/b.wav", "full/c")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        discover(str(tmp_path / where))


@pytest.mark.parametrize("where", ["", "**/*"])
def test_names_that_are_not_utf8_are_distinguished_and_shown_as_text(tmp_path, where):
    shown = {
        b"b\xff.csv": r"b\xff.csv",
        b"caf\xe9/n.csv": r"caf\xe9/n.csv",
        b"\xc3\xa9\xff.csv": "\u00e9\\xff.csv",
        b"b\\xff\xff.csv": r"b\\xff\xff.csv",
        b"b\xff\xff.csv": r"b\xff\xff.csv",
        b"\xed\xa0\x80.csv": r"\xed\xa0\x80.csv",
    }
    make(tmp_path, "a.csv", r"b\xff.csv", "\u00e9.csv", *map(os.fsdecode, shown))
    found = discover(str(tmp_path / where))
    assert found.names == ("a.csv", r"b\xff.csv", "\u00e9.csv")
    assert found.misnamed == tuple(shown[name] for name in sorted(shown, key=os.fsdecode))


def test_files_that_are_no_sources_have_names_that_can_be_shown_too(tmp_path):
    make(tmp_path, "a.csv", os.fsdecode(b"caf\xe9.doc"))
    (tmp_path / os.fsdecode(b"f\xff")).symlink_to(tmp_path)
    found = discover(tmp_path)
    assert (found.names, found.ignored, found.misnamed) == (("a.csv",), (r"caf\xe9.doc", r"f\xff/"), ())


def test_a_source_list_is_sorted_and_without_repeats():
    with pytest.raises(UsageError, match="'a' follows 'b'"):
        SourceList(folder=LocalFolder(Path()), names=("b", "a"))
    with pytest.raises(UsageError, match="'a' follows 'a'"):
        SourceList(folder=LocalFolder(Path()), names=("a", "a"))


PARTS = st.sampled_from(["a", "b", "ab", "a.csv", "b.csv", ".c", "_d", "[1]", "é"])
PATTERN_PARTS = st.sampled_from(["**", "*", "a*", "?", "*.csv", "[ab]", "[[]*", "_*", "a", "b.csv"])


@settings(max_examples=100)
@given(
    paths=st.lists(st.lists(PARTS, min_size=1, max_size=3), min_size=1, max_size=8),
    pattern=st.lists(PATTERN_PARTS, min_size=1, max_size=3).filter(lambda parts: "*" in "".join(parts)),
)
def test_globs_agree_with_pathlib_in_folders_and_in_buckets(tmp_path_factory, paths, pattern):
    """Compared with pathlib's glob of the same pattern, without hidden files and folders."""
    root, url = tmp_path_factory.mktemp("tree"), f"memory://{uuid.uuid4().hex}"
    for parts in paths:
        path = root.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        except OSError:
            continue  # a part is a file already
        obstore.put(object_store(url).store, "/".join(parts), b"")
    first = next(i for i, part in enumerate(pattern) if set(part) & set("*?["))
    base = root.joinpath(*pattern[:first])
    # Up to Python 3.12, pathlib finds only folders by a last **; ours finds the files in them.
    parts = [*pattern[first:], "*"] if pattern[-1] == "**" else pattern[first:]
    globbed = {one.relative_to(base) for one in base.glob("/".join(parts)) if one.is_file()} if base.is_dir() else set()
    expected = sorted(p.as_posix() for p in globbed if not any(part.startswith(".") for part in p.parts))
    assert list(discover("/".join([url, *pattern]), allow_none=True).names) == expected
    if expected:
        found = discover(str(root.joinpath(*pattern)))
        assert (list(found.names), found.folder, found.ignored) == (expected, LocalFolder(base), ())
    else:
        with pytest.raises(UsageError):
            discover(str(root.joinpath(*pattern)))


def test_errors_are_one_tree_and_survive_pickling():
    assert issubclass(UsageError, BuildError)
    assert issubclass(SourceError, BuildError)
    with pytest.raises(SourceError, match=r"^a\.csv: is empty$") as caught, of_source("b.csv"), of_source("a.csv"):
        raise SourceError("is empty")
    for error in (UsageError("no"), caught.value, BuildError("x")):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))


def test_importing_the_source_side_loads_no_pyarrow_dask_or_zarr():
    code = (
        "import sys, builder.sources.source_list, builder.frames.tabular, builder.manifest.manifest_table\n"
        "print(sorted({'pyarrow', 'dask', 'zarr'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout == "[]\n"


BYTES, SHOWN = b"b\xff.csv", r"b\xff.csv"
LINE = (
    rf"{SHOWN}: its name is not valid UTF-8, so it cannot be stored; rename it, or its folder "
    "(\\x and two digits mean a byte that is not text)\n"
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working folder, with a folder of three tables, one of them misnamed."""
    monkeypatch.chdir(tmp_path)
    write_files(
        tmp_path / "src",
        {os.fsdecode(name): f"x,y\n{number},1\n" for number, name in enumerate([b"a.csv", BYTES, b"c.csv"])},
    )
    return tmp_path


command = partial(seqzarr, charset="ascii")  # on a terminal that shows only ASCII


def test_a_misnamed_source_is_named_in_every_build(place):
    for summary in ("2 sources added", "nothing new, 2 unchanged"):
        done = command("build", "src", "s.zarr", "--workers", "0")
        assert (done.exit_code, done.stderr) == (1, LINE)
        assert summary in done.stdout
        assert done.stdout.endswith("1 failed\n")
        assert SHOWN in command("inspect", "s.zarr", status=0).stdout
        listed = json.loads(command("inspect", "s.zarr", "--json").stdout)["failures_listed"]
        assert [f"{one['source']}: {one['reason']}\n" for one in listed] == [LINE]
    (place / "src" / os.fsdecode(BYTES)).rename(place / "src/b.csv")
    assert command("build", "src", "s.zarr", "--workers", "0", status=0).stderr == ""
    assert store_spec.open_store(place / "s.zarr").sources == ("a.csv", "c.csv", "b.csv")
    assert json.loads(command("inspect", "s.zarr", "--json").stdout)["failures_listed"] == []


@pytest.mark.parametrize("options", [["--json"], ["--json", "--dry-run"]])
def test_json_is_utf8_without_halves_of_letters(place, options):
    (place / "src" / os.fsdecode(b"note\xff")).touch()  # it is not a source, but the dry run names it
    done = command("build", "src", "s.zarr", "--workers", "0", *options)
    assert (done.exit_code, done.stderr) == (1, LINE)
    found = json.loads(done.stdout)
    json.dumps(found, ensure_ascii=False).encode()  # raises for half a letter
    assert [one["source"] for one in found["failures"]] == [SHOWN]
    assert found["sources"] == 3


@pytest.mark.usefixtures("place")
def test_verify_with_sources_names_a_misnamed_source():
    command("build", "src", "s.zarr", "--workers", "0")
    done = command("verify", "s.zarr", "--sources", "src", "--workers", "0")
    assert (done.exit_code, done.stdout, done.stderr) == (1, f"s.zarr: {LINE}", "")


@pytest.mark.parametrize("sources", [b"alone/" + BYTES, b"alone"])
def test_a_misnamed_file_alone_makes_no_store(place, sources):
    write_files(place / "alone", {os.fsdecode(BYTES): "x,y\n1,1\n"})
    done = command("build", os.fsdecode(sources), "s.zarr")
    assert (done.exit_code, done.stderr) == (1, LINE)
    assert done.stdout == "s.zarr: no store was made, as no source could be used: 1 failed\n"
    assert not (place / "s.zarr").exists()


def test_a_manifest_with_a_row_for_it_labels_the_others(place):
    (place / "labels.csv").write_text("file,class\na,1\nb\N{REPLACEMENT CHARACTER},2\nc,3\n", encoding="utf-8")
    options = ["--manifest", "labels.csv", "--key", "file", "--label-column", "class", "--workers", "0"]
    done = command("build", "src", "s.zarr", *options, status=1)
    assert done.stderr.startswith("there are no files for 1 source of the manifest: b")
    assert done.stderr.endswith(f"; --manifest-strict refuses that\n{LINE}")
    assert [int(labels[0]) for _, labels in store_spec.open_store(place / "s.zarr")] == [1, 3]
    (place / "src" / os.fsdecode(BYTES)).rename(place / "src/b.csv")
    refused = command("build", "src", "s.zarr", "--manifest", "labels.csv", "--workers", "0")
    assert refused.exit_code == 2
    assert "1 source (b.csv) without a row; 1 row (" in refused.stderr


def test_a_source_named_like_an_escaped_name_is_built_and_counted(place):
    build(place / "src", place / "s.zarr", workers=0)
    (place / "src" / SHOWN).write_text("x,y\n7,1\n")
    found = preview(place / "src", place / "s.zarr")
    assert (found.sources, found.new, found.failed, found.sampled) == (4, (SHOWN,), (), (SHOWN,))
    ticks: list[tuple[int, int]] = []
    report = build(
        place / "src", place / "s.zarr", workers=0, on_progress=lambda tally: ticks.append((tally.done, tally.sources))
    )
    assert (ticks[0], ticks[-1]) == ((1, 2), (2, 2))
    assert (report.sources, report.added, [one.source for one in report.failures]) == (4, 1, [SHOWN])
    assert report.failures == found.failures
    assert store_spec.open_store(place / "s.zarr").sources == ("a.csv", "c.csv", SHOWN)
    (place / "src" / SHOWN).write_text("x,y\n8,1\n9,1\n")
    report = build(place / "src", place / "s.zarr", workers=0, update=True)
    assert (report.updated, report.unchanged, len(report.failures)) == (1, 2, 1)


@pytest.mark.parametrize(("options", "made"), [(["--fail-fast"], False), (["--max-failures", "1"], True)])
def test_a_misnamed_source_is_a_failure(place, options, made):
    assert SHOWN in command("build", "src", "s.zarr", "--workers", "0", *options, status=1).stderr
    assert (place / "s.zarr").exists() == made
