"""A cache of remote shards in a local folder, which all processes of a machine share.

    FOLDER/lock                      locked by a process that adds or removes anything below
    FOLDER/STORE/page-bytes          the bytes of all pages of a store, as one int64
    FOLDER/STORE/SHARD/VERSION.data  the pages of a shard at their places; a sparse file
    FOLDER/STORE/SHARD/VERSION.crc   the crc32c of each page, uint32; 0 if the page is missing
    FOLDER/STORE/SHARD/VERSION.3-9   locked by a process that fetches pages 3 to 8

An epoch reads each page about once, so a cache that drops the page used longest ago would never have the next one. This
one keeps the pages that came first. If it is full, a store that was not read for an hour makes room, and otherwise the
store with the most pages, until the others have as many.
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
from store_spec.format.runs import runs_of

PAGE = 2**14  # bytes; more would be fetched in vain at both ends of a range, fewer take longer to check
UNUSED_SECONDS = 3600  # after the last read of a store, others take its pages first
GIVEN_UP = 256  # a store gives up this part of the cache at once, because finding pages takes milliseconds

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
        with self._usable():
            self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            for one in self._stores():  # a process may have been killed while it added pages
                _write_page_bytes(one, sum(PAGE * len(_kept(file)) for file in one.glob("*/*.crc")))

    @property
    def use(self) -> CacheUse:
        """What was read through the cache so far, and what is in it."""
        with self._locked():
            return CacheUse(self._hit, self._fetched, sum(self._stores().values()), self.limit)

    def get(self, key: str, version: str, start: int, length: int, fetch: Callable[[int, int], Data]) -> Data:
        """Return `length` bytes of a shard from `start` on, or as many as there are.

        `version` identifies the content of the shard; `fetch(start, length)` is called for pages that are missing.
        """
        with contextlib.suppress(OSError):
            os.utime(self._of_store)  # see `_is_unused`
        path = self._of_store / _hash(key) / _hash(version)
        pages = _Pages(start // PAGE, -(-(start + length) // PAGE))
        hit = pages.read(path)
        while pages.missing.any():
            with self._claimed(path, pages) as claimed:
                hit += pages.read(path)  # another process may have fetched some in the meantime
                for low, high in runs_of(pages.missing & claimed).tolist():
                    data = fetch((pages.first + low) * PAGE, (high - low) * PAGE)
                    pages.add(low, high, data)
                    self._keep(path, pages.first + low, data)
        self._hit += hit
        return pages.data[start - pages.first * PAGE : pages.end][:length]

    @contextmanager
    def _claimed(self, path: Path, pages: "_Pages") -> Iterator[NDArray[np.bool_]]:
        """Claim the missing pages that no other request fetches, and yield which; if there are none, wait for others.

        Without room in the cache no page is claimed, and all are yielded, because other requests would wait in vain.
        """
        with contextlib.ExitStack() as claim:
            others, free = [], pages.missing.copy()
            with self._locked():
                if self._make_room(PAGE):
                    for file in path.parent.glob(f"{path.name}.*-*"):
                        low, high = (max(0, int(page) - pages.first) for page in file.suffix[1:].split("-"))
                        if free[low:high].any():
                            free[low:high] = False
                            others.append(file)
                    if free.any():
                        low, high = pages.first + np.flatnonzero(free)[[0, -1]] + (0, 1)
                        with contextlib.suppress(OSError):  # for example, the disk is full
                            claim.enter_context(_claim(path.with_suffix(f".{low}-{high}")))
            if not free.any():
                for file in others:
                    with contextlib.suppress(OSError), _claim(file):
                        pass
                    if file.exists():  # such as in a folder that became read-only
                        free = pages.missing.copy()
            yield free

    def _keep(self, path: Path, first: int, data: Data) -> None:
        """Add pages that were fetched, as many as there is room for."""
        with self._locked():
            self._fetched += len(data)
            if path.parent.exists() and any(file.stem != path.name for file in path.parent.iterdir()):
                remove_tree(self._of_store)  # the store was rebuilt: another version of the shard is older than this
            count = self._make_room(-(-len(data) // PAGE) * PAGE)
            if not count:
                return
            with contextlib.suppress(OSError):  # for example, the disk is full
                path.parent.mkdir(parents=True, exist_ok=True)
                before = _page_bytes(self._of_store)
                _write_page_bytes(self._of_store, before + count)
                try:
                    _write_pages(path, first, memoryview(data)[:count])
                except OSError:
                    _write_page_bytes(self._of_store, before)

    def _make_room(self, count: int) -> int:
        """Return how many of `count` bytes there is room for, after other stores have given up pages for them."""
        while True:
            others = self._stores()
            mine = others.pop(self._of_store, 0)
            room = self.limit - mine - sum(others.values())
            if room >= count or not others:
                break
            largest = max(others, key=lambda store: (_is_unused(store), others[store]))
            surplus = (others[largest] - mine - room) // 2 // PAGE  # without these pages, both have as many
            if _is_unused(largest):
                remove_tree(largest)
            elif surplus > 0:
                _give_up(largest, min(surplus, max(-(-(count - room) // PAGE), self.limit // PAGE // GIVEN_UP)))
            else:
                break
        return max(0, min(count, room)) // PAGE * PAGE

    def _stores(self) -> dict[Path, int]:
        """Return the folders of all stores, and the bytes of their pages; other folders are left alone."""
        return {file.parent: _page_bytes(file.parent) for file in self.folder.glob("*/page-bytes")}

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """Turn errors of the system into a StorageError that names the cache."""
        try:
            yield
        except OSError as error:
            raise StorageError(error.errno, f"{self.folder}: this cache cannot be used: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock of the cache."""
        with self._usable(), _locked_file(self.folder / "lock"):  # somebody may have removed the folder
            yield


