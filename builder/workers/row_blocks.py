"""The rows of a batch on their way to the shards: in memory, and in files beside the store where they are too many.

A file, unlike memory, can be read from any process: rows in files do not travel between workers, their names do.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec import Schema, StorageError, StoreError
from store_spec.building import LocalStorage, between

BLOCK_BYTES = 2**16  # small arrays are joined to at least that


class SpillError(StorageError):
    """Rows could not be written beside the store, or read back: no source is at fault."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Where the rows of one batch lie until they are in shards.

    Args:
        memory: Bytes of them that may lie in memory.
        folder: For files of the rows beyond; it is made when it is needed, and removed by who names it. None: rows
            beyond are counted, and not kept.
    """

    memory: int
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spilled:
    """Rows in a file, all or some of it. A slice of them reads nothing.

    Args:
        path: The file: rows in C order and nothing else.
        dtype: Of a value.
        shape: Of a row.
        start: The first row, by its place in the file.
        rows: How many.
        change: What becomes of rows that are read; None: nothing.
    """

    path: Path
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    rows: int
    change: Callable[[NDArray[Any]], NDArray[Any]] | None = None

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, part: slice) -> Spilled:
        start, stop, _ = part.indices(self.rows)
        return replace(self, start=self.start + start, rows=max(0, stop - start))

    @property
    def nbytes(self) -> int:
        """Bytes of these rows."""
        return self.rows * self._row_bytes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001  # of NumPy
        """Read them: so NumPy takes a slice for the array that it is, and only then it takes memory.

        Raises:
            SpillError: The file is gone, or the disk refused.
        """
        try:
            data = LocalStorage(self.path.parent).get(self.path.name, self.start * self._row_bytes, self.nbytes)
        except StoreError as error:
            raise SpillError(getattr(error, "errno", None), str(error)) from error
        if len(data) != self.nbytes:
            raise SpillError(
                None, f"{self.path}: {len(data):,} bytes of {self.nbytes:,} were read; what was committed is untouched"
            )
        rows = np.frombuffer(data, self.dtype).reshape(self.rows, *self.shape)
        return np.asarray(rows if self.change is None else self.change(rows), dtype)

    @property
    def _row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.shape, dtype=np.int64))


@dataclass(slots=True)
class RowBlocks:
    """Rows of many sequences, one after another: few arrays, and hardly ever a copy of a large one."""

    blocks: list[NDArray[Any] | Spilled] = field(default_factory=list)  # those in files come first
    rows: int = 0  # kept, in files too
    nbytes: int = 0  # of all that were added
    in_memory: int = 0  # bytes
    spilled: bool = False  # whether a file was written, be it for a source that failed later
    _small: list[NDArray[Any]] = field(default_factory=list)
    _small_bytes: int = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Take the next rows, which are then ours."""
        self.rows += len(rows)
        self.nbytes += rows.nbytes
        self.in_memory += rows.nbytes
        if rows.nbytes >= BLOCK_BYTES:
            self.close()
            self.blocks.append(rows)
            return
        self._small.append(rows)
        self._small_bytes += rows.nbytes
        if self._small_bytes >= BLOCK_BYTES:
            self.close()

    def close(self) -> None:
        """Join what was added so far."""
        if self._small:
            self.blocks.append(np.concatenate(self._small))
            self._small, self._small_bytes = [], 0

    def spill(self, path: Path) -> None:
        """Write the rows that are in memory to a new file, and let them go.

        Raises:
            SpillError: The disk refused.
        """
        self.close()
        held = [block for block in self.blocks if not isinstance(block, Spilled) and len(block)]
        if held:
            self.spilled = True
            storage = LocalStorage(path.parent)
            try:
                storage.make_folder()
                storage.put_for_now(path.name, map(_bytes_of, held))
            except StorageError as error:
                raise SpillError(
                    error.errno, f"{error}; {self.in_memory:,} bytes of rows were to wait there for their shards"
                ) from error
            file = Spilled(path=path, dtype=held[0].dtype, shape=held[0].shape[1:], start=0, rows=sum(map(len, held)))
            self.blocks = [*(block for block in self.blocks if isinstance(block, Spilled)), file]
        self.in_memory = 0

    def cut(self, rows: int, nbytes: int) -> None:
        """Go back to when that many rows were kept, and so many bytes had been added."""
        self.close()
        self.blocks = between(self.blocks, 0, rows)
        self.rows, self.nbytes = rows, nbytes
        self.in_memory = sum(block.nbytes for block in self.blocks if not isinstance(block, Spilled))

    def copy(self) -> RowBlocks:
        """Return the same rows, to which others may be added; they are not copied."""
        return replace(self, blocks=[*self.blocks], _small=[*self._small])

    def recoded(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> RowBlocks:
        """Return as many other rows of the same type; those in files are changed whenever they are read."""
        self.close()
        blocks = [replace(one, change=change) if isinstance(one, Spilled) else change(one) for one in self.blocks]
        return replace(self, blocks=blocks)

    def between(self, start: int, stop: int) -> list[NDArray[Any] | Spilled]:
        """Return some of the rows, one part after another."""
        return between(self.blocks, start, stop)


class BatchRows:
    """The rows of a batch, of each array that lies in shards."""

    def __init__(self, schema: Schema, space: Space) -> None:
        self.arrays = {name: RowBlocks() for names in schema.sharded().values() for name in names}
        self._space = space
        # Labels that are the inputs, as for forecasting, are kept once, until others come.
        self._alike = schema.labels_like_inputs
        if self._alike:
            self.arrays["labels"] = self.arrays["inputs"]

    def add(self, arrays: Mapping[str, NDArray[Any]], shared: Collection[str] = ()) -> None:
        """Take the next rows of some arrays; others of `arrays` are left out.

        Args:
            arrays: The rows by array.
            shared: Those of them that somebody else has too: they are copied, unless they go to a file at once.

        Raises:
            SpillError: The disk refused.
        """
        given = {name: rows for name, rows in arrays.items() if name in self.arrays}
        if self._alike and given.get("labels") is given.get("inputs"):
            given.pop("labels", None)
        elif self._alike:
            self._alike, self.arrays["labels"] = False, self.arrays["inputs"].copy()
        room = self._space.memory - bytes_in_memory(self.arrays)
        full = sum(rows.nbytes for rows in given.values()) > room
        for name, rows in given.items():
            if full and self._space.folder is None:
                first = rows[: max(0, room) // max(1, rows[:1].nbytes)].copy()
                self.arrays[name].add(first)
                self.arrays[name].nbytes += rows.nbytes - first.nbytes
            else:
                self.arrays[name].add(rows.copy() if name in shared and not full else rows)
        if full and self._space.folder is not None:
            for name, blocks in self.arrays.items():
                # A name of its own: a task that was lost may be done again elsewhere meanwhile.
                blocks.spill(self._space.folder / f"{name}.{secrets.token_hex(8)}")

    def marked(self) -> dict[str, tuple[int, int]]:
        """Return where the rows end now, to go back to."""
        return {name: (blocks.rows, blocks.nbytes) for name, blocks in self.arrays.items()}

    def cut(self, mark: Mapping[str, tuple[int, int]]) -> None:
        """Forget the rows that were added since."""
        for name, (rows, nbytes) in mark.items():
            self.arrays[name].cut(rows, nbytes)

    def close(self) -> dict[str, RowBlocks]:
        """Return the rows by array: no more will come."""
        for blocks in self.arrays.values():
            blocks.close()
        return self.arrays


def bytes_in_memory(arrays: Mapping[str, RowBlocks]) -> int:
    """Return the bytes of rows of some arrays that are in memory; of two that are the same, once."""
    return sum({id(blocks): blocks.in_memory for blocks in arrays.values()}.values())


def _bytes_of(rows: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
