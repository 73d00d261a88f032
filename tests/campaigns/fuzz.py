"""Damage metadata documents of stores, and source files of every format, at random.

A source must be rejected with a reason, or give the rows that other readers give (`tests/builder/fuzzed_sources.py`). A
store must be rejected with an error that names its file, or give the right rows. A violation is one of the following:

* A whole sequence has other bytes than those written for its number, without an error. Its checksum is in a table,
  which no document can change. The dtype, the shape of a row, names, retirements and counts are defined by the root
  and protected by its digest alone: a root with a new digest may declare the bytes of an int16 to be a uint16.
* A window has other rows than its whole sequence, if that can be read. If it cannot, nothing defines the rows.
* A root with a wrong digest is opened.
* The document of an array or group, which readers do not use, changes what they read; or `verify` does not report one
  that is not the same JSON.

Memory and time are limited. Hypothesis shrinks a violation before it is reported, and the same seed gives the same
examples.
"""

import json
import os
import resource
import shutil
import signal
import tempfile
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import hypothesis
import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from store_spec.disk.snapshot import Snapshot
from store_spec.errors import WindowError
from tests.builder.fuzzed_sources import CAMPAIGN, FORMATS, fuzz
from tests.campaigns.fuzz_damage import Change, damages, forgeries
from tests.campaigns.outcome import Outcome
from tests.campaigns.processes import in_process
from tests.store.damage import ROOT, signed
from tests.store.everything import WINDOW, Pieces, crashes_in, errors_in, problems_in, read_all
from tests.store.make_golden import GOLDEN, STORES, Golden
from tests.store.oracle import Sequence

PROCESSES = 2
SEEDS = 8  # of the examples of stores; each seed is a process
EXAMPLES = 1_000, 3_000  # of stores for each seed, and of sources for each format
QUICK = 30, 8  # the same in the quick form
CONTROL = 250  # examples in the control
SECONDS = 900.0  # after which a process is considered to hang
MEMORY = 2**30  # bytes of address space beyond those in use before the first example
EXAMPLE_SECONDS = 20.0  # of processor time, after which an example is considered to hang
MAX_MESSAGE = 1_000  # characters


@dataclass(frozen=True, slots=True)
class Example:
    """One document of one store, and how it is changed."""

    golden: Golden
    document: str
    damage: tuple[str, Change]  # with a description
    sign: bool

    def __repr__(self) -> str:
        return f"{self.golden.name}.zarr/{self.document}{' signed' * self.sign}: {self.damage[0]}"


def campaign(*, quick: bool) -> Outcome:
    """Damage stores and sources, in two processes at a time."""
    stores, sources = QUICK if quick else EXAMPLES
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(PROCESSES) as pool,
        # Each arena of the allocator reserves address space, which is limited.
        mock.patch.dict(os.environ, MALLOC_ARENA_MAX="2"),
    ):
        jobs = [partial(fuzz_stores, Path(folder, "control"), CONTROL, 0, control=True)]
        jobs += [partial(fuzz_stores, Path(folder, str(seed)), stores, seed) for seed in range(1 if quick else SEEDS)]
        groups = [FORMATS] if quick else [(name,) for name in FORMATS]
        control, *parts = pool.map(run_job, [*jobs, *(partial(fuzz_sources, group, sources) for group in groups)])
    outcome = Outcome(violations=control.violations, controls={"checksums of sequences": control.figures["violations"]})
    for part in parts:
        outcome.add(part)
    return outcome


def run_job(job: "partial[Outcome]") -> Outcome:
    """Run a job in a process. If the process dies, report the last example."""
    try:
        outcome: Outcome = in_process(job, seconds=SECONDS)
    except RuntimeError as error:
        last = Path(str(job.args[0]), "last")
        return Outcome(violations=[f"{job.args}: {error} [{last.read_text() if last.exists() else ''}]"])
    return outcome


def fuzz_sources(formats: tuple[str, ...], examples: int) -> Outcome:
    """Damage source files of some formats."""
    outcome = Outcome()
    for name in formats:
        try:
            results = fuzz(name, examples, seed=0)
        except Exception as error:  # noqa: BLE001
            notes = "; ".join(getattr(error, "__notes__", ()))
            outcome.violations.append(f"{name}: {type(error).__name__}: {error!s:.500} [{notes:.1500}]")
        else:
            outcome.figures.update({f"{name}: rejected": results.refused, f"{name}: read": results.read})
    return outcome


def fuzz_stores(folder: Path, examples: int, seed: int, *, control: bool = False) -> Outcome:
    """Run examples until the first violation. The control only uses forged roots, and counts the violations."""
    outcome = Outcome()
    folder.mkdir()
    for golden in STORES:  # read once before memory is limited, so that everything is imported
        path = folder / f"{golden.name}.zarr"
        shutil.copytree(GOLDEN / path.name, path)
        found = read_all(path)
        if errors_in(found) or crashes_in(found) or problems_in(path) or wrong_pieces(found, golden):
            outcome.violations.append(f"{golden.name}: the undamaged store is not valid")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))

    @hypothesis.seed(seed)
    @settings(CAMPAIGN, max_examples=examples, phases=[Phase.generate, Phase.shrink][: 1 if control else 2])
    @given(example=drawn_examples(control=control))
    def run(example: Example) -> None:
        (folder / "last").write_text(f"{example!r:.2000}", "utf-8", "backslashreplace")  # in case this process dies
        signal.setitimer(signal.ITIMER_PROF, EXAMPLE_SECONDS)
        found = judge(folder / f"{example.golden.name}.zarr", example, outcome.figures)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if control:
            outcome.figures["violations"] += bool(found)
        elif found:
            raise AssertionError(f"{found[0]} [{example!r:.2000}]")

    with mock.patch.object(Snapshot, "check_crc") if control else nullcontext():
        try:
            run()
        except AssertionError as error:
            outcome.violations.append(str(error))
    return outcome