class _Pages:
    """The pages that a request needs, and which of them are still missing.

    `first` is the number of the first page, and `end` that of bytes before the end of the shard, if this is within.
    """

    def __init__(self, first: int, after: int) -> None:
        self.first, self.end = first, 0
        self.data = np.empty((after - first) * PAGE, np.uint8).data
        self.missing = np.ones(after - first, np.bool_)

    def read(self, path: Path) -> int:
        """Read missing pages that are in the cache and not damaged; return their bytes."""
        before = np.count_nonzero(self.missing)
        with contextlib.suppress(OSError):
            stored = bytearray(4 * len(self.missing))
            _read_into(path.with_suffix(".crc"), 4 * self.first, memoryview(stored))
            crcs = np.frombuffer(stored, "<u4")
            for low, high in runs_of(self.missing & (crcs != 0)).tolist():
                out = self.data[low * PAGE : high * PAGE]
                out = out[: _read_into(path.with_suffix(".data"), (self.first + low) * PAGE, out)]
                for page in range(low, high):
                    content = out[(page - low) * PAGE :][:PAGE]
                    if crc32c(content) == crcs[page]:
                        self._have(page, page + 1, len(content))
        return PAGE * int(before - np.count_nonzero(self.missing))

    def add(self, low: int, high: int, data: Data) -> None:
        """Add pages `low` to `high`, counted from the first; fewer bytes end at the end of the shard."""
        self.data[low * PAGE : low * PAGE + len(data)] = data
        self._have(low, high, len(data))

    def _have(self, low: int, high: int, nbytes: int) -> None:
        self.missing[low:high] = False
        if nbytes:  # otherwise the shard ends before
            self.end = max(self.end, low * PAGE + nbytes)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


_LOCKED: set[int] = set()  # descriptors of files that threads of this process have locked, or wait for


def _close_locked() -> None:
    """Close these files in a forked process, which otherwise would keep the locks of a parent that is killed."""
    while _LOCKED:
        os.close(_LOCKED.pop())


os.register_at_fork(after_in_child=_close_locked)


@contextmanager
def _locked_file(path: Path) -> Iterator[None]:
    """Hold the lock of a file, which ends with this context or with the process."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    _LOCKED.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # a process that was forked before `add` has the file open, too
        _LOCKED.discard(descriptor)
        os.close(descriptor)


@contextmanager
def _claim(file: Path) -> Iterator[None]:
    """Hold a claim; if another process holds it, wait until that has fetched the pages, or was killed."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with _locked_file(file):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)


def _is_unused(store: Path) -> bool:
    return store.stat().st_mtime < time.time() - UNUSED_SECONDS


def _give_up(store: Path, count: int) -> None:
    """Remove `count` pages of a store, if it has so many, from the ends of its shards."""
    left = count
    for file in store.glob("*/*.crc"):
        pages = _kept(file)[-left:]
        if pages:
            os.truncate(file, 4 * pages[0])
            os.truncate(file.with_suffix(".data"), PAGE * pages[0])
        left -= len(pages)
        if not left:
            break
    _write_page_bytes(store, max(0, _page_bytes(store) - count * PAGE) if not left else 0)


def _kept(file: Path) -> list[int]:
    """Return the numbers of the pages of a shard that are in the cache."""
    return np.flatnonzero(np.fromfile(file, "<u4")).tolist()


def _page_bytes(store: Path) -> int:
    """Return the bytes of the pages of a store, as counted."""
    count = bytearray(8)
    with contextlib.suppress(FileNotFoundError):
        _read_into(store / "page-bytes", 0, memoryview(count))
    return int.from_bytes(count, "little")


def _write_page_bytes(store: Path, count: int) -> None:
    _write(store / "page-bytes", 0, count.to_bytes(8, "little"))


def _write_pages(path: Path, first: int, data: memoryview) -> None:
    """Write pages, and then their checksums: a process that is killed in between leaves pages that are missing."""
    crcs = [crc32c(data[start : start + PAGE]) for start in range(0, len(data), PAGE)]
    _write(path.with_suffix(".data"), first * PAGE, data)
    _write(path.with_suffix(".crc"), 4 * first, np.array(crcs, "<u4").tobytes())


def _read_into(path: Path, start: int, out: memoryview) -> int:
    """Read bytes of a file until `out` is full or the file ends; return how many."""
    with open(path, "rb") as file:
        file.seek(start)
        return file.readinto(out)


def _write(path: Path, start: int, data: Data) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb") as file:
        file.seek(start)
        file.write(data)
