"""Normalisation by the statistics of groups; `test_any_options` compares it with loops."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.errors import WindowError
from tests.store.oracle import store_of
from tests.store.window_oracle import Sequences, all_same

SITES = ("north", "south", "north", "", "south", "north")
LENGTHS = (30, 12, 0, 25, 9, 17)


@pytest.fixture
def made(tmp_path: Path) -> tuple[Sequences, store_spec.Store]:
    """Write sequences with labels on the step axis; each has values far from those of the others."""
    sequences: Sequences = []
    for number, length in enumerate(LENGTHS):
        random = np.random.default_rng(number)
        x = (random.normal(size=(length, 3)) * (number + 1) + 10 * number).astype("float32")
        sequences.append((x, random.normal(size=(length, 2)) + number))
    inputs, labels = (list(each) for each in zip(*sequences, strict=True))
    more = [{"columns": {"site": site, "patient": number // 2}} for number, site in enumerate(SITES)]
    columns = {"site": "string", "patient": "int64"}
    return sequences, store_of(tmp_path / "s", inputs, labels, more=more, columns=columns, chunk=120, shard=1200)


def test_statistics_are_standard_by_default_and_accept_a_mapping(made: Any):
    _, store = made
    statistics = store.stats_by("site")
    assert statistics["south"].mean.tolist() == store.select([1, 4]).stats().mean.tolist()
    assert list(statistics) == ["north", "south", ""]
    assert "south" in repr(statistics)
    both = [store.windows(4, normalize=normalize) for normalize in (statistics, statistics.standard())]
    assert all_same(list(both[0]), list(both[1]))
    copy = pickle.loads(pickle.dumps(both[0]))
    assert all_same(list(copy), list(both[0]))


@pytest.mark.parametrize("how", ["standard", "minmax", "robust"])
def test_windows_of_a_group_are_those_of_a_store_with_its_statistics_alone(made: Any, how: str):
    """Groups are the values of a column of text, or sources; predictions are brought back by those of their group."""
    _, store = made
    for by, members in (("site", [1, 4]), ("source", [3])):
        group = store.select(members)
        alone = group.windows(4, normalize=getattr(group.stats(), how)())
        windows = group.windows(4, normalize=getattr(store.stats_by(by), how)())
        assert all_same(list(windows), list(alone))
        numbers, labels = list(range(len(windows))), np.stack([y for _, y in alone])
        assert windows.scaler(numbers).inverse(labels).tolist() == alone.scaler().inverse(labels).tolist()


def test_groups_without_statistics_and_unknown_columns_are_refused(made: Any):
    _, store = made
    north = store.select([0, 2, 5]).stats_by("site")
    assert list(store.select([0, 5]).windows(4, normalize=north))
    with pytest.raises(WindowError, match=r"sequence 1 has site='south', and normalize has statistics of 1 groups"):
        store.windows(4, normalize=north)
    none = store.select([])
    with pytest.warns(UserWarning, match="0 windows"):
        assert not len(none.windows(4, normalize=none.stats_by("site")))
    with pytest.raises(WindowError, match="by='hospital' is not a column"):
        store.stats_by("hospital")
    with pytest.raises(WindowError, match=r"normalize=<statistics of . groups by 'site': [^(]*>, so give the index of"):
        store.windows(4, normalize=store.stats_by("site")).scaler()


def test_statistics_of_later_steps_are_refused_and_those_of_the_period_are_used(made: Any):
    sequences, store = made
    with pytest.raises(WindowError, match="statistics of later steps"):
        store.windows(4, steps=(0, 0.5), normalize=store.stats_by("site"))
    some = store.select([0, 1, 3, 4, 5])
    windows = some.windows(4, steps=(0, 0.5), normalize=some.stats_by("patient", steps=(0, 0.5)))
    x = sequences[0][0][: LENGTHS[0] // 2]
    together = np.concatenate([x, sequences[1][0][: LENGTHS[1] // 2]]).astype(float)
    np.testing.assert_allclose(windows[0][0], (x[:4] - together.mean(0)) / together.std(0), rtol=1e-4, atol=1e-5)
