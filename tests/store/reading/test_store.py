"""An open store equals the list of arrays that was written, and shows in one line what it is."""

import pickle
import re
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec import Rows, Schema, Store, open_store
from store_spec.disk import shards, tables
from store_spec.errors import SequenceIndexError
from store_spec.format.codec import Codec
from store_spec.format.moments import moments
from store_spec.reading.statistics import Statistics
from store_spec.windows.mixing import measure
from tests.store.forks import in_fork
from tests.store.oracle import Recipe, assert_holds, make, recipes, same, store_of, write


@given(recipe=recipes(), lengths=st.lists(st.integers(0, 40), min_size=1, max_size=6), data=st.data())
def test_any_steps_of_any_sequence_equal_those_of_the_array(recipe, lengths, data):
    sequences = make(recipe, lengths)
    with tempfile.TemporaryDirectory() as folder:
        store = store_spec.open_store(write(recipe, Path(folder, "store"), sequences))
        for _ in range(10):
            number = data.draw(st.integers(-len(lengths), len(lengths) - 1))
            start = data.draw(st.integers(0, lengths[number]))
            stop = data.draw(st.integers(start, lengths[number]))
            inputs, labels = store.read(number, start, stop)
            assert same(inputs, sequences[number].inputs[start:stop])
            due = sequences[number].labels
            assert same(labels, due[start:stop] if recipe.label_axis == "step" else due)


@pytest.fixture(scope="module")
def sequences():
    return make(Recipe(), [5, 0, 33, 7, 1], sources=["a", "b", "b", "c", "d"])


@pytest.fixture
def store(tmp_path, sequences):
    return store_spec.open_store(write(Recipe(), tmp_path / "store", sequences))


def test_a_store_has_its_properties(store, tmp_path):
    assert store.path == tmp_path / "store"
    assert store.provenance == {"made": "by a test"}
    assert (store.counts.sequences, store.counts.steps, store.counts.label_steps) == (5, 46, 0)
    assert store.starts.tolist() == [0, 5, 5, 38, 45]
    assert store.label_starts.tolist() == store.starts.tolist()
    assert store.label_lengths.tolist() == store.lengths.tolist() == [5, 0, 33, 7, 1]
    assert store.parts.tolist() == [0, 0, 1, 0, 0]
    assert store.selection.tolist() == [0, 1, 2, 3, 4]
    assert store.schema.inputs.shape == (3,)
    assert "5 sequences, 46 steps" in repr(store)
    assert "2 of 5 sequences" in repr(store[:2])


@pytest.mark.parametrize(("number", "text"), [(5, "5"), (-1000, "-1,000"), (2**70, str(2**70))])
def test_a_number_beyond_the_last_sequence_is_refused(store, number, text):
    with pytest.raises(SequenceIndexError, match=f"store: sequence {text} asked for, but there are 5, by whole"):
        store[number]
    with pytest.raises(IndexError):
        store[:2][number]


def test_membership_of_a_source_reads_no_rows(store, monkeypatch):
    monkeypatch.setattr(type(store), "read", lambda *_: pytest.fail("a sequence was read"))
    first, second = store.sources[0], next(name for name in store.sources if name != store.sources[0])
    assert first in store
    assert second in store
    assert second not in store.select(first)
    assert "nobody" not in store
    assert 0 not in store


@pytest.mark.parametrize("number", ["b", 2.0, True, None, (0, 1), (0, [1, 2])])
def test_indices_that_are_not_numbers_are_refused_with_advice(store, number):
    message = (
        rf"sequence {re.escape(repr(number))} asked for, but there are {{}}, by whole numbers from 0; select gives"
    )
    for ask, count in ((lambda: store[number], 5), (lambda: store[:2].read(number, 0, 1), 2)):
        with pytest.raises(SequenceIndexError, match=message.format(count)):
            ask()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([(0, 6), (-1, 2), (3, 2), (6, None)], "sequence 0 has 5 steps"),
        ([(0, 2.0), (None, 2), ("0", 1)], "of sequence 0; they are whole numbers"),
    ],
)
def test_steps_beyond_a_sequence_and_other_values_are_refused(store, steps, message):
    for start, stop in steps:
        with pytest.raises(SequenceIndexError, match=message):
            store.read(0, start, stop)


