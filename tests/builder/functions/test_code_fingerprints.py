"""The fingerprint of a process function changes with code and values, and with nothing else."""

import functools
import json
import linecache
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import builder
from builder.processes.process_code import UNKNOWN_CODE, code_of
from tests.builder.command import python, seqzarr
from tests.builder.source_files import write_files


class Edit(NamedTuple):
    """A piece of code, and an edit of it."""

    code: str  # it defines `process`
    old: str
    new: str
    same: bool = False


MAKE = "def make(k):\n    def process(path):\n        return k\n    return process\n"
READER = """
class Base:
    factor = 2
    def scaled(self, value):
        return value * self.factor

class Reader(Base):
    __slots__ = ("rate", "state")
    def __init__(self, rate):
        self.rate, self.state = rate, [self]
    def __call__(self, path):
        return self.scaled(self.rate) + self.shift + self.more() + self.kind()
    def read(self, path):
        return super().scaled(3)
    @property
    def shift(self):
        return 10
    @staticmethod
    def more():
        return 100
    @classmethod
    def kind(cls):
        return 1000
"""
OPTIONS = """
from dataclasses import dataclass, field

@dataclass(frozen=True)
class Options:
    rate: int = 3
    names: list = field(default_factory=lambda: ["a"])
    def __call__(self, path):
        return self.rate

@dataclass(frozen=True, slots=True, kw_only=True)
class Further:
    options: Options
    def __call__(self, path):
        return self.options.names
"""
DECORATED = """
from functools import lru_cache, wraps

def doubling(function):
    @wraps(function)
    def inner(path):
        return function(path) * 2
    return inner

@lru_cache
def length(path):
    return len(path)

@doubling
def process(path):
    return length(path) + 7
"""
HELPED = """
LIMIT, OTHER, HERE = 5, 6, __file__

def unused():
    return 1

def helper(path, depth=3):
    return [helper(path, depth - 1)] if depth else LIMIT

def process(path):
    return [value for value in helper(path) if value not in (__file__, __name__)]
"""
LAZY = (
    "model = None\n\ndef process(path):\n    global model\n    if model is None:\n        model = 7\n    return model\n"
)
ENUM = """
import enum

class Kind(enum.Enum):
    LOW = 1
    HIGH = 2
    def twice(self):
        return self.value * 2

def process(path, kind=Kind.LOW):
    return kind.twice()
"""
PLAIN = "def process(path, gain=1, *, shift=2):\n    # a comment\n    return path * 3, gain, shift\n"
ARRAY = f"import numpy as np\n{MAKE}process = make(np.arange(4, dtype='f4').reshape(2, 2))\n"
TABLE = f"from builder import tabular\n{MAKE}process = make(tabular(inputs='a,b'))\n"

