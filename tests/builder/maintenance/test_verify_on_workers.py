"""`verify` on worker processes finds the same as in one process."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import builder
import store_spec
from builder import BuildError
from builder.maintenance.store_checks import Checking
from store_spec.verification import parts as verify_parts
from tests.builder.command import seqzarr
from tests.store.damage import flipped
from tests.store.oracle import Recipe, make, write

RECIPE = Recipe(chunk=48, shard=96, codec="none")
LENGTHS = np.random.default_rng(0).integers(0, 40, 30).tolist()


@pytest.fixture
def damaged(tmp_path, monkeypatch):
    path = write(RECIPE, tmp_path / "prices.zarr", make(RECIPE, LENGTHS))
    monkeypatch.setattr(verify_parts, "PART_BYTES", 300)  # a dozen parts and more
    (path / "inputs/c.3.0").unlink()
    flipped("labels/c.9", 0)(path)
    shutil.copy(path / "inputs/c.20.0", path / "inputs/c.19.0")
    return path


@pytest.mark.slow
def test_threads_find_the_same_problems_as_one(damaged):
    alone = store_spec.verify(damaged)
    with ThreadPoolExecutor(4) as pool:
        for _ in range(20):
            assert store_spec.verify(damaged, mapper=pool.map) == alone


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_workers_find_the_same_problems_in_the_same_order(damaged, workers):
    alone = store_spec.verify(damaged)
    assert len(alone) > 2
    assert builder.verify(damaged, workers=workers) == alone


def test_a_check_reports_progress_from_start_to_end(damaged):
    seen: list[tuple[int, int, int]] = []

    def note(checking: Checking) -> None:
        seen.append((checking.to_check, checking.checked, checking.problems))

    builder.verify(damaged, workers=0, on_progress=note)
    wanted = {to_check for to_check, _, _ in seen}
    assert len(wanted) == 1
    assert seen[0][1:] == (0, 0)
    assert seen[-1][1] in wanted
    assert seen[-1][2] >= 2
    assert [checked for _, checked, _ in seen] == sorted(checked for _, checked, _ in seen)
    assert len(seen) > 12


def test_if_workers_die_repeatedly_an_error_says_what_was_checked(damaged, monkeypatch):
    class LostError(Exception):
        pass

    def dying(*_):
        raise LostError

    monkeypatch.setattr("builder.workers.engine.InProcessEngine.__init__", _with_lost(LostError))
    monkeypatch.setattr("store_spec.verification.described_rows.PartCheck.__call__", dying)
    with pytest.raises(BuildError, match=r"while rows [\d,]+ to [\d,]+ of inputs were checked"):
        builder.verify(damaged, workers=0)


def _with_lost(error):
    from collections import deque

    def start(engine):
        engine.lost, engine._watched = (error,), deque()

    return start


def test_the_command_names_file_sequences_sources_and_what_to_do(damaged):
    result = seqzarr("verify", damaged)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines == [str(problem) for problem in store_spec.verify(damaged)]
    (lost,) = [line for line in lines if "inputs/c.3.0" in line]
    assert "missing" in lost
    assert "concerns" in lost
    found = json.loads(seqzarr("verify", damaged, "--json", "--workers", "0").stdout)
    (lost,) = [one for one in found["problems"] if one["where"] == "inputs/c.3.0"]
    names = store_spec.open_store(damaged).sources
    ((start, stop),) = lost["sequences"]
    assert lost["sources"] == list(dict.fromkeys(names[start:stop]))


def test_the_quiet_command_prints_nothing_for_a_valid_store(tmp_path):
    path = write(RECIPE, tmp_path / "s", make(RECIPE, [3]))
    result = seqzarr("verify", path, "--quiet")
    assert (result.exit_code, result.output) == (0, "")
