"""`Storage` for buckets and other object stores, through obstore: by a URL, or by zarr's `ObjectStore`.

There is no lock, no rename and no fsync for writing, but puts depend on what is there.
"""

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from typing import Any, ClassVar

from zarr.abc.store import Store
from zarr.storage import ObjectStore

from store_spec.disk.cache import Cache, Cached, Data
from store_spec.disk.places import check_writable
from store_spec.disk.storage import PROBE, in_order, storage_of
from store_spec.disk.zarr_storage import ZarrStorage
from store_spec.errors import ConflictError, FormatError, MissingStoreError, SchemaError, StorageError, StoreError
from store_spec.format.layout import ROOT

with contextlib.suppress(ImportError):  # it is an extra: `object_store` refuses URLs without it
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, PreconditionError
    from obstore.store import MemoryStore

REPLACED = "replaced since its index was read; open the store again"
TRIES = 8  # attempts to replace an object that another process keeps replacing

Version = dict[str, Any]  # identifies the present content of an object, as obstore names it


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
    return MemoryStore()


class ObjectStorage(ZarrStorage):
    """An `ObjectStore`: read through obstore's own functions, which need no event loop in Python.

    The threads of obstore do not survive a fork: if the parent has used obstore before, for any store, every call in
    the child hangs. So such a call is refused. `url` is None if the store was given as an object; otherwise other
    processes open the store by it. `cached` is the folder and the size of a cache for the bytes of shards.
    """

    keeps_state: ClassVar[bool] = False
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
                f"{self.root}: obstore cannot be used in a forked process after its parent; start it by spawn "
                '(DataLoader: multiprocessing_context="spawn")',
            )
        return self._store_and_process[0]

    def _get(self, store: Any, key: str, start: int, length: int | None) -> Data | None:
        e_tag = self._e_tags.get(key)
        if self.cache is None or e_tag is None or start < 0 or length is None:
            return self._fetch(store, key, start, length, e_tag=e_tag)
        return self.cache.get(key, e_tag, start, length, partial(self._fetch, store, key, e_tag=e_tag))

    def _fetch(self, store: Any, key: str, start: int, length: int | None, *, e_tag: str | None) -> Data:
        options: Any = {}
        if start < 0:
            options = {"range": {"suffix": -start}}
        elif length is not None:
            options = {"range": (start, start + length)}
        elif start:
            options = {"range": {"offset": start}}
        if start >= 0 and e_tag is not None:
            options["if_match"] = e_tag
        try:
            result = obstore.get(store.store, key, options=options)
        except PreconditionError as error:
            raise FormatError(f"{self.path(key)}: {REPLACED}") from error
        now = result.meta["e_tag"]
        if start >= 0 and e_tag not in (None, now):  # the server ignores conditions, or this answers another request
            raise FormatError(f"{self.path(key)}: {REPLACED}")
        if start < 0 and now:
            self._e_tags[key] = now
        data, (first, stop) = memoryview(result.bytes()), result.range
        if len(data) != stop - first:
            raise FormatError(f"{self.path(key)}: the server sent {len(data):,} bytes, and claims {stop - first:,}")
        return data

    def _size(self, store: Any, key: str) -> int:
        return int(obstore.head(store.store, key)["size"])

    def _names(self, store: Any, key: str) -> Iterable[str]:
        if not self.lists:
            raise PermissionDeniedError("this server lists no keys")
        try:
            listing = obstore.list_with_delimiter(store.store, key)
        except BaseError as error:
            # For most servers, obstore raises a GenericError with the status in its text.
            self.lists = not isinstance(error, PermissionDeniedError) and "status code: 403" not in str(error)
            raise
        paths = [*listing["common_prefixes"], *(one["path"] for one in listing["objects"])]
        return [path.rpartition("/")[2] for path in paths]


