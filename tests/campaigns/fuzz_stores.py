"""Damage metadata documents of small stores at random, in a process with limited memory and time.

A violation is one of the following:

* A whole sequence has other bytes than those written for its number, without an error. Its checksum is in a table,
  which no document can change. The dtype, the shape of a row, names, retirements and counts are defined by the root
  and protected by its digest alone: a root with a new digest may declare the bytes of an int16 to be a uint16.
* A window or slice has other rows than its whole sequence, if that can be read. If it cannot, nothing defines the rows.
* A root with a wrong digest is opened.
* The document of an array or group, which readers do not use, changes what they read; or `verify` does not report one
  that is not the same JSON.
"""

import json
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import store_spec
from store_spec import Store, StoreError
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import MissingStoreError, WindowError
from tests.campaigns.fuzz_damage import Change, damages, forgeries
from tests.store.damage import ROOT, signed
from tests.store.make_golden import GOLDEN, STORES, Golden
from tests.store.oracle import Sequence

MEMORY = 2**30  # bytes of address space beyond those in use before the first example
SECONDS = 20.0  # of processor time, after which an example is considered to hang
MAX_MESSAGE = 1_000  # characters
WINDOW = 2
ENDS = 3  # how many windows are read from either end

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Example:
    """One document of one store, and how it is changed."""

    golden: Golden
    document: str
    damage: tuple[str, Change]  # with a description
    sign: bool

    def __repr__(self) -> str:
        return f"{self.golden.name}.zarr/{self.document}{' signed' * self.sign}: {self.damage[0]}"


