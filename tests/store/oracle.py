"""The simple counterpart of a store, a list of NumPy arrays, and their comparison."""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.format.codec import Codec
from store_spec.format.records import CheckedSequence, Records, SourceId, check_sequence
from store_spec.format.sequence_columns import COLUMN_TYPES, ColumnType, as_columns
from store_spec.format.times import Time
from store_spec.schema import DTYPES, Schema, rows_of

SHAPES = [(), (1,), (3,), (2, 5), (4, 4, 3)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """The arguments of `create_store`."""

    inputs: tuple[str, tuple[int, ...]] = ("float32", (3,))
    labels: tuple[str, tuple[int, ...]] = ("int16", ())
    label_axis: Literal["step", "sequence", "own"] = "step"
    missing: Literal["error", "keep"] = "error"
    codec: str = "lz4"
    chunk: int = 60
    shard: int = 240
    columns: tuple[tuple[str, ColumnType], ...] = ()
    time: Time | None = None
    filled: bool = False

    def create(self, path: Path) -> store_spec.Writer:
        arguments = {each.name: getattr(self, each.name) for each in fields(self)} | {"columns": dict(self.columns)}
        return store_spec.create_store(path, **arguments, provenance={"made": "by a test"})

    def schema(self) -> Schema:
        """Return the schema that `create` makes of it."""
        return Schema.plan(
            rows_of(*self.inputs),
            rows_of(*self.labels),
            label_axis=self.label_axis,
            missing=self.missing,
            codec=Codec.parse(self.codec),
            chunk_bytes=self.chunk,
            shard_bytes=self.shard,
            columns=as_columns(dict(self.columns)),
            time=self.time,
            filled=self.filled,
        )


@dataclass(frozen=True, slots=True)
class Sequence:
    """A sequence as a user has it."""

    source: str
    inputs: NDArray[Any]
    labels: NDArray[Any]
    columns: dict[str, Any] = field(default_factory=dict)
    time: NDArray[np.int64] | None = None
    filled: NDArray[np.bool_] | None = None

    def rows(self, name: str) -> NDArray[Any]:
        """Return the rows of an array."""
        found: NDArray[Any] = getattr(self, name)
        return found


def random_value(rng: np.random.Generator, dtype: ColumnType) -> Any:
    """Return any value of a column, sometimes a missing one."""
    size = int(rng.integers(0, 4))
    if dtype == "string":
        return "".join(rng.choice(list("aé二\0 ,\n😀"), size))
    if dtype == "float64":
        return math.nan if size == 0 else float(rng.normal() * 10.0 ** rng.integers(-30, 30))
    return bool(size % 2) if dtype == "bool" else int(rng.integers(-(2**63), 2**63 - 1, endpoint=True))


def random_times(rng: np.random.Generator, steps: int) -> NDArray[np.int64]:
    """Return times that rise or stand still, sometimes from the smallest to the largest of int64."""
    if rng.integers(0, 4) == 0:
        return np.sort(rng.integers(-(2**63) + 1, 2**63 - 1, steps, endpoint=True))
    return np.cumsum(rng.integers(0, 3, steps)) + rng.integers(-(10**9), 10**9)


def random_rows(
    rng: np.random.Generator, rows: int, dtype: str, shape: tuple[int, ...], *, missing: bool = False
) -> NDArray[Any]:
    """Return rows of any values of the dtype, with some zeros, and NaN only if `missing`."""
    kind, size = np.dtype(dtype).kind, (rows, *shape)
    if kind == "b":
        return rng.integers(0, 2, size).astype(dtype)
    if kind in "iu":
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, size, dtype=dtype, endpoint=True)
    elif kind == "f":
        values = (rng.normal(size=size) * 10.0 ** rng.integers(-3, 4)).astype(dtype)
    else:
        values = (rng.normal(size=size) + 1j * rng.normal(size=size)).astype(dtype)
    values[rng.random(size) < 0.2] = 0
    if missing and kind in "fc":
        values[rng.random(size) < 0.2] = np.nan
    return values


def make(recipe: Recipe, lengths: Iterable[int], *, seed: int = 0, sources: list[str] | None = None) -> list[Sequence]:
    """Return a sequence for each length; label lengths on the `own` axis are independent of them."""
    rng, others = np.random.default_rng(seed), np.random.default_rng((seed, 1))
    missing = recipe.missing == "keep"
    sequences = []
    for number, length in enumerate(lengths):
        rows = {"step": length, "sequence": 1, "own": int(rng.integers(0, 9))}[recipe.label_axis]
        labels = random_rows(rng, rows, *recipe.labels, missing=missing)
        sequences.append(
            Sequence(
                sources[number] if sources else f"wälk/{seed}/{number:03}",
                random_rows(rng, length, *recipe.inputs, missing=missing),
                labels[0] if recipe.label_axis == "sequence" else labels,
                {name: random_value(others, dtype) for name, dtype in recipe.columns},
                None if recipe.time is None else random_times(others, length),
                others.random((length, *recipe.inputs[1])) < 0.1 if recipe.filled else None,
            )
        )
    return sequences


def write(recipe: Recipe, path: Path, sequences: Iterable[Sequence]) -> Path:
    """Write all sequences with one writer."""
    with recipe.create(path) as writer:
        append(writer, sequences)
    return path


