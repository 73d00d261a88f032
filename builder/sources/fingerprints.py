"""Fingerprints of sources, to find out whether they changed, and a cache of them.

A file whose size and times are the same as when it was last read has the same bytes, so its hash is known. The cache is
in the build folder beside the store; without it every file is read once more.
"""

import contextlib
import hashlib
import io
import os
import stat
import time
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from store_spec import StorageError
from store_spec.building import LocalStorage, StorePlace, build_folder

CACHE = "seen.npz"
BUFFER_BYTES = 2**16  # what was read is hashed while it is in the CPU cache
LEAST_BYTES = 2**12  # read at a time from a file that grows meanwhile
# A file that was written more recently can be written again without a change of its time: some file systems count whole
# seconds, and Linux sets the time of a page of a memory map once until it writes the page to the disk, after some 35 s.
SETTLED_NS = 60_000_000_000


class State(NamedTuple):
    """What changes when a file is written, or when another one takes its place."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int = 0  # small files that are written at almost the same time have equal times

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """Return the state from the result of `os.stat`."""
        return cls(status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino % 2**63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """The SHA-256 of a file, and its state when it was read."""

    sha256: bytes
    state: State
    settled: bool = False  # whether another write would change the state


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """The files of a source."""

    own: tuple[str, ...]  # the files of its inputs
    labels: str | None = None  # its label file, if any
    joined: bool = False  # whether the source is formed from several files, of which there may be only one

    @property
    def every(self) -> tuple[str, ...]:
        """All files."""
        return self.own if self.labels is None else (*self.own, self.labels)

    def hashes(self, hashes: Sequence[bytes]) -> tuple[bytes, ...]:
        """Return the hash of the source, and that of its label file if it has one, from the hashes of all files.

        The hash of a source of several files is the SHA-256 of what `sha256sum` prints for them.
        """
        if not self.joined:
            return tuple(hashes)
        lines = [f"{sha256.hex()}  {name}\n" for sha256, name in zip(hashes, self.own, strict=False)]
        return hashlib.sha256("".join(lines).encode()).digest(), *hashes[len(self.own) :]


@dataclass(frozen=True, slots=True)
class SourceRead:
    """The files of a source, and their fingerprints."""

    files: SourceFiles
    fingerprints: Mapping[str, Fingerprint]  # by name, in the order of the files

    @property
    def size(self) -> int:
        """The bytes of the source, without its label file."""
        return sum(self.fingerprints[file].state.size for file in self.files.own)

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The hashes of the source and of its label file, if there is one."""
        return self.files.hashes([one.sha256 for one in self.fingerprints.values()])


def read_fingerprint(path: str | Path) -> Fingerprint:
    """Read a file and hash it; OSError if it is not a regular file, or its size changes meanwhile."""
    digest, size, now = hashlib.sha256(), 0, time.time_ns()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a pipe would block
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError("it is not a file")
        buffer = memoryview(bytearray(max(LEAST_BYTES, min(BUFFER_BYTES, status.st_size + 1))))
        while count := os.readv(descriptor, [buffer]):
            digest.update(buffer[:count])
            size += count
    finally:
        os.close(descriptor)
    if size != status.st_size:
        raise OSError(f"it had {status.st_size:,} bytes, but {size:,} were read: it changed while it was read")
    state = State.of(status)
    settled = max(state.modified_ns, state.changed_ns) < now - SETTLED_NS
    return Fingerprint(sha256=digest.digest(), state=state, settled=settled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprints:
    """The states and hashes of files, as columns, since there may be millions."""

    names: tuple[str, ...]
    states: NDArray[np.int64]  # (files, 4), the fields of `State`
    hashes: NDArray[np.uint8]  # (files, 32)

    @classmethod
    def of(cls, read: Mapping[str, Fingerprint]) -> Self:
        """Return the fingerprints of the files whose state is settled."""
        known = {name: one for name, one in read.items() if one.settled}
        states = [one.state for one in known.values()]
        hashes = np.frombuffer(b"".join(one.sha256 for one in known.values()), np.uint8).reshape(-1, 32)
        return cls(names=tuple(known), states=np.array(states, np.int64).reshape(-1, len(State._fields)), hashes=hashes)


class FingerprintCache:
    """The fingerprints of all files that the builds of a store have read."""

    def __init__(self, before: Fingerprints) -> None:
        self._parts = [before]
        self._rows = {name: row for row, name in enumerate(before.names)}

    def sha256(self, name: str, state: State) -> bytes | None:
        """Return the hash of a file that had this state in an earlier build; None if it is unknown."""
        row, before = self._rows.get(name), self._parts[0]
        if row is None or before.states[row].tolist() != [*state]:
            return None
        return bytes(before.hashes[row])

    def add(self, fingerprints: Fingerprints, names: Iterable[str] = ()) -> None:
        """Add files that were read now. Names are replaced by equal objects in `names`, to save memory."""
        if fingerprints.names:
            own = {name: name for name in names}  # names from another process are separate objects
            self._parts.append(replace(fingerprints, names=tuple(own.get(name, name) for name in fingerprints.names)))

    @classmethod
    def load(cls, store: StorePlace) -> Self:
        """Read the cache of a store; a missing or broken cache counts as empty. A store at a URL has no cache."""
        before = Fingerprints.of({})
        if not isinstance(store, Path):
            return cls(before)
        with contextlib.suppress(OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
            with (build_folder(store) / CACHE).open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                names, states, hashes = (file[name] for name in ("names", "states", "hashes"))
            files = tuple(names.tobytes().decode().split("\0")) if names.size else ()
            fit = states.shape == (len(files), len(State._fields)) and hashes.shape == (len(files), 32)
            if fit and (states.dtype, hashes.dtype) == (np.int64, np.uint8):
                before = Fingerprints(names=files, states=states, hashes=hashes)
        return cls(before)

    def save(self, store: StorePlace) -> None:
        """Write the cache of a store if it has new files; if that fails, the next build reads them again."""
        if len(self._parts) == 1 or not isinstance(store, Path):
            return
        names = [name for part in self._parts for name in part.names]
        last = list({name: row for row, name in enumerate(names)}.values())  # the latest row of each file
        text = np.frombuffer("\0".join(names[row] for row in last).encode(), np.uint8)
        states = np.concatenate([part.states for part in self._parts])[last]
        hashes = np.concatenate([part.hashes for part in self._parts])[last]
        data = io.BytesIO()
        np.savez(data, names=text, states=states, hashes=hashes)
        storage = LocalStorage(build_folder(store))
        with contextlib.suppress(StorageError):
            storage.make_folder()
            storage.delete_partial()  # from a build that was stopped at this point
            storage.put(CACHE, [data.getbuffer()])
