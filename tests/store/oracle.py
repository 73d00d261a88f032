"""The dumb counterpart of a store: a list of NumPy arrays, and what the two must have in common."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import store_spec
from store_spec.schema import DTYPES

SHAPES = [(), (1,), (3,), (2, 5), (4, 4, 3)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What `create_store` needs."""

    inputs: tuple[str, tuple[int, ...]] = ("float32", (3,))
    labels: tuple[str, tuple[int, ...]] = ("int16", ())
    label_axis: Literal["step", "sequence", "own"] = "step"
    missing: Literal["error", "keep"] = "error"
    codec: str = "zstd"
    chunk: int = 60
    shard: int = 240

    def create(self, path: Path) -> store_spec.Writer:
        return store_spec.create_store(
            path,
            inputs=self.inputs,
            labels=self.labels,
            label_axis=self.label_axis,
            missing=self.missing,
            codec=self.codec,
            chunk=self.chunk,
            shard=self.shard,
            provenance={"made": "by a test"},
        )


@dataclass(frozen=True, slots=True)
class Sequence:
    """One sequence as a user has it."""

    source: str
    inputs: NDArray[Any]
    labels: NDArray[Any]


def random_rows(
    rng: np.random.Generator, rows: int, dtype: str, shape: tuple[int, ...], *, missing: bool = False
) -> NDArray[Any]:
    """Return rows of any values that the dtype has, zeros among them, NaN only if `missing`."""
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
    """Return one sequence for each length; label lengths on the `own` axis have nothing to do with them."""
    rng = np.random.default_rng(seed)
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
            )
        )
    return sequences


def write(recipe: Recipe, path: Path, sequences: Iterable[Sequence]) -> Path:
    """Write all sequences in a single go."""
    with recipe.create(path) as writer:
        append(writer, sequences)
    return path


def append(writer: store_spec.Writer, sequences: Iterable[Sequence]) -> None:
    for sequence in sequences:
        writer.append(sequence.inputs, sequence.labels, source=sequence.source)


def same(found: Any, expected: Any) -> bool:
    """Tell whether two arrays are the same bit for bit."""
    found, expected = np.asarray(found), np.asarray(expected)
    return bool(
        found.dtype == expected.dtype and found.shape == expected.shape and found.tobytes() == expected.tobytes()
    )


def assert_holds(store: store_spec.Store, sequences: list[Sequence]) -> None:
    """Check that a store is the list."""
    assert len(store) == len(sequences)
    assert store.sources == tuple(sequence.source for sequence in sequences)
    assert store.lengths.tolist() == [len(sequence.inputs) for sequence in sequences]
    for number, sequence in enumerate(sequences):
        inputs, labels = store[number]
        assert same(inputs, sequence.inputs), f"inputs of sequence {number}"
        assert same(labels, sequence.labels), f"labels of sequence {number}"


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    """Draw any schema, with chunks and shards so small that a few rows make many."""
    rows = st.tuples(st.sampled_from(DTYPES), st.sampled_from(SHAPES))
    chunk = draw(st.integers(1, 400))
    return Recipe(
        inputs=draw(rows),
        labels=draw(rows),
        label_axis=draw(st.sampled_from(["step", "sequence", "own"])),
        missing=draw(st.sampled_from(["error", "keep"])),
        codec=draw(st.sampled_from(["zstd", "zstd:1", "lz4:9", "none"])),
        chunk=chunk,
        shard=chunk * draw(st.integers(1, 5)),
    )
