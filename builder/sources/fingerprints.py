"""Whether a source is what it was: the hash of its bytes, and a cache of the files that need not be read for that.

A file whose size and times are those it had when it was last read has the bytes that it had then, so its hash is known.
The cache lies beside the store, in its build folder; without it every file is read once more, and nothing else is lost.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store_spec import StorageError
from store_spec.building import LocalStorage, build_folder

CACHE = "seen.npz"
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
    beside: tuple[str, Fingerprint] | None = None  # that of the file of its labels, if there is one, by name

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

    def add(self, seen: Seen, names: Iterable[str] = ()) -> None:
        """Take note of files that were read just now; `names` are theirs as the caller keeps them, and others'."""
        if len(seen):
            own = {name: name for name in names}  # what came from another process are texts of their own
            self._parts.append(replace(seen, names=tuple(own.get(name, name) for name in seen.names)))

    @classmethod
    def load(cls, store: Path) -> SeenFiles:
        """Read the cache of a store; none, or one that is broken, is an empty one."""
        before = Seen.of({})
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            with (build_folder(store) / CACHE).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                names, states, hashes = (file[name] for name in ("names", "states", "hashes"))
            found = tuple(names.tobytes().decode().split("\0")) if names.size else ()
            fit = states.shape == (len(found), 3) and hashes.shape == (len(found), 32)
            if fit and (states.dtype, hashes.dtype) == (np.int64, np.uint8):
                before = Seen(names=found, states=states, hashes=hashes)
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
        text = np.frombuffer("\0".join(rows).encode(), np.uint8)
        data = io.BytesIO()
        np.savez(data, names=text, states=states, hashes=hashes)
        storage = LocalStorage(build_folder(store))
        with contextlib.suppress(StorageError):
            storage.make_folder()
            storage.delete_partial()  # from a build that was stopped at this point
            storage.put(CACHE, [data.getvalue()])
