"""Rot: every byte of small stores is changed, every file lost, cut, swapped, or replaced by an older copy of itself.

After each case everything is read through the API, and `verify` looks at the store. Either sees it, or it is harmless.
Where the bytes are not those that were written, reading never gives other rows without an error. Where every file is
sound by itself and only lies in the wrong place, or is of the wrong time, reading alone may not see it; `verify` must.
"""

from __future__ import annotations

import random
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from unittest import mock

import numpy as np
from numpy.typing import NDArray

import store_spec
from store_spec import StoreError
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.format import codec, shard
from store_spec.format.codec import CRC_BYTES, Buffer, Codec, flat_bytes
from store_spec.format.row_facts import RowFacts
from store_spec.verification.described_rows import RowCheck
from tests.campaigns.outcome import Outcome
from tests.campaigns.rot_damage import ROOT, Case, additions, flips, losses, older_copies, swaps
from tests.campaigns.rot_reading import Pieces, crashes, read_all, refused, wrong
from tests.campaigns.rot_stores import RECIPES, Specimen, small_tables, write_specimen

SHARE = 0.03  # of the cases in the quick run; of every third file one byte
ROWS = ("sequence ", "padded batches ", "windows ")  # what has rows
SHOWN = 20  # broken promises of a store that are told in words


@dataclass(slots=True)
class Tally:
    """What came of the cases of one store."""

    counts: Counter[str] = field(default_factory=Counter)
    broken: list[str] = field(default_factory=list)

    def add(self, case: Case, found: Pieces, expected: Pieces, *, problems: bool) -> None:
        """Judge one case by what was read and by what `verify` said."""
        self.counts["cases"] += 1
        self.counts[f"bytes {case.kind}" if case.kind == "flipped" else f"files {case.kind}"] += 1
        others, seen = wrong(found, expected), refused(found)
        # An older root has rows of its own.
        rows = [what for what in others if what.startswith(ROWS) and ROOT not in case.files]
        self.broken += [f"{case}: {crash}" for crash in crashes(found)]
        self.counts["found on reading"] += seen
        self.counts["found by verify"] += problems
        if rows or (others and not case.sound):
            self.broken.append(f"{case}: {(rows or others)[0]} was read wrong without an error")
        elif others:
            self.counts["tables or an older root read without an error, found by verify"] += problems
        if seen and not problems:
            self.broken.append(f"{case}: reading refuses it, but verify finds nothing")
        if case.kind == "added" and (seen or others):
            self.broken.append(f"{case}: a reader has to ignore it")
        if not seen and not problems:
            self.counts["harmless"] += case.harmless
            if not case.harmless:
                self.broken.append(f"{case}: neither reading nor verify sees it")


def campaign(*, quick: bool) -> Outcome:
    """Damage a store of each label axis and codec in every way; the whole run has a process for each store."""
    with tempfile.TemporaryDirectory() as folder:
        if quick:
            tallies = [rot(name, folder, SHARE) for name in RECIPES]
        else:
            with ProcessPoolExecutor(2, get_context("spawn")) as pool:
                tallies = list(pool.map(rot, RECIPES, [folder] * len(RECIPES), [1.0] * len(RECIPES)))
        broke = _control(folder)
    counts: Counter[str] = Counter()
    for tally in tallies:
        counts += tally.counts
    return Outcome(
        figures=counts,
        violations=tuple(sentence for tally in tallies for sentence in _first(tally.broken)),
        controls=broke,
    )


def _first(broken: list[str]) -> list[str]:
    return broken[:SHOWN] + ([f"and {len(broken) - SHOWN:,} more"] if len(broken) > SHOWN else [])