WAYS = {
    "numbers": ([3, 0, 3], [3, 0, 3]),
    "negative numbers": (np.array([-1, -5]), [4, 0]),
    "a number": (2, [2]),
    "no numbers": ([], []),
    "a mask": ([True, False, False, True, False], [0, 3]),
    "a mask of none": (np.zeros(5, bool), []),
    "a name": ("b", [1, 2]),
    "names": (["d", "b", "a"], [4, 1, 2, 0]),
    "names as an array": (np.array(["c"]), [3]),
    "names as strings of NumPy's own": (np.array(["c"], np.dtypes.StringDType()), [3]),
    "a mask of objects, as of pandas": (np.array([True, False, False, True, False], object), [0, 3]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_selection_has_the_requested_sequences_in_order(store, sequences, way):
    which, numbers = WAYS[way]
    assert_holds(store.select(which), [sequences[number] for number in numbers])


@pytest.mark.parametrize("cut", [slice(1, 4), slice(None, None, -2), slice(-2, None), slice(3, 1), slice(0, 99)])
def test_a_slice_selects_as_a_list_does(store, sequences, cut):
    assert_holds(store[cut], sequences[cut])


def test_a_selection_of_a_selection_counts_within_it(store, sequences):
    some = store.select([4, 2, 0, 1])
    assert_holds(some.select([1, -1]), [sequences[2], sequences[1]])
    assert_holds(some.select([True, False, True, False]), [sequences[4], sequences[0]])
    assert_holds(some.select("b"), [sequences[2], sequences[1]])
    assert some.starts.tolist() == [45, 5, 0, 5]
    assert some.parts.tolist() == [0, 1, 0, 0]


def test_sequences_are_selected_by_patterns_in_which_the_star_alone_stands_for_other_characters(tmp_path):
    names = ("run1/a.csv", "run[1]/a.csv", "run?/a.csv", "run1/b.csv", "run1/b.csv\0")
    sequences = make(Recipe(), [3] * 5, sources=list(names))
    store = store_spec.open_store(write(Recipe(), tmp_path / "s", sequences))
    assert store.select("run1/*").sources == ("run1/a.csv", "run1/b.csv", "run1/b.csv\0")
    assert store.select(["run1/b.csv\0"]).sources == ("run1/b.csv\0",)
    assert [store.select(f"*{name}/*").sources for name in ("run[1]", "run?")] == [("run[1]/a.csv",), ("run?/a.csv",)]
    assert store[[2, 1]].sources == (names[2], names[1])
    assert store[store.lengths > 2].sources == names
    assert store[np.array([3])].sources == (names[3],)
    assert store[pd.Series(names).str.endswith("b.csv")].sources == (names[3],)
    with pytest.raises(SequenceIndexError, match=r"no sequence of source 'run9/\*'"):
        store.select("run9/*")


@pytest.mark.parametrize(
    ("which", "message"),
    [
        ([0, 5], "sequence 5 asked for, but there are 5"),
        ([-6], "sequence -6 asked for"),
        ([True] * 4, r"a mask of shape \(4,\) for 5 sequences"),
        ([0, 2.0], r"array\(\[0., 2.\]\) asked for, but there are 5, by whole numbers from 0, by names or a mask"),
        ([np.nan], r"array\(\[nan\]\) asked for"),
        ([b"a"], r"array\(\[b'a'\], dtype='\|S1'\) asked for"),
        ([True, None, True, True, True], r"array\(\[True, None, True, True, True\], dtype=object\) asked for"),
        ([[0], [1, 2]], r"array\(\[None\], dtype=object\) asked for"),
        (np.ma.masked_array([0, 1], [False, True]), r"array\(\[0, None\], dtype=object\) asked for"),
        (np.ma.masked_array([True] * 5, [False] * 4 + [True]), r"True, None\], dtype=object\) asked for"),
        (np.ma.masked_array(["a", "b"], [True, False]), r"array\(\[None, 'b'\], dtype=object\) asked for"),
        ("zebra", r"no sequence of source 'zebra' \(1 of 1 unknown\); sources are named like 'a'"),
        (["a", "x", "y"], r"no sequence of source 'x' \(2 of 3 unknown\)"),
    ],
)
def test_unknown_sequences_cannot_be_selected(store, which, message):
    with pytest.raises(SequenceIndexError, match=message):
        store.select(which)
    if not isinstance(which, str):
        with pytest.raises(SequenceIndexError, match=message):
            store[which]


def test_an_empty_store_has_no_names_to_select(store):
    with pytest.raises(SequenceIndexError, match="no sequences at all"):
        store[:0].select("a")


def test_an_open_store_works_in_other_threads_after_a_fork_and_pickled(store, sequences):
    assert_holds(store, sequences)
    assert_holds(pickle.loads(pickle.dumps(store.select([3, 1]))), [sequences[3], sequences[1]])
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(assert_holds, store, sequences) for _ in range(4)]:
            done.result()
    in_fork(partial(assert_holds, store, sequences))


def test_arrays_of_a_store_are_read_only(tmp_path):
    """If `lengths` were changed in place, the next read would cross a boundary."""
    store = store_spec.open_store(write(Recipe(), tmp_path / "store", make(Recipe(), [9, 30])))
    arrays = [
        getattr(one, name)
        for one in (store, store.select([1, 0]))
        for name in ("selection", "starts", "lengths", "label_starts", "label_lengths", "parts")
    ]
    arrays += [*store.sequences.values(), store.snapshot.bounds("inputs"), store.snapshot.bounds("labels")]
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = array[1]


@pytest.mark.parametrize("chunk", [64, 2**21])
def test_nested_reads_and_other_threads_have_separate_memory(tmp_path, monkeypatch, chunk):
    """A signal handler may read during a read; each thread has its own memory for chunks, unless they are large."""
    rows = np.arange(2 * chunk, dtype="uint8")[:, None]
    store = store_of(tmp_path / "s.zarr", [rows], chunk=chunk)
    begun: list[str] = []
    decode = Codec.decode

    def within(self: Codec, stored: Any, out: Any, where: str) -> None:
        decode(self, stored, out, where)
        if len(begun) < 3:
            begun.append(where)
            assert same(store.read(0, chunk + 7, chunk + 9)[0], rows[chunk + 7 : chunk + 9])

    monkeypatch.setattr(Codec, "decode", within)
    for low in (3, chunk - 5, 9):
        begun.clear()
        assert same(store.read(0, low, low + 20)[0], rows[low : low + 20])
        with ThreadPoolExecutor(1) as pool:
            assert same(pool.submit(store.read, 0, low, low + 20).result()[0], rows[low : low + 20])
    assert begun
    assert len(shards._RECENT.chunks) <= shards.MOST_CHUNKS
    assert all(rows.nbytes <= shards.MOST_CHUNK_BYTES for rows in shards._RECENT.chunks.values())


def test_the_last_shard_is_fetched_once_by_many_threads_and_once_more_after_a_fork(tmp_path, monkeypatch):
    """It can be large, and is kept whole. A thread that fetches it during a fork does not block the child."""
    rows = np.arange(300, dtype="int64")
    store = store_of(tmp_path / "s.zarr", [rows])
    store.snapshot.bounds("inputs")
    fetched: list[str] = []
    fetching = threading.Event()

    def get_whole(storage: Any, key: str, limit: int) -> bytes | memoryview:
        fetched.append(key)
        fetching.set()
        time.sleep(0.2)
        return tables.get_whole(storage, key, limit)

    class KeptSlowly(dict[Any, Any]):
        def __setitem__(self, key: Any, value: Any) -> None:
            time.sleep(0.2)  # other threads may not fetch it meanwhile
            super().__setitem__(key, value)

    monkeypatch.setattr(shards, "get_whole", get_whole)
    store.snapshot._shards._shards = KeptSlowly()
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(store.snapshot.rows, "inputs", at, at + 9) for at in range(0, 80, 10)]
        fetching.wait()
        assert same(in_fork(partial(store.snapshot.rows, "inputs", 0, 9)), rows[:9])
        for at, read in zip(range(0, 80, 10), found, strict=True):
            assert same(read.result(), rows[at : at + 9])
    assert fetched == ["inputs/c.0"]


HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def named(tmp_path: Path) -> Store:
    inputs = [np.arange(20 * number, dtype=np.float32).reshape(-1, 2) for number in range(1, 5)]
    rows = Rows(np.dtype("float32"), (2,), (HOSTILE, "b\x1b[2J"))
    return store_of(tmp_path / f"{HOSTILE}.zarr", inputs, [x[:, :1] for x in inputs], inputs=rows)


def test_options_of_windows_are_shown_where_they_are_not_as_usual(tmp_path: Path):
    rows, more = Rows(np.dtype("float32"), (2,), ("a", "b")), [{"time": np.arange(9), "columns": {"age": 3}}]
    options: dict[str, Any] = {"inputs": rows, "columns": {"age": "int64"}, "time": "s", "missing": "keep"}
    store = store_of(tmp_path / "t", [np.ones((9, 2), "f4")], [np.ones(9, "f4")], more=more, **options)
    assert repr(store.windows(3)).endswith(", phase='first')>")
    windows = store.windows(
        3, missing="skip", value_mask=True, features=["b"], static=["age"], normalize=store.stats(), before="2020-01-01"
    )
    given = "normalize=Scaler, features=['b'], static=['age'], before='2020-01-01', value_mask=True, missing='skip'>"
    assert repr(windows).endswith(given)