EDITS = {
    "the body": Edit(PLAIN, "* 3", "* 4"),
    "a constant's type": Edit(PLAIN, "* 3", "* 3.0"),
    "a default": Edit(PLAIN, "gain=1", "gain=2"),
    "a keyword's default": Edit(PLAIN, "shift=2", "shift=3"),
    "nothing": Edit(PLAIN, "", "", same=True),
    "what stands around it": Edit(PLAIN, "def process", "\n# text\nother = 3\n\n\ndef process", same=True),
    "a closure": Edit(f"{MAKE}process = make(1)", "make(1)", "make(2)"),
    "a closure's type": Edit(f"{MAKE}process = make(1)", "make(1)", "make(True)"),
    "a list in it": Edit(f"{MAKE}process = make([1, (2, 'x')])", "'x'", "'y'"),
    "bytes in it": Edit(f"{MAKE}process = make(b'x')", "b'x'", "'x'"),
    "a set in it": Edit(f"{MAKE}process = make({{'a', 'b'}})", "'b'", "'c'"),
    "a set's order": Edit(f"{MAKE}process = make({{'a', 'b', 'i'}})", "'a', 'b', 'i'", "'i', 'a', 'b'", same=True),
    "a dictionary in it": Edit(f"{MAKE}process = make({{'a': 1}})", ": 1", ": 2"),
    "the order of columns": Edit(f"{MAKE}process = make(dict(a=1, b=2))", "a=1, b=2", "b=2, a=1"),
    "equal objects in place of one": Edit(f"{MAKE}x = [1]\nprocess = make([x, x])", "[x, x]", "[[1], [1]]", same=True),
    "two closures swapped": Edit(f"{MAKE}process = make([make(1), make(2)])", "make(1), make(2)", "make(2), make(1)"),
    "a large number": Edit(f"{MAKE}process = make(10 ** 5000)", "5000", "5001"),
    "a path": Edit(f"from pathlib import Path\n{MAKE}process = make(Path('a'))", "'a'", "'b'"),
    "a pattern": Edit(f"import re\n{MAKE}process = make(re.compile('a'))", "'a'", "'b'"),
    "a read-only dictionary": Edit(f"import types\n{MAKE}process = make(types.MappingProxyType({{1: 2}}))", "2", "3"),
    "a date": Edit(f"import datetime\n{MAKE}process = make(datetime.date(2000, 1, 2))", "1, 2", "1, 3"),
    "random numbers": Edit(f"import numpy\n{MAKE}process = make(numpy.random.default_rng(0))", "g(0)", "g(1)"),
    "a function of a package": Edit(f"import numpy\n{MAKE}process = make(numpy.sin)", "sin", "cos"),
    "an array's value": Edit(ARRAY, "reshape(2, 2)", "reshape(2, 2) + 1"),
    "an array's shape": Edit(ARRAY, "reshape(2, 2)", "reshape(4)"),
    "an array's dtype": Edit(ARRAY, "'f4'", "'i4'"),
    "how an array is made": Edit(ARRAY, "arange(4", "arange(0, 4", same=True),
    "an option of tables": Edit(TABLE, "'a,b'", "'a,c'"),
    "how an option is given": Edit(TABLE, "'a,b')", "['a', 'b']).only(['inputs'])", same=True),
    "a lambda": Edit("process = lambda path: path * 2", "* 2", "* 3"),
    "one of two lambdas": Edit("other, process = lambda path: path, lambda path: path * 2", "* 2", "* 3"),
    "a function within": Edit("def process(path):\n    return [(lambda: 3)() for _ in path]\n", "3", "4"),
    "an argument of partial": Edit(
        f"from functools import partial\n{PLAIN}process = partial(process, gain=5)", "5", "6"
    ),
    "a place of partial": Edit(f"from functools import partial\n{PLAIN}process = partial(process, 5)", "5)", "6)"),
    "what partial calls": Edit(f"from functools import partial\n{PLAIN}process = partial(process, 5)", "* 3", "* 4"),
    "an object's attribute": Edit(f"{READER}process = Reader(1)", "r(1)", "r(2)"),
    "how an object is called": Edit(f"{READER}process = Reader(1)", "+ self.shift", "- self.shift"),
    "a property": Edit(f"{READER}process = Reader(1)", "return 10\n", "return 20\n"),
    "a static method": Edit(f"{READER}process = Reader(1)", "return 100\n", "return 200\n"),
    "a class method": Edit(f"{READER}process = Reader(1)", "return 1000\n", "return 2000\n"),
    "a base class": Edit(f"{READER}process = Reader(1)", "value * self", "value + self"),
    "an attribute of a class": Edit(f"{READER}process = Reader(1)", "factor = 2", "factor = 3"),
    "what a method is bound to": Edit(f"{READER}process = Reader(1).read", "r(1)", "r(2)"),
    "a method": Edit(f"{READER}process = Reader(1).read", "scaled(3)", "scaled(4)"),
    "a class that is called": Edit(f"{READER}def process(path): return Reader(1)(path)", "return 10\n", "return 20\n"),
    "a dataclass's value": Edit(f"{OPTIONS}process = Options(4)", "Options(4)", "Options(5)"),
    "a dataclass's method": Edit(f"{OPTIONS}process = Options(4)", "return self.rate", "return self.names"),
    "a dataclass's default": Edit(f"{OPTIONS}def process(path): return Options().rate", "int = 3", "int = 4"),
    "a dataclass in another": Edit(f"{OPTIONS}process = Further(options=Options(4))", "ns(4)", "ns(5)"),
    "what makes a default": Edit(f"{OPTIONS}process = Further(options=Options(4))", '["a"]', '["b"]'),
    "what is decorated": Edit(DECORATED, "+ 7", "+ 8"),
    "the decorator": Edit(DECORATED, "* 2", "* 4"),
    "what is cached": Edit(DECORATED, "len(path)", "len(path) + 1"),
    "a helper": Edit(HELPED, "depth - 1", "depth - 2"),
    "a helper's default": Edit(HELPED, "depth=3", "depth=4"),
    "a global value of a helper": Edit(HELPED, "= 5,", "= 7,"),
    "a global value that is not used": Edit(HELPED, "6", "7", same=True),
    "a function that is not used": Edit(HELPED, "return 1", "return 2", same=True),
    "a global value that it sets itself": Edit(LAZY, "model = None\n\n", "model = 7\n\n", same=True),
    "the value of a constant": Edit(ENUM, "LOW = 1", "LOW = 3"),
    "a method of a constant": Edit(ENUM, "* 2", "* 3"),
    "which constant": Edit(ENUM, "Kind.LOW", "Kind.HIGH"),
}


