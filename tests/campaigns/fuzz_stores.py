"""Metadata documents of small stores, damaged at random: run in a process of its own, with bounded memory and time.

What "wrong rows without an error" means here:

* Of a whole sequence, in whatever document: rows whose bytes are not those that were written for its number. Their
  checksum is kept in a table, which no document can change. Dtype, shape of a row, names, which sequences are retired
  and what is committed are what the root says, and its digest alone protects them. Who signs anew may well say that
  the bytes of an int16 are a uint16, and is believed.
* Of windows and slices: rows that are not those of their whole sequence, where that is read without an error. Where it
  is refused, a part of it is what a forged document makes of sound bytes, and nobody can tell.
* A root that is not signed anew: anything but a refusal. A document of an array or a group: anything but the right
  rows, as readers do not look at it; `verify` has to see each that is not the same JSON.
"""

from __future__ import annotations

import json
import resource
import shutil
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
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
from tests.campaigns.fuzz_damage import Change, damages, root_lies, signed
from tests.store.make_golden import GOLDEN, STORES, Golden

ROOT = "zarr.json"
MEMORY = 2**30  # bytes of address space that may be taken beyond what there was before the first example
SECONDS = 20.0  # of processor time for one example; after that it hangs
LONGEST = 1_000  # characters of a message
WINDOW = 2
SHOWN = 3  # windows at either end that are read

T = TypeVar("T")
Whole = dict[int, tuple[Any, Any]]  # the sequences that were read without an error, by their place in the store


@dataclass(slots=True)
class Findings:
    """What came of all examples."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One document of one store, and what is done to it."""

    golden: Golden
    document: str
    text: str
    change: Change
    sign: bool

    def __repr__(self) -> str:
        return f"{self.golden.name}.zarr/{self.document}{' signed' * self.sign}: {self.text}"


def fuzz(folder: Path, *, examples: int, seed: int, control: bool) -> Findings:
    """Damage documents, read the stores and verify them; the first broken promise ends it, as small as possible.

    The control takes lies alone, and counts what it breaks.
    """
    findings = Findings()
    for golden in STORES:
        shutil.copytree(GOLDEN / f"{golden.name}.zarr", folder / f"{golden.name}.zarr")
        kinds: Counter[str] = Counter()  # all is read once before memory is bounded, so that all is imported
        _judge_reading(folder / f"{golden.name}.zarr", golden, findings.broken, kinds)
        if kinds != {"read whole": 1} or _problems(folder / f"{golden.name}.zarr", findings.broken):
            findings.broken.append(f"{golden.name}: the store is not sound to begin with")
    _bound_memory()

    @hypothesis.seed(seed)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate] if control else [Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(example=_lies() if control else st.one_of(_roots(), _lies(), _own_documents()))
    def one(example: Example) -> None:
        (folder / "last").write_text(f"{example!r:.2000}", "utf-8", "backslashreplace")  # should this process die
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        broken = judge(folder / f"{example.golden.name}.zarr", example, findings.counts)
        signal.setitimer(signal.ITIMER_PROF, 0)
        if control:
            findings.counts["broken"] += bool(broken)
        elif broken:
            raise AssertionError(f"{broken[0]} [{example!r:.2000}]")

    try:
        one()
    except AssertionError as error:
        findings.broken.append(str(error))
    return findings


def _bound_memory() -> None:
    """Let this process take so much more memory than it has now, and no more."""
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))


def _roots() -> st.SearchStrategy[Example]:
    return st.builds(_example, st.sampled_from(STORES), st.just(ROOT), damages(), st.integers(0, 7).map(bool))


def _lies() -> st.SearchStrategy[Example]:
    return st.builds(_example, st.sampled_from(STORES), st.just(ROOT), root_lies(), st.just(value=True))


def _own_documents() -> st.SearchStrategy[Example]:
    arrays = ("inputs", "labels", "offsets", "sequences/source", "stats/labels_mean")
    names = st.sampled_from([f"{name}/{ROOT}" for name in ("sequences", "sequences", "stats", *arrays)])
    return st.builds(_example, st.sampled_from(STORES), names, damages(), st.just(value=False))