def rot(name: str, folder: str, share: float) -> Tally:
    """Put one store through all cases, or through a random share of them."""
    tally = Tally()
    with small_tables():
        specimen = write_specimen(RECIPES[name], Path(folder, f"{name}.zarr"))
        with mock.patch.object(LocalStorage, "get", autospec=True, side_effect=LocalStorage.get) as opened:
            expected = read_all(specimen.path)
        read = {str(call.args[1]) for call in opened.call_args_list}
        if refused(expected) or crashes(expected) or _problems(specimen.path):
            tally.broken.append(f"{name}: the store is not sound to begin with")
        for case in _cases(specimen, share):
            with _damaged(specimen, case):
                # What is in files that reading does not open changes nothing of it.
                unread = read.isdisjoint(case.files) and case.kind not in {"added", "deleted"}
                found = expected if unread else read_all(specimen.path)
                tally.add(case, found, expected, problems=_problems(specimen.path))
    return tally


def _cases(specimen: Specimen, share: float) -> Iterator[Case]:
    """Yield all cases, or some chosen at random, and what is done to the root."""
    rng = random.Random(0)
    flipped = flips(specimen, rng, each=None if share == 1 else 1)
    yield from (case for case in flipped if share == 1 or rng.random() < 1 / 3)
    for cases in (losses, swaps, older_copies, additions):
        yield from (case for case in cases(specimen) if ROOT in case.files or rng.random() < share)


@contextmanager
def _damaged(specimen: Specimen, case: Case) -> Iterator[None]:
    """Let the files of a store be those of a case for a while."""
    for name, data in case.files.items():
        _put(specimen.path / name, data)
    try:
        yield
    finally:
        for name in case.files:
            _put(specimen.path / name, specimen.files.get(name))


def _put(path: Path, data: bytes | None) -> None:
    if data is None:
        path.unlink()
    else:
        path.write_bytes(data)


def _problems(path: Path) -> bool:
    """Tell whether `verify` finds anything."""
    try:
        return bool(store_spec.verify(path))
    except StoreError:
        return True


def _control(folder: str) -> dict[str, int]:
    """Return how often rows are wrong without an error, and how many swaps pass, without what should see them."""
    unstamped = mock.patch.object(shard, "stamped_rows", return_value=2**62)
    with small_tables():
        specimen = write_specimen(RECIPES["own, none"], Path(folder, "control.zarr"))
        expected = read_all(specimen.path)
        shards = [case for case in flips(specimen, random.Random(1), each=3) if _is_shard(*case.files)]
        none = mock.patch.object(Snapshot, "check")
        with mock.patch.object(Codec, "_body", _body_unchecked), none:
            unchecked = sum(_reads_wrong(specimen, case, expected) for case in shards)
        with mock.patch.object(RowCheck, "_compare", _compare_nothing), unstamped:
            unheld = sum(_passes(specimen, case) for case in swaps(specimen) if _is_shard(*case.files))
        specimen = write_specimen(RECIPES["step, zstd"], Path(folder, "windows.zarr"))
        expected = read_all(specimen.path)
        with unstamped:
            taken = sum(_reads_wrong(specimen, case, expected) for case in swaps(specimen) if _is_shard(*case.files))
    return {"crc32c on reading": unchecked, "stamps on reading": taken, "stamps and checksums in verify": unheld}


def _reads_wrong(specimen: Specimen, case: Case, expected: Pieces) -> bool:
    with _damaged(specimen, case):
        return bool(wrong(read_all(specimen.path), expected))


def _passes(specimen: Specimen, case: Case) -> bool:
    with _damaged(specimen, case):
        return not _problems(specimen.path)


def _is_shard(*names: str) -> bool:
    return all(name.startswith(("inputs/c.", "labels/c.")) for name in names)


def _body_unchecked(chunk: Codec, stored: Buffer, where: str) -> tuple[NDArray[np.uint8], int]:
    body = flat_bytes(stored)[:-CRC_BYTES]
    return body, len(body) if chunk.name == "none" else codec._blosc_size(body, where)


def _compare_nothing(_: RowCheck, __: RowFacts) -> None:
    """Let whatever the rows give be right."""