def store_of(
    path: Path,
    inputs: list[NDArray[Any]],
    labels: list[Any] | None = None,
    /,
    *,
    sources: Iterable[str] = (),
    more: Iterable[dict[str, Any]] = (),
    **options: Any,
) -> store_spec.Store:
    """Write sequences of inputs and labels, by default the inputs again, and open the store.

    The first sequence determines the rows, unless `options` do, which are those of `create_store`; `more` has further
    arguments of `append` for each sequence.
    """
    labels = inputs if labels is None else [np.asarray(each) for each in labels]
    shape = labels[0].shape[0 if options.get("label_axis") == "sequence" else 1 :]
    rows: dict[str, Any] = {"inputs": (inputs[0].dtype, inputs[0].shape[1:]), "labels": (labels[0].dtype, shape)}
    named = itertools.chain(sources, (f"s{number}" for number in itertools.count()))
    with store_spec.create_store(path, **rows | options) as writer:
        for x, y, source, others in zip(
            inputs, labels, named, itertools.chain(more, itertools.repeat({})), strict=False
        ):
            writer.append(x, y, source=source, **others)
    return store_spec.open_store(path)


def append(writer: store_spec.Writer, sequences: Iterable[Sequence]) -> None:
    """Append sequences as a caller may: arrays in any memory order, which he fills again, and labels of one row."""
    for sequence in sequences:
        odd = len(writer) % 2 == 1
        rows: dict[str, Any] = {}
        for place, name in enumerate(("inputs", "labels", "time", "filled")):
            if (each := sequence.rows(name)) is not None:
                reversed_twice = each.ndim and place % 2 == odd
                rows[name] = np.array(each[::-1], order="F")[::-1] if reversed_twice else np.array(each)
        one_row = odd and writer.schema.label_axis == "sequence"
        given = rows | ({"labels": rows["labels"][None]} if one_row else {})
        writer.append(**given, source=sequence.source, columns=sequence.columns)
        for each in rows.values():
            each[...] = 1


def checked(schema: Schema, sequence: Sequence, source: SourceId) -> CheckedSequence:
    """Return a sequence as it is stored."""
    return check_sequence(
        schema,
        sequence.inputs,
        sequence.labels,
        source,
        columns=sequence.columns,
        time=sequence.time,
        filled=sequence.filled,
    )


def same(found: Any, expected: Any) -> bool:
    """Return whether two arrays are equal bit for bit."""
    found, expected = np.asarray(found), np.asarray(expected)
    return bool(
        found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()
    )


def assert_moments(found: Any, rows: NDArray[Any], *, rtol: float = 1e-12, lost: float = 0) -> None:
    """Compare moments with NumPy, feature by feature; deviations may differ by a share `lost` of the largest value."""
    flat = rows.reshape(-1, rows.shape[-1] if rows.ndim > 1 else 1).astype(float)
    for feature, column in enumerate(flat.T):
        values = column[~np.isnan(column)]
        assert found.count[feature] == len(values)
        if not len(values):
            assert np.isnan([found.mean[feature], found.min[feature], found.max[feature], found.std[feature]]).all()
            assert found.m2[feature] == 0
            continue
        scale = max(1e-300, np.abs(values).max())
        assert math.isclose(found.mean[feature], values.mean(), rel_tol=rtol, abs_tol=rtol * scale)
        assert math.isclose(found.std[feature], values.std(), rel_tol=100 * rtol, abs_tol=max(rtol, lost) * scale)
        assert (found.min[feature], found.max[feature]) == (values.min(), values.max())


def assert_same_records(found: Records, expected: Records) -> None:
    """Check that the table rows of sequences are equal bit for bit."""
    assert found.sources == expected.sources
    assert same(found.lengths, expected.lengths)
    assert same(found.label_lengths, expected.label_lengths)
    assert list(found.columns) == list(expected.columns)
    for name, column in expected.columns.items():
        assert same(found.columns[name], column), name
    assert list(found.missing) == list(expected.missing)
    for name, runs in expected.missing.items():
        assert same(found.missing[name].counts, runs.counts), name
        assert same(found.missing[name].runs, runs.runs), name


def assert_holds(store: store_spec.Store, sequences: list[Sequence]) -> None:
    """Check that a store equals the list."""
    assert len(store) == len(sequences)
    assert store.sources == tuple(sequence.source for sequence in sequences), "sources"
    assert store.lengths.tolist() == [len(sequence.inputs) for sequence in sequences], "lengths"
    for column in store.schema.columns:
        name, found = column.name, store.sequences[column.name].tolist()
        assert list(map(repr, found)) == [repr(sequence.columns[name]) for sequence in sequences], f"column {name}"
    for number, sequence in enumerate(sequences):
        inputs, labels = store[number]
        assert same(inputs, sequence.inputs), f"inputs of sequence {number}"
        assert same(labels, sequence.labels), f"labels of sequence {number}"
        if sequence.filled is not None:
            first = int(store.starts[number])
            found = store.snapshot.rows("filled", first, first + len(inputs))
            assert same(found, sequence.filled), f"filled values of sequence {number}"
        if sequence.time is not None:
            assert same(store.times(number).view(np.int64), sequence.time), f"times of sequence {number}"


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw any schema, with chunks and shards so small that a few rows fill many."""
    rows = st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES))
    chunk = draw(st.integers(1, 400))
    types = draw(st.lists(st.sampled_from(COLUMN_TYPES), max_size=3))
    return Recipe(
        inputs=draw(rows),
        labels=draw(rows),
        label_axis=draw(st.sampled_from(["step", "sequence", "own"])),
        missing=draw(st.sampled_from(["error", "keep"])),
        codec=draw(st.sampled_from(["zstd", "zstd:1", "lz4:9", "none"])),
        chunk=chunk,
        shard=chunk * draw(st.integers(1, 5)),
        columns=tuple((f"column {number}", dtype) for number, dtype in enumerate(types)),
        time=draw(st.sampled_from([None, Time("ms"), Time("ns", None), Time("s", zone="UTC")])),
    )
