"""Normalisation by the statistics of groups, compared with a loop over the sequences of each."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import store_spec
from store_spec.errors import WindowError
from tests.store.oracle import store_of
from tests.store.window_oracle import Sequences, all_same, assert_windows_are

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


def normalise_by_group(sequences: Sequences, store: store_spec.Store, how: str, groups: list[Any]) -> Sequences:
    """Normalise each sequence by the statistics of the sequences in its group."""
    results: Sequences = []
    for (x, y), group in zip(sequences, groups, strict=True):
        members = [number for number, other in enumerate(groups) if other == group]
        scaler = getattr(store.select(members).stats(), how)()
        together: NDArray[Any] = np.concatenate([sequences[number][0] for number in members])
        if how == "standard" and len(together):
            np.testing.assert_allclose(scaler.inputs.center, together.astype(float).mean(0), rtol=1e-6)
            np.testing.assert_allclose(scaler.inputs.scale, together.astype(float).std(0), rtol=1e-6)
        results.append((scaler.normalize(x), scaler.normalize_labels(y)))
    return results


@pytest.mark.parametrize("how", ["standard", "minmax", "robust"])
@pytest.mark.parametrize("by", ["site", "patient", "source"])
def test_each_sequence_is_normalised_by_its_group(how: str, by: str, made: Any):
    sequences, store = made
    column = [f"s{number}" for number in range(6)] if by == "source" else store.sequences[by].tolist()
    wanted = normalise_by_group(sequences, store, how, column)
    statistics = store.stats_by(by)
    assert list(statistics) == list(dict.fromkeys(map(str, column)))
    normalize = getattr(statistics, how)()
    windows = store.windows(4, stride=2, normalize=normalize)
    due = [(x[start : start + 4], y[start + 4 : start + 5]) for x, y in wanted for start in range(0, len(x) - 4, 2)]
    assert_windows_are(windows, due, 5, "40kB")
    for number, (x, y, _) in enumerate(store.padded(1, normalize=normalize)):
        assert all_same([(x[0], y[0])], [wanted[number]])
    lanes = store.streams(1, 7, normalize=normalize, mask=True)
    steps = [(x[mask], y[mask]) for x, y, mask in ((batch.inputs, batch.labels, batch.mask) for batch in lanes)]
    assert np.concatenate([x for x, _ in steps]).tobytes() == np.concatenate([x for x, _ in wanted]).tobytes()
    index = np.arange(len(windows))[::3]
    plain = store.windows(4, stride=2)
    brought_back = windows.scaler(index).inverse(np.stack([due[number][1] for number in index]))
    for labels, number in zip(brought_back, index, strict=True):
        np.testing.assert_allclose(labels, plain[int(number)][1], rtol=1e-6, atol=1e-6)


def test_statistics_are_standard_by_default_and_accept_a_mapping(made: Any):
    _, store = made
    statistics = store.stats_by("site")
    assert statistics["south"].mean.tolist() == store.select([1, 4]).stats().mean.tolist()
    assert len(statistics) == 3
    assert "south" in repr(statistics)
    both = [store.windows(4, normalize=normalize) for normalize in (statistics, statistics.standard())]
    assert all_same(list(both[0]), list(both[1]))
    copy = pickle.loads(pickle.dumps(both[0]))
    assert all_same(list(copy), list(both[0]))


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
    with pytest.raises(WindowError, match="give the index of the windows"):
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
