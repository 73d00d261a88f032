"""Times of steps: stored exactly or refused, returned, verified; windows before and after a moment."""

import pickle
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st

import store_spec
from store_spec.disk.snapshot import Snapshot
from store_spec.errors import FormatError, SchemaError, SequenceError, SequenceIndexError, StateError, WindowError
from store_spec.format.times import UNITS, Time, moment
from store_spec.reading.periods import steps_before
from tests.store.oracle import random_times, same


def create(path: Path, time: Any = "s", chunk: int = 32, shard: int = 64) -> store_spec.Writer:
    return store_spec.create_store(
        path, inputs=("int32", (2,)), labels=("int16", ()), time=time, chunk=chunk, shard=shard, codec="none"
    )


def rows(steps: int) -> tuple[Any, Any]:
    return np.arange(2 * steps, dtype=np.int32).reshape(steps, 2), np.arange(steps).astype(np.int16)


def write(path: Path, times: list[Any], time: Any = "s") -> store_spec.Store:
    """Write sequences with these times; 4 steps per chunk, 8 per shard."""
    with create(path, time) as writer:
        for number, each in enumerate(times):
            writer.append(*rows(len(each)), source=f"s{number}", time=each)
    return store_spec.open_store(path)


DATES = np.arange("2019-12-30", "2020-01-10", dtype="datetime64[D]")


def test_times_are_returned_as_dates(tmp_path):
    store = write(tmp_path / "store", [DATES, DATES[:0], DATES[3:4]], "ms")
    assert store.schema.time == Time("ms")
    assert same(store.times(0), DATES.astype("datetime64[ms]"))
    assert same(store.times(0, 2, 7), DATES[2:7].astype("datetime64[ms]"))
    assert store.times(1).shape == (0,)
    assert store.times(-1)[0] == np.datetime64("2020-01-02")
    assert store_spec.verify(tmp_path / "store") == []
    assert same(store.select([2, 0]).times(1), store.times(0))


def test_elapsed_times_are_timedeltas(tmp_path):
    store = write(tmp_path / "store", [np.arange(5) * 20, np.array([1, 2], "timedelta64[s]")], "timedelta64[ms]")
    assert store.schema.time == Time("ms", None)
    assert same(store.times(0), (np.arange(5) * 20).astype("timedelta64[ms]"))
    assert same(store.times(1), np.array([1000, 2000], "timedelta64[ms]"))


@pytest.mark.parametrize(
    ("given", "unit", "due"),
    [
        (np.array(["2020", "2021"], "datetime64[Y]"), "s", [1577836800, 1609459200]),
        (np.array(["2020-02"], "datetime64[M]"), "s", [1580515200]),
        (np.array([3], "datetime64[W]"), "s", [3 * 7 * 86400]),
        (np.array([5], "datetime64[h]"), "us", [5 * 3600 * 10**6]),
        (np.array([5], "datetime64[10m]"), "s", [3000]),
        (np.array([2000, -3000], "timedelta64[ms]")[::-1], "s", [-3, 2]),
        (np.array([10**12], "datetime64[ps]"), "ns", [10**9]),
        (np.array([7], ">M8[s]"), "s", [7]),
        (np.array([7], np.uint8), "s", [7]),
        ([1, 2], "s", [1, 2]),
        ([], "s", []),
        (np.array([2**63 - 1], np.uint64), "ns", [2**63 - 1]),
        (np.array([-(2**63) + 1]), "ns", [-(2**63) + 1]),
    ],
)
def test_times_are_converted_exactly(tmp_path, given, unit, due):
    elapsed = np.asarray(given).dtype.kind == "m"
    store = write(tmp_path / "store", [given], Time(unit, None) if elapsed else Time(unit))
    assert store.times(0).view(np.int64).tolist() == due