class WritableObjects(ObjectStorage):
    """An object store that one writer writes to.

    A writer claims the store by a random text in the root, `writer`; after that, an earlier writer cannot commit. A put
    first reads the version of the object, then checks the claim, and then replaces only that version. So a slower
    writer never overwrites an object that a later one has put. A writer deletes only its own probe, because deletes
    cannot be conditional.
    """

    def __init__(self, store: ObjectStore[Any], url: str | None = None, *, writer: str = "") -> None:
        super().__init__(store, url)
        self.writer = writer
        self.root_version: Version | None = None  # of the root that this process put last, or claims

    def __reduce__(self) -> Any:
        return writable_objects, (self._url or self._store_and_process[0], self.writer)

    def put(self, key: str, parts: Iterable[bytes | memoryview], check: Callable[[], None] | None = None) -> None:
        """Put an object whole; see `put_all`."""
        self.put_all({key: b"".join(parts)}, check)

    def put_all(self, objects: Mapping[str, bytes], check: Callable[[], None] | None = None) -> None:
        """Put objects; each put is conditional on the version that was there while this writer still had the claim.

        Args:
            objects: Their bytes by key.
            check: Called after the versions were read; it raises an error if the objects may not be replaced.

        Raises:
            ConflictError: Another writer has claimed the store.
            StorageError: The server reported an error.
        """
        due = list(objects)
        for _ in range(TRIES):
            there = list(in_order(self, self._version, due))
            # After reading the versions: what a later writer puts from now on has another version, and is not replaced.
            self.check_claim()
            if check is not None:
                check()
            puts = [(key, objects[key], seen) for key, seen in zip(due, there, strict=True)]
            versions = list(in_order(self, lambda item: self._put(*item), puts))
            due = [key for key, version in zip(due, versions, strict=True) if version is None]
            if not due:
                return
        raise ConflictError(f"{self.path(due[0])}: another process keeps replacing it; open the store again")

    def put_new(self, key: str, data: bytes) -> bool:
        """Put an object if there is none, or one with the same bytes; return whether it is there now."""
        return self._put(key, data, None) is not None

    def put_root(self, data: bytes) -> None:
        """Replace the last root of this writer, or the one that it claims.

        Raises:
            ConflictError: Another writer has claimed the store.
            StorageError: The server reported an error, and the root is not there, or cannot be read.
        """
        version = self._put(ROOT, data, self.root_version)
        if version is None:
            raise ConflictError(f"{self.root}: another writer or build opened the store meanwhile; open it again")
        self.root_version = version

    def check_conditions(self) -> None:
        """Check with a temporary object that the server obeys the conditions of puts; some servers ignore them."""
        key = PROBE + secrets.token_hex(8)
        first = self._put(key, b"1", None)
        try:
            twice = self._put(key, b"2", None) is not None
            if first is None or twice or self._put(key, b"3", first) is None or self._put(key, b"4", first) is not None:
                raise StorageError(
                    errno.ENOTSUP,
                    f"{self.root}: the server ignores the conditions of puts, so two writers would destroy the store; "
                    "nothing of it was written",
                )
        finally:
            with contextlib.suppress(Exception):
                obstore.delete(self._store.store, key)

    def check_claim(self) -> None:
        """Check that no other writer has claimed the store."""
        if f'"writer": "{self.writer}"'.encode() not in bytes(self.get(ROOT)):
            raise ConflictError(f"{self.root}: another writer or build opened the store meanwhile; open it again")

    def _version(self, key: str) -> Version | None:
        """Return the version of an object; None if there is none."""
        store = self._store
        with contextlib.suppress(FileNotFoundError), self._naming(key, "looking at"):
            return _version_of(obstore.head(store.store, key))
        return None

    def get_with_version(self, key: str) -> tuple[bytes, Version]:
        """Return an object and its version."""
        store = self._store
        try:
            with self._naming(key, "reading"):
                result = obstore.get(store.store, key)
                return bytes(result.bytes()), _version_of(result.meta)
        except FileNotFoundError as error:
            raise MissingStoreError(f"{self.path(key)}: there is no such key") from error

    def _put(self, key: str, data: bytes, seen: Version | None) -> Version | None:
        """Put an object if the present one has the version `seen`, or if there is none; return its version, or None.

        If a response is lost, the client repeats the request, which then fails because of its own object. So after a
        failure the object is read, and compared.
        """
        store = self._store
        mode: Any = "create" if seen is None else seen
        try:
            return _version_of(obstore.put(store.store, key, data, mode=mode))
        except (AlreadyExistsError, PreconditionError):
            there, version = self.get_with_version(key)
            return version if there == data else None
        except Exception as error:
            with contextlib.suppress(StoreError):
                there, version = self.get_with_version(key)
                if there == data:
                    return version
            raise self._refused(key, "writing", error) from error


def writable_objects(place: str | Store, writer: str = "") -> WritableObjects:
    """Return the storage for writing to a place that is not a folder: a URL, or an `ObjectStore` of zarr."""
    if isinstance(place, ObjectStore):
        return WritableObjects(place, writer=writer)
    check_writable(place)
    return WritableObjects(object_store(str(place)), str(place), writer=writer)


def _version_of(found: Mapping[str, Any]) -> Version:
    return {name: found[name] for name in ("e_tag", "version") if found.get(name) is not None}
