"""The command line: exit statuses, stdout and stderr, and that mistakes change nothing."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from builder.formats import FORMATS
from store_spec import open_store
from tests.builder.command import python, seqzarr, seqzarr_build
from tests.builder.source_files import write_files
from tests.store.oracle import store_of

PRINTING_SOURCE = """
import numpy as np

def read(path):
    import helper_of_it
    print("a process function may print what it likes")
    return np.full((3, 1), helper_of_it.number(path)), 1
"""


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Return the bytes of each file below a folder, and None for each folder."""
    paths = sorted(folder.rglob("*"))
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.slow
@pytest.mark.parametrize("more", [[], ["--sequence", "黄河.csv"]])
def test_names_that_stdout_cannot_encode_are_escaped(tmp_path, more):
    """A traceback at the end would suggest that a successful build failed."""
    write_files(tmp_path / "rivers", {"黄河.csv": "a,b\n1,2\n"})
    for command in (["build", "rivers", "黄.zarr", "--workers", "0"], ["inspect", "黄.zarr", *more]):
        done = python("-m", "builder", *command, folder=tmp_path, PYTHONIOENCODING="latin-1")
        assert (done.returncode, done.stderr) == (0, "")
        assert r"\u9ec4" in done.stdout


@pytest.fixture
def tables(tmp_path):
    """A folder of three CSV files of 2, 3 and 4 rows."""
    texts = ["a,b\n" + "".join(f"{number}.5,{row}\n" for row in range(number + 2)) for number in range(3)]
    return write_files(tmp_path / "tables", {f"t{number}.csv": text for number, text in enumerate(texts)})


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["inspect", "-h"], ["--version"]])
def test_help_imports_none_of_the_libraries_that_take_long(arguments):
    heavy = ["dask", "distributed", "crc32c", "numcodecs", "numpy", "pyarrow", "rich", "store_spec", "zarr"]
    code = f"""
import sys
sys.argv = ["seqzarr", *{arguments}]
try:
    from builder.cli import main
    main()
finally:
    print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr)
"""
    done = python("-c", code)
    assert done.stderr == "[]\n"
    assert "seqzarr" in done.stdout


def test_python_m_builder_is_the_same_command():
    assert python("-m", "builder", "--help").stdout.splitlines()[0] == "Usage: seqzarr [OPTIONS] COMMAND [ARGS]..."


def test_importing_a_module_of_the_builder_leaves_the_functions_of_the_same_name():
    code = """
import builder.execution.build, builder.execution.preview, builder.frames.tabular
print(callable(builder.build), callable(builder.preview), callable(builder.tabular))
"""
    assert python("-c", code).stdout == "True True True\n"


def test_help_names_every_format():
    text = seqzarr("build", "--help").output
    assert set(FORMATS) <= set(re.findall(r"\w+", text))
    assert "\b" not in text  # click's mark for a paragraph that is not to be wrapped
    assert "Repeat --manifest if it is outside SOURCES." in " ".join(text.split())


def test_a_source_that_fails_is_named_with_its_reason_and_the_others_are_built(tables, tmp_path):
    assert seqzarr("build", tables, tmp_path / "good.zarr", "--workers", 0, "--quiet").output == ""
    (tables / "bad.csv").write_text("a,b\n1,x\n")
    for number, flags in enumerate(([], ["--quiet"], ["--json"])):
        result = seqzarr("build", tables, tmp_path / f"{number}.zarr", "--workers", 0, *flags, status=1)
        assert result.stderr.startswith("bad.csv: ")
        assert result.stderr.count("\n") == 1
        if flags == ["--quiet"]:
            assert result.stdout == ""
        elif flags == ["--json"]:
            report = json.loads(result.stdout)
            assert (report["added"], report["steps"], report["total_sequences"]) == (3, 9, 3)
            assert [one["source"] for one in report["failures"]] == ["bad.csv"]
        else:
            assert "3 sources added" in result.stdout
            assert "1 failed" in result.stdout


