"""Whether a source is what it was: the hash of its bytes, and a cache of the files that need not be read for that.

A file whose size and times are those it had when it was last read has the bytes that it had then, so its hash is known.
The cache lies beside the store, in its build folder; without it every file is read once more, and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import ipc

from store_spec.lock import build_folder

CACHE = "seen.arrow"
BUFFER_BYTES = 2**18
# A file that was written to this short a time ago can be so again without another time: some file systems count whole
# seconds. It is not taken for known.
SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """What changes whenever a file is written to."""

    size: int
    modified_ns: int
    changed_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> State:
        """Take it from what `stat` gives."""
        return cls(size=status.st_size, modified_ns=status.st_mtime_ns, changed_ns=status.st_ctime_ns)

    def is_settled(self, now_ns: int) -> bool:
        """Tell whether it would be another if the file were written to from now on."""
        return max(self.modified_ns, self.changed_ns) < now_ns - SETTLED_NS


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """A file's bytes, in short: their SHA-256, and the state that the file had when they were read."""

    sha256: bytes
    state: State
    inode: int
    settled: bool  # whether that state stands for these bytes

    def is_of(self, status: os.stat_result) -> bool:
        """Tell whether the file was neither written to nor replaced since; new links and permissions do not matter."""
        before = self.inode, self.state.size, self.state.modified_ns
        return before == (status.st_ino, status.st_size, status.st_mtime_ns)


def read_fingerprint(path: str | Path, buffer: memoryview | None = None) -> Fingerprint:
    """Read a file and hash it.

    Args:
        path: The file.
        buffer: To read by way of, if there is one already.

    Raises:
        OSError: It cannot be read, is no file, or its size changes meanwhile.
    """
    buffer = memoryview(bytearray(BUFFER_BYTES)) if buffer is None else buffer
    digest, size, now = hashlib.sha256(), 0, time.time_ns()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for ever
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a file")
        while count := os.readv(descriptor, [buffer]):
            digest.update(buffer[:count])
            size += count
    finally:
        os.close(descriptor)
    if size != status.st_size:
        raise OSError(f"it had {status.st_size:,} bytes and gave {size:,}: it changed while it was read")
    state = State.of(status)
    return Fingerprint(sha256=digest.digest(), state=state, inode=status.st_ino, settled=state.is_settled(now))


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Some files that were read, the state of each, and its hash: as columns, since there may be millions."""

    names: tuple[str, ...]
    states: NDArray[np.int64]  # (files, 3): size, modified_ns, changed_ns
    hashes: NDArray[np.uint8]  # (files, 32)

    @classmethod
    def of(cls, read: Mapping[str, Fingerprint]) -> Seen:
        """Take note of the files whose state stands for their bytes."""
        known = {name: one for name, one in read.items() if one.settled}
        states = [(one.state.size, one.state.modified_ns, one.state.changed_ns) for one in known.values()]
        hashes = np.frombuffer(b"".join(one.sha256 for one in known.values()), np.uint8).reshape(-1, 32)
        return cls(names=tuple(known), states=np.array(states, np.int64).reshape(-1, 3), hashes=hashes)

    def __len__(self) -> int:
        return len(self.names)


class SeenFiles:
    """What is known of all files of a store's builds: what earlier builds saw, and what this one adds."""

    def __init__(self, before: Seen) -> None:
        self._parts = [before]
        self._rows = {name: row for row, name in enumerate(before.names)}

    def sha256(self, name: str, state: State) -> bytes | None:
        """Return the hash that a file in this state had in an earlier build; None where that is not known."""
        row, before = self._rows.get(name), self._parts[0]
        if row is None or before.states[row].tolist() != [state.size, state.modified_ns, state.changed_ns]:
            return None
        return bytes(before.hashes[row])

    def add(self, seen: Seen) -> None:
        """Take note of files that were read just now."""
        if len(seen):
            self._parts.append(seen)

    @classmethod
    def load(cls, store: Path) -> SeenFiles:
        """Read the cache of a store; none, or one that is broken, is an empty one."""
        before = Seen.of({})
        with contextlib.suppress(OSError, pa.ArrowException, KeyError, ValueError, TypeError):
            with pa.OSFile(str(build_folder(store) / CACHE)) as file, ipc.open_file(file) as reader:
                table = reader.read_all().cast(_SCHEMA)
            states = np.stack([table.column(name).to_numpy() for name in _STATE], 1)
            hashes = np.frombuffer(b"".join(table.column("sha256").to_pylist()), np.uint8).reshape(-1, 32)
            if len(hashes) == len(states):
                before = Seen(names=tuple(table.column("name").to_pylist()), states=states, hashes=hashes)
        return cls(before)

    def save(self, store: Path) -> None:
        """Write the cache of a store if it has something new; where it cannot be, the next build reads the files."""
        if len(self._parts) == 1:
            return
        # What was seen last counts.
        rows = {name: row for row, name in enumerate(name for part in self._parts for name in part.names)}
        taken = np.fromiter(rows.values(), np.int64)
        states = np.concatenate([part.states for part in self._parts])[taken]
        hashes = np.concatenate([part.hashes for part in self._parts])[taken]
        columns = [pa.array(rows, pa.string()), *map(pa.array, states.T), pa.array(list(map(bytes, hashes)), _HASH)]
        path = build_folder(store) / CACHE
        partial = path.with_suffix(".partial")
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            with pa.OSFile(str(partial), "wb") as file, ipc.new_file(file, _SCHEMA) as writer:
                writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
            partial.replace(path)


_STATE = ("size", "modified_ns", "changed_ns")
_HASH = pa.binary(32)
_SCHEMA = pa.schema([("name", pa.string()), *((name, pa.int64()) for name in _STATE), ("sha256", _HASH)])
