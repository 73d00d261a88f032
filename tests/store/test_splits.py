"""Splits by a hash of the source's name."""

import pytest

from store_spec.errors import WindowError
from store_spec.splits import DEFAULT_SPLITS, members, position

NAMES = [f"patients/{number}.csv" for number in range(10_000)]


def test_where_a_source_lies_is_fixed_for_ever():
    """Another value would move sources of existing stores from one split to another."""
    assert [position(name, seed).hex() for name in ("a", "däta/7.csv") for seed in (0, 1)] == PINNED
    found = [
        members([f"s{number}" for number in range(40)], name, DEFAULT_SPLITS, 0).tolist() for name in ("val", "test")
    ]
    assert found == MEMBERS


@pytest.mark.parametrize("seed", [0, 17])
def test_shares_are_about_those_asked_for(seed):
    for name, share in DEFAULT_SPLITS.items():
        assert abs(len(members(NAMES, name, DEFAULT_SPLITS, seed)) / len(NAMES) - share) < 0.015


@pytest.mark.parametrize("shares", [DEFAULT_SPLITS, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}, {"all": 1.0}])
def test_every_sequence_is_in_one_split(shares):
    found = [number for name in shares for number in members(NAMES, name, shares, 5).tolist()]
    assert sorted(found) == list(range(len(NAMES)))


def test_a_source_stays_in_its_split_whatever_is_added_before_it_or_after():
    more = [*NAMES[5000:], "new", *NAMES[:5000:-1]]
    for name in DEFAULT_SPLITS:
        few = {NAMES[number] for number in members(NAMES, name, DEFAULT_SPLITS, 0)}
        many = {more[number] for number in members(more, name, DEFAULT_SPLITS, 0)}
        assert many - {"new"} == few & set(more)


def test_the_parts_of_a_source_stay_together():
    parts = [name for name in NAMES[:300] for _ in range(3)]
    for name in DEFAULT_SPLITS:
        once = members(NAMES[:300], name, DEFAULT_SPLITS, 0)
        assert members(parts, name, DEFAULT_SPLITS, 0).tolist() == [3 * at + part for at in once for part in range(3)]


def test_another_seed_deals_anew():
    assert members(NAMES, "val", DEFAULT_SPLITS, 0).tolist() != members(NAMES, "val", DEFAULT_SPLITS, 1).tolist()


def test_a_split_of_nothing_is_empty():
    assert members([], "val", DEFAULT_SPLITS, 0).tolist() == []


@pytest.mark.parametrize(
    ("name", "shares", "message"),
    [
        ("dev", DEFAULT_SPLITS, "split 'dev' is not one of 'train', 'val', 'test'"),
        ("a", {"a": 0.5, "b": 0.4}, "not all above 0, or make 0.9, not 1"),
        ("a", {"a": 1.5, "b": -0.5}, "not all above 0"),
        ("a", {"a": 1.0, "b": 0.0}, "not all above 0"),
        ("a", {"a": float("nan")}, "not all above 0"),
    ],
)
def test_shares_that_are_none_are_refused(name, shares, message):
    with pytest.raises(WindowError, match=message):
        members(NAMES, name, shares, 0)


PINNED = ["0x1.3be78bf571df1p-1", "0x1.058bf774e68f8p-2", "0x1.671d01ca6f57ep-1", "0x1.628dbb5057af0p-5"]
MEMBERS = [[2, 9, 10, 22, 32, 39], [17, 21, 30, 33]]
