"""The gallery of real files: the committed set is equal, and the comparison finds each kind of fault."""

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from builder import Sequence
from tests.builder.command import python
from tests.builder.source_files import build_files
from tests.documents import REPOSITORY, Block, DocumentError
from tests.real_data.compared import differences
from tests.real_data.gallery import DOCUMENT, SECTION, Entry, entries, gallery, run
from tests.real_data.plain import Expected, Plain
from tests.real_data.scripts import SCRIPTS
from tests.real_data.sets import compare_set

DATA = REPOSITORY / "tests" / "data"
VOWELS = "japanese-vowels"


@pytest.mark.slow
def test_the_vowels_equal_those_of_a_plain_script():
    done = python("-m", "tests.real_data", DATA, VOWELS)
    assert (done.returncode, done.stderr) == (0, "")
    [line] = [line for line in done.stdout.splitlines() if "vowels.zarr" in line]
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert [*cells[:8], cells[9]] == [VOWELS, "vowels.zarr", "270", "270", "4,274", "0", "0", "3,194", "equal"]


def test_an_unknown_data_set_is_wrong_usage():
    for name in ("nab", "nothing"):
        done = python("-m", "tests.real_data", DATA, name)
        assert done.returncode == 2
        assert name in done.stderr


def test_every_data_set_of_the_gallery_has_a_script():
    assert list(gallery()) == list(SCRIPTS)
    assert [file.name for file in gallery()["spoken-digits"].files] == ["wav.py"]


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ("```console\n$ true\n```\n", "builder/README.md:3: mark a block"),
        ("<!-- set: a -->\n```sh\ntrue\n```\n", "builder/README.md:4: mark a block"),
        ("<!-- set: a -->\n```console\n$ true\n```\n" * 2, "builder/README.md:8: a second block of the set a"),
    ],
)
def test_blocks_without_a_data_set_are_refused(blocks, message):
    with pytest.raises(DocumentError, match=message):
        entries(f"## {SECTION}\n\n{blocks}")


def entry(text: str, name: str = VOWELS) -> Entry:
    beside = Block("file", "a.txt", "text", "beside\n", 1, DOCUMENT)
    return Entry(name, Block("set", name, "console", text, 1, DOCUMENT), (beside,))


def test_commands_run_beside_the_data_set_and_their_files(tmp_path):
    run(entry(f"$ cat a.txt\nbeside\n$ ls {VOWELS}/labels.csv\n...labels.csv\n"), DATA, tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("$ cat a.txt\nbefore\n", "Expected:\nbefore\n\nGot:\nbeside"),
        ("$ true\n$ cat b.txt\n", "exit status 1 from cat b.txt"),
    ],
)
def test_commands_that_fail_or_have_other_output_are_reported(tmp_path, text, message):
    with pytest.raises(DocumentError, match=message):
        run(entry(text), DATA, tmp_path)


def test_stores_without_a_script_and_scripts_without_a_store_are_reported(tmp_path):
    found = compare_set(entry("$ mkdir other.zarr\n"), DATA, tmp_path)
    assert {name: differences for name, (_, differences) in found.items()} == {
        "other.zarr": ["other.zarr: no script tells what it is"],
        "vowels.zarr": ["vowels.zarr: no command makes it"],
    }


# Controls: stores of every kind that is compared, each with a script that has one fault.

TIMES = np.arange(40, dtype=np.int64)
Change = Callable[[Expected], Expected]


def steps(number: int) -> Sequence:
    """Return a sequence with times, NaN and filled values, and labels per step."""
    rng = np.random.default_rng(number)
    inputs, labels = rng.normal(size=(20 + number, 2)), rng.normal(size=(20 + number, 1))
    inputs[7, 1] = labels[12, 0] = np.nan
    time = TIMES[: 20 + number].astype("datetime64[s]")
    filled = np.zeros(inputs.shape, np.bool_)
    filled[9, 0] = True
    return Sequence(inputs, labels, time=time, filled=filled, columns={"site": number % 3})


def wholes(number: int) -> Sequence:
    """Return a sequence of one class, which is text."""
    rows = np.random.default_rng(number).normal(size=(10 + number, 2)).astype("float32")
    return Sequence(rows, ["odd" if number % 2 else "even"], columns={"name": f"n{number % 4}"})


def process(made: Callable[[int], Sequence], path: Path) -> Sequence:
    return made(int(path.read_text()))


