"""Process functions: their names, descriptions, transfer to workers, and possible results."""

import functools
import os
import pickle
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest

import store_spec
from builder import LongSequence, Sequence, UsageError, build, tabular
from builder.processes.function_process import Portable
from builder.processes.process import describe_process, load_process, load_recorded_process, searching
from builder.processes.row_dtypes import convert_like_store
from builder.sequence import sequences_of
from tests.builder.command import python
from tests.builder.made_sources import Made, read_made, write_made
from tests.builder.source_files import build_files, write_files

X, Y = np.zeros((3, 2)), np.ones(3)


@pytest.fixture
def folder_with_module(tmp_path, monkeypatch):
    (tmp_path / "my_reader.py").write_text(
        "import helper_of_mine\nSIZE = 3\ndef read(path):\n    return helper_of_mine.rows(path)\n"
    )
    (tmp_path / "helper_of_mine.py").write_text("def rows(path):\n    return [1], [2]\n")
    (tmp_path / "broken_reader.py").write_text("1 / 0\n")
    (tmp_path / "exiting_reader.py").write_text("import sys; sys.exit(3)\n")
    (tmp_path / "needy_reader.py").write_text("import a_library_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two versions within a second would be taken for one
    yield tmp_path
    for name in ("my_reader", "helper_of_mine"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("folder_with_module")
def test_a_function_is_found_by_name_in_the_working_folder_and_the_search_path_is_as_before():
    before = list(sys.path)
    assert load_process("my_reader:read")(Path("x")) == ([1], [2])
    assert sys.path == before
    assert load_process("os.path:basename")(Path("a/b")) == "b"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        *(
            (name, "is not of the form module:function")
            for name in ("my_reader", ":read", "./my_reader.py:read", ".my_reader:read", "my_reader:")
        ),
        ("no_such_reader:read", "there is no module no_such_reader in .* or on the search path; run the command in th"),
        ("needy_reader:read", "module needy_reader cannot be imported: No module named 'a_library_that_is_not_there'"),
        ("broken_reader:read", "importing it failed: ZeroDivisionError: division by zero"),
        ("exiting_reader:read", "importing it failed: SystemExit: 3"),
        ("my_reader:raed", "my_reader has no raed; it has read"),
        ("my_reader:SIZE", "my_reader has no SIZE; it has read"),
    ],
)
@pytest.mark.usefixtures("folder_with_module")
def test_invalid_names_of_functions_are_explained(name, message):
    with pytest.raises(UsageError, match=message):
        load_process(name)


def test_a_process_function_must_be_callable():
    with pytest.raises(UsageError, match="process=17 cannot be called"):
        load_process(17)  # type: ignore[arg-type]

    def function(path: Path) -> Path:
        return path

    assert load_process(function) is function


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (17, "it gave a int"),
        (None, r"it gave a NoneType; to skip a source, return \[\]"),
        (X, "it gave a ndarray"),
        ((X,), "it gave a tuple of 1"),
        ((X, Y, Y), "it gave a tuple of 3"),
        ([X, Y], "it gave a ndarray"),
        ("ab", "it gave a str"),
        ({"inputs": X}, "it gave a dict"),
    ],
)
def test_other_results_are_refused_with_their_type(result, message):
    with pytest.raises(TypeError, match=rf"returns \(inputs, labels\), or yields such pairs; {message}"):
        list(sequences_of(result))


def test_a_data_frame_alone_has_the_inputs_and_no_labels():
    (sequence,) = sequences_of(pd.DataFrame({"x": [1.0, 2.0], "y": [3.0, 4.0]}))
    assert isinstance(sequence, Sequence)
    assert sequence.inputs.tolist() == [[1, 3], [2, 4]]
    assert sequence.labels is None


def test_a_closure_reaches_another_process(tmp_path):
    factor = 3

    def scaled(path: Path) -> int:
        return len(path.name) * factor

    (tmp_path / "function").write_bytes(pickle.dumps(Portable(scaled)))
    code = (
        "import pickle, sys, pathlib\n"
        "function = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes())\n"
        "print(function(pathlib.Path('abc')))"
    )
    done = python("-c", code, tmp_path / "function")
    assert (done.stdout, done.stderr) == ("9\n", "")


def test_a_function_that_a_worker_cannot_import_is_an_error_when_called(folder_with_module, monkeypatch):
    data = pickle.dumps(Portable(load_process("my_reader:read")))
    sys.modules.pop("my_reader")
    monkeypatch.chdir("/")
    arrived = pickle.loads(data)
    message = r"cannot be imported on a worker: ModuleNotFoundError: .*my_reader.*installed"
    with pytest.raises(UsageError, match=message):
        arrived(Path("x"))
    with searching([str(folder_with_module)]):
        assert arrived(Path("x")) == ([1], [2])


