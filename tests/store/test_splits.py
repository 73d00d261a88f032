"""Splits by a hash of the source's name."""

from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.errors import WindowError
from store_spec.reading.splits import DEFAULT_SPLITS, folds, members, position

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


def test_a_seed_may_be_a_number_of_numpys():
    seed: Any = np.int64(1)
    assert members(NAMES, "val", DEFAULT_SPLITS, seed).tolist() == members(NAMES, "val", DEFAULT_SPLITS, 1).tolist()


@pytest.mark.parametrize("seed", [1.0, True, "1", -1, None])
def test_a_seed_that_is_no_whole_number_deals_nothing(seed):
    """As text, which is hashed, 1.0 is another seed than 1: train and test by the two would share sources."""
    with pytest.raises(WindowError, match=f"seed is {seed!r}; it must be a whole number of at least 0"):
        members(NAMES, "val", DEFAULT_SPLITS, seed)
    with pytest.raises(WindowError, match=f"seed is {seed!r}; it must be a whole number"):
        folds(NAMES, 2, seed)


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


@pytest.mark.parametrize("count", [2, 5, 7])
@pytest.mark.parametrize("seed", [0, 17])
def test_each_source_is_held_out_by_one_fold_and_folds_are_of_like_size(count, seed):
    held = folds(NAMES, count, seed)
    assert np.array_equal(np.sum(held, axis=0), np.ones(len(NAMES)))
    assert all(abs(out.sum() - len(NAMES) / count) < 0.1 * len(NAMES) / count for out in held)


def test_a_source_stays_in_its_fold_whatever_is_added_and_its_parts_stay_together():
    more = [*NAMES[5000:], "new", *NAMES[:5000], *NAMES[:9]]
    for few, many in zip(folds(NAMES, 5, 0), folds(more, 5, 0), strict=True):
        assert {NAMES[at] for at in np.flatnonzero(few)} == {more[at] for at in np.flatnonzero(many)} - {"new"}


def test_folds_of_a_split_are_of_like_size():
    """Had they the hash that splits have, one fold of five would be empty."""
    train = [NAMES[number] for number in members(NAMES, "train", DEFAULT_SPLITS, 0)]
    sizes = [int(out.sum()) for out in folds(train, 5, 0)]
    assert max(sizes) - min(sizes) < 0.1 * len(train) / 5


def test_which_fold_a_source_is_in_is_fixed_for_ever():
    names = [f"s{number}" for number in range(40)]
    assert [np.flatnonzero(out).tolist() for out in folds(names, 3, 1)] == FOLDS


@pytest.mark.parametrize(
    ("names", "count", "message"),
    [
        (NAMES, 1, "count is 1; it must be a whole number of at least 2"),
        (NAMES, 2.0, "count is 2.0; it must"),
        (NAMES, True, "count is True; it must"),
        (["a", "b", "b"], 3, "of 3 would hold out none of 2 sources; use fewer folds, or another seed"),
        ([], 2, "fold 0 of 2 would hold out none of 0 sources"),
    ],
)
def test_folds_that_are_none_are_refused(names, count, message):
    with pytest.raises(WindowError, match=message):
        folds(names, count, 0)


def test_a_store_is_split_and_folded_by_groups_given(tmp_path):
    """No group is on two sides; groups that are called like sources are dealt like these."""
    with store_spec.create_store(tmp_path / "s.zarr", inputs=("int8", ()), labels=("int8", ())) as writer:
        for number in range(60):
            writer.append(np.zeros(2, "int8"), np.zeros(2, "int8"), source=f"visit-{number}")
    store = store_spec.open_store(tmp_path / "s.zarr")
    patients = [f"patient-{number % 17}" for number in range(60)]
    for by in (patients, np.arange(60) % 17, [number % 17 for number in range(60)]):
        of = dict(zip(store.sources, np.asarray(by).tolist(), strict=True))
        sides = [{of[source] for source in store.split(name, by=by).sources} for name in DEFAULT_SPLITS]
        assert sum(map(len, sides)) == len(set().union(*sides)) == 17
        assert sum(len(store.split(name, by=by)) for name in DEFAULT_SPLITS) == 60
        pairs = store.folds(3, by=by)
        for train, held in pairs:
            assert not {of[source] for source in train.sources} & {of[source] for source in held.sources}
            assert len(train) + len(held) == 60
        assert sorted(source for _, held in pairs for source in held.sources) == sorted(store.sources)
    assert store.split("train", by=store.sources).sources == store.split("train").sources
    assert (
        store.split("train", by=np.arange(60)).sources == store.split("train", by=[str(n) for n in range(60)]).sources
    )
    assert [len(held) for _, held in store.folds(2, seed=1)] != [len(held) for _, held in store.folds(2, seed=2)]
    with pytest.raises(WindowError, match=r"by has shape \(59,\); give one value for each of 60 sequences"):
        store.split("train", by=patients[1:])
    for wrong in (None, 1.5, b"a"):
        with pytest.raises(WindowError, match="groups are named by text or whole numbers"):
            store.folds(2, by=np.array([*patients[1:], wrong], object))