def test_batches_show_their_position(named: Store):
    windows = named.windows(8)
    batches = windows.batches(16, shuffle=True, seed=3, epoch=2)
    next(batches)
    assert repr(batches).startswith("<5 batches of 16 windows, 1 taken, shuffled, seed 3, epoch 2: <68 windows of ")
    assert ", in order, rank 1 of 2: " in repr(windows.batches(16, rank=1, world_size=2))
    padded = named.padded(2)
    next(padded)
    assert re.match(r"<2 batches of up to 2 sequences with 16.7 % padding, 1 taken, in order: <seqzarr ", repr(padded))
    assert " of up to 90 padded steps with " in repr(named.padded(max_steps=90, shuffle=True, seed=1))
    streams = named.streams(2, 10)
    assert re.match(r"<\d+ batches of 2 lanes of 10 steps with [0-9.]+ % padding, 0 taken, in order: <", repr(streams))


def test_a_writer_reports_uncommitted_sequences(named: Store):
    rows = np.ones((3, 2), np.float32)
    with open_store(named.path, "a") as writer:
        writer.append(rows, rows[:, :1], source="new")
        assert repr(writer) == "<seqzarr writer: 5 sequences, 1 of them not committed yet>"


def test_statistics_of_many_features_are_short():
    one = Statistics(inputs=moments(np.arange(4000.0).reshape(2, 2000)), labels=moments(np.array([1.0, 4.0])))
    assert repr(one) == (
        "Statistics(inputs=Moments(count=[2, 2, 2, ..., 2, 2, 2], "
        "mean=[1000, 1001, 1002, ..., 2997, 2998, 2999], std=[1000, 1000, 1000, ..., 1000, 1000, 1000], "
        "min=[0, 1, 2, ..., 1997, 1998, 1999], max=[2000, 2001, 2002, ..., 3997, 3998, 3999]), "
        "labels=Moments(count=[2], mean=[2.5], std=[1.5], min=[1], max=[4]))"
    )


def test_a_schema_of_many_names_is_short():
    rows = Rows(np.dtype("float32"), (500,), tuple(f"n{number}" for number in range(500)))
    assert repr(rows) == (
        "Rows('float32', (500,), names=('n0', 'n1', 'n2', 'n3', 'n4', 'n5', 'n6', ..., 'n499'; 500 in all))"
    )
    assert repr(Rows(np.dtype("int8"), ())) == "Rows('int8', ())"
    assert eval(repr(Rows(np.dtype("int8"), (2,), ("a", "b")))) == Rows(np.dtype("int8"), (2,), ("a", "b"))  # noqa: S307
    assert len(repr(Schema.plan(rows, rows))) < 500


def test_reprs_of_other_objects_are_short(named: Store):
    windows = named.windows(8)
    assert repr(named.snapshot) == f"<snapshot of {HOSTILE}.zarr: 4 sequences, 100 steps>"
    assert re.fullmatch(
        r"<mixing of 68 windows in batches of 8, 1 pools: a batch has [0-9]+ % of the sequences of a permutation's>",
        repr(measure(windows, 8)),
    )
