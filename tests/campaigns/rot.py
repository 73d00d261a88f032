"""Change bytes of small stores, and lose, truncate and swap their files or replace them by older copies.

After each damage, everything is read, and `verify` checks the store. One of them must report the damage, unless it is
harmless. If bytes are wrong, no reader may return wrong rows without an error. If valid files are in the wrong place
or too old, readers may not notice it, but `verify` must.
"""

import random
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import LocalStorage
from store_spec.format import codec, shard
from store_spec.format.codec import CRC_BYTES, Buffer, Codec, flat_bytes
from store_spec.verification.described_rows import RowCheck
from tests.campaigns import rot_cases
from tests.campaigns.outcome import Outcome
from tests.campaigns.rot_cases import RECIPES, Case, Specimen, small_tables, write_specimen
from tests.store.damage import ROOT
from tests.store.everything import Pieces, crashes_in, errors_in, problems_in, read_all, wrong_in

QUICK_SHARE = 0.03  # of the cases; of every third file one byte
ROWS = (
    "sequence ",
    "slice ",
    "padded batches ",
    "streams ",
    "windows ",
    "complete windows ",
)  # pieces that contain rows


def campaign(*, quick: bool) -> Outcome:
    """Damage a store of each label axis and codec in every way; in the quick form, in a random sample of ways."""
    outcome, share = Outcome(), QUICK_SHARE if quick else 1.0
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(2, get_context("spawn")) as pool:
        for part in (map if quick else pool.map)(partial(damage_store, folder, share), RECIPES):
            outcome.add(part)
        with small_tables():
            run_controls(outcome, Path(folder))
    return outcome


def damage_store(folder: str, share: float, name: str) -> Outcome:
    """Run all cases, or a random share of them, on one store."""
    outcome = Outcome()
    with small_tables():
        specimen = write_specimen(RECIPES[name], Path(folder, f"{name}.zarr"))
        with mock.patch.object(LocalStorage, "get", autospec=True, side_effect=LocalStorage.get) as get:
            expected = read_all(specimen.path)
        read = {str(call.args[1]) for call in get.call_args_list}
        if errors_in(expected) or crashes_in(expected) or problems_in(specimen.path):
            outcome.violations.append(f"{name}: the undamaged store is not valid")
        for case in sample(specimen, share):
            with damaged(specimen, case):
                # Reading need not be repeated if it does not use the damaged files.
                is_unread = read.isdisjoint(case.files) and case.kind not in {"added", "deleted"}
                found = expected if is_unread else read_all(specimen.path)
                judge(outcome, case, found, expected, is_reported=bool(problems_in(specimen.path)))
    return outcome


def judge(outcome: Outcome, case: Case, found: Pieces, expected: Pieces, *, is_reported: bool) -> None:
    """Judge a case by what was read, and by whether `verify` reported a problem."""
    figures, differing, is_refused = outcome.figures, wrong_in(found, expected), bool(errors_in(found))
    problems = [f"{type(error).__name__}: {error}" for error in crashes_in(found)]
    # An older root legitimately has other rows.
    rows = [name for name in differing if name.startswith(ROWS) and ROOT not in case.files]
    figures["cases"] += 1
    figures[f"{'bytes' if case.kind == 'flipped' else 'files'} {case.kind}"] += 1
    figures["detected by reading"] += is_refused
    figures["detected by verify"] += is_reported
    if rows or (differing and not case.is_misplaced):
        problems.append(f"{(rows or differing)[0]} was read wrong without an error")
    elif differing:
        figures["tables or an older root read without an error, detected by verify"] += is_reported
    if is_refused and not is_reported:
        problems.append("reading raises an error, but verify reports nothing")
    if case.kind == "added" and (is_refused or differing):
        problems.append("a reader must ignore this file")
    if not is_refused and not is_reported:
        figures["harmless"] += case.is_harmless
        if not case.is_harmless:
            problems.append("neither reading nor verify detects it")
    outcome.violations += [f"{case}: {problem}" for problem in problems]


def sample(specimen: Specimen, share: float) -> Iterator[Case]:
    """Yield a random share of the cases, and all cases of the root."""
    rng = random.Random(0)
    flipped = rot_cases.flips(specimen, rng, each=None if share == 1 else 1)
    yield from (case for case in flipped if share == 1 or rng.random() < 1 / 3)
    for cases in (rot_cases.losses, rot_cases.swaps, rot_cases.older_copies, rot_cases.additions):
        yield from (case for case in cases(specimen) if ROOT in case.files or rng.random() < share)


@contextmanager
def damaged(specimen: Specimen, case: Case) -> Iterator[None]:
    """Damage the files of a store while this context is open."""
    rot_cases.put_files(specimen.path, case.files)
    try:
        yield
    finally:
        rot_cases.put_files(specimen.path, {name: specimen.files.get(name) for name in case.files})


def run_controls(outcome: Outcome, folder: Path) -> None:
    """Count how often rows are wrong without an error, or how many swaps `verify` does not report."""
    no_checksums = mock.patch.object(Snapshot, "check_crc"), mock.patch.object(Codec, "_body", _body_unchecked)
    no_stamps = mock.patch.object(shard, "stamped_rows", return_value=2**62)
    first = write_specimen(RECIPES["own, none"], folder / "control.zarr")
    second = write_specimen(RECIPES["step, zstd"], folder / "windows.zarr")
    flips = rot_cases.flips(first, random.Random(1), each=3)
    outcome.control("crc32c in readers", wrong_without(no_checksums, first, flips))
    outcome.control("stamps of shards in readers", wrong_without([no_stamps], second, rot_cases.swaps(second)))
    with mock.patch.object(RowCheck, "_compare"), no_stamps:
        for case in filter(affects_shards, rot_cases.swaps(first)):
            with damaged(first, case):
                outcome.control("stamps and checksums in verify", [not problems_in(first.path)])


def wrong_without(safeguards: Iterable[Any], specimen: Specimen, cases: Iterable[Case]) -> Iterator[list[str]]:
    """Yield what is read wrong without an error in each case that affects shards."""
    expected = read_all(specimen.path)
    with ExitStack() as removed:
        for safeguard in safeguards:
            removed.enter_context(safeguard)
        for case in filter(affects_shards, cases):
            with damaged(specimen, case):
                yield wrong_in(read_all(specimen.path), expected)


def affects_shards(case: Case) -> bool:
    return all(name.startswith(("inputs/c.", "labels/c.")) for name in case.files)


def _body_unchecked(chunk: Codec, stored: Buffer, where: str) -> tuple[NDArray[np.uint8], int]:
    body = flat_bytes(stored)[:-CRC_BYTES]
    return body, len(body) if chunk.name == "none" else codec._blosc_size(body, where)
