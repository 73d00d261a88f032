"""A later build finds the process function by its recorded name, and names the sources that older code processed."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import builder
import store_spec
from builder import UsageError, tabular
from builder.processes.function_process import is_valid_record
from builder.processes.process import load_process
from builder.processes.process_code import code_of
from tests.builder.any_order import fail_at_commit
from tests.builder.command import python, recorded, seqzarr
from tests.builder.command import seqzarr_build as build
from tests.builder.source_files import write_files
from tests.store.oracle import files

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


def code(factor: int) -> str:
    """Return the fingerprint of `read` in this version of the module, in a module of another name."""
    with tempfile.TemporaryDirectory() as folder:
        (path := Path(folder, "any_reader.py")).write_text(READER.format(factor=factor))
        module = ModuleType("any_reader")
        exec(compile(path.read_text(), path, "exec"), vars(module))  # noqa: S102
        return str(code_of(module.read).sha256)


class Reader:
    """The module `my_reader` in the working folder, whose code can change, as between two commands."""

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
        assert message in build("src", "store", *asked, status=2).stderr
    with pytest.raises(UsageError, match="built with function my_reader:read, but the option is now tabular"):
        reader.build(process=tabular())
    (reader.place / "elsewhere").mkdir()
    monkeypatch.chdir(reader.place / "elsewhere")
    sys.modules.pop("my_reader")
    with pytest.raises(UsageError, match="store: process 'my_reader:read': there is no module my_reader in"):
        reader.build()


AS_SCRIPT = """
if __name__ == "__main__":
    import builder

    builder.build("src", "store", process=read, workers=0)
"""


def as_script(reader: Reader) -> None:
    """Build as `python my_reader.py` does; the function is then in `__main__`."""
    (reader.place / "my_reader.py").write_text(READER.format(factor=1) + AS_SCRIPT)
    assert python("my_reader.py", folder=reader.place).returncode == 0


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
    ],
)
def test_a_given_function_replaces_a_recorded_name_that_is_gone(reader, first, name, same):
    reader.write(1)
    reader.add(a=[3], b=[2, 2])
    first(reader)
    store, given = reader.place / "store", ["--process", "my_reader:read"]
    assert recorded(store)["process"] == {"function": name}
    before = files(store)
    verified = ["verify", "store", "--sources", "src", "--workers", 0]
    for asked in (["build", "src", "store"], ["build", "src", "store", "--dry-run"], verified, [*verified, "--repair"]):
        assert seqzarr(*asked, status=2).stderr.endswith("give the function with process (--process)\n")
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
    if same:  # under any name, the store is what one build would have made
        grown = files(store)
        shutil.rmtree(store)
        first(reader)
        assert files(store) == grown


def test_another_function_is_refused_with_advice_that_works(reader):
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
        advice = f"{refused}give own:mine with process (--process), build to another path, or remove this store"
        assert advice in build("src", "store", "--process", "my_reader:read", status=2).stderr
    sys.modules.pop("own", None)


def test_the_store_records_the_code_of_each_sequence_and_builds_name_outdated_sources(reader):
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
    report = reader.build()
    assert report.outdated == tuple(dict.fromkeys(opened.sources))
    assert repr(report).endswith("; 7 made by other code>")
    report = reader.build(update=True)
    assert (report.updated, report.unchanged, report.outdated) == (7, 0, ())
    assert {float(inputs.mean()) for inputs, _ in store_spec.open_store(store)} == {3}


@pytest.mark.slow
@pytest.mark.parametrize("commits", [0, 2])
def test_an_interrupted_build_with_new_code_ends_with_the_same_bytes(reader, monkeypatch, commits):
    store, whole = reader.place / "store", reader.place / "whole"
    reader.write(1)
    reader.add(a=[3], b=[2, 2])
    reader.build("store", process="my_reader:read", chunk=40, shard=80)
    shutil.copytree(store, whole)
    reader.write(2)
    reader.add(**{f"c{number}": [number, 4] for number in range(8)})
    reader.build("whole")
    with monkeypatch.context() as patch:
        fail_at_commit(commits, patch)
        with pytest.raises(ConnectionError):
            reader.build("store")
    both = [[0, code(1)], [3, code(2)]]
    assert recorded(store)["code"] == (both if commits else both[:1])
    assert 3 + commits <= len(store_spec.open_store(store)) < 19
    reader.build("store")
    assert recorded(store)["code"] == both
    assert files(store) == files(whole)


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


def test_null_in_the_record_of_a_function_is_ignored():
    options = {"arguments": None, "missing": None, "classes": None, "label_pattern": None}
    assert is_valid_record({"function": "made:read"} | options)


FAILING_SCRIPT = """
import numpy as np

def read(path):
    if path.name == "b.bin":
        raise ValueError("bad")
    return np.ones((3, 1)), 0

if __name__ == "__main__":
    import builder

    for workers in (0, 1):
        builder.build("src", f"store{workers}", process=read, workers=workers)
"""


@pytest.mark.slow
def test_failures_of_a_script_are_recorded_alike_with_and_without_workers(tmp_path):
    write_files(tmp_path / "src", {"a.bin": b"1", "b.bin": b"2"})
    (tmp_path / "script.py").write_text(FAILING_SCRIPT)
    assert python("script.py", folder=tmp_path).returncode == 0
    assert files(tmp_path / "store0") == files(tmp_path / "store1")
    assert "ValueError: bad" in (tmp_path / "store0" / "zarr.json").read_text()
