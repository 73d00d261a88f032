"""`Storage` for buckets and other object stores, through obstore: by a URL, or by zarr's `ObjectStore`."""

import errno
import os
from collections.abc import Iterable
from functools import cache, partial
from typing import Any, ClassVar

from zarr.storage import ObjectStore

from store_spec.disk.cache import Cache, Cached
from store_spec.disk.storage import storage_of
from store_spec.disk.zarr_storage import Data, ZarrStorage
from store_spec.errors import FormatError, SchemaError, StorageError


def object_store(url: str) -> ObjectStore[Any]:
    """Return the store of obstore at a URL, as one of zarr's."""
    try:
        from obstore.store import from_url
    except ImportError as error:
        raise SchemaError(f"{url}: obstore is not installed: pip install 'seqzarr[remote]'") from error
    if url.startswith("memory://"):
        return ObjectStore(_in_memory(str(url)))  # an Address would be another key of the cache
    options: Any = {"client_options": {"allow_http": True}} if url.startswith("http://") else {}
    try:
        return ObjectStore(from_url(url, **options))
    except Exception as error:  # obstore has a class for each kind of error
        reason = str(error).partition("\n")[0]
        raise SchemaError(f"{url}: obstore does not take this URL: {reason:.200}") from error


@cache
def _in_memory(url: str) -> Any:  # noqa: ARG001 - the key of the cache
    """Return the objects at a `memory://` URL, which are in the memory of this process."""
    from obstore.store import MemoryStore

    return MemoryStore()


class ObjectStorage(ZarrStorage):
    """An `ObjectStore`: read through obstore's own functions, which need no event loop in Python.

    The threads of obstore do not survive a fork: if the parent has used obstore before, for any store, every call in
    the child hangs. So such a call is refused. `url` is None if the store was given as an object; otherwise other
    processes open the store by it. `cached` is the folder and the size of a cache for the bytes of shards.
    """

    requests: ClassVar[int] = 16  # with the 90 MB/s that S3 gives to each, they fill a link of 10 Gbit/s
    _error: ClassVar[type[StorageError]] = StorageError  # an object is not damaged because the network fails
    _process: ClassVar[int] = 0  # the first process that used obstore: this one or an ancestor

    def __init__(self, store: ObjectStore[Any], url: str | None = None, cached: Cached | None = None) -> None:
        super().__init__(store, url)  # not all stores of obstore can print themselves
        self.lists = type(store.store).__name__ != "HTTPStore"  # web servers have no common way to list keys
        self._url, self._cached = url, cached
        self._e_tags: dict[str, str] = {}  # of shards when their index was read, by key
        self.cache = None if cached is None else Cache(*cached, store=self.root)

    def __reduce__(self) -> Any:
        if self._url is not None:
            return storage_of, (self._url, self._cached)
        return ObjectStorage, (self._store_and_process[0], None, self._cached)

    @property
    def _store(self) -> Any:
        ObjectStorage._process = ObjectStorage._process or os.getpid()
        if ObjectStorage._process != os.getpid():
            raise StorageError(
                errno.EDEADLK,
                f"{self.root}: obstore cannot be used in a forked process after its parent; start it by spawn",
            )
        return self._store_and_process[0]

    def _get(self, store: Any, key: str, start: int, length: int | None) -> Data | None:
        e_tag = self._e_tags.get(key)
        if self.cache is None or e_tag is None or start < 0 or length is None:
            return self._fetch(store, key, start, length)
        return self.cache.get(f"{key} {e_tag}", start, length, partial(self._fetch, store, key))

    def _fetch(self, store: Any, key: str, start: int, length: int | None) -> Data:
        import obstore
        from obstore.exceptions import PreconditionError

        options: Any = {}
        if start < 0:
            options = {"range": {"suffix": -start}}
        elif length is not None:
            options = {"range": (start, start + length)}
        elif start:
            options = {"range": {"offset": start}}
        if start >= 0 and key in self._e_tags:
            options["if_match"] = self._e_tags[key]
        try:
            result = obstore.get(store.store, key, options=options)
        except PreconditionError as error:
            raise FormatError(f"{self.path(key)}: replaced since its index was read; open the store again") from error
        if start < 0 and (e_tag := result.meta["e_tag"]):
            self._e_tags[key] = e_tag
        return memoryview(result.bytes())

    def _size(self, store: Any, key: str) -> int:
        import obstore

        return int(obstore.head(store.store, key)["size"])

    def _names(self, store: Any, key: str) -> Iterable[str]:
        import obstore

        listing = obstore.list_with_delimiter(store.store, key)
        paths = [*listing["common_prefixes"], *(one["path"] for one in listing["objects"])]
        return [path.rpartition("/")[2] for path in paths]