def test_a_worker_refuses_a_function_whose_modules_it_imported_before_an_edit(folder_with_module):
    names = ("my_reader", "helper_of_mine")
    assert load_process("my_reader:read")(Path("x")) == ([1], [2])
    imported = {name: sys.modules.pop(name) for name in names}
    (folder_with_module / "helper_of_mine.py").write_text("def rows(path):\n    return [1], [3]\n")
    data = pickle.dumps(Portable(load_process("my_reader:read")))
    assert pickle.loads(data)(Path("x")) == ([1], [3])
    sys.modules.update(imported)
    with pytest.raises(UsageError, match="before it was edited; start that one again"):
        pickle.loads(data)(Path("x"))


def test_a_worker_accepts_a_function_whose_values_differ_there(folder_with_module):
    """Values such as a process number, or those of an environment, do not show that code was edited."""
    (folder_with_module / "helper_of_mine.py").write_text(
        "import dataclasses, enum, os\n"
        "PLACE = os.environ['PLACE']\n"
        "@dataclasses.dataclass\n"
        "class Row:\n    place: str = PLACE\n"
        "class Kind(enum.Enum):\n    FIRST = PLACE\n"
        "def rows(path, place=PLACE):\n    return Row().place, Kind.FIRST.value, place, PLACE\n"
    )
    data = b""
    for place in "ab":
        with mock.patch.dict(os.environ, PLACE=place):
            read = load_process("my_reader:read")
        data = data or pickle.dumps(Portable(read))
        assert pickle.loads(data)(Path("x")) == (place,) * 4
        for name in ("my_reader", "helper_of_mine"):
            sys.modules.pop(name)


def test_a_function_without_a_module_is_sent_by_value():
    function = FunctionType((lambda path: path.name).__code__, {})
    assert pickle.loads(pickle.dumps(Portable(function)))(Path("x")) == "x"


@pytest.mark.usefixtures("folder_with_module")
def test_the_store_records_the_name_of_a_function():
    assert describe_process(load_process("my_reader:read")) == {"function": "my_reader:read"}
    assert describe_process(tabular(inputs="a:c")) == {"tabular": tabular(inputs=["a:c"]).recorded()}
    assert describe_process(lambda path: path)["function"].startswith(f"{__name__}:")


@pytest.mark.usefixtures("folder_with_module")
def test_a_recorded_name_finds_the_function_itself_or_nothing():
    class Reader:
        def __call__(self, path: Path) -> Path:
            return path

    module = sys.modules[load_process("my_reader:read").__module__]
    module.reader = Reader()  # type: ignore[attr-defined]
    module.again = module.read  # type: ignore[attr-defined]
    named: list[tuple[Any, str | None, str]] = [
        (module.read, "my_reader:again", "my_reader:read"),
        (module.reader, "my_reader:reader", "my_reader:reader"),
        (functools.partial(module.read), None, "functools:partial()"),
        (np.load, None, "numpy:load"),
    ]
    for process, given, name in named:
        assert describe_process(process, given) == {"function": name}
    assert load_recorded_process("my_reader:reader") is module.reader
    inner, module.read = module.read, functools.lru_cache(module.read)  # type: ignore[attr-defined]
    assert describe_process(inner) == {"function": "my_reader:read()"}
    assert describe_process(inner, "my_reader:again") == {"function": "my_reader:again"}
    hidden: list[Any] = [inner, module.reader, functools.partial(module.read), lambda path: path, Reader().__call__]
    for name in [describe_process(one)["function"] for one in hidden] + ["__main__:read", "my_reader:", "my reader:x"]:
        message = r"cannot be found by its name; give the function with process \(--process\)"
        with pytest.raises(UsageError, match=message):
            load_recorded_process(name)


INSTALLED = [
    *("os:remove", "shutil:rmtree", "sys:exit", "numpy:load", "pytest:main", "pip:main"),
    *("builder:build", "builder.build:build", "store_spec:open_store"),
    *("my_reader:remove", "my_reader:build", "my_reader:bound", "my_reader:method"),  # its module is the user's own
]


@pytest.mark.parametrize("name", INSTALLED)
@pytest.mark.usefixtures("folder_with_module")
def test_a_recorded_function_of_an_installed_package_is_not_called(name):
    module = sys.modules[load_process("my_reader:read").__module__]
    others = {"remove": os.remove, "build": build, "bound": functools.partial(os.remove), "method": Path("x").unlink}
    vars(module).update(others)
    with pytest.raises(UsageError, match="is in an installed package"):
        load_recorded_process(name)


def test_a_keyboard_interrupt_of_a_function_is_a_failure_outside_the_main_thread(tmp_path):
    write_made(tmp_path / "src", {name: Made() for name in ("a.made", "b.made", "c.made")})

    def read(path: Path) -> Any:
        if path.name == "b.made":
            raise KeyboardInterrupt
        return read_made(path)

    with ThreadPoolExecutor(1) as pool:
        report = pool.submit(build, tmp_path / "src", tmp_path / "s", process=read, workers=0).result()
    (failure,) = report.failures
    assert str(failure).startswith("b.made: KeyboardInterrupt (test_process_functions.py, line ")
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path / "src", tmp_path / "t", process=read, workers=0)


class Panic(BaseException):
    """An exception like a panic of Rust, which is not an Exception."""


