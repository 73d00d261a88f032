"""Which values of whole sequences are real, in padded batches and in streams, against loops over `store[i]`."""

from __future__ import annotations

import gc
import itertools
import json
import pickle
import re
import tracemalloc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import ChecksumError, StateError, WindowError
from store_spec.reading.scaling import Scale, Scaler
from tests.store.damage import change_places
from tests.store.oracle import Recipe, make, write
from tests.store.window_oracle import LENGTHS, all_same, selections

KINDS: dict[str, dict[str, Any]] = {
    "keep": {"missing": "keep"},
    "filled": {"filled": True},
    "both": {"missing": "keep", "filled": True},
}


@dataclass(frozen=True, repr=False)
class Known:
    """A store of LENGTHS whose first feature is the number of the step, and which values of each step are real."""

    store: store_spec.Store
    real: NDArray[np.bool_]  # (steps, 3)


def known(path: Path, kind: str, axis: Any, *, chunk: int = 8) -> Known:
    """Write it; the first feature is never missing, and may be filled in."""
    rng, options = np.random.default_rng(0), KINDS[kind]
    steps, filled = np.arange(sum(LENGTHS), dtype="f8"), {}
    with store_spec.create_store(
        path, inputs=("float64", (3,)), labels=("float64", (1,)), label_axis=axis, chunk=24 * chunk, shard=120 * chunk,
        **options,
    ) as writer:  # fmt: skip
        for number, (length, end) in enumerate(zip(LENGTHS, np.cumsum(LENGTHS).tolist(), strict=True)):
            x = np.concatenate([steps[end - length : end, None], rng.normal(size=(length, 2))], axis=1)
            if "missing" in options:
                x[:, 1:][rng.random((length, 2)) < 0.3] = np.nan
            y = {"step": x[:, 1:2], "sequence": np.array([float(number)]), "own": np.ones((number % 4, 1))}[axis]
            filled[number] = (rng.random(x.shape) < 0.3) & ~np.isnan(x)
            more = {"filled": filled[number]} if "filled" in options else {}
            writer.append(x, y, source=f"s{number:02}", **more)
    assert store_spec.verify(path) == []
    store, real = store_spec.open_store(path), []
    for number in range(len(store)):
        x, _ = store[number]
        real.append(~np.isnan(x) & ~filled[number] if "filled" in options else ~np.isnan(x))
    return Known(store, np.concatenate(real))


@pytest.fixture(scope="module")
def all_known(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Known]:
    folder = tmp_path_factory.mktemp("known")
    cases = itertools.product(KINDS, ["step", "sequence", "own"])
    return {(kind, axis): known(folder / f"{kind}-{axis}.zarr", kind, axis) for kind, axis in cases}


@pytest.fixture(scope="module")
def both(all_known: dict[tuple[str, str], Known]) -> Known:
    return all_known["both", "step"]


def assert_added(found: Sequence[Any], plain: Sequence[Any], place: int) -> None:
    """Check that batches are those without the mask of values, but for that one, which is in this place."""
    assert all_same([batch[:place] + batch[place + 1 :] for batch in found], plain)
    for batch in found:
        x, values = batch[0], batch[place]
        assert (values.dtype, values.shape) == (np.dtype(bool), x.shape)
        assert values.flags.c_contiguous
        assert values.flags.writeable