def _example(golden: Golden, document: str, damage: tuple[str, Change], sign: bool) -> Example:  # noqa: FBT001
    return Example(golden=golden, document=document, text=damage[0], change=damage[1], sign=sign)


def judge(path: Path, example: Example, counts: Counter[str]) -> list[str]:
    """Put one example to the test and return which promises it broke; the store is as before after it."""
    document = path / example.document
    before = document.read_bytes()
    data = example.change(before)
    if data is None:
        counts["impossible"] += 1
        return []
    if example.sign:
        data = signed(data)
    counts["examples"] += 1
    broken: list[str] = []
    document.write_bytes(data)
    try:
        kinds: Counter[str] = Counter()
        _judge_reading(path, example.golden, broken, kinds)
        problems = _problems(path, broken)
    except Exception as error:  # noqa: BLE001  # that is what the campaign looks for
        broken.append(f"{type(error).__name__}: {error!s:.300} {_where(error)}")
        return broken
    finally:
        document.write_bytes(before)
    counts.update(kinds)
    counts["with problems, says verify"] += bool(problems)
    refused = kinds["refused on opening"] + kinds["refused on reading"]
    if example.document == ROOT:
        if data != before and not example.sign and not kinds["refused on opening"]:
            broken.append("a root whose digest is wrong was opened")
        if kinds["refused on opening"] and not problems:
            broken.append("it cannot be opened, but verify finds nothing")
    else:
        if refused:
            broken.append("a reader has to pass over a document that is not the root's")
        if _same(data, before) == bool(problems):
            broken.append(f"verify finds {len(problems)} problems in a document that is not the root's")
    return broken