def plain(file: Path, one: Sequence, **more: Any) -> Plain:
    """Return a sequence as a script does."""
    return Plain(source=file.name, file=file, inputs=one.inputs, columns=dict(one.columns), **more)


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> dict[str, tuple[Path, Expected]]:
    """A store of each kind, and the expected one."""
    folder = tmp_path_factory.mktemp("stores")
    contents = {f"{number:02}.txt": str(number) for number in range(12)}
    build_files(folder, contents, partial(process, steps), "steps", missing="keep")
    build_files(folder, contents, partial(process, wholes), "wholes", classes="even,odd")
    stepped, whole = [], []
    for number, name in enumerate(contents):
        file, one = folder / "src" / name, steps(number)
        assert one.time is not None
        stepped.append(plain(file, one, labels=one.labels, time=one.time.view(np.int64), filled=one.filled))
        whole.append(plain(file, wholes(number), labels=np.array([number % 2])))
    of_steps = Expected(
        sequences=stepped, unit=("s", "1970-01-01"), window=3, stride=2, target="last", skip=True, mask=True, by="site"
    )
    of_wholes = Expected(sequences=whole, classes=[["even", "odd"]], window=3, stride=2, target="sequence")
    return {"steps": (folder / "steps", of_steps), "wholes": (folder / "wholes", of_wholes)}


@pytest.mark.parametrize("kind", ["steps", "wholes"])
def test_correct_stores_do_not_differ(stores, kind):
    path, expected = stores[kind]
    assert [*differences(path, expected)] == []


def fifth(**changes: Any) -> Change:
    """Return a function that changes the fifth sequence: changes are values, or functions of the present one."""

    def change(expected: Expected) -> Expected:
        one = expected.sequences[4]
        made = {name: value(getattr(one, name)) if callable(value) else value for name, value in changes.items()}
        return replace(expected, sequences=[*expected.sequences[:4], replace(one, **made), *expected.sequences[5:]])

    return change


def every(**changes: Any) -> Change:
    """Return a function that changes all sequences."""
    return lambda expected: replace(expected, sequences=[replace(one, **changes) for one in expected.sequences])


def one_bit(rows: NDArray[Any]) -> NDArray[Any]:
    """Return rows with another lowest bit in the first value."""
    changed = rows.copy()
    changed.view(np.uint8).reshape(-1)[0] ^= 1
    return changed


WRONG: dict[str, tuple[str, Change, str]] = {
    "a bit of inputs": ("steps", fifth(inputs=one_bit), "by zarr: inputs: value 172 is"),
    "a bit of labels": ("steps", fifth(labels=one_bit), "our_reader_reads: labels of sequence 4"),
    "a bit of windows' inputs": ("steps", fifth(inputs=one_bit), "an_epoch: window .* inputs: value 0 is"),
    "labels of windows": ("steps", fifth(labels=lambda rows: rows + 1), "an_epoch: window .* labels: value 0 is"),
    "a time": ("steps", fifth(time=one_bit), "our_reader_reads: times of sequence 4"),
    "a value that was filled in": ("steps", fifth(filled=one_bit), "by zarr: filled: value 172 is"),
    "the mask": ("steps", fifth(filled=np.zeros_like), "an_epoch: window .* mask"),
    "windows that are left out": ("steps", fifth(labels=np.nan_to_num), "an_epoch: 120 windows, and not 121"),
    "no times": ("wholes", every(time=TIMES), "by zarr: time is not there"),
    "times that should not be": ("steps", every(time=None), "by zarr: time is there"),
    "the unit of times": ("steps", partial(replace, unit=("s", None)), "and not .'s', None."),
    "a column": ("steps", fifth(columns={"site": 9}), "our_reader_reads: column site"),
    "a column that should not be": ("wholes", every(columns={}), "by zarr: sequences/name is there"),
    "a class": ("wholes", fifth(labels=one_bit), "by zarr: labels: value 4 is"),
    "names of classes": ("wholes", partial(replace, classes=[["odd", "even"]]), "by zarr: classes"),
    "a source's bytes": ("wholes", fifth(file=Path(__file__)), "by zarr: sequences/source_sha256 differs"),
    "a source's name": ("wholes", fifth(source="x.txt"), "our_reader_reads: sources"),
    "the dtype": ("wholes", every(inputs=TIMES.astype("float64")), "float32 .*, and not float64"),
    "a part": ("wholes", fifth(part=1), "by zarr: sequences/part differs"),
    "a length": ("wholes", fifth(inputs=lambda rows: rows[:-1]), "by zarr: offsets"),
    "a sequence": ("wholes", lambda expected: replace(expected, sequences=expected.sequences[:-1]), "zarr: row_size"),
    "the order": ("wholes", lambda expected: replace(expected, sequences=expected.sequences[::-1]), "zarr: row_size"),
    "which split": ("wholes", fifth(source="a.txt"), "splits: train has"),
}


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_a_script_with_one_fault_is_found(stores, what):
    kind, change, message = WRONG[what]
    path, expected = stores[kind]
    found = [*differences(path, change(expected))]
    assert any(re.search(message, sentence) for sentence in found), found