def defined(code: str, name: str = "process", *, source: str | None = None, module: str = "__main__") -> Any:
    """Run code as a notebook runs a cell; `source` is the name under which Python finds its text."""
    namespace: dict[str, Any] = {"__name__": module, "__file__": f"/somewhere/{source}"}
    if source is not None:
        linecache.cache[source] = len(code), None, code.splitlines(keepends=True), source
    exec(compile(code, source or "<string>", "exec", dont_inherit=True), namespace)  # noqa: S102
    return namespace[name]


def fingerprint(process: Any) -> str:
    """Return the fingerprint; everything must be comparable."""
    code = code_of(process)
    assert code.uncompared is None
    assert code.sha256 is not None
    assert len(bytes.fromhex(code.sha256)) == 32
    return code.sha256


@pytest.mark.parametrize("with_text", [True, False])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_fingerprint_changes_only_with_code_and_values(edit, with_text):
    assert edit.old in edit.code
    sources = ("<cell 1>", "<cell 2>") if with_text else (None, None)
    before, after = edit.code, edit.code.replace(edit.old, edit.new, 1) if edit.old else edit.code
    processes = [defined(code, source=source) for code, source in zip((before, after), sources, strict=True)]
    one, other = map(fingerprint, processes)
    assert (one == other) == edit.same
    assert fingerprint(processes[0]) == one
    again = defined(before, source=sources[1], module="my_reader")
    assert fingerprint(again) == one  # under any name, in any place


