"""The rows of a batch until they are in shards: in memory, and in files beside the store if there are too many.

Rows in files are not sent between workers: every process can read the files.
"""

import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from store_spec import Schema, StorageError, StoreError
from store_spec.building import LocalStorage, between

BLOCK_BYTES = 2**16  # small arrays are joined to blocks of at least this size


class SpillError(StorageError):
    """Rows could not be written beside the store, or read back; this is not the fault of a source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The memory and the folder for the rows of one batch, until they are in shards."""

    memory: int  # bytes of rows that may be in memory
    # For files of further rows; it is created when needed, and the caller removes it. None: further rows are counted,
    # and dropped.
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpilledRows:
    """All or some rows of a file. Slicing reads nothing."""

    path: Path  # a file that contains only rows, in C order
    dtype: np.dtype[Any]
    shape: tuple[int, ...]  # of a row
    start: int  # the index of the first row in the file
    rows: int  # the number of rows
    change: Callable[[NDArray[Any]], NDArray[Any]] | None = None  # applied to rows when they are read

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, part: slice) -> Self:
        start, stop, _ = part.indices(self.rows)
        return replace(self, start=self.start + start, rows=max(0, stop - start))

    @property
    def nbytes(self) -> int:
        """Bytes of these rows."""
        return self.rows * self._row_bytes

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:  # noqa: FBT001  # of NumPy
        """Read the rows, when NumPy needs them as an array; SpillError if the file cannot be read."""
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
    """Rows of many sequences, one after another, in few arrays; large arrays are not copied."""

    blocks: list[NDArray[Any] | SpilledRows] = field(default_factory=list)  # blocks in files come first
    rows: int = 0  # in memory and in files
    nbytes: int = 0  # of all rows that were added
    in_memory: int = 0  # bytes
    _small: list[NDArray[Any]] = field(default_factory=list)
    _small_bytes: int = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Append rows; the caller must not change them later."""
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
        """Join the small arrays that were added last."""
        if self._small:
            self.blocks.append(np.concatenate(self._small))
            self._small, self._small_bytes = [], 0

    def spill(self, path: Path) -> None:
        """Move the rows that are in memory to a new file; SpillError if it cannot be written."""
        self.close()
        arrays = [block for block in self.blocks if not isinstance(block, SpilledRows) and len(block)]
        if arrays:
            storage = LocalStorage(path.parent)
            try:
                storage.make_folder()
                storage.put_for_now(path.name, map(_bytes_of, arrays))
            except StorageError as error:
                raise SpillError(
                    error.errno,
                    f"{error}; {self.in_memory:,} bytes of rows were to be stored there until they are in shards",
                ) from error
            file = SpilledRows(
                path=path, dtype=arrays[0].dtype, shape=arrays[0].shape[1:], start=0, rows=sum(map(len, arrays))
            )
            self.blocks = [*(block for block in self.blocks if isinstance(block, SpilledRows)), file]
        self.in_memory = 0

    def truncate(self, rows: int, nbytes: int) -> None:
        """Remove rows from the end, back to an earlier number of rows and bytes."""
        self.close()
        self.blocks = between(self.blocks, 0, rows)
        self.rows, self.nbytes = rows, nbytes
        self.in_memory = sum(block.nbytes for block in self.blocks if not isinstance(block, SpilledRows))

    def copy(self) -> Self:
        """Return an independent list of the same blocks, which are not copied."""
        return replace(self, blocks=[*self.blocks], _small=[*self._small])

    def with_change(self, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Self:
        """Return the rows after a change that keeps shape and dtype; rows in files are changed when they are read."""
        self.close()
        blocks = [replace(one, change=change) if isinstance(one, SpilledRows) else change(one) for one in self.blocks]
        return replace(self, blocks=blocks)

    def between(self, start: int, stop: int) -> list[NDArray[Any] | SpilledRows]:
        """Return some of the rows, in blocks."""
        return between(self.blocks, start, stop)


class BatchRows:
    """The rows of a batch, for each sharded array."""

    def __init__(self, schema: Schema, space: Space) -> None:
        self.arrays = {name: RowBlocks() for names in schema.sharded().values() for name in names}
        self.schema = schema
        self.piece_bytes = 0  # of the largest piece of a sequence that was added
        self.whole_bytes = 0  # of the sequences that were added whole
        self._space = space
        # Labels that are the inputs, as for forecasting, are stored once, until other labels are added.
        self._labels_are_inputs = schema.labels_like_inputs
        if self._labels_are_inputs:
            self.arrays["labels"] = self.arrays["inputs"]

    def add(self, arrays: Mapping[str, NDArray[Any]], shared: Collection[str] = ()) -> None:
        """Append rows to the sharded arrays.

        Args:
            arrays: The rows of each array; rows of other arrays are ignored.
            shared: The arrays that the caller may change later: they are copied, unless they go to a file at once.
        """
        new = {name: rows for name, rows in arrays.items() if name in self.arrays}
        if self._labels_are_inputs and new.get("labels") is new.get("inputs"):
            new.pop("labels", None)
        elif self._labels_are_inputs:
            self._labels_are_inputs, self.arrays["labels"] = False, self.arrays["inputs"].copy()
        room = self._space.memory - bytes_in_memory(self.arrays)
        is_full = sum(rows.nbytes for rows in new.values()) > room
        for name, rows in new.items():
            if is_full and self._space.folder is None:
                first = rows[: max(0, room) // max(1, rows[:1].nbytes)].copy()
                self.arrays[name].add(first)
                self.arrays[name].nbytes += rows.nbytes - first.nbytes  # the others are only counted
            else:
                self.arrays[name].add(rows.copy() if name in shared and not is_full else rows)
        if is_full and self._space.folder is not None:
            for name, blocks in self.arrays.items():
                # A random name, since a cluster may run the same task on another worker at the same time.
                blocks.spill(self._space.folder / f"{name}.{secrets.token_hex(8)}")

    def ends(self) -> dict[str, tuple[int, int]]:
        """Return the present number of rows and bytes of each array, for `truncate`."""
        return {name: (blocks.rows, blocks.nbytes) for name, blocks in self.arrays.items()}

    def truncate(self, ends: Mapping[str, tuple[int, int]]) -> None:
        """Remove the rows that were added since `ends` was called."""
        for name, (rows, nbytes) in ends.items():
            self.arrays[name].truncate(rows, nbytes)

    def close(self) -> dict[str, RowBlocks]:
        """Finish, and return the rows by array."""
        for blocks in self.arrays.values():
            blocks.close()
        return self.arrays


def bytes_in_memory(arrays: Mapping[str, RowBlocks]) -> int:
    """Return the bytes of rows that are not in files; rows that two arrays share count once."""
    return sum({id(blocks): blocks.in_memory for blocks in arrays.values()}.values())


def _bytes_of(rows: NDArray[Any]) -> memoryview:
    return np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
