"""Source files with known sequences, the function that reads them, and the comparison of a store with them."""

import inspect
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.sources.fingerprints import CACHE
from store_spec.errors import MissingStoreError
from store_spec.schema import LABEL_AXES, LabelAxis, Schema
from tests.store.oracle import Recipe, Sequence, assert_holds, files, make

RECIPES = {axis: Recipe(labels=("int16", () if axis == "step" else (2,)), label_axis=axis) for axis in LABEL_AXES}

Fault = Literal["", "raises", "raises midway", "nonsense", "wrong shape", "not finite", "nothing"]
FAULTS: tuple[Fault, ...] = get_args(Fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A source file: the lengths of its sequences, and its fault."""

    lengths: tuple[int, ...] = (5,)
    axis: LabelAxis = "step"
    seed: int = 0
    fault: Fault = ""


def write_made(folder: Path, sources: dict[str, Made]) -> None:
    """Write the files, in the folders of their names."""
    for name, made in sources.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(made)))


def read_made(path: Path) -> Any:
    """Read a file that `write_made` wrote: the process function of the tests."""
    made = Made(**json.loads(path.read_text()))
    if made.fault == "raises":
        raise ValueError(f"{path}: cannot be read")
    if made.fault == "nonsense":
        return 17
    return _pairs(made)


def _pairs(made: Made) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
    sequences = [] if made.fault == "nothing" else made_sequences("", made)
    for number, sequence in enumerate(sequences):
        inputs = sequence.inputs
        if made.fault == "raises midway" and number == len(sequences) - 1:
            raise RuntimeError("half way")
        if made.fault == "wrong shape":
            inputs = np.zeros((7, 4), np.float32)
        if made.fault == "not finite":
            inputs = np.full((7, 3), np.inf, np.float32)
        yield inputs, sequence.labels


def made_sequences(name: str, made: Made) -> list[Sequence]:
    return make(RECIPES[made.axis], made.lengths, seed=made.seed, sources=[name] * len(made.lengths))


def expected(sources: dict[str, Made]) -> list[Sequence]:
    """Return the sequences of a store of these sources, in order."""
    good = (name for name in sorted(sources) if not sources[name].fault)
    return [sequence for name in good for sequence in made_sequences(name, sources[name])]


def assert_store(path: Path, sources: dict[str, Made]) -> dict[str, bytes]:
    """Check that a store holds these sources, and that only the cache is beside it; return its files."""
    assert_holds(store_spec.open_store(path), expected(sources))
    assert store_spec.verify(path) == []
    assert {one.name for one in path.with_name(f"{path.name}.build").glob("*")} <= {CACHE}
    return files(path)


def schema_for(axis: LabelAxis, *, chunk: int = 60, chunks: int = 3) -> Schema:
    """Return a schema whose chunks have about this number of bytes, and its shards this number of chunks."""
    return replace(RECIPES[axis], chunk=chunk, shard=chunk * chunks).schema()


def sources_in(path: Path) -> tuple[str, ...]:
    """Return the sources in a store; none if it does not exist."""
    try:
        return tuple(dict.fromkeys(store_spec.open_store(path).sources))
    except MissingStoreError:
        return ()


def rows_by_source(path: Path) -> dict[str, Any]:
    """Return the inputs of each source in a store; each has one sequence."""
    store = store_spec.open_store(path)
    return {name: x.tolist() for name, (x, _) in zip(store.sources, store, strict=True)}


def _raised(function: Any, words: str) -> str:
    """Return what the builder adds to an error: where it was raised."""
    lines, first = inspect.getsourcelines(function)
    (line,) = (number for number, text in enumerate(lines, first) if words in text)
    return f" (made_sources.py, line {line}, in {function.__name__})"


RAISED, RAISED_MIDWAY = _raised(read_made, "raise ValueError"), _raised(_pairs, "raise RuntimeError")