PRINTING = """
import json, sys
from tests.builder.functions.test_code_fingerprints import EDITS, defined, fingerprint
print(json.dumps({name: fingerprint(defined(edit.code, source=SOURCE)) for name, edit in EDITS.items()}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("source", ["<cell>", None])
def test_a_fingerprint_is_the_same_for_every_hash_seed(source):
    found = {name: fingerprint(defined(edit.code, source=source)) for name, edit in EDITS.items()}
    for seed in "0", "1":
        done = python("-c", PRINTING.replace("SOURCE", repr(source)), PYTHONHASHSEED=seed)
        assert json.loads(done.stdout) == found, done.stderr


def test_with_source_text_a_fingerprint_is_the_same_in_every_python():
    code = "\n".join([HELPED, OPTIONS, ENUM.replace("process", "twice"), DECORATED, MAKE])
    code += "process = make([process, helper, Options(), Further(options=Options()), twice, {'a', 'b'}, 1.5, b'x'])\n"
    assert (
        fingerprint(defined(code, source="<cell>"))
        == "fcbefda60b1fc5bd8f3015b5210e393f5589b23511676160b4a8770fc508f92f"
    )


def test_calling_a_function_does_not_change_its_fingerprint():
    process = defined(DECORATED)
    before = fingerprint(process)
    for length in range(1_000):  # its bytecode is specialised meanwhile
        process("x" * length)
    assert fingerprint(process) == before


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Iterator[Path]:
    """Return a working folder with the user's modules, which can be edited as between two commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "kit").mkdir()
    yield tmp_path
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in {"my_reader", "kit"}]:
        del sys.modules[name]


READING = {
    "a module": "import kit.rows\n\ndef process(path):\n    return kit.rows.read(path)\n",
    "a name": "from kit.rows import read\n\ndef process(path):\n    return read(path)\n",
    "a module, when it is called": "def process(path):\n    import kit.rows\n    return kit.rows.read(path)\n",
    "a name, when it is called": "def process(path):\n    from kit import rows\n    return rows.read(path)\n",
}


@pytest.mark.parametrize("reading", READING.values(), ids=READING)
def test_an_edit_of_another_module_of_the_user_is_seen(folder, reading):
    (folder / "my_reader.py").write_text(reading)
    found = []
    for text in ("return 1", "return 2", "return 1  # or 2", "return 1"):
        forget()
        (folder / "kit" / "rows.py").write_text(f"import numpy\ndef other(path): {text}0\ndef read(path): {text}\n")
        found.append(fingerprint(builder.processes.process.load_process("my_reader:process")))
        assert found[-1] == fingerprint(sys.modules["my_reader"].process)  # imported meanwhile
    assert len(set(found[:3])) == 3
    assert found[3] == found[0]


@pytest.mark.parametrize("used", ["kit.rows.read", "kit.other.read"])
def test_an_edit_is_seen_through_a_package_that_is_used_in_several_ways(folder, used):
    (folder / "my_reader.py").write_text("import kit.steps\ndef process(path): return kit.steps.read(path)\n")
    (folder / "kit" / "steps.py").write_text(f"import kit.rows, kit.other\ndef read(path): return {used}(path)\n")
    (folder / "kit" / "other.py").write_text("import kit.rows\ndef read(path): return kit.rows.read(path)\n")
    found = []
    for value in (1, 2, 1):
        forget()
        (folder / "kit" / "rows.py").write_text(f"import kit.steps\ndef read(path): return {value}, kit.steps.read\n")
        found.append(fingerprint(builder.processes.process.load_process("my_reader:process")))
    assert (found[0] == found[1], found[0] == found[2]) == (False, True)


def test_an_edit_of_a_metaclass_is_seen_and_the_user_warned_of_a_module_in_a_class(folder):
    text = "from kit import rows\nclass process(metaclass=rows.Meta):\n    rows = rows\n"
    (folder / "my_reader.py").write_text(text)
    found = []
    for value in (1, 2):
        forget()
        (folder / "kit" / "rows.py").write_text(f"class Meta(type):\n    def __call__(cls, path): return {value}\n")
        found.append(code_of(builder.processes.process.load_process("my_reader:process")))
    assert found[0].sha256 != found[1].sha256
    assert "(the module kit.rows)" in str(found[0].uncompared)


@pytest.mark.parametrize("use", ["first(rows)", "getattr(rows, 'read')(path)", "vars(rows)['read'](path)"])
def test_the_user_is_warned_of_a_module_that_is_used_whole(folder, use):
    text = f"import math\nfrom kit import rows\n\ndef process(path):\n    math.sqrt(1)\n    return {use}\n"
    (folder / "my_reader.py").write_text(text + "def first(module):\n    return module.read(1)\n")
    (folder / "kit" / "rows.py").write_text("def read(path): return 1\n")
    code = code_of(builder.processes.process.load_process("my_reader:process"))
    assert "(the module kit.rows)" in str(code.uncompared)