@pytest.mark.parametrize(
    ("time", "message"),
    [
        (None, "s: no time, where this store keeps one for each step"),
        ([1, 2], r"s: time has shape \(2,\) for 3 input rows"),
        ([[1], [2], [3]], r"s: time has shape \(3, 1\) for 3 input rows"),
        ([1, 3, 2], "s: time falls at step 2, from 1970-01-01T00:00:03 to 1970-01-01T00:00:02; sort"),
        (np.array([1, "NaT", 3], "datetime64[s]"), r"s: time: step 1 has none \(NaT\), as 1 of 3 steps"),
        ([1, -(2**63), 3], r"s: time: step 1 has none \(NaT\)"),
        (np.ma.masked_equal([1, 2, 3], 2), r"s: time: step 1 has none \(NaT\), as 1 of 3 steps"),
        (np.array([0, 1000, 1500], "datetime64[ms]"), r"step 2 \(1970-.*:01.500\) is not a whole number in .* s:"),
        (np.array([0, 1, 2**62], "datetime64[D]"), r"step 2 .* does not fit int64 in the store's unit s"),
        (np.array([1, 2, 3], "timedelta64[s]"), r"s: time is timedelta64\[s\], where this store has datetime64\[s\]"),
        ([1.0, 2.0, 3.0], r"s: time is float64, where this store has datetime64\[s\] \(or int64 of that unit\)"),
        (["2020", "2021", "2022"], r"s: time is <U4, where this store has"),
        (np.array([1, 2, 2**63], np.uint64), "time: 9,223,372,036,854,775,808 s do not fit int64"),
        (np.array([1, 2, 3]).view("datetime64"), "whose unit is not a number of seconds"),
    ],
)
def test_invalid_times_are_refused_and_the_writer_continues(tmp_path, time, message):
    with create(tmp_path / "store") as writer:
        with pytest.raises(SequenceError, match=message):
            writer.append(*rows(3), source="s", time=time)
        writer.append(*rows(3), source="s", time=[1, 1, 2])
    assert store_spec.open_store(tmp_path / "store").times(0).view(np.int64).tolist() == [1, 1, 2]


def test_decreasing_times_are_reported_in_their_own_notation(tmp_path):
    for time, message in (
        (Time("ms", None), "from 3,000 ms to 2 ms"),
        (Time("s", zone="UTC"), "from 1970-01-01T00:50:00Z to 1970-01-01T00:00:02Z"),
    ):
        with create(tmp_path / time.unit, time) as writer, pytest.raises(SequenceError, match=message):
            writer.append(*rows(2), source="s", time=[3000, 2])


def test_a_store_without_times_accepts_and_returns_none(tmp_path):
    with create(tmp_path / "store", None) as writer:
        with pytest.raises(SequenceError, match="s: time is given, but this store keeps none"):
            writer.append(*rows(1), source="s", time=[1])
        writer.append(*rows(1), source="s")
    store = store_spec.open_store(tmp_path / "store")
    with pytest.raises(SequenceIndexError, match="keeps no time"):
        store.times(0)
    with pytest.raises(WindowError, match="before='2020', but this store keeps no time"):
        store.windows(1, before="2020")


@pytest.mark.parametrize("given", ["h", "datetime64", "datetime64[D]", "timedelta64[10s]", "float32", 3, "soon"])
def test_an_impossible_kind_of_time_is_refused(tmp_path, given):
    with pytest.raises(SchemaError, match="time="):
        create(tmp_path / "store", given)
    assert not (tmp_path / "store").exists()


def test_unknown_sequences_and_steps_are_refused(tmp_path):
    store = write(tmp_path / "store", [DATES])
    for arguments in ((1,), (-2,), (0, 3, 2), (0, 0, 12), (0, -1)):
        with pytest.raises(SequenceIndexError):
            store.times(*arguments)