@pytest.mark.parametrize(
    ("text", "named"),
    [("a,b\n1,2\n", "changed since the store was built: 1 source (t0.csv)"), ("a,b\n", "empty: 1 source")],
)
def test_a_changed_file_and_files_that_make_no_store_are_named_also_quietly(tables, tmp_path, text, named):
    store = tmp_path / "t.zarr"
    if "changed" in named:
        seqzarr("build", tables, store, "--workers", 0)
    (tables / "t0.csv").write_text(text)
    result = seqzarr("build", tables / "t0.csv" if "empty" in named else tables, store, "--workers", 0, "--quiet")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith(named)


def test_twenty_of_many_failures_are_named_and_the_others_counted(tables, tmp_path):
    for number in range(23):
        (tables / f"bad{number:02}.csv").write_text("")
    advice, *lines = seqzarr("build", tables, tmp_path / "t.zarr", "--workers", 0).stderr.splitlines()
    assert advice.startswith("23 of 26 sources failed")
    assert len(lines) == 21
    assert lines[19].startswith("bad19.csv: is empty")
    assert lines[20] == f"and 3 more: seqzarr inspect --json {tmp_path / 't.zarr'} lists them"
    listed = json.loads(seqzarr("inspect", "--json", tmp_path / "t.zarr").stdout)["failures_listed"]
    assert [one["source"] for one in listed] == [f"bad{number:02}.csv" for number in range(23)]