def wanted_values(given_store: Known, x: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which values of a batch that is not normalised are real: each step says which one it is."""
    wanted = np.zeros(x.shape, bool)
    for at in np.ndindex(*mask.shape):
        if mask[at]:
            wanted[at] = given_store.real[int(x[at][0])]
    return wanted


sides = st.sampled_from(["start", "end"])
options_of_padded = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 9),
        "max_steps": st.none() | st.integers(100, 300),
        "bucket": st.booleans(),
        "shuffle": st.booleans(),
        "epoch": st.integers(0, 3),
        "side": sides,
        "truncate": st.none() | st.integers(1, 60),
        "truncate_side": sides,
        "memory": st.sampled_from([1, 20_000, "256MB"]),
        "static": st.none() | st.just(["length"]),
    }
)


@given(
    kind=st.sampled_from(sorted(KINDS)),
    axis=st.sampled_from(["step", "sequence", "own"]),
    selection=selections(),
    asked=options_of_padded,
    ranks=st.integers(1, 3),
)
def test_padded_batches_tell_which_values_are_real(
    all_known: dict[tuple[str, str], Known],
    kind: str,
    axis: str,
    selection: list[int],
    asked: dict[str, Any],
    ranks: int,
):
    """Behind the masks of steps, before static columns; all else is as it is without it, for any ranks."""
    one = all_known[kind, axis]
    store, place = one.store.select(selection), 4 if axis == "own" else 3
    for rank in range(ranks):
        more = asked | {"rank": rank, "world_size": ranks}
        try:
            plain = list(store.padded(**more))
        except WindowError:  # they cannot be dealt to so many ranks
            return
        found = list(store.padded(**more, value_mask=True))
        assert_added(found, plain, place)
        for batch in found:
            assert np.array_equal(batch[place], wanted_values(one, batch[0], batch[2]))


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    axis=st.sampled_from(["step", "sequence"]),
    selection=selections(),
    lanes=st.integers(1, 4),
    steps=st.integers(1, 20),
    align=st.booleans(),
    shuffle=st.booleans(),
    ranks=st.integers(1, 3),
    more_memory=st.sampled_from([0, 10_000, 256_000_000]),
)
def test_streams_tell_which_values_are_real(
    all_known: dict[tuple[str, str], Known],
    kind: str,
    axis: str,
    selection: list[int],
    lanes: int,
    steps: int,
    ranks: int,
    more_memory: int,
    **order: bool,
):
    """Last of all, with the mask of steps and without it, whatever is read together; for any ranks."""
    one = all_known[kind, axis]
    store = one.store.select(selection)
    with pytest.raises(WindowError) as error:
        store.streams(lanes, steps, memory=1, value_mask=True)
    memory = int(re.findall(r"give memory=(\d+)", str(error.value))[0]) + more_memory
    for rank in range(ranks):
        more: dict[str, Any] = {**order, "rank": rank, "world_size": ranks, "memory": memory}
        plain = list(store.streams(lanes, steps, mask=True, **more))
        found = list(store.streams(lanes, steps, mask=True, value_mask=True, **more))
        assert_added(found, plain, 4)
        for x, _, _, mask, values in found:
            assert np.array_equal(values, wanted_values(one, x, mask))
        alone = list(store.streams(lanes, steps, value_mask=True, **more))
        assert all_same(alone, [batch[:3] + batch[4:] for batch in found])


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_mask_that_windows_give(all_known: dict[tuple[str, str], Known], kind: str):
    """Of windows as long as the longest sequence, one of each."""
    store = all_known[kind, "step"].store
    store = store.select(np.flatnonzero(store.lengths))
    windows = store.windows(max(LENGTHS), target="aligned", short="pad", value_mask=True)
    (batch,) = windows.batches(len(windows))
    (padded,) = store.padded(len(store), value_mask=True)
    assert all_same([padded], [batch])


@pytest.mark.parametrize("kind", ["keep", "both"])
def test_values_are_real_by_what_is_stored_and_not_by_what_normalising_makes_of_it(tmp_path: Path, kind: str):
    """Numbers of one's own may make NaN of all; what was missing throughout is so in any case."""
    rng, lengths = np.random.default_rng(0), (12, 18)
    sequences = [rng.normal(size=(length, 3)) for length in lengths]
    sequences[0][:, 2], sequences[1][::3, 1] = np.nan, np.nan
    filled = [(rng.random(x.shape) < 0.3) & ~np.isnan(x) & (kind == "both") for x in sequences]
    with store_spec.create_store(
        tmp_path / "s", inputs=("float64", (3,)), labels=("float64", ()), **KINDS[kind]
    ) as writer:
        for number, (x, places) in enumerate(zip(sequences, filled, strict=True)):
            writer.append(x, x[:, 0], source=f"s{number}", filled=places)
    store = store_spec.open_store(tmp_path / "s")
    real = [~np.isnan(x) & ~places for x, places in zip(sequences, filled, strict=True)]
    none = Scale(center=np.full(3, np.nan), scale=np.ones(3))
    for normalize in (store.stats(), Scaler(inputs=none, labels=none.take([0])), "sequence"):
        asked: Any = {"normalize": normalize, "value_mask": True}
        ((x, _, mask, values),) = store.padded(2, **asked)
        assert np.array_equal(values[mask], np.concatenate(real))
        ((row, _, _, reals),) = store.streams(1, 30, **asked)
        assert np.array_equal(reals[0], np.concatenate(real))
        if isinstance(normalize, Scaler):
            assert np.isnan(x[mask]).all()
            assert np.isnan(row).all()


@pytest.mark.parametrize(("dtype", "shape"), [("complex64", ()), ("float32", (2, 3)), ("int16", (2,)), ("bool", (1,))])
def test_rows_of_any_dtype_and_shape_have_it(tmp_path: Path, dtype: str, shape: tuple[int, ...]):
    """Those that cannot be NaN are real, but for what was filled in."""
    recipe = Recipe(inputs=(dtype, shape), missing="keep", filled=True)
    sequences = make(recipe, [9, 0, 5, 30])
    store = store_spec.open_store(write(recipe, tmp_path / "s", sequences))
    wanted = [~np.isnan(one.inputs) & ~one.rows("filled") for one in sequences]
    ((_, _, mask, values),) = store.padded(4, value_mask=True)
    assert values.shape == (4, 30, *shape)
    for one, places, rows in zip(wanted, mask, values, strict=True):
        assert np.array_equal(rows[places], one)
        assert not rows[~places].any()
    ((_, _, _, values),) = store.streams(1, 44, value_mask=True)
    assert np.array_equal(values[0], np.concatenate(wanted))


def test_a_byte_that_is_no_bool_is_a_filled_value_and_the_mask_holds_bools_alone(tmp_path: Path):
    with store_spec.create_store(
        tmp_path / "s", inputs=("int16", (2,)), labels=("int8", ()), filled=True, codec="none"
    ) as writer:
        filled = np.array([[0, 2], [1, 0], [255, 0]], "u1").view(bool)
        writer.append(np.zeros((3, 2), "i2"), np.zeros(3, "i1"), source="a", filled=filled)
    store = store_spec.open_store(tmp_path / "s")
    for batches in (store.padded(1, value_mask=True), store.streams(1, 3, value_mask=True)):
        (batch,) = batches
        assert batch[-1].view(np.uint8).tolist() == [[[1, 0], [0, 1], [0, 1]]]


# Reading


def read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Return a list to which each chunk of 8 rows that is decompressed is added, by the name of its array."""
    found: list[tuple[str, int]] = []
    rows = Snapshot.rows

    def counting(self: Snapshot, name: str, start: int, stop: int) -> Any:
        found.extend((name, chunk) for chunk in range(start // 8, -(-stop // 8)))
        return rows(self, name, start, stop)

    monkeypatch.setattr(Snapshot, "rows", counting)
    return found


@pytest.mark.parametrize(("kind", "arrays"), [("keep", ["inputs"]), ("both", ["filled", "inputs"])])
def test_each_chunk_is_decompressed_once_and_none_that_is_not_needed(
    all_known: dict[tuple[str, str], Known], monkeypatch: pytest.MonkeyPatch, kind: str, arrays: list[str]
):
    store, found = all_known[kind, "sequence"].store, read(monkeypatch)
    every = [(name, chunk) for name in arrays for chunk in range(-(-sum(LENGTHS) // 8))]
    list(store.padded(len(LENGTHS), value_mask=True))
    assert sorted(each for each in found if each[0] != "labels") == every
    found.clear()
    list(store.streams(1, sum(LENGTHS), value_mask=True))
    assert sorted(each for each in found if each[0] != "labels") == every
    found.clear()
    list(store.padded(len(LENGTHS)))
    list(store.streams(1, sum(LENGTHS)))
    assert "filled" not in {name for name, _ in found}


def test_what_was_filled_in_is_held_against_the_checksum_of_the_sequence(tmp_path: Path):
    """A shard in the place of another: each of its chunks is as it was written."""
    recipe = Recipe(inputs=("int16", (4,)), labels=("int8", ()), filled=True, chunk=40, shard=40)
    path = write(recipe, tmp_path / "s", make(recipe, [5] * 6))
    change_places(path / "filled/c.0.0", path / "filled/c.1.0")
    store = store_spec.open_store(path)
    for batches in (store.padded(2, value_mask=True), store.streams(1, 5, value_mask=True)):
        with pytest.raises(ChecksumError, match="filled: sequence 0"):
            next(batches)
    assert len(list(store.padded(2))) == 3


def test_a_sequence_that_is_cut_needs_no_filled_values_of_what_is_left_out(tmp_path: Path):
    recipe = Recipe(inputs=("int8", ()), labels=("int8", ()), filled=True, chunk=8, shard=8)
    (sequence,) = sequences = make(recipe, [80])
    store = store_spec.open_store(write(recipe, tmp_path / "s.zarr", sequences))
    (tmp_path / "s.zarr" / "filled" / "c.3").write_bytes(b"")
    for side, rows in (("end", slice(0, 24)), ("start", slice(40, 80))):
        length = len(range(*rows.indices(80)))
        *_, values = next(store.padded(1, truncate=length, truncate_side=side, value_mask=True))  # type: ignore[arg-type]
        assert values[0].tolist() == (~sequence.rows("filled")[rows]).tolist()
    with pytest.raises(store_spec.StoreError, match=r"c\.3"):
        next(store.padded(1, truncate=25, value_mask=True))


def test_it_counts_in_the_memory_of_streams(all_known: dict[tuple[str, str], Known]):
    """A byte for each value; two, where it is read beside the mask that is made of it."""
    for kind, more in (("keep", 1), ("filled", 2), ("both", 2)):
        for given_mask, each in ((False, 0), (True, 3 * more)):
            takes = 2 * 5 * (4 * 8 + 2 + each)
            with pytest.raises(WindowError, match=f"of 2 lanes of 5 steps takes {takes:,}, and"):
                all_known[kind, "step"].store.streams(2, 5, memory=1, value_mask=given_mask)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", ["padded", "streams"])
def test_memory_is_what_was_asked_for(tmp_path: Path, kind: str, reader: str):
    """Beside what an open store keeps and batches on their way, which are small; inputs take little more than masks."""
    rng, memory = np.random.default_rng(0), 2 * 10**6
    with store_spec.create_store(
        tmp_path / "s", inputs=("float16", (32,)), labels=("int8", ()), chunk="4kB", shard="32kB", **KINDS[kind]
    ) as writer:
        for number in range(60):
            x = rng.random((500, 32)).astype("f2")
            more: dict[str, Any] = {"filled": x < 0.5} if kind != "keep" else {}
            writer.append(x, np.zeros(500, "i1"), source=f"s{number}", **more)
    store = store_spec.open_store(tmp_path / "s")

    def batches() -> Any:
        if reader == "padded":
            return store.padded(2, shuffle=True, memory=memory, value_mask=True)
        return store.streams(2, 500, shuffle=True, memory=memory, value_mask=True)

    assert len(list(batches())) == 30  # and the store has what it keeps
    gc.collect()
    tracemalloc.start()
    for _ in batches():
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert memory / 2 < peak < memory + 400_000


# States


def begun(store: store_spec.Store, reader: str, **asked: Any) -> Any:
    asked = {"shuffle": True, "seed": 2} | asked
    return store.padded(4, bucket=True, **asked) if reader == "padded" else store.streams(2, 20, **asked)


@pytest.mark.parametrize("reader", ["padded", "streams"])
def test_an_epoch_goes_on_from_a_state_with_the_very_same_batches(both: Known, reader: str):
    """After each number of batches; also after a pickle, in the middle."""
    whole = list(begun(both.store, reader, value_mask=True))
    batches = begun(both.store, reader, value_mask=True)
    for step in range(len(whole) + 1):
        state = json.loads(json.dumps(batches.state_dict()))
        again = begun(both.store, reader, value_mask=True)
        next(again, None)
        again.load_state_dict(state)
        assert again.state_dict() == state
        assert all_same(list(again), whole[step:])
        assert all_same(list(pickle.loads(pickle.dumps(batches))), whole[step:])
        next(batches, None)


@pytest.mark.parametrize("reader", ["padded", "streams"])
def test_a_state_of_the_other_kind_of_batches_is_refused_and_changes_nothing(both: Known, reader: str):
    for here in (True, False):
        state = begun(both.store, reader, value_mask=not here).state_dict()
        batches = begun(both.store, reader, value_mask=here)
        next(batches)
        with pytest.raises(StateError, match=f"of value_mask={not here}, and these batches are of {here}; an epoch"):
            batches.load_state_dict(state)
        assert batches.state_dict()["step"] == 1


def test_a_state_goes_on_with_other_ranks(both: Known):
    """Six lanes or sequences at a time, by two ranks, then by three."""
    for reader, size in (("padded", lambda ranks: (6 // ranks,)), ("streams", lambda ranks: (6 // ranks, 7))):
        take = getattr(both.store, reader)
        wanted = list(itertools.islice(take(*size(1), value_mask=True), 2))
        state, found = None, []
        for ranks in (2, 3):
            parts = []
            for rank in range(ranks):
                batches = take(*size(ranks), value_mask=True, rank=rank, world_size=ranks)
                if state is not None:
                    batches.load_state_dict(state)
                parts.append(next(batches))
            state = batches.state_dict()
            found.append(parts)
        for parts, (*_, values) in zip(found, wanted, strict=True):
            assert sum(part[-1].sum() for part in parts) == values.sum()
            if reader == "streams":
                assert np.array_equal(np.concatenate([part[-1] for part in parts]), values)


# Bad use


@pytest.mark.parametrize("reader", ["padded", "streams"])
def test_a_store_that_knows_nothing_says_how_to_build_one_that_does(tmp_path: Path, reader: str):
    with store_spec.create_store(tmp_path / "s", inputs=("float32", ()), labels=("int8", ())) as writer:
        writer.append(np.zeros(9, "f4"), np.zeros(9, "i1"), source="a")
    store = store_spec.open_store(tmp_path / "s")
    text = r"value_mask=True, but this store does not say .* --missing keep, or with --mask"
    with pytest.raises(WindowError, match=text):
        begun(store, reader, value_mask=True)
    assert len(begun(store, reader, value_mask=False)) == 1