def test_xarray_reads_dates(tmp_path):
    for unit in UNITS:
        path = tmp_path / unit
        write(path, [DATES, DATES[2:]], Time(unit))
        dataset = xarray.open_zarr(path, consolidated=True, zarr_format=3)
        assert dataset["time"].dims == ("step",)
        assert np.array_equal(dataset["time"].values, np.concatenate([DATES, DATES[2:]]).astype("datetime64[ns]"))


def test_xarray_reads_elapsed_times(tmp_path):
    write(tmp_path / "store", [np.arange(5) * 20], "timedelta64[ms]")
    dataset = xarray.open_zarr(tmp_path / "store", consolidated=True, zarr_format=3, decode_timedelta=True)
    assert np.array_equal(dataset["time"].values, (np.arange(5) * 20).astype("timedelta64[ms]"))


@pytest.mark.parametrize(
    ("text", "unit", "due"),
    [
        ("2020-01-01", "s", 1577836800),
        ("2020", "ms", 1577836800000),
        ("2020-01", "s", 1577836800),
        ("2020-01-01T00:00", "s", 1577836800),
        ("2020-01-01 00:00:01", "s", 1577836801),
        ("2020-01-01T00:00:00.5", "s", 1577836801),  # what is before this moment is before the following second
        ("1969-12-31T23:59:59.5", "s", 0),
        ("2020-01-01T00:00:00.5", "ms", 1577836800500),
        (np.datetime64("2020-01-01"), "ns", 1577836800 * 10**9),
        (np.datetime64(1, "fs"), "ns", 1),
        ("0001-01-01", "s", -62135596800),
        ("9999-01-01", "ns", 253370764800 * 10**9),  # beyond int64
    ],
)
def test_a_moment_is_the_first_number_that_is_not_before_it(text, unit, due):
    assert moment(Time(unit), "before", text, "here") == due


def test_elapsed_times_keep_the_nanoseconds_of_pandas_and_the_size_of_timedelta():
    assert moment(Time("ns", None), "before", pd.Timedelta(5001, "ns"), "here") == 5001
    assert moment(Time("ms", None), "before", timedelta(days=783487883), "here") == 783487883 * 86400 * 1000


@pytest.mark.parametrize(
    ("given", "time", "message"),
    [
        ("soon", Time("s"), "before='soon' is not a date"),
        ("2020-13-01", Time("s"), "before='2020-13-01' is not a date"),
        ("2020-01-01T00:00Z", Time("s"), "has a time zone; its times are local, without a zone"),
        ("2020-01-01T00:00+02:00", Time("s", zone="UTC"), "has a time zone; its dates are UTC"),
        ("2020-01-01 00:00Z", Time("s"), "has a time zone; its times are local, without a zone"),
        ("2020-01-01 05:00+02:00", Time("s"), "has a time zone; its times are local, without a zone"),
        ("2020-01-01 05:00 -0200", Time("s", zone="UTC"), "has a time zone; its dates are UTC"),
        (1577836800, Time("s"), "give a date as text"),
        (np.timedelta64(1, "s"), Time("s"), "give a date as text"),
        ("NaT", Time("s"), "is not a date"),
        ("", Time("s"), "is not a date"),
        ("now", Time("s"), "before='now' is not a date"),
        ("20200102", Time("s"), "it does not begin with a year, as 2020-"),
        (np.datetime64("NaT", "s"), Time("s"), "is not a moment"),
        ("2020-01-01", Time("s", None), "its times are elapsed ones: give a number of s"),
        (True, Time("s", None), "its times are elapsed ones"),
        (float("nan"), Time("s", None), "is not a number of s"),
        (np.timedelta64(1, "M"), Time("s", None), "is not a moment"),
    ],
)
def test_invalid_moments_are_refused(given, time, message):
    with pytest.raises(WindowError, match=message):
        moment(time, "before", given, "here")


def test_a_moment_may_name_its_zone_utc():
    assert moment(Time("s", zone="UTC"), "after", "2020-01-01T00:00Z", "here") == 1577836800
    for at, due in ((5, 5), (4.5, 5), (-4.5, -4), (np.timedelta64(1500, "us"), 2), (np.int64(2**53 + 1), 2**53 + 1)):
        assert moment(Time("ms", None), "after", at, "here") == due