def test_a_module_edited_after_its_import_is_not_taken_for_the_running_code(folder):
    (folder / "my_reader.py").write_text("def process(path):\n    return 1\n")
    loaded = builder.processes.process.load_process("my_reader:process")
    before = fingerprint(loaded)
    (folder / "my_reader.py").write_text("# a line more\n\n\ndef process(path):\n    return 1\n")
    assert fingerprint(loaded) == before
    (folder / "my_reader.py").write_text("def process(path):\n    return 23\n")
    stale = fingerprint(loaded)
    forget()
    assert fingerprint(builder.processes.process.load_process("my_reader:process")) not in {before, stale}


def test_a_users_package_may_be_installed(folder, monkeypatch):
    place = folder / "site-packages" / "kit"
    place.mkdir(parents=True)
    monkeypatch.syspath_prepend(str(place.parent))
    found = []
    for value in (1, 2, 1):
        forget()
        (place / "__init__.py").write_text(f"def helper(): return {value}\ndef read(path): return helper()\n")
        found.append(fingerprint(builder.processes.process.load_process("kit:read")))
    assert (found[0] == found[1], found[0] == found[2]) == (False, True)


HELD = {
    "_io.TextIOWrapper": f"import sys\n{MAKE}process = make(sys.__stdout__)",
    "_thread.lock": "import threading\nlock = threading.Lock()\n\ndef process(path):\n    return lock\n",
    "generator": f"{MAKE}process = make(x for x in 'ab')",
}


@pytest.mark.parametrize("what", HELD)
def test_values_that_cannot_be_compared_are_named(what):
    process = defined(HELD[what])
    code = code_of(process)
    assert code == code_of(process)
    assert f"values that cannot be compared between builds ({what})," in str(code.uncompared).replace("builtins.", "")
    assert code.sha256 != code_of(defined(HELD[what].replace("return ", "return 0, "))).sha256


def test_deeply_nested_values_cannot_be_compared():
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    code = code_of(functools.partial(len, deep))
    assert code.sha256 == UNKNOWN_CODE
    assert "(nested too deeply)" in str(code.uncompared)


# Builds.


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_files(tmp_path / "src", {f"{number}.numbers": f"{number}" for number in range(4)})
    return tmp_path


@pytest.mark.slow
def test_every_build_warns_of_what_cannot_be_compared(place):
    def scaled(path: Path, factor: float) -> Any:
        rows = np.full((3, 1), factor * float(path.read_text()), np.float32)
        return rows, rows

    with Path("/dev/null").open() as stream:

        def process(path: Path) -> Any:
            return scaled(path, float(stream.fileno()))

        for _ in range(2):
            with pytest.warns(UserWarning, match=r"cannot be compared between builds \(_io.TextIOW.*\), so") as caught:
                report = builder.build(place / "src", place / "store", process=process, workers=0)
            assert [one.filename for one in caught] == [__file__]
            assert report.uncompared == str(caught[0].message)
    assert builder.build(place / "src", place / "other", process=scaled, arguments={"factor": 1}).uncompared is None


LOCKED = """
import threading
import numpy as np

lock = threading.Lock()

def read(path):
    with lock:
        return np.zeros((3, 1)), np.zeros(3)
"""


@pytest.mark.usefixtures("place")
def test_the_command_warns_of_incomparable_values_in_one_line(folder):
    (folder / "my_reader.py").write_text(LOCKED)
    for process in (["--process", "my_reader:read"], []):
        result = seqzarr("build", "src", "store", *process, "--workers", "0", status=0)
        assert "uses values that cannot be compared between builds (_thread.lock)" in result.stderr
        assert result.stderr.count("\n") == 1