def _where(error: Exception) -> str:
    """Return the places in the code that an error passed, without those of this module."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if frame.filename != __file__]
    return f"({' < '.join(reversed(places))})"


def _same(data: bytes, before: bytes) -> bool:
    """Tell whether two documents are the same JSON, to any reader."""
    try:
        found, due = (json.loads(each.decode(), object_pairs_hook=_members) for each in (data, before))
        return json.dumps(found) == json.dumps(due)
    except (ValueError, RecursionError, TypeError):  # two members of a name, whose values cannot be sorted
        return False


def _members(pairs: list[tuple[str, Any]]) -> list[Any]:
    return ["an object", *sorted(pairs)]


def _problems(path: Path, broken: list[str]) -> list[str]:
    try:
        problems = store_spec.verify(path)
    except MissingStoreError as error:
        return [str(error)]
    lines = [str(problem) for problem in problems]
    broken += [
        f"verify says in {len(line):,} characters: {line!r:.300}"
        for line in lines
        if len(line) > LONGEST or not line.isprintable()
    ]
    return lines


def _judge_reading(path: Path, golden: Golden, broken: list[str], kinds: Counter[str]) -> None:
    """Read everything, and take note of what came of it."""
    errors: list[StoreError] = []
    store = _tried(errors, lambda: store_spec.open_store(path))
    if store is None:
        kinds["refused on opening"] += 1
    else:
        whole = _whole_sequences(store, golden, errors, broken)
        _judge_columns(store, golden, errors, broken)
        if store.schema.label_axis != "own":
            _tried(errors, lambda: _judge_windows(store, whole, broken))
        reads = (lambda: repr(store), store.stats, lambda: store.parts)
        for read in (*reads, lambda: next(iter(store.padded(2)), None)):
            _tried(errors, read)
        kinds["refused on reading" if errors else "read whole"] += 1
    for error in errors:
        text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if len(text) > LONGEST or not text.isprintable():
            broken.append(f"a message of {len(text):,} characters: {text!r:.300}")
        elif not text.startswith(str(path)) and not isinstance(error, WindowError):
            broken.append(f"{type(error).__name__} names no file of the store: {text!r:.300}")


def _tried(errors: list[StoreError], read: Callable[[], T]) -> T | None:
    """Return what is read; None where an error of ours came."""
    try:
        return read()
    except StoreError as error:
        errors.append(error)
        return None


def _whole_sequences(store: Store, golden: Golden, errors: list[StoreError], broken: list[str]) -> Whole:
    """Read each sequence that the store says it has, up to one behind the last that it really has."""
    written, whole = golden.sequences(), {}
    numbers = _tried(errors, lambda: store.selection)
    for at in range(min(len(store), len(written) + 1)):
        pair = _tried(errors, lambda at=at: store[at])  # type: ignore[misc]
        if pair is None or numbers is None:
            continue
        _, *expected = written[numbers[at]] if numbers[at] < len(written) else ("", np.zeros(0), np.zeros(0))
        for name, found, due in zip(("inputs", "labels"), pair, expected, strict=True):
            if np.asarray(found).tobytes() != due.tobytes():
                broken.append(f"the {name} of sequence {numbers[at]} were read wrong without an error")
        whole[at] = pair
        times = _tried(errors, lambda at=at: store.times(at)) if store.schema.time is not None else None  # type: ignore[misc]
        due_times = golden.times_of(numbers[at]) if numbers[at] < len(written) else None
        if times is not None and (due_times is None or times.tobytes() != due_times.tobytes()):
            broken.append(f"the times of sequence {numbers[at]} were read wrong without an error")
    return whole


def _judge_columns(store: Store, golden: Golden, errors: list[StoreError], broken: list[str]) -> None:
    """Read the further columns: those bytes that were written, or an error."""
    written = {
        column.name: [golden.columns_of(number)[column.name] for number in range(len(golden.sequences()))]
        for column in golden.columns
    }
    numbers = _tried(errors, lambda: store.selection)
    for column in store.schema.columns:
        found = _tried(errors, lambda name=column.name: store.sequences[name])  # type: ignore[misc]
        if found is None or numbers is None:
            continue
        due = [written[column.name][number] for number in numbers.tolist() if number < len(golden.sequences())]
        expected = np.array(due, object if column.dtype == "string" else None)
        if found.tolist() != expected.tolist() and found.tobytes() != expected.tobytes():
            broken.append(f"column {column.name} was read wrong without an error")


def _judge_windows(store: Store, whole: Whole, broken: list[str]) -> None:
    """Read some windows by their numbers and in batches; the inputs of each are rows of its sequence."""
    windows = store.windows(WINDOW, target="sequence" if store.schema.label_axis == "sequence" else "future")
    known = store.schema.filled or store.schema.missing == "keep"
    left = store.windows(WINDOW, target=windows.shape.target, missing="skip", value_mask=known)
    for _ in islice(left.batches(1), SHOWN):
        pass
    if store.schema.time is not None:
        store.windows(
            WINDOW, target=windows.shape.target, before=0 if store.schema.time.since is None else "1970-01-01"
        )
    numbers = sorted({*range(min(SHOWN, len(windows))), *range(max(0, len(windows) - SHOWN), len(windows))})
    samples: list[tuple[int, Any]] = [*zip(numbers, windows.__getitems__(numbers), strict=True)]
    for number, batch in enumerate(islice(windows.batches(1), SHOWN)):
        samples.append((number, tuple(array[0] for array in batch)))
    for number, sample in samples:
        sequence, start = windows.index.locate(number)
        if sequence in whole and sample[0].tobytes() != whole[sequence][0][start : start + WINDOW].tobytes():
            broken.append(f"window {number} was read wrong without an error")


def main(given: dict[str, Any]) -> dict[str, Any]:
    """Run the examples that are asked for; in the control, without the checksums of whole sequences."""
    with mock.patch.object(Snapshot, "check") if given["control"] else nullcontext():
        options = {name: given[name] for name in ("examples", "seed", "control")}
        findings = fuzz(Path(given["folder"]), **options)
    return {"counts": dict(findings.counts), "broken": findings.broken}


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
