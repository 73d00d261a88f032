"""A training run that is stopped and resumed several times, on other ranks and on a store that grows.

Compared with an undisturbed run: each sample of the epoch occurs once, and each step has the same samples.
"""

from __future__ import annotations

import json
import os
import re
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import store_spec
from store_spec.errors import StateError
from tests.store.kinds import begin

TOGETHER = 12  # samples that all ranks take in one step
WORLDS = (1, 2, 3, 4, 6)
EXAMPLES = int(os.environ.get("SEQZARR_RUNS", "2"))  # set this higher to look for rare failures
Samples = list[tuple[Any, ...]]  # of one batch, each as the bytes of all its arrays


def append(path: Path, lengths: list[int]) -> None:
    """Append sequences in which no two rows are equal."""
    known = len(store_spec.open_store(path))
    with store_spec.open_store(path, mode="a") as writer:
        for number, steps in enumerate(lengths, known):
            rows = number * 100 + np.arange(steps, dtype="f8").reshape(-1, 1)
            writer.append(rows, -rows, source=f"s{number}")


def create(path: Path, lengths: list[int]) -> None:
    with store_spec.create_store(path, inputs=("float64", (1,)), labels=("float64", (1,)), chunk=64, shard=256):
        pass
    append(path, lengths)


OPTIONS: dict[str, dict[str, Any]] = {
    "windows": {"window": 3, "short": "pad", "memory": "6kB", "index": True},
    "padded": {"bucket": True},
    "packed": {"tokens": 8},
    "streams": {"window": 4, "mask": True},
}


def samples_of(batch: Any, kind: str) -> Samples:
    if kind in ("padded", "packed"):  # padding depends on the other sequences
        return [(x[mask].tobytes(), y[mask].tobytes()) for x, y, mask in zip(*batch[:3], strict=True)]
    return [tuple(np.asarray(array).tobytes() for array in sample) for sample in zip(*batch, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIONS)
@pytest.mark.parametrize("part", [False, True], ids=["all", "a split"])
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # a smaller seed does not make a simpler run
)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_run_that_is_stopped_repeatedly_yields_each_sample_once(tmp_path_factory, kind, part, seed):
    path = tmp_path_factory.mktemp("run") / "s.zarr"
    rng = np.random.default_rng(seed)
    create(path, rng.integers(1, 30, rng.integers(20, 35)).tolist())
    normalized = rng.random() < 0.5

    def begin_ranks(world: int) -> list[Any]:
        store: Any = store_spec.open_store(path)
        store = store.split("train", {"train": 0.7, "val": 0.3}) if part else store
        normalize = store.stats() if normalized else None
        options = {"shuffle": True, "seed": 4, "batch_size": TOGETHER // world, "normalize": normalize}
        return [begin(store, kind, rank=rank, world_size=world, **options, **OPTIONS[kind]) for rank in range(world)]

    (alone,) = begin_ranks(1)
    wanted = [sorted(samples_of(batch, kind)) for batch in alone]
    ranks = begin_ranks(rng.choice(WORLDS))
    taken: list[Samples] = []
    while len(taken) < len(ranks[0]):
        for _ in range(rng.integers(0, 5)):
            if len(taken) < len(ranks[0]):
                taken.append(sorted(sample for rank in ranks for sample in samples_of(next(rank), kind)))
        states = [json.loads(json.dumps(rank.state_dict())) for rank in ranks]
        assert all(state == states[0] for state in states)
        if rng.random() < 0.5:
            append(path, rng.integers(1, 30, rng.integers(1, 4)).tolist())
        others = begin_ranks(rng.choice(WORLDS))
        left = sum(map(len, wanted)) - sum(map(len, taken))
        try:
            for rank in others:
                rank.load_state_dict(states[0])
        except StateError as error:
            assert re.search(rf"{left} samples that are left of the epoch cannot be distributed to", str(error))  # noqa: PT017
            assert 0 < left < len(others)
            others = begin_ranks(len(ranks))
            for rank in others:
                rank.load_state_dict(states[0])
        ranks = others
    for rank in ranks:
        assert list(rank) == []
    assert sorted(chain.from_iterable(taken)) == sorted(chain.from_iterable(wanted))
    # If fewer samples than ranks are left, they are divided into two batches together with the last whole one.
    assert sum(one != other for one, other in zip(taken, wanted, strict=True)) <= 2
