"""Splits by a hash of the source's name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.errors import WindowError
from store_spec.reading.splits import DEFAULT_SPLITS, are_pinned, folds, members, position
from tests.store.oracle import store_of

NAMES = [f"patients/{number}.csv" for number in range(10_000)]


def in_split(sources: Sequence[str], name: str, shares: Mapping[str, float], seed: int) -> NDArray[np.int64]:
    return members(sources, [name], shares, seed, allow_empty=True)[name]


def visits(path: Path, columns: Sequence[Any] = ({},) * 60, **types: str) -> store_spec.Store:
    """Write sequences with these values of columns."""
    more = [{"columns": values} for values in columns]
    sources = [f"visit-{number}" for number in range(len(columns))]
    return store_of(path, [np.zeros(2, "int8")] * len(columns), sources=sources, more=more, columns=types)


def plain_name(name: str) -> str:
    return "val" if name.lower() in ("val", "valid", "validation") else name.lower()


def plain_splits(sources: Sequence[str], shares: dict[str, float], by: Sequence[str] | None) -> dict[str, list[int]]:
    """Return the sequences in each split with seed 0, one sequence and one split at a time."""
    found: dict[str, list[int]] = {name: [] for name in shares}
    standard = [name for wanted in ("train", "val", "test") for name in shares if plain_name(name) == wanted]
    others = sorted((name for name in shares if name not in standard), key=str.lower)
    pinned = by is not None and any(plain_name(value) == plain_name(name) for value in by for name in shares)
    for number, source in enumerate(sources):
        value = "" if by is None else by[number]
        if pinned and value:
            (home,) = [name for name in shares if plain_name(name) == plain_name(value)]
        else:
            start = 0.0
            for home in [*standard, *others]:
                start += shares[home]
                if position(value or source, 0) < start:
                    break
        found[home].append(number)
    return found


SHARES = st.lists(
    st.sampled_from(["train", "val", "Test", "b", "A", "dev", "Valid", "validation"]), min_size=1, unique_by=plain_name
).flatmap(
    lambda names: st.tuples(
        st.just({name: (number + 1) / sum(range(len(names) + 1)) for number, name in enumerate(names)}),
        st.permutations(names),
    )
)


@given(both=SHARES, sources=st.lists(st.text(max_size=3), unique=True, max_size=40), data=st.data())
def test_splits_equal_those_of_a_loop_and_keep_their_sources(both, sources, data):
    """They are disjoint and complete; neither the order of the shares nor later sources move a source."""
    shares, order = both
    by = data.draw(
        st.none()
        | st.lists(st.sampled_from(["", "p1", "p2", "p3"]), min_size=len(sources), max_size=len(sources))
        | st.lists(st.sampled_from(["", *map(str.upper, shares)]), min_size=len(sources), max_size=len(sources))
    )
    wanted = plain_splits(sources, shares, by)
    assert sorted(number for numbers in wanted.values() for number in numbers) == list(range(len(sources)))
    more, more_by = [*sources, "added", *sources], None if by is None else [*by, "", *by]
    for names, some, groups in ((shares, sources, by), (order, sources, by), (order, more, more_by)):
        some_shares = {name: shares[name] for name in names}
        if groups is None:
            found = members(some, some_shares, some_shares, 0, allow_empty=True)
        else:
            found = members(groups, some_shares, some_shares, 0, sources=some, allow_empty=True)
        assert list(found) == list(names)
        assert {name: [one for one in found[name] if one < len(sources)] for name in shares} == wanted
        assert sum(map(len, found.values())) == len(some)


@pytest.mark.parametrize("shares", [{"val": 0.5, "Valid": 0.5}, {"a": 0.5, "A": 0.5}])
def test_two_names_of_one_split_are_refused(shares):
    with pytest.raises(WindowError, match="name a split twice; case does not matter"):
        members(NAMES, shares, shares, 0)


def test_an_empty_split_is_refused_unless_it_is_allowed():
    shares = {"train": 0.999, "test": 0.001}
    message = r"split 'test', a share of 0\.001, would have none of 40 sources; use fewer splits, another seed, or"
    for names in (["test"], shares):
        with pytest.raises(WindowError, match=message):
            members(NAMES[:40], names, shares, 0)
    with pytest.warns(UserWarning, match=r"split 'train', a share of 0\.999, has all of 40 sources"):
        assert len(members(NAMES[:40], ["train"], shares, 0)["train"]) == 40
    assert [len(found) for found in members(NAMES[:40], shares, shares, 0, allow_empty=True).values()] == [40, 0]
    with pytest.raises(WindowError, match=r"split 'test', a share of 0\.001, would have none of 1 groups"):
        members(["p"] * 40, shares, shares, 0, sources=NAMES[:40])


def test_values_that_are_only_partly_names_of_splits_are_listed():
    shares = {"train": 0.8, "test": 0.2}
    by = ["Train", "Val", "Test", ""]
    assert are_pinned(by, shares)
    assert not are_pinned(["a", ""], shares)
    message = r"by mixes names of splits, \['Train', 'Test'\], with 1 that are none of \['train', 'test'\]: \['Val'\];"
    with pytest.raises(WindowError, match=message):
        members(by, ["train"], shares, 0, sources=NAMES[:4])
    many = ["train", *(f"p{number}" for number in range(300))]
    with pytest.raises(WindowError, match=r"with 300 that are none of .*'p18', 'p19'\]; give shares that name every"):
        members(many, ["train"], shares, 0, sources=NAMES[:301])


def test_the_split_of_a_source_never_changes():
    """Otherwise sources of existing stores would move from one split to another."""
    assert [position(name, seed).hex() for name in ("a", "däta/7.csv") for seed in (0, 1)] == PINNED
    zero: Any = np.int64(0)
    names = [f"s{number}" for number in range(40)]
    found = [in_split(names, name, DEFAULT_SPLITS, zero).tolist() for name in ("val", "test")]
    assert found == MEMBERS


@pytest.mark.parametrize("seed", [1.0, True, "1", -1, None])
def test_a_seed_that_is_not_an_integer_is_refused(seed):
    """Seeds are hashed as text, so 1.0 would not be the seed 1, and train and test by the two would share sources."""
    with pytest.raises(WindowError, match=f"seed is {seed!r}; it must be a whole number of at least 0"):
        in_split(NAMES, "val", DEFAULT_SPLITS, seed)
    with pytest.raises(WindowError, match=f"seed is {seed!r}; it must be a whole number"):
        folds(NAMES, 2, seed)


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
def test_invalid_shares_are_refused(name, shares, message):
    with pytest.raises(WindowError, match=message):
        in_split(NAMES, name, shares, 0)


@pytest.mark.parametrize("count", [2, 5, 7])
@pytest.mark.parametrize("seed", [0, 17])
def test_each_source_is_in_one_fold_and_folds_have_similar_sizes(count, seed):
    held = folds(NAMES, count, seed)
    assert np.array_equal(np.sum(held, axis=0), np.ones(len(NAMES)))
    assert all(abs(out.sum() - len(NAMES) / count) < 0.1 * len(NAMES) / count for out in held)


def test_a_source_stays_in_its_fold_with_all_its_parts():
    more = [*NAMES[5000:], "new", *NAMES[:5000], *NAMES[:9]]
    for few, many in zip(folds(NAMES, 5, 0), folds(more, 5, 0), strict=True):
        assert {NAMES[at] for at in np.flatnonzero(few)} == {more[at] for at in np.flatnonzero(many)} - {"new"}


def test_folds_of_a_split_have_similar_sizes():
    """With the hash of splits, one fold of five would be empty."""
    train = [NAMES[number] for number in in_split(NAMES, "train", DEFAULT_SPLITS, 0)]
    sizes = [int(out.sum()) for out in folds(train, 5, 0)]
    assert max(sizes) - min(sizes) < 0.1 * len(train) / 5


def test_the_fold_of_a_source_never_changes():
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
def test_invalid_folds_are_refused(names, count, message):
    with pytest.raises(WindowError, match=message):
        folds(names, count, 0)


def test_a_store_is_split_and_folded_by_groups_given(tmp_path):
    """No group is on two sides; groups named like sources are assigned like these."""
    store = visits(tmp_path / "s.zarr")
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
    wrong = [np.array([*patients[1:], value], object) for value in (None, 1.5, b"a")]
    for by in (*wrong, np.ma.masked_equal(np.arange(60), 7)):
        with pytest.raises(WindowError, match="groups are named by text or whole numbers"):
            store.folds(2, by=by)
    with pytest.raises(WindowError, match=r"by has shape \(1,\)"):
        store.folds(2, by=[[1], [2, 3]] * 30)
    assert len(store.folds(2, by=["a", "a\0"] * 30)) == 2


def test_a_store_is_split_and_folded_by_a_column(tmp_path):
    """As by an array of the values of that column; also of a view."""
    columns = [{"patient": f"p{number % 17}", "site": number % 11, "age": 40.5} for number in range(60)]
    store = visits(tmp_path / "s.zarr", columns, patient="string", site="int64", age="float64")
    for view in (store, store.select(range(5, 55))):
        for by, values in (
            ("patient", [f"p{int(source[6:]) % 17}" for source in view.sources]),
            ("site", [int(source[6:]) % 11 for source in view.sources]),
            ("source", view.sources),
        ):
            for name in DEFAULT_SPLITS:
                one, two = (view.split(name, by=groups, allow_empty=True) for groups in (by, values))
                assert one.sources == two.sources
            both = zip(view.folds(3, by=by), view.folds(3, by=values), strict=True)
            assert all((a[0].sources, a[1].sources) == (b[0].sources, b[1].sources) for a, b in both)
    with pytest.raises(WindowError, match="by='patients' is not a column of its sequences; there are source, part"):
        store.split("train", by="patients")
    with pytest.raises(WindowError, match=r"sequences\['age'\]\[0\] is 40\.5; groups are named by text or whole"):
        store.folds(2, by="age")


def test_a_split_that_has_all_sequences_causes_a_warning(tmp_path):
    """Files with many sequences are not divided by default; nothing is said if the store or the caller asked for it."""
    store = visits(tmp_path / "s.zarr", [{"split": "train"}] * 60, split="string")
    one = store.select([store.split("train").selection[0]] * 9)
    warning = r"'train', a share of 0\.8, has all of 1 sources; .* by=.sequence., by=.source., a column or an array"
    with pytest.warns(UserWarning, match=warning):
        assert len(one.split("train")) == 9
    with pytest.warns(UserWarning, match="has all of 1 groups"):
        one.split("train", by=one.sources)
    every: list[dict[str, Any]] = [{"by": "split"}, {"allow_empty": True}, {"shares": {"train": 1.0}}]
    for options in every:
        assert len(one.split("train", **options)) == 9


PINNED = ["0x1.3be78bf571df1p-1", "0x1.058bf774e68f8p-2", "0x1.671d01ca6f57ep-1", "0x1.628dbb5057af0p-5"]
MEMBERS = [[2, 9, 10, 22, 32, 39], [17, 21, 30, 33]]
FOLDS = [
    [2, 6, 10, 13, 15, 17, 20, 22, 25, 26, 27, 28, 30, 32, 33, 35, 36],
    [1, 3, 5, 11, 12, 18, 19, 21, 23, 37, 38, 39],
    [0, 4, 7, 8, 9, 14, 16, 24, 29, 31, 34],
]


def test_a_column_of_split_names_determines_the_splits(tmp_path):
    pins = ["train", "test", "", "test", "train", ""] * 10
    store = visits(tmp_path / "s.zarr", [{"split": pin} for pin in pins], split="string")
    found = {name: set(store.split(name, by="split").sequences["split"]) for name in DEFAULT_SPLITS}
    assert found == {"train": {"train", ""}, "val": {""}, "test": {"test", ""}}
    tests = store.select(store.sequences["split"] == "test")
    assert tests.split("train", by="split", allow_empty=True).sources == ()
    two = {"train": 0.5, "val": 0.5}
    with pytest.raises(WindowError, match=r"\['train'\], with 1 that are none of \['train', 'val'\]: \['test'\];"):
        store.split("train", two, by="split")
    assert 0 < len(store.split("a", {"a": 0.5, "b": 0.5}, by="split")) < len(store)  # any groups, by a hash
    names: Any = ["train", "val"]
    for call in (store.splits, lambda shares: store.split("train", shares)):
        with pytest.raises(WindowError, match=r"shares \['train', 'val'\]; give each split's share, as"):
            call(names)


def test_a_store_gives_all_splits_by_a_column_in_capitals(tmp_path):
    """All 270 sequences were in train once; `split` and `splits` agree."""
    values = ["Train"] * 200 + ["Validation"] * 40 + ["TEST"] * 30
    store = visits(tmp_path / "s.zarr", [{"split": value} for value in values], split="string")
    shares = {"test": 0.1, "valid": 0.1, "train": 0.8}
    found = store.splits(shares, by="split")
    assert [(name, len(view)) for name, view in found.items()] == [("test", 30), ("valid", 40), ("train", 200)]
    for name, value in zip(shares, ("TEST", "Validation", "Train"), strict=True):
        assert set(found[name].sequences["split"]) == {value}
        assert store.split(name, shares, by="split").sources == found[name].sources
    hashed = store.splits(seed=3)
    assert list(hashed) == ["train", "val", "test"]
    assert [view.sources for view in hashed.values()] == [store.split(name, seed=3).sources for name in hashed]
    assert sorted(source for view in hashed.values() for source in view.sources) == sorted(store.sources)
    more = {"train": 0.7, "val": 0.1, "dev": 0.1, "test": 0.1}
    assert len(store.split("train", more, by="split")) == 200
    with pytest.raises(WindowError, match=r"split 'dev', a share of 0\.1, would have none of 3 groups"):
        store.splits(more, by="split")
    with pytest.raises(WindowError, match=r"split 'train', a share of 0\.8, would have none of 0 sources"):
        store[:0].split("train")
    assert [len(view) for view in store[:0].splits(allow_empty=True).values()] == [0, 0, 0]


def test_each_sequence_may_be_split_on_its_own(tmp_path):
    store = store_of(tmp_path / "s", [np.zeros(3, "i1")] * 200, sources=["one.csv"] * 200)
    with pytest.raises(WindowError, match=r'none of 1 sources; .* by="sequence", by="source", a column or an array'):
        store.splits()
    splits = store.splits(by="sequence")
    assert sorted(np.concatenate([view.selection for view in splits.values()])) == list(range(200))
    assert 140 < len(splits["train"]) < 180
    with pytest.raises(WindowError, match="would have none of 1 groups"):
        store.splits(by="source")
