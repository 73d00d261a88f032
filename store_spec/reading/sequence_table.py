"""The tables of sequences: their columns, for `store.sequences` and `static`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError

if TYPE_CHECKING:
    from store_spec.reading.selection import Selection

OWN = ("source", "part", "length")  # columns of every store, before its further columns


class SequenceTable(Mapping[str, NDArray[Any]]):
    """Columns with one value for each sequence of a store, in its order. Get one from `store.sequences`.

    Every store has `source` (object, of str), `part` and `length` (int64, the steps). The store's further columns
    follow: text as object, others as int64, float64 or bool. A column is read when it is first used, and is read-only.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(
    ...     path, inputs=("float32", ()), labels=("int8", ()), columns={"site": "string", "age": "float64"}
    ... ) as writer:
    ...     for number, site in enumerate("ABA"):
    ...         row = {"site": site, "age": 40.5 + number}
    ...         writer.append(np.zeros(3, "float32"), np.zeros(3, "int8"), source=f"walk-{number}", columns=row)
    >>> store = store_spec.open_store(path)
    >>> list(store.sequences), store.sequences["age"].tolist()
    (['source', 'part', 'length', 'site', 'age'], [40.5, 41.5, 42.5])
    >>> store.select(store.sequences["site"] == "A").sources
    ('walk-0', 'walk-2')
    """

    def __init__(self, store: Selection) -> None:
        self._store = store
        self._columns: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        """Return a column (sequences,).

        Raises:
            KeyError: There is no such column.
            ChecksumError: The bytes on disk are not those that were written.
        """
        if name not in self._columns:
            column = self._read(name)
            column.setflags(write=False)
            self._columns[name] = column
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter((*OWN, *(column.name for column in self._store.schema.columns)))

    def __len__(self) -> int:
        return len(OWN) + len(self._store.schema.columns)

    def __contains__(self, name: object) -> bool:
        return name in tuple(self)  # without reading the column

    def __repr__(self) -> str:
        return f"<{', '.join(self)} of {len(self._store):,} sequences of {self._store.path.name}>"

    def _read(self, name: str) -> NDArray[Any]:
        store = self._store
        if name == "source":
            names = store.sources  # read before memory is allocated by the count in the root
            column = np.empty(len(names), object)
            column[:] = names
            return column
        if name == "part":
            return store.parts
        if name == "length":
            return store.lengths
        found = next((column for column in store.schema.columns if column.name == name), None)
        if found is None:
            raise KeyError(f"{store.path}: there is no column {name!r:.80}; there are {', '.join(self)}")
        return store.snapshot.table(found.array)[store.selection]


def static_columns(store: Selection, names: Sequence[str] | None) -> NDArray[Any] | None:
    """Return numeric columns of `store.sequences` as one array (sequences, columns), in their common dtype.

    Whole numbers that would be rounded to become floats are refused.
    """
    if names is None:
        return None
    where = store.path
    # A set is refused, as the order of the names is that of the columns.
    if isinstance(names, str | set | frozenset) or not hasattr(names, "__len__") or not len(names):
        raise WindowError(f"{where}: static={names!r:.80}; give a list of names of columns of store.sequences")
    if len(set(names)) < len(names):
        raise WindowError(f"{where}: static={list(names)!r:.80} names a column twice; name each once")
    for name in names:
        if name not in store.sequences:
            there = ", ".join(store.sequences)
            raise WindowError(f"{where}: static names {name!r:.80}; the columns of sequences are {there}")
    text = [name for name in names if store.sequences[name].dtype == object]
    if text:
        raise WindowError(
            f"{where}: static names {text[0]!r:.80}, which holds text; batches have numbers: keep a number for each "
            "text beside it"
        )
    columns = [store.sequences[name] for name in names]
    dtype = np.result_type(*columns)
    for name, column in zip(names, columns, strict=True):
        if dtype.kind == "f" and column.dtype.kind == "i" and ((column > 2**53) | (column < -(2**53))).any():
            raise WindowError(
                f"{where}: static: {name!r:.80} holds whole numbers beyond 2**53, which would be rounded beside the "
                "floats of the other columns; leave it out, or ask for it alone"
            )
    values = np.stack([column.astype(dtype) for column in columns], axis=1)
    values.setflags(write=False)
    return values


def static_parameter(names: Sequence[str] | None, values: NDArray[Any] | None) -> list[str] | None:
    """Return static columns as they are in a state: their names, and a hash of their values."""
    if names is None or values is None:
        return None
    return [*names, hashlib.sha256(f"{values.dtype.str}".encode() + values.tobytes()).hexdigest()[:16]]