def raising(path: Path) -> Any:
    if path.name == "2.csv":
        raise Panic("unwrap of None")
    if path.name == "3.csv":
        raise SystemExit(3)
    if path.name == "4.csv":
        next(iter(path.read_text().splitlines()[2:]))
    return np.ones((3, 1)), np.ones(3)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_every_exception_of_a_process_function_is_a_failure_of_its_source(tmp_path, workers):
    contents = {f"{number}.csv": "v\n1\n" for number in range(5)}
    report = build_files(tmp_path, contents, raising, workers=workers).report
    assert report.added == 2
    said = [str(failure).partition(" (test_process_functions.py, line ") for failure in report.failures]
    assert [(what, bool(where)) for what, where, _ in said] == [
        ("2.csv: Panic: unwrap of None", True),
        ("3.csv: SystemExit: 3", True),
        ("4.csv: StopIteration", True),
    ]


class ReadWhenNeeded:
    """Rows like those of an h5py.Dataset."""

    shape, dtype = (3, 1), np.dtype("float32")
    count = 0

    def __len__(self) -> int:
        return 3

    def __array__(self, *_: Any, **__: Any) -> Any:
        self.count += 1
        return np.ones(self.shape, self.dtype)


def test_inputs_that_are_read_when_needed_are_read_to_check_them_and_to_store_them(tmp_path):
    inputs = {f"{number}.csv": ReadWhenNeeded() for number in range(3)}
    build_files(tmp_path, dict.fromkeys(inputs, "x"), lambda path: (inputs[path.name], np.ones(3)), workers=0)
    assert [inputs[name].count for name in ("1.csv", "2.csv")] == [2, 2]


def test_a_process_function_may_change_the_working_folder(tmp_path, monkeypatch):
    write_files(tmp_path / "src", {"1.csv": "v\n1\n", "2.csv": "v\n2\n"})
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    def read(path: Path) -> Any:
        os.chdir(tmp_path / "elsewhere")
        return np.loadtxt(path, skiprows=1, ndmin=2), np.ones(1)

    assert build("src", "store", process=read, workers=0).added == 2
    assert [x.tolist() for x, _ in store_spec.open_store(tmp_path / "store")] == [[[1.0]], [[2.0]]]
    assert Path.cwd() == tmp_path
    assert not list((tmp_path / "elsewhere").iterdir())


class Locked:
    """A process function that cannot be sent to another process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __call__(self, path: Path) -> Any:
        return np.loadtxt(path, skiprows=1, ndmin=2), np.ones(1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the process function uses values that cannot be compared")  # the lock
def test_a_process_function_that_cannot_be_sent_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be sent to workers: TypeError: .*lock.*: workers=0"):
        build_files(tmp_path, {"1.csv": "v\n1\n"}, Locked(), workers=1)
    assert build_files(tmp_path, {}, Locked()).report.added == 1


@pytest.mark.parametrize(
    ("first", "later"),
    [
        ({"columns": {"site": "x"}}, {"columns": {"site": None}}),
        ({"time": np.arange(2).astype("datetime64[s]")}, {"time": np.arange(2)}),
        ({"filled": np.ones((2, 1), bool)}, {"filled": np.ones((2, 1), bool), "pieces": True}),
    ],
)
def test_a_single_new_source_need_not_determine_a_store(tmp_path, first, later):
    rows = np.ones((2, 1))

    def read(path):
        if path.name == "a":
            return Sequence(rows, rows, **first)
        given = dict(later)
        pieces = [Sequence(rows[:1], rows[:1])] if given.pop("pieces", False) else []
        return LongSequence([*pieces, Sequence(rows, rows, **given)])

    for name in "ab":
        report = build_files(tmp_path, {name: "1"}, read).report
        assert (report.failures, report.added) == ((), 1)


def test_only_the_first_sequence_of_the_first_source_determines_a_store(tmp_path):
    rows, day = np.ones((3, 2)), np.datetime64("2024-01-01", "s")

    def read(path: Path) -> Any:
        first = Sequence(rows, rows, features=["x", "y"], columns={"site": "A"}, time=day + np.arange(3))
        numbers = Sequence(rows, rows, features=["y", "x"], columns={"site": None}, time=np.arange(3))
        return [first, numbers] if path.name == "a" else [numbers]

    store = build_files(tmp_path, {"a": "2", "b": "1"}, read).store
    assert (store.schema.inputs.names, store.sequences["site"].tolist()) == (("x", "y"), ["A", "", ""])
    assert [store.times(number)[0] for number in range(3)] == [day, np.datetime64(0, "s"), np.datetime64(0, "s")]


def test_the_reason_of_a_failure_may_begin_with_the_name_of_its_source(tmp_path):
    report = build_files(tmp_path, {"inputs": "1"}, lambda _: (1, 2)).report
    assert str(report.failures[0]) == "inputs: inputs have shape (), where this store has (rows)"


def test_masks_of_variables_are_kept_when_rows_are_converted_like_the_store():
    class Variable:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.ma.masked_equal([[1.0, -999.0]], -999)

    converted = convert_like_store((("inputs", "float32"),), Variable(), "inputs", "a")
    assert (converted.dtype, np.ma.getmaskarray(converted).tolist()) == (np.float32, [[False, True]])