def main(arguments: dict[str, Any]) -> dict[str, Any]:
    """Run examples until the first violation. The control only uses forged roots, and counts the violations."""
    folder, control = Path(arguments["folder"]), arguments["control"]
    counts: Counter[str] = Counter()
    violations: list[str] = []
    for golden in STORES:  # read once before memory is limited, so that everything is imported
        path = folder / f"{golden.name}.zarr"
        shutil.copytree(GOLDEN / path.name, path)
        examination = Examination(path, golden)
        if examination.read() != "read completely" or examination.verify() or examination.violations:
            violations.append(f"{golden.name}: the undamaged store is not valid")
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))

    @hypothesis.seed(arguments["seed"])
    @settings(
        max_examples=arguments["examples"],
        deadline=None,
        database=None,
        phases=[Phase.generate] if control else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(example=examples(control=control))
    def run(example: Example) -> None:
        (folder / "last").write_text(f"{example!r:.2000}", "utf-8", "backslashreplace")  # in case this process dies
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        found = judge(folder / f"{example.golden.name}.zarr", example, counts)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if control:
            counts["violations"] += bool(found)
        elif found:
            raise AssertionError(f"{found[0]} [{example!r:.2000}]")

    with mock.patch.object(Snapshot, "check_crc") if control else nullcontext():
        try:
            run()
        except AssertionError as error:
            violations.append(str(error))
    return {"counts": counts, "violations": violations}


def examples(*, control: bool) -> st.SearchStrategy[Example]:
    stores, root = st.sampled_from(STORES), st.just(ROOT)
    forged_roots = st.builds(Example, stores, root, forgeries(), st.just(value=True))
    if control:
        return forged_roots
    damaged_roots = st.builds(Example, stores, root, damages(), st.integers(0, 7).map(bool))
    arrays = ("inputs", "labels", "offsets", "sequences/source", "stats/labels_mean")
    names = st.sampled_from([f"{name}/{ROOT}" for name in ("sequences", "sequences", "stats", *arrays)])
    other_documents = st.builds(Example, stores, names, damages(), st.just(value=False))
    return st.one_of(damaged_roots, forged_roots, other_documents)


def judge(path: Path, example: Example, counts: Counter[str]) -> list[str]:
    """Run one example, restore the store, and return the violations."""
    document = path / example.document
    before = document.read_bytes()
    data = example.damage[1](before)
    if data is None:
        counts["impossible"] += 1
        return []
    if example.sign:
        data = signed(data)
    counts["examples"] += 1
    examination = Examination(path, example.golden)
    violations = examination.violations
    document.write_bytes(data)
    try:
        result = examination.read()
        problems = examination.verify()
    except Exception as error:  # noqa: BLE001
        return [*violations, f"{type(error).__name__}: {error!s:.300} {_places(error)}"]
    finally:
        document.write_bytes(before)
    counts[result] += 1
    counts["reported by verify"] += bool(problems)
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


def _places(error: Exception) -> str:
    """Return the lines of code in the traceback of an error, without those of this module."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if frame.filename != __file__]
    return f"({' < '.join(reversed(places))})"


def _is_same_json(data: bytes, before: bytes) -> bool:
    def members(pairs: list[tuple[str, Any]]) -> list[Any]:
        return ["an object", *sorted(pairs)]

    try:
        found, expected = (json.loads(text.decode(), object_pairs_hook=members) for text in (data, before))
        return json.dumps(found) == json.dumps(expected)
    except (ValueError, RecursionError, TypeError):  # two members with one name, whose values cannot be sorted
        return False


class Examination:
    """Reads and verifies one store, and collects the violations."""

    def __init__(self, path: Path, golden: Golden) -> None:
        self.path = path
        self.violations: list[str] = []
        self._written = golden.sequences()
        self._errors: list[StoreError] = []

    def verify(self) -> list[str]:
        try:
            problems = [str(problem) for problem in store_spec.verify(self.path)]
        except MissingStoreError as error:
            return [str(error)]
        self.violations += [
            f"a problem of {len(problem):,} characters: {problem!r:.300}"
            for problem in problems
            if len(problem) > MAX_MESSAGE or not problem.isprintable()
        ]
        return problems

    def read(self) -> str:
        """Read everything and return the result."""
        store = self._attempt(lambda: store_spec.open_store(self.path))
        if store is not None:
            self._read_store(store)
        for error in self._errors:
            text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            if len(text) > MAX_MESSAGE or not text.isprintable():
                self.violations.append(f"a message of {len(text):,} characters: {text!r:.300}")
            elif not text.startswith(str(self.path)) and not isinstance(error, WindowError):
                self.violations.append(f"{type(error).__name__} names no file of the store: {text!r:.300}")
        return "rejected on opening" if store is None else "rejected on reading" if self._errors else "read completely"

    def _attempt(self, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except StoreError as error:
            self._errors.append(error)
            return None

    def _read_store(self, store: Store) -> None:
        numbers = self._attempt(lambda: store.selection)
        whole: dict[int, tuple[Any, Any]] = {}  # by position; the sequences that were read
        for at in range(min(len(store), len(self._written) + 1)):  # one more than were written
            pair = self._attempt(partial(store.__getitem__, at))
            if pair is not None and numbers is not None:
                whole[at] = pair
                self._check_sequence(store, at, numbers[at], pair)
        for column in store.schema.columns:
            found = self._attempt(partial(lambda name: store.sequences[name], column.name))
            if found is not None and numbers is not None:
                self._check_column(column.name, column.dtype, found, numbers.tolist())
        if store.schema.label_axis != "own":
            self._attempt(lambda: self._check_windows(store, whole))
        for read in (lambda: repr(store), store.stats, lambda: store.parts, lambda: next(iter(store.padded(2)), None)):
            self._attempt(read)

    def _check_sequence(self, store: Store, at: int, number: int, pair: tuple[Any, Any]) -> None:
        written = self._written[number] if number < len(self._written) else Sequence("", np.zeros(0), np.zeros(0))
        for name, found in zip(("inputs", "labels"), pair, strict=True):
            if np.asarray(found).tobytes() != written.rows(name).tobytes():
                self.violations.append(f"the {name} of sequence {number} were read wrong without an error")
        times = self._attempt(lambda: store.times(at)) if store.schema.time is not None else None
        if times is not None and (written.time is None or times.tobytes() != written.time.tobytes()):
            self.violations.append(f"the times of sequence {number} were read wrong without an error")

    def _check_column(self, name: str, dtype: str, found: Any, numbers: list[int]) -> None:
        values = [self._written[number].columns[name] for number in numbers if number < len(self._written)]
        expected = np.array(values, object if dtype == "string" else None)
        if found.tolist() != expected.tolist() and found.tobytes() != expected.tobytes():
            self.violations.append(f"column {name} was read wrong without an error")

    def _check_windows(self, store: Store, whole: dict[int, tuple[Any, Any]]) -> None:
        """Read some windows by number and in batches, and compare their inputs with the whole sequences."""
        windows = store.windows(WINDOW, target="sequence" if store.schema.label_axis == "sequence" else "future")
        target = windows.shape.target
        may_miss_values = store.schema.filled or store.schema.missing == "keep"
        others = store.windows(WINDOW, target=target, missing="skip", value_mask=may_miss_values)
        list(islice(others.batches(1), ENDS))
        if store.schema.time is not None:
            store.windows(WINDOW, target=target, before=0 if store.schema.time.since is None else "1970-01-01")
        numbers = sorted({*range(min(ENDS, len(windows))), *range(max(0, len(windows) - ENDS), len(windows))})
        samples: list[tuple[int, Any]] = [*zip(numbers, windows.__getitems__(numbers), strict=True)]
        for number, batch in enumerate(islice(windows.batches(1), ENDS)):
            samples.append((number, tuple(array[0] for array in batch)))
        for number, sample in samples:
            sequence, start = windows.index.locate(number)
            if sequence in whole and sample[0].tobytes() != whole[sequence][0][start : start + WINDOW].tobytes():
                self.violations.append(f"window {number} was read wrong without an error")


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