def drawn_examples(*, control: bool) -> st.SearchStrategy[Example]:
    stores, root = st.sampled_from(STORES), st.just(ROOT)
    forged_roots = st.builds(Example, stores, root, forgeries(), st.just(value=True))
    if control:
        return forged_roots
    damaged_roots = st.builds(Example, stores, root, damages(), st.integers(0, 7).map(bool))
    arrays = ("inputs", "labels", "offsets", "sequences/source", "stats/labels_mean")
    names = st.sampled_from([f"{name}/{ROOT}" for name in ("sequences", "sequences", "stats", *arrays)])
    other_documents = st.builds(Example, stores, names, damages(), st.just(value=False))
    return st.one_of(damaged_roots, forged_roots, other_documents)


def judge(path: Path, example: Example, figures: Counter[str]) -> list[str]:
    """Run one example, restore the store, and return the violations."""
    document = path / example.document
    before = document.read_bytes()
    data = example.damage[1](before)
    if data is None:
        figures["stores: impossible"] += 1
        return []
    if example.sign:
        data = signed(data)
    document.write_bytes(data)
    try:
        found, problems = read_all(path), problems_in(path)
    except Exception as error:  # noqa: BLE001
        return [_described(error)]
    finally:
        document.write_bytes(before)
    errors = errors_in(found)
    result = "rejected on opening" if "store" in found else "rejected on reading" if errors else "read completely"
    figures.update(["stores: examples", f"stores: {result}", *["stores: reported by verify"][: len(problems)]])
    violations = [*map(_described, crashes_in(found)), *wrong_pieces(found, example.golden)]
    violations += [message for error in errors if (message := _bad_message(error, path))]
    violations += [f"a problem of {len(one):,} characters: {one!r:.300}" for one in problems if _is_bad(one)]
    if example.document == ROOT:
        if data != before and not example.sign and result != "rejected on opening":
            violations.append("a root with a wrong digest was opened")
        if result == "rejected on opening" and not problems:
            violations.append("the store cannot be opened, but verify reports nothing")
    else:
        if result != "read completely":
            violations.append("a reader must ignore every document but the root")
        if _is_same_json(data, before) == bool(problems):
            violations.append(f"verify reports {len(problems)} problems of a document that is not the root")
    return violations


def _described(error: Exception) -> str:
    """Return an error and the lines of code in its traceback."""
    frames = traceback.extract_tb(error.__traceback__)
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__}: {error!s:.300} ({places})"


def _is_bad(message: str) -> bool:
    return len(message) > MAX_MESSAGE or not message.isprintable()


def _bad_message(error: Exception, path: Path) -> str:
    """Return what is wrong with the message of an error, or ""."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if _is_bad(text):
        return f"a message of {len(text):,} characters: {text!r:.300}"
    if text.startswith(str(path)) or isinstance(error, WindowError):
        return ""
    return f"{type(error).__name__} names no file of the store: {text!r:.300}"


def _is_same_json(data: bytes, before: bytes) -> bool:
    def members(pairs: list[tuple[str, Any]]) -> list[Any]:
        return ["an object", *sorted(pairs)]

    try:
        found, expected = (json.loads(text.decode(), object_pairs_hook=members) for text in (data, before))
        return json.dumps(found) == json.dumps(expected)
    except (ValueError, RecursionError, TypeError):  # two members with one name, whose values cannot be sorted
        return False


def wrong_pieces(found: Pieces, golden: Golden) -> list[str]:
    """Return the names of the sequences, columns and windows that were read wrong without an error."""
    read = {name: value for name, value in found.items() if not isinstance(value, Exception)}
    written, numbers, expected = golden.sequences(), read.get("selection 0", []), {}
    for at, number in enumerate(numbers[: len(written) + 1]):
        one = written[number] if number < len(written) else Sequence("", np.zeros(0), np.zeros(0))
        expected[f"sequence {at} 0"] = [one.inputs.tobytes(), one.labels.tobytes()]
        expected[f"sequence {at} 2"] = [b"" if one.time is None else one.time.tobytes()]
    for name, value in read.items():
        if name.startswith("window"):
            (at, start), ((_, _, rows), *_) = value
            if f"sequence {at} 0" in read:
                _, _, inputs = read[f"sequence {at} 0"][0]
                first = start * len(rows) // WINDOW
                expected[name] = [inputs[first : first + len(rows)]]
    wrong = [name for name, rows in expected.items() if name in read and _rows_of(name, read[name]) != rows]
    for column in golden.columns:
        values = [written[number].columns[column.name] for number in numbers if number < len(written)]
        text, data = read.get(name := f"column {column.name} 0", (repr(values), b""))
        if text != repr(values) and data != np.array(values).tobytes():
            wrong.append(name)
    return [f"{name} was read wrong without an error" for name in wrong]


def _rows_of(name: str, value: Any) -> list[bytes]:
    """Return the bytes of a piece that are defined: of windows, those of the inputs."""
    return [data for _, _, data in (value[1][:1] if name.startswith("window") else value)]
