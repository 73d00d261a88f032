"""How batches are distributed over ranks."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store_spec.errors import WindowError
from store_spec.reading.ranks import Turns


def batches_of_ranks(windows: int, size: int, world_size: int, *, drop_last: bool) -> list[list[list[int]]] | None:
    """Return the batches of each rank; None if they cannot be distributed."""
    try:
        ranks = [
            Turns(samples=windows, size=size, rank=rank, world_size=world_size, drop_last=drop_last)
            for rank in range(world_size)
        ]
    except WindowError:
        return None
    return [
        [[world_size * own + turns.rank for own in range(*turns[number])] for number in range(len(turns))]
        for turns in ranks
    ]


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 9))
def test_all_ranks_have_as_many_batches_and_each_window_occurs_once(windows: int, size: int, world_size: int):
    batches = batches_of_ranks(windows, size, world_size, drop_last=False)
    if batches is None:
        assert windows < world_size or (size == 1 and windows % world_size)
        return
    assert len({len(each) for each in batches}) == 1
    assert all(1 <= len(batch) <= size for each in batches for batch in each)
    for number in range(len(batches[0])):  # after so many batches, all ranks together have the first samples
        taken = [place for each in batches for batch in each[: number + 1] for place in batch]
        assert sorted(taken) == list(range(len(taken)))
    assert len(taken if windows else []) == windows
    # All but the last two are whole.
    assert all(len(batch) == size for each in batches for batch in each[:-2])


@given(st.integers(0, 100), st.integers(1, 9), st.integers(1, 9))
def test_with_drop_last_every_batch_is_whole(windows: int, size: int, world_size: int):
    batches = batches_of_ranks(windows, size, world_size, drop_last=True)
    assert batches is not None
    assert len({len(each) for each in batches}) == 1
    assert all(len(batch) == size for each in batches for batch in each)
    taken = [place for each in batches for batch in each for place in batch]
    assert sorted(taken) == list(range(windows // (size * world_size) * size * world_size))


def batches_in_turn(samples: int, together: int, chain: list[int], steps: list[int], *, drop_last: bool) -> list[int]:
    """Return the samples of an epoch that other ranks continue after the given numbers of batches."""
    samples_taken: list[int] = []
    resumed = (0, 0)
    for world_size, step in itertools.zip_longest(chain, steps):
        size = together // world_size
        asked: Any = {"samples": samples, "size": size, "world_size": world_size, "drop_last": drop_last}
        try:
            turns = [Turns(**asked, rank=rank).after(*resumed) for rank in range(world_size)]
        except WindowError:
            assert not drop_last
            left = samples - len(samples_taken)
            assert 0 < left < world_size or 0 < samples < world_size or (size == 1 and samples % world_size)
            raise
        stop = len(turns[0]) if step is None else step
        for number in range(resumed[0], stop):
            batches = [range(each.rank, samples, world_size)[slice(*each[number])] for each in turns]
            assert all(1 <= len(batch) <= size for batch in batches)
            samples_taken += itertools.chain(*batches)
        resumed = stop, turns[0].samples_before(stop)
        assert sorted(samples_taken) == list(range(resumed[1]))
    return samples_taken


@pytest.mark.slow
@pytest.mark.parametrize("together", [1, 2, 3, 4, 6, 12])
def test_other_ranks_continue_after_each_batch(together: int):
    """And others continue after these; each sample occurs once."""
    worlds = [ranks for ranks in range(1, together + 1) if together % ranks == 0]
    refused = 0
    several = range(0, 3 * together + 2, 5 if together == 12 else 1)
    for samples, drop_last in itertools.product(several, (False, True)):
        wanted = samples - samples % together if drop_last else samples
        numbers = range(-(-wanted // together) + 1)
        for chain in itertools.product(worlds, worlds, worlds):
            for steps in itertools.combinations_with_replacement(numbers, 2):
                try:
                    samples_taken = batches_in_turn(samples, together, list(chain), list(steps), drop_last=drop_last)
                except WindowError:
                    refused += 1
                else:
                    assert len(samples_taken) == wanted
    assert (refused > 0) == (together > 1)


@pytest.mark.parametrize("taken", [None, True, 4.0, "8", 3, 5, 6, 7, 9, 10])
def test_impossible_numbers_of_taken_samples_are_refused(taken: Any):
    """Of ten samples, four per step, two ranks have eight after two batches, and four ranks have six."""
    turns = Turns(samples=11, size=2, world_size=2)
    if taken != 9:
        with pytest.raises(WindowError, match="2 batches of all ranks, which take 4 samples together, do not hold"):
            turns.after(2, taken)
    assert turns.after(2, 8) is turns


def test_one_rank_has_plain_batches():
    assert batches_of_ranks(10, 4, 1, drop_last=False) == [[[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size is 0; it must be a whole number of at least 1"),
        ({"world_size": 0}, "world_size is 0"),
        ({"rank": -1}, "rank is -1"),
        ({"rank": 2, "world_size": 2}, "rank=2 with world_size=2; ranks are 0 to 1"),
        ({"world_size": 20}, "10 samples cannot be distributed to world_size=20 .* drop_last=True, which leaves out"),
        ({"size": 1, "world_size": 4}, "10 samples cannot be distributed to world_size=4 .* leaves out 2"),
    ],
)
def test_impossible_ranks_are_refused_with_both_numbers(arguments, message: str):
    with pytest.raises(WindowError, match=message):
        Turns(**{"samples": 10, "size": 4, **arguments})


def test_a_batch_beyond_the_last_is_an_index_error():
    with pytest.raises(IndexError, match="batch 3 of 3"):
        Turns(samples=10, size=4)[3]
