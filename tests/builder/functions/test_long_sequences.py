"""Sequences and sources larger than memory: the same bytes as a build in one piece, in bounded memory."""

import errno
import json
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from hypothesis import given, settings
from hypothesis import strategies as st

import builder
import store_spec
from builder import LongSequence, Sequence, tabular
from builder.maintenance.checks import verify_sources
from store_spec.disk.storage import LocalStorage
from store_spec.errors import StorageError
from tests.builder.made_sources import Made, assert_store, read_made, sources_in, write_made
from tests.builder.source_files import build_files, write_file, write_files
from tests.store.oracle import files

SMALL: dict[str, Any] = {"chunk": 600, "shard": 1200, "workers": 0}


def cut_lately(path: Path) -> Any:
    """Yield the sequences of a made source in pieces, all in the same array."""
    whole = read_made(path)
    for number, (inputs, labels) in enumerate([whole] if isinstance(whole, tuple) else whole):
        yield LongSequence(pieces_of(inputs, labels, 1 + number * 3))


def pieces_of(inputs: np.ndarray[Any, Any], labels: np.ndarray[Any, Any], size: int) -> Iterator[Sequence]:
    buffer = np.zeros((size, *inputs.shape[1:]), inputs.dtype)
    for start in range(0, max(1, len(inputs)), size):
        part = inputs[start : start + size]
        buffer[: len(part)] = part
        own: Any = labels[start : start + size]
        if labels.shape == (2,):  # of the sequence: later pieces need none
            own = None if start else labels
        yield Sequence(buffer[: len(part)], own)


@pytest.mark.slow
@pytest.mark.parametrize("axis", ["step", "sequence"])
@pytest.mark.parametrize("batch", [1, "1GB"])
def test_a_sequence_in_pieces_is_stored_verified_and_repaired_like_any_other(tmp_path, axis, batch):
    sources = {f"{number}.made": Made(lengths=(90, 0, 41, 1), seed=number, axis=axis) for number in range(4)}
    sources["2a.made"] = Made(lengths=(90, 9), axis=axis, fault="raises midway")
    write_made(tmp_path / "src", sources)
    whole, pieces = tmp_path / "whole", tmp_path / "pieces"
    options = SMALL | {"label_axis": axis}
    builder.build(tmp_path / "src", whole, process=read_made, **options)
    builder.build(tmp_path / "src", pieces, process=cut_lately, batch=batch, **options)
    one, other = files(whole), assert_store(pieces, sources)
    assert [name for name in one if one[name] != other.get(name)] == ["zarr.json"]  # it has the name of the function
    (tmp_path / "src" / "2a.made").unlink()
    assert verify_sources(pieces, tmp_path / "src", process=cut_lately, workers=0) == []
    next(pieces.glob("inputs/c.1*")).write_bytes(b"")
    assert builder.repair(pieces, tmp_path / "src", process=cut_lately, workers=0).left == ()
    assert files(pieces) == other


def with_one_dict(x: np.ndarray[Any, Any]) -> Iterator[Any]:
    columns: dict[str, Any] = {"site": 0}
    for part in x:
        yield Sequence(part, 1, columns)
        columns["site"] += 1


def with_one_dict_gone_wrong(x: np.ndarray[Any, Any]) -> Iterator[Any]:
    columns: dict[str, Any] = {"site": "A"}
    for part in x:
        yield Sequence(part, 1, columns)
        columns["other"] = 1


def with_times_of_two_dtypes(x: np.ndarray[Any, Any]) -> Iterator[Any]:
    for number, part in enumerate(x):
        time = np.array([2 * number, 2 * number + 1])
        yield Sequence(part, 1, time=time if number else time.astype("M8[s]"))