@pytest.mark.slow
def test_workers_find_functions_in_the_working_folder_and_keep_their_output_out_of_json(tmp_path):
    helper = "def number(path):\n    return float(path.stem)\n"
    write_files(tmp_path, {"printing_source.py": PRINTING_SOURCE, "helper_of_it.py": helper})
    write_files(tmp_path / "raw", {f"{number}.raw": "-" for number in range(3)})
    # A console script has its own folder on the search path, not the working folder.
    code = "import sys; sys.path.pop(0); from builder.cli import main; main()"
    arguments = ["build", "raw", "r.zarr", "--process", "printing_source:read", "--workers", "1", "--json"]
    done = python("-c", code, *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["added"] == 3
    assert "a process function may print" in done.stderr
    assert [float(x.mean()) for x, _ in open_store(tmp_path / "r.zarr")] == [0, 1, 2]


MISTAKES = [
    ([], "Missing argument 'SOURCES'"),
    (["", "new.zarr"], "Invalid value for 'SOURCES': is empty, like an unset shell variable"),
    (["tables", ""], "Invalid value for 'STORE': is empty, like an unset shell variable"),
    (["tables", "new.zarr", "--manifest", ""], "Invalid value for '--manifest': is empty, like an unset shell variabl"),
    (["tables"], "Missing argument 'STORE'"),
    (["tables/t0.csv", "tables/t1.csv", "new.zarr"], "put a pattern in quotes"),
    (["tables", "file.txt"], "file.txt: is a file; give another path"),
    (["tables", "folder"], "folder: is a folder, but no store; give another path"),
    (["tables", "empty"], "empty: is a folder, but no store"),
    (["tables", "v2.zarr"], "v2.zarr: is a folder, but no store"),
    (["tables", "link"], "link: is a broken link"),
    (["x" * 300, "new.zarr"], f"Error: {'x' * 300}: File name too long"),
    (["x" * 300 + "/*.csv", "new.zarr"], ": File name too long"),
    (["tables", "y" * 300], f"Error: {'y' * 300}: File name too long"),
    (["tables", "new.zarr", "--manifest", "z" * 300], f"Error: {'z' * 300}: File name too long"),
    (["tables", "other.zarr/new.zarr"], "other.zarr/new.zarr: lies inside of the store "),
    (["tables", "other.zarr/inputs/new.zarr"], "other.zarr/inputs/new.zarr: lies inside of the store "),
    (["tables", "new.zarr", "--process", "no_such_module:read"], "there is no module no_such_module"),
    (["tables", "new.zarr", "--chunk", "much"], "'much' is not a size in bytes"),
    (["tables", "new.zarr", "--chunk", "2MB", "--shard", "1MB"], "chunks of 2,000,000 bytes in shards of 1,000,000"),
    (["tables", "new.zarr", "--batch", "-"], "'-' is not a size in bytes"),
    (["tables", "new.zarr", "--batch", "0kB"], "batch='0kB': a task processes at least 1 byte"),
    (["tables", "new.zarr", "--format", "xlsx"], "xlsx"),
    (["tables", "new.zarr", "--workers", "-1"], "workers=-1"),
    (["tables", "new.zarr", "--workers", "two"], "'two' is not a valid integer"),
    (["tables", "new.zarr", "--key", "file", "--label-column", "y"], "key goes with a manifest, and none is given"),
    (["tables", "new.zarr", "--label-axis", "own"], "--label-axis goes with --process"),
    (["tables", "new.zarr", "--label-axis", "row"], "'row' is not one of"),
    (
        ["tables", "new.zarr", "--process", "json:loads", "--inputs", "a", "--log", "a", "--no-header", "--dtype=f4"],
        "--inputs, --dtype, --header, --log: for tables, which --process replaces",
    ),
    (["tables", "new.zarr", "--no-such-option"], "No such option"),
    (["tables", "new.zarr", "--yes"], "--yes goes with --retire-missing"),
    (["tables", "new.zarr", "--fail-fast", "--max-failures", "3"], "leave out one or the other"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
@pytest.mark.usefixtures("tables")
def test_a_mistake_has_a_message_and_status_2_and_changes_nothing(tmp_path, monkeypatch, arguments, message):
    (tmp_path / "file.txt").write_text("kept")
    (tmp_path / "empty").mkdir()
    write_files(tmp_path / "folder", {"letter.txt": "kept"})
    store_of(tmp_path / "other.zarr", [np.ones((1, 1), "float32")])
    write_files(tmp_path / "v2.zarr", {".zgroup": '{"zarr_format": 2}'})
    (tmp_path / "link").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    before = everything_in(tmp_path)
    for dry in ([], ["--dry-run"]):
        assert message in seqzarr("build", *arguments, *dry, status=2).stderr
        assert everything_in(tmp_path) == before


def test_a_tab_can_be_written_as_backslash_t(tmp_path):
    (tmp_path / "t.txt").write_text("1\t2\n3\t4\n")
    seqzarr_build(tmp_path / "t.txt", tmp_path / "t.zarr", "--delimiter", r"\t", "--no-header", status=0)
    assert open_store(tmp_path / "t.zarr")[0][0].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_inspect_and_verify_of_no_store_are_wrong_usage(tmp_path, command):
    assert "there is no store" in seqzarr(command, tmp_path / "nothing", status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (["inspect", ""], "STORE"),
        (["inspect", "t.zarr", "--html", ""], "--html"),
        (["verify", ""], "STORE"),
        (["verify", "t.zarr", "--sources", ""], "--sources"),
        (["verify", "t.zarr", "--sources", "tables", "--manifest", ""], "--manifest"),
        (["compact", "", "new.zarr"], "STORE"),
        (["compact", "t.zarr", ""], "NEW"),
    ],
)
def test_an_empty_path_is_not_the_working_folder(tables, tmp_path, monkeypatch, arguments, name):
    assert seqzarr("build", tables, tmp_path / "t.zarr", "--workers", 0).exit_code == 0
    monkeypatch.chdir(tmp_path / "t.zarr")
    assert f"Invalid value for '{name}': is empty, like an unset shell variable" in seqzarr(*arguments, status=2).stderr


def test_a_closed_pipe_is_not_an_error(tables, tmp_path):
    seqzarr("build", tables, tmp_path / "t.zarr", "--workers", 0)
    command = f"{sys.executable} -m builder inspect {tmp_path / 't.zarr'} | head -n 1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("t.zarr\n", "")
