"""A cache of remote shards in a local folder, which all processes of a machine share.

    FOLDER/usage                     the bytes of all pages, as one int64
    FOLDER/locks/a37                 one of 4,096 locks, by shard and first page
    FOLDER/STORE/SHARD.data          the pages of a shard at their places; a sparse file
    FOLDER/STORE/SHARD.crc           the crc32c of each page, uint32; 0 if the page is missing

An epoch reads each page about once, so a cache that drops the page used longest ago would never have the next one. This
one keeps the pages that came first until the store has not been read for an hour: then other stores may replace them.
"""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.storage import remove_tree
from store_spec.errors import StorageError
from store_spec.format.codec import crc32c

PAGE = 2**14  # bytes; more would be fetched in vain at both ends of a range, fewer take longer to check
FULL = 0.9  # of its size, from which a cache removes pages of other stores; the last request need not fit in
UNUSED_SECONDS = 3600  # after which the pages of another store may be removed

Data = bytes | memoryview
Cached = tuple[Path, int]  # the folder and the size of a cache


@dataclass(frozen=True, slots=True)
class CacheUse:
    """What this process has read through a cache, and what is in it.

    Args:
        hit_bytes: Bytes of pages that were in the cache.
        fetched_bytes: Bytes of pages that were fetched.
        cached_bytes: Bytes of all pages in the folder, of all stores and processes.
        limit: The largest number of these bytes.
    """

    hit_bytes: int
    fetched_bytes: int
    cached_bytes: int
    limit: int


class Cache:
    """The pages of one store in a cache. A damaged page is fetched again; without room, nothing is added.

    The folder is created. `limit` is the largest number of bytes of pages in it; processes that are killed may leave
    some MiB more. `store` identifies the store.
    """

    def __init__(self, folder: Path, limit: int, store: str) -> None:
        self.folder, self.limit = folder.absolute(), limit
        self._of_store = self.folder / _hash(store)
        self._hit = self._fetched = 0
        self._touched = 0.0
        with self._usable():
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            self._of_store.mkdir(exist_ok=True)
            self._touch()
            with self._locked("usage") as usage:
                _write_usage(usage, self._make_room())

    @property
    def use(self) -> CacheUse:
        """What was read through the cache so far, and what is in it."""
        with self._locked("usage") as usage:
            return CacheUse(self._hit, self._fetched, _read_usage(usage), self.limit)

    def get(self, shard: str, start: int, length: int, fetch: Callable[[int, int], Data]) -> Data:
        """Return `length` bytes of a shard from `start` on, or as many as there are.

        `shard` identifies the shard and its content; `fetch(start, length)` is called for pages that are missing.
        """
        self._touch()
        first, after = start // PAGE, -(-(start + length) // PAGE)
        path = self._of_store / _hash(shard)
        data, missing = _read_pages(path, first, after - first)
        if missing.any():
            lock = _hash(f"{shard} {first}")[:3]
            with self._locked(f"locks/{lock}"):  # another process may be fetching the same pages
                data, missing = _read_pages(path, first, after - first)
                if missing.any():
                    data = self._fetch_pages(path, first, data, missing, fetch)
        self._hit += (len(missing) - int(missing.sum())) * PAGE
        return memoryview(data)[start - first * PAGE :][:length]

    def _fetch_pages(
        self, path: Path, first: int, data: bytes, missing: NDArray[np.bool_], fetch: Callable[[int, int], Data]
    ) -> bytes:
        """Fetch from the first to the last missing page in one request; return all pages."""
        low, high = (int(at) for at in np.flatnonzero(missing)[[0, -1]] + (0, 1))
        fetched = bytes(fetch((first + low) * PAGE, (high - low) * PAGE))
        self._fetched += len(fetched)
        added = int(missing[low : low - (-len(fetched) // PAGE)].sum()) * PAGE  # the shard may end before
        if self._reserve(added):
            try:
                _write_pages(path, first + low, fetched)
            except OSError:  # for example, the disk is full
                self._reserve(-added)
        return data[: low * PAGE] + fetched + data[high * PAGE :]

    def _reserve(self, count: int) -> bool:
        """Add to the bytes that are counted; return False if there is no room for so many more."""
        with self._locked("usage") as usage:
            bytes_after = _read_usage(usage) + count
            if count > 0 and bytes_after > self.limit:
                return False
            with contextlib.suppress(OSError):
                _write_usage(usage, bytes_after)
            return True

    def _make_room(self) -> int:
        """Remove the pages of other stores that are not read any more, as far as needed; return the bytes left."""
        sizes = {
            folder: _page_bytes(folder) for folder in self.folder.iterdir() if folder.name not in ("locks", "usage")
        }
        unused = [folder for folder in sizes if folder.stat().st_mtime < time.time() - UNUSED_SECONDS]
        for folder in sorted(unused, key=lambda folder: folder.stat().st_mtime):
            if sum(sizes.values()) < self.limit * FULL:
                break
            if folder != self._of_store:
                remove_tree(folder)
                del sizes[folder]
        return sum(sizes.values())

    def _touch(self) -> None:
        """Record that the store is read, about once a minute."""
        if time.monotonic() - self._touched > UNUSED_SECONDS / 60 or not self._touched:
            self._touched = time.monotonic()
            with contextlib.suppress(OSError):
                os.utime(self._of_store)

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turn errors of the system into a StorageError that names the cache."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(error.errno, f"{self.folder}: this cache cannot be used: {error.strerror}") from error

    @contextmanager
    def _locked(self, name: str) -> Iterator[int]:
        """Open a file with a lock that ends with this context, or with the process."""
        with self._usable():  # another process may have removed the folder
            descriptor = os.open(self.folder / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield descriptor
        finally:
            fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough: a forked process may have the file open
            os.close(descriptor)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _read_usage(descriptor: int) -> int:
    return int.from_bytes(os.pread(descriptor, 8, 0), "little")


def _write_usage(descriptor: int, count: int) -> None:
    os.pwrite(descriptor, count.to_bytes(8, "little"), 0)


def _page_bytes(folder: Path) -> int:
    return sum(PAGE * int(np.count_nonzero(np.fromfile(file, "<u4"))) for file in folder.glob("*.crc"))


def _read_pages(path: Path, first: int, count: int) -> tuple[bytes, NDArray[np.bool_]]:
    """Return some pages, and which of them are missing or damaged; the bytes of these are arbitrary."""
    try:
        data = _read(path.with_suffix(".data"), first * PAGE, count * PAGE)
        crcs = np.frombuffer(_read(path.with_suffix(".crc"), 4 * first, 4 * count), "<u4")
    except OSError:
        return b"", np.ones(count, np.bool_)
    missing, view = np.ones(count, np.bool_), memoryview(data)
    for page in np.flatnonzero(crcs).tolist():
        missing[page] = crc32c(view[page * PAGE : (page + 1) * PAGE]) != crcs[page]
    return data, missing


def _write_pages(path: Path, first: int, data: bytes) -> None:
    """Write pages, and then their checksums: a process that is killed in between leaves pages that are missing."""
    view = memoryview(data)
    crcs = [crc32c(view[start : start + PAGE]) for start in range(0, len(data), PAGE)]
    _write(path.with_suffix(".data"), first * PAGE, data)
    _write(path.with_suffix(".crc"), 4 * first, np.array(crcs, "<u4").tobytes())


def _read(path: Path, start: int, length: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(start)
        return file.read(length)


def _write(path: Path, start: int, data: bytes) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb") as file:
        file.seek(start)
        file.write(data)