# Functions that make pieces of rows, and whether the store keeps missing values.
PIECES: dict[str, tuple[Callable[[np.ndarray[Any, Any]], Iterator[Any]], str | None]] = {
    "masks": (lambda x: ((np.ma.masked_array(part, part % 4 == 3), 1) for part in x), "keep"),
    "masked labels": (lambda x: (Sequence(part, np.ma.masked_array([np.inf, 1], [True, False])) for part in x), "keep"),
    "filled at times": (
        lambda x: (Sequence(part, 1, filled=None if number % 2 else part > 3) for number, part in enumerate(x)),
        None,
    ),
    "labels of two dtypes": (
        lambda x: ((part, part.astype(np.uint64 if number else np.int64)) for number, part in enumerate(x)),
        None,
    ),
    "one dict": (with_one_dict, None),
    "one dict gone wrong": (with_one_dict_gone_wrong, None),
    "times of two dtypes": (with_times_of_two_dtypes, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("pieces", "missing"), PIECES.values(), ids=PIECES)
def test_pieces_are_verified_and_repaired_as_they_were_built_however_they_differ(tmp_path, pieces, missing):
    def process(path: Path) -> LongSequence:
        return LongSequence(pieces(np.load(path).reshape(3, 2)))

    contents = {f"{number}.npy": np.arange(6.0) + number for number in range(4)}
    built = build_files(tmp_path, contents, process, missing=missing, chunk=32)
    store = built.path
    assert (built.report.added, built.report.failures) == (4, ())
    assert verify_sources(store, tmp_path / "src", process=process, workers=0) == []
    before = files(store)
    schema = built.store.schema
    arrays = tuple(f"{name}/c." for names in schema.sharded().values() for name in names)
    for name in [name for name in before if name.startswith(arrays)]:
        (store / name).unlink()
        repaired = builder.repair(store, tmp_path / "src", process=process, workers=0)
        assert (repaired.left, repaired.files, files(store) == before) == ((), (name,), True), name


def test_decreasing_times_between_pieces_are_reported_like_in_a_build(tmp_path):
    def read(*begins: int) -> Any:
        return lambda path: LongSequence(
            Sequence(np.load(path), 1, time=(np.arange(2) + at).astype("M8[s]")) for at in begins
        )

    built = build_files(tmp_path, {"a.npy": np.arange(2.0)}, read(0, 2))
    (reason,) = build_files(tmp_path, {}, read(0, 0), "none").reasons
    (problem,) = verify_sources(built.path, tmp_path / "src", process=read(0, 0), workers=0)
    assert reason.startswith("time falls at step 2, from ")
    assert problem.what.endswith(reason)
    (problem,) = verify_sources(built.path, tmp_path / "src", process=read(), workers=0)
    assert problem.what == "a.npy: cannot be compared: has no rows"


def test_errors_in_later_pieces_have_the_start_of_the_piece(tmp_path):
    good = np.zeros((3, 2), np.float32)

    def read(bad: Any) -> Any:
        return lambda _: LongSequence(iter([Sequence(good, good), Sequence(bad, bad)]))

    for process, message in (
        (read(np.full((3, 2), np.inf, np.float32)), "row 0, column 0 is inf, .* in the piece that begins at row 3 of"),
        (read(np.zeros((3, 5), np.float32)), r"inputs have shape \(3, 5\), where .* begins at row 3 of the sequence"),
        (lambda _: LongSequence(()), "sequence that comes in pieces has at least one"),
        (lambda _: [LongSequence([])], "sequence that comes in pieces has at least one"),
    ):
        (reason,) = build_files(tmp_path, {"a": "a"}, process).reasons
        assert re.search(message, reason), reason


@pytest.mark.parametrize("elsewhere", [False, True])
def test_pieces_may_be_pairs_and_others_are_refused_by_number(tmp_path, elsewhere):
    manifest = write_file(tmp_path / "labels.csv", "source,y\na,7\n")
    x = np.arange(20.0).reshape(10, 2)
    options: dict[str, Any] = {"manifest": manifest, "label_column": "y"} if elsewhere else {}

    def pairs() -> Iterator[Any]:
        return ((x[at : at + 3], None if elsewhere else x[at : at + 3, 0]) for at in range(0, 10, 3))

    processes: list[Any] = [
        lambda _: LongSequence(pairs()),
        lambda _: iter([LongSequence(list(pairs()))]),
        lambda _: LongSequence(map(Sequence, *zip(*pairs(), strict=True))),
    ]
    for number, process in enumerate(processes):
        inputs, labels = build_files(tmp_path, {"a": "a"}, process, f"store {number}", **options).store[0]
        assert np.array_equal(inputs, x)
        assert np.array_equal(labels, [7] if elsewhere else x[:, 0])
    takes = r"a LongSequence takes an iterable of pairs \(inputs, labels\), or of Sequences; "
    for pieces, message in (
        ([(x, x[:, 0]), x], "piece 1 is a ndarray"),
        ([(x, x[:, 0], x)], "piece 0 is a tuple of 3"),
        (5, "it was given a int"),
    ):
        built = build_files(tmp_path, {}, lambda _, pieces=pieces: LongSequence(pieces), "none", **options)
        assert re.search(takes + message, built.reasons[0])


@pytest.mark.slow
@settings(max_examples=5)
@given(
    rows=st.integers(1, 200),
    row_group=st.integers(1, 90),
    options=st.sampled_from([{}, {"inputs": "1:2"}, {"inputs": "0,2", "labels": "1"}, {"dtype": "float32"}]),
    fortran=st.booleans(),
    batch=st.sampled_from([1, "1kB", "1MB"]),
)
def test_long_files_are_read_piece_by_piece_to_the_bytes_that_they_have_when_read_whole(
    tmp_path_factory, monkeypatch, rows, row_group, options, fortran, batch
):
    place = tmp_path_factory.mktemp("long")
    values = np.random.default_rng(rows).normal(size=(rows, 3)).round(3)
    for kind in ("npy", "parquet"):
        columns = {str(i): values[:, i] for i in range(3)}
        content = columns if kind == "parquet" else np.asfortranarray(values) if fortran else values
        source = write_file(place / kind / f"x.{kind}", content, row_group=row_group)
        with monkeypatch.context() as patch:
            builder.build(source.parent, place / f"{kind} whole", process=tabular(**options), **SMALL)
            patch.setattr(sys.modules["builder.frames.tabular"], "LONG_BYTES", 0)
            patch.setattr("builder.formats.arrays.LARGE_PIECE", 24 * row_group)
            builder.build(source.parent, place / f"{kind} pieces", process=tabular(**options), batch=batch, **SMALL)
            assert files(place / f"{kind} pieces") == files(place / f"{kind} whole")
            assert verify_sources(place / f"{kind} pieces", source.parent, workers=0) == []


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_a_long_source_may_have_files_without_rows(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(sys.modules["builder.frames.tabular"], "LONG_BYTES", 0)
    parts = np.split(np.arange(36.0).reshape(12, 3), [5, 5])  # the second is empty
    for number, values in enumerate(parts):
        columns = {str(i): values[:, i] for i in range(3)}
        write_file(tmp_path / "src" / f"x_{number}.{kind}", columns if kind == "parquet" else values)
    report = builder.build(tmp_path / "src", tmp_path / "store", sequence_from=r"(x)_", **SMALL)
    assert not report.skipped
    np.testing.assert_array_equal(store_spec.open_store(tmp_path / "store")[0][0], np.concatenate(parts))


def test_a_value_that_is_missing_in_a_long_file_is_named_by_its_row(tmp_path, monkeypatch):
    monkeypatch.setattr(sys.modules["builder.frames.tabular"], "LONG_BYTES", 0)
    values = np.arange(100.0)
    values[77] = np.nan
    for column, message in (
        (values, "row 78, column a: missing value"),
        (pa.array([[1.0, 2.0]] * 95 + [[1.0]] * 5), "column a holds 1 values in row 96, but 2 in row 1"),
    ):
        write_file(tmp_path / "src" / "x.parquet", {"a": column}, row_group=10)
        (reason,) = build_files(tmp_path, {}).reasons
        assert reason.startswith(message)


@pytest.mark.slow
def test_a_disk_that_is_full_of_waiting_rows_leaves_the_store_unchanged(tmp_path, monkeypatch):
    sources = {f"{number}.made": Made(lengths=(50, 20), seed=number) for number in range(6)}
    write_made(tmp_path / "some", dict(list(sources.items())[:3]))
    write_made(tmp_path / "all", sources)
    options = SMALL | {"process": read_made, "batch": 1}
    builder.build(tmp_path / "all", tmp_path / "whole", **options)
    enough = 12  # files: of inputs and labels of each of two sequences of three sources
    for refused in (1, 4, 8, enough, enough + 1):
        store = tmp_path / f"store {refused}"
        builder.build(tmp_path / "some", store, **options)
        spills, put = 0, LocalStorage.put_for_now

        def full(storage: LocalStorage, key: str, parts: Any, refused: int = refused, put: Any = put) -> None:
            nonlocal spills
            spills += 1
            if spills == refused:
                raise StorageError(errno.ENOSPC, f"{storage.path(key)}: writing failed: No space left on device")
            put(storage, key, parts)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "put_for_now", full)
            patch.setattr("builder.execution.run.COMMIT_SECONDS", -1.0)
            said = "" if refused > enough else rf"store {refused}.build/spilled\..*: writing failed: No space .*; "
            with pytest.raises(StorageError, match=said) if said else nullcontext():
                builder.build(tmp_path / "all", store, **options)
        assert (spills < refused) == (not said)
        held = {name: sources[name] for name in sources_in(store)}
        assert len(held) >= 3
        assert_store(store, held)  # nothing is left beside it
        builder.build(tmp_path / "all", store, **options)
        assert assert_store(store, sources) == files(tmp_path / "whole")


def test_files_of_a_killed_build_are_removed_by_the_next(tmp_path):
    sources = {"a.made": Made(lengths=(50, 20))}
    write_made(tmp_path / "src", sources)
    left = tmp_path / "store.build" / "spilled" / "7" / "inputs.0123456789abcdef"
    for _ in range(2):  # of a new store, and of one without changes
        left.parent.mkdir(parents=True)
        left.write_bytes(b"rows")
        builder.build(tmp_path / "src", tmp_path / "store", process=read_made, **SMALL)
        assert_store(tmp_path / "store", sources)


GROUPS, STEPS = 160, 20_000  # of 8 features of 4 bytes: 100 MB


def group(number: int) -> np.ndarray[Any, Any]:
    """Return rows that cannot be compressed, so that compressed rows must not stay in memory either."""
    return np.random.default_rng(number).integers(2**29, 2**30, (STEPS, 8), dtype=np.int32).view(np.float32)


def write_groups(path: Path, *, one: bool) -> None:
    """Write a Parquet file of several adjacent sequences, or of a single one."""
    schema = pa.schema([("g", pa.int64()), *((f"x{i}", pa.float32()) for i in range(8))])
    path.parent.mkdir()
    with pq.ParquetWriter(path, schema) as writer:
        for number in range(GROUPS):
            columns = dict(zip(schema.names[1:], np.ascontiguousarray(group(number).T), strict=True))
            writer.write_table(pa.table({"g": np.full(STEPS, 0 if one else number), **columns}, schema))


def yielded(path: Path) -> Iterator[Any]:
    """Yield the same sequences without a file."""
    for number in range(json.loads(path.read_text())):
        yield group(number), group(number)


def peak_bytes() -> int:
    """Return the peak of this process's memory; `getrusage` would include that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def hold(path: Path, *, one: bool) -> None:
    """Check in a loop that a store holds all rows."""
    store = store_spec.open_store(path)
    assert store.lengths.tolist() == [GROUPS * STEPS] if one else [STEPS] * GROUPS
    for number in range(GROUPS):
        found = store.read(0, number * STEPS, (number + 1) * STEPS) if one else store[number]
        assert found[0].tobytes() == found[1].tobytes() == group(number).tobytes()


BOUNDED: dict[str, Any] = {"batch": "2MB", "shard": "4MB"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["groups", "one sequence", "npy", "function"])
def test_a_source_larger_than_memory_is_built_in_memory_that_does_not_grow_with_it(tmp_path, monkeypatch, kind):
    """In this process, in which every array is counted: 90 MB of rows, with inputs as labels."""
    monkeypatch.setitem(globals(), "GROUPS", 70)
    monkeypatch.setattr(sys.modules["builder.frames.tabular"], "LONG_BYTES", 2**22)
    monkeypatch.setattr("builder.formats.arrays.LARGE_PIECE", 2**20)
    source = tmp_path / "src" / ("x.npy" if kind == "npy" else "x.json" if kind == "function" else "x.parquet")
    one = kind in ("one sequence", "npy")
    if kind == "npy":
        write_files(source.parent, {source.name: np.concatenate([group(number) for number in range(GROUPS)])})
    elif kind == "function":
        write_files(source.parent, {source.name: str(GROUPS)})
    else:
        write_groups(source, one=one)
    process = (
        yielded
        if kind == "function"
        else tabular(
            inputs=() if one else "x0:x7",
            exclude="g" if kind == "one sequence" else (),
            group_by=() if one else "g",
        )
    )
    tracemalloc.start()
    try:
        builder.build(source.parent, tmp_path / "store", process=process, workers=0, **BOUNDED)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000
    hold(tmp_path / "store", one=one)


@pytest.mark.slow
def test_a_worker_has_bounded_memory_and_passes_rows_by_file_name(tmp_path):
    """The peak of a worker process, for a function whose 200 MB of rows are in no file."""
    write_files(tmp_path / "small", {"x.json": "10"})
    write_files(tmp_path / "src", {"x.json": str(GROUPS)})
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0", memory_limit=0
        ) as cluster,
        Client(cluster) as client,
    ):
        build = {"process": yielded, "scheduler": client, **BOUNDED}
        builder.build(tmp_path / "small", tmp_path / "small.zarr", **build)
        (before,) = client.run(peak_bytes).values()
        builder.build(tmp_path / "src", tmp_path / "store", **build)
        (after,) = client.run(peak_bytes).values()
    assert after - before < 80_000_000
    hold(tmp_path / "store", one=False)
