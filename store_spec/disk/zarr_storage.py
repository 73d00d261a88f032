"""`Storage` for zarr stores, such as memory, a zip file or a bucket, for reading.

Zarr stores have a coroutine that reads a range of a key, and zarr runs it in the event loop of another thread. That
costs 40 to 180 us per call, so it is avoided for stores that have another way.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

from zarr.abc.store import OffsetByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync  # has no public name; icechunk imports it from here too
from zarr.storage import MemoryStore, ObjectStore, StorePath

from store_spec.disk.cache import Data
from store_spec.disk.places import Address
from store_spec.disk.tables import part_of
from store_spec.errors import MissingStoreError, SchemaError, StorageError, StoreError, UnreadableError

_ABSENT = (FileNotFoundError, IsADirectoryError, NotADirectoryError)


def storage_of_zarr_store(store: Store) -> ZarrStorage:
    """Return the storage of a zarr store that is not a `LocalStore`."""
    if isinstance(store, MemoryStore):
        return MemoryStorage(store)
    if isinstance(store, ObjectStore):
        from store_spec.disk.object_storage import ObjectStorage  # which has this module's class as its base

        return ObjectStorage(store)
    if isinstance(store, Store):
        return ZarrStorage(store)
    raise SchemaError(f"{store!r:.200} is neither a path nor a store of zarr")


class ZarrStorage:
    """The keys of any zarr store. It can be pickled if the store can be.

    Stores differ in how they treat a range beyond the end of a value: some return the bytes there are, and some raise
    various errors. This class always returns the bytes there are. `name` is the store's name in messages, by default
    its `str`.
    """

    requests: ClassVar[int] = 1
    lists = True
    keeps_state: ClassVar[bool] = True
    _error: ClassVar[type[StorageError]] = UnreadableError

    def __init__(self, store: Store, name: str | None = None) -> None:
        self.root = Address(store if name is None else name)
        self._store_and_process = self._open(store), os.getpid()

    def __reduce__(self) -> Any:
        return type(self), (self._store_and_process[0],)

    @property
    def _store(self) -> Any:
        store, process = self._store_and_process
        if process != os.getpid():
            store, _ = self._store_and_process = self._after_fork(store), os.getpid()
        return store

    def _open(self, store: Store) -> Store:
        return sync(StorePath.open(store, "", mode=None)).store

    def _after_fork(self, store: Store) -> Store:
        """Return a copy of the store for a forked child, without the file or connection that the parent uses."""
        try:
            return self._open(pickle.loads(pickle.dumps(store)))  # noqa: S301  # pickled in the same expression
        except Exception as error:
            raise StorageError(
                errno.EBADF,
                f"{self.root}: cannot be opened again in a forked process ({error!s:.200}); start it by spawn",
            ) from error

    def path(self, key: str) -> Address:
        """Return the address of a key."""
        return Address(f"{self.root}/{key}")

    def get(self, key: str, start: int = 0, length: int | None = None) -> Data:
        """Return the value of a key from `start` on, or `length` bytes of it; a negative `start` counts from the end.

        Raises:
            MissingStoreError: There is no such key.
            UnreadableError: The store cannot read it.
        """
        if length is not None and length <= 0:
            return b""
        store = self._store
        try:
            data = self._get(store, key, start, length)
        except _ABSENT:
            data = None
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  # each kind of store raises other errors
            data = self._get_within(store, key, start, length, error)
        if data is None:
            raise MissingStoreError(f"{self.path(key)}: there is no such key")
        return data

    def _get_within(self, store: Any, key: str, start: int, length: int | None, error: Exception) -> Data | None:
        """Return the existing bytes of a range after the store raised an error, maybe for a range beyond the end."""
        try:
            size = self._size(store, key)
            first = start if start >= 0 else max(0, size + start)
            within = size - first if length is None else min(length, size - first)
            if within <= 0:
                return b""
            if (first, within) != (start, length):
                return self._get(store, key, first, within)
        except Exception as second:
            raise self._refused(key, "reading", error) from second
        raise self._refused(key, "reading", error) from error

    def size(self, key: str) -> int:
        """Return the size of a value; 0 if there is no such key."""
        store = self._store
        with contextlib.suppress(*_ABSENT), self._naming(key, "looking at"):
            return self._size(store, key)
        return 0

    def list(self, key: str = "") -> list[str]:
        """Return the names below a key, sorted; an empty list if there are none."""
        store = self._store
        with contextlib.suppress(*_ABSENT), self._naming(key, "listing"):
            return sorted(self._names(store, key))
        return []

    @contextlib.contextmanager
    def _naming(self, key: str, step: str) -> Iterator[None]:
        """Turn any error, unless the key is absent, into a StorageError that names the key and the step."""
        try:
            yield
        except _ABSENT:
            raise
        except Exception as error:
            raise self._refused(key, step, error) from error

    def _refused(self, key: str, step: str, error: Exception) -> StorageError:
        reason = str(error).partition("\n")[0]  # obstore adds many lines of details
        return self._error(errno.EIO, f"{self.path(key)}: {step} failed: {type(error).__name__}: {reason:.500}")

    def _get(self, store: Any, key: str, start: int, length: int | None) -> Data | None:
        if start < 0:
            request: Any = SuffixByteRequest(-start)
        elif length is not None:
            request = RangeByteRequest(start, start + length)
        else:
            request = OffsetByteRequest(start) if start else None
        buffer = sync(store.get(key, default_buffer_prototype(), request))
        return None if buffer is None else buffer.as_numpy_array().data

    def _size(self, store: Any, key: str) -> int:
        return int(sync(store.getsize(key)))

    def _names(self, store: Any, key: str) -> Iterable[str]:
        async def names() -> Iterable[str]:  # some stores start listing when they are called, so call them in the loop
            return [name async for name in store.list_dir(key)]

        return sync(names())


class MemoryStorage(ZarrStorage):
    """A `MemoryStore`: read without an event loop, and shared with a forked child."""

    def _after_fork(self, store: Store) -> Store:
        return store

    def _get(self, store: Any, key: str, start: int, length: int | None) -> Data | None:
        buffer = store.get_sync(key, prototype=default_buffer_prototype())
        if buffer is None:
            return None
        return part_of(buffer.as_numpy_array().data, start, length)