@st.composite
def sequences(draw: st.DrawFn) -> list[np.ndarray[Any, Any]]:
    lengths = draw(st.lists(st.integers(0, 30), min_size=1, max_size=6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        return [random_times(rng, length) for length in lengths]
    return [np.sort(rng.integers(0, 40, length)) for length in lengths]


@given(times=sequences(), at=st.integers(-5, 45) | st.sampled_from([-(2**63), -(2**63) - 1, 2**63 - 1, 2**63, 2**90]))
def test_steps_before_a_moment_are_counted_like_in_a_loop(tmp_path_factory, times, at):
    store = write(tmp_path_factory.mktemp("times") / "store", times)
    assert steps_before(store, at).tolist() == [sum(time < at for time in each.tolist()) for each in times]


@pytest.mark.slow
def test_a_moment_is_found_by_bisection(tmp_path, spy):
    steps = 1_000
    store = write(tmp_path / "store", [np.arange(steps) + number for number in (0, 10**6, 250, 2 * 10**6)])
    read = spy(Snapshot, "rows")
    assert steps_before(store, 10**6).tolist() == [steps, 0, steps, 0]
    read.assert_not_called()
    assert steps_before(store, 586).tolist() == [586, 0, 336, 0]
    ranges = [call.args[1:] for call in read.call_args_list]
    assert {name for name, _, _ in ranges} == {"time"}
    assert sum(stop - start for _, start, stop in ranges) <= 2 * 4 * 10  # chunks of 4 of 250 in each of two sequences


def test_many_sequences_in_one_chunk_are_searched_together(tmp_path, spy):
    path = tmp_path / "store"
    with create(path, chunk=2**15, shard=2**16) as writer:
        for number in range(300):
            writer.append(*rows(3), source=f"{number}", time=[number, 300, 400 + number])
    store = store_spec.open_store(path)
    read = spy(Snapshot, "rows")
    assert steps_before(store, 199).tolist() == [int(number < 199) for number in range(300)]
    assert read.call_count <= 4


def test_batches_and_states_keep_their_windows(tmp_path):
    store = write(tmp_path / "store", [DATES, DATES[4:], DATES[:2]])
    windows = store.windows(2, horizon=1, before="2020-01-05")
    assert same(pickle.loads(pickle.dumps(windows))[3][0], windows[3][0])  # ours
    state = windows.batches(3, shuffle=True).state_dict()
    store.windows(2, before=np.datetime64("2020-01-05")).batches(3, shuffle=True).load_state_dict(state)
    with pytest.raises(StateError, match="before"):
        store.windows(2, before="2020-01-06").batches(3, shuffle=True).load_state_dict(state)
    late = store.windows(2, after="2020-01-05", phase="random", stride=2)
    begins = late.of_epoch(1, 2).index.start
    assert (begins >= late.index.start).all()
    assert len(late) > 0


def test_a_sequence_too_short_before_a_moment_is_an_error_on_request(tmp_path):
    store = write(tmp_path / "store", [DATES, DATES])
    with pytest.raises(WindowError, match="sequence 0 has 1 usable steps, but a window and its label need 4"):
        store.windows(3, before="2019-12-31", short="error")
    with pytest.raises(WindowError, match="window is 0"):
        store.windows(0, before="2019-12-31")


def test_lost_files_of_times_are_an_error(tmp_path):
    path = tmp_path / "store"
    write(path, [DATES])
    (path / "time/c.1").unlink()
    store = store_spec.open_store(path)
    assert len(store[0][0]) == len(DATES)
    with pytest.raises(FormatError, match=r"time/c\.1: missing"):
        store.times(0)
    with pytest.raises(FormatError, match="time: 1 shards where 2 are committed"):
        store.windows(2, before="2020-01-05")