def test_a_store_is_split_and_folded_by_a_column(tmp_path):
    """As by the values of that column, given as an array; also of a view."""
    with store_spec.create_store(
        tmp_path / "s.zarr",
        inputs=("int8", ()),
        labels=("int8", ()),
        columns={"patient": "string", "site": "int64", "age": "float64"},
    ) as writer:
        for number in range(60):
            row = {"patient": f"p{number % 17}", "site": number % 11, "age": 40.5}
            writer.append(np.zeros(2, "int8"), np.zeros(2, "int8"), source=f"visit-{number}", columns=row)
    store = store_spec.open_store(tmp_path / "s.zarr")
    for view in (store, store.select(range(5, 55))):
        for by, values in (
            ("patient", [f"p{int(source[6:]) % 17}" for source in view.sources]),
            ("site", [int(source[6:]) % 11 for source in view.sources]),
            ("source", view.sources),
        ):
            for name in DEFAULT_SPLITS:
                assert view.split(name, by=by).sources == view.split(name, by=values).sources
            both = zip(view.folds(3, by=by), view.folds(3, by=values), strict=True)
            assert all((one[0].sources, one[1].sources) == (two[0].sources, two[1].sources) for one, two in both)
    with pytest.raises(WindowError, match="by='patients' is no column of its sequences; there are source, part, len"):
        store.split("train", by="patients")
    with pytest.raises(WindowError, match=r"sequences\['age'\]\[0\] is 40\.5; groups are named by text or whole"):
        store.folds(2, by="age")


PINNED = ["0x1.3be78bf571df1p-1", "0x1.058bf774e68f8p-2", "0x1.671d01ca6f57ep-1", "0x1.628dbb5057af0p-5"]
MEMBERS = [[2, 9, 10, 22, 32, 39], [17, 21, 30, 33]]
FOLDS = [
    [2, 6, 10, 13, 15, 17, 20, 22, 25, 26, 27, 28, 30, 32, 33, 35, 36],
    [1, 3, 5, 11, 12, 18, 19, 21, 23, 37, 38, 39],
    [0, 4, 7, 8, 9, 14, 16, 24, 29, 31, 34],
]


def test_a_column_of_the_names_of_splits_says_which_each_sequence_is_in(tmp_path):
    rows = np.zeros(3, np.float32)
    pins = ["train", "test", "", "test", "train", ""] * 5
    with store_spec.create_store(
        tmp_path / "s.zarr", inputs=("float32", ()), labels=("float32", ()), columns={"split": "string"}
    ) as writer:
        for number, pin in enumerate(pins):
            writer.append(rows, rows, source=f"s{number}", columns={"split": pin})
    store = store_spec.open_store(tmp_path / "s.zarr")
    hashed = {name: {*store.split(name, seed=3).sources} for name in DEFAULT_SPLITS}
    found = {name: store.split(name, seed=3, by="split").sources for name in DEFAULT_SPLITS}
    for number, pin in enumerate(pins):
        source = f"s{number}"
        (wanted,) = [pin] if pin else [name for name in hashed if source in hashed[name]]
        assert [name for name in found if source in found[name]] == [wanted]
    assert sum(map(len, found.values())) == len(pins)
    assert store.select(store.sequences["split"] == "test").split("train", by="split").sources == ()
    two = {"train": 0.5, "val": 0.5}
    with pytest.raises(
        WindowError, match=r"by: 'test' is none of the splits train, val, of which others of its values"
    ):
        store.split("train", two, by="split")
    assert 0 < len(store.split("a", {"a": 0.5, "b": 0.5}, by="split")) < len(store)  # any groups, by a hash
    with pytest.raises(WindowError, match=r"shares \['train', 'val'\]; give each split's share, as"):
        store.split("train", ["train", "val"])  # type: ignore[arg-type]
    # What no pin says is dealt alike, whether anything that is selected has one or not.
    unpinned = store.select(store.sequences["split"] == "")
    for name in DEFAULT_SPLITS:
        both = set(store.split(name, by="split").sources) & set(unpinned.sources)
        assert set(unpinned.split(name, by="split").sources) == both
