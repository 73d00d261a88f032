"""Write to an object store: no lock, no rename and no fsync, but puts that depend on what is there."""

from __future__ import annotations

import contextlib
import errno
import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zarr.storage import ObjectStore

from store_spec.disk.object_storage import ObjectStorage, object_store
from store_spec.disk.places import StoreLocation, check_writable, checked_url
from store_spec.disk.requests import in_order
from store_spec.disk.storage import PROBE
from store_spec.errors import ConflictError, MissingStoreError, StorageError, StoreError
from store_spec.format.layout import ROOT

TRIES = 8  # of a put whose object changes again and again

Version = dict[str, Any]  # what tells the object that is there from those before it, as obstore names it


def writable_objects(store: StoreLocation, writer: str = "") -> WritableObjects:
    """Return the storage for writing to a URL, or to an `ObjectStore` of zarr.

    Raises:
        SchemaError: The URL is not that of an object store, or the zarr store is of another kind.
    """
    if isinstance(store, ObjectStore):
        return WritableObjects(store, writer=writer)
    check_writable(store)
    url = checked_url(str(store))
    return WritableObjects(object_store(url), url, writer=writer)


class WritableObjects(ObjectStorage):
    """An object store that one writer writes to.

    A writer claims the store by a random text in the root; after that, an earlier writer cannot commit. A put
    first looks at what is there, then checks that the claim holds, and then replaces only what it saw. So a slower
    writer never destroys what a later one has put. Only its own probe is deleted: no delete depends on what is there.

    Args:
        store: The store.
        url: Where it was made from; None if it was given as an object.
        writer: The text by which the store was claimed.
    """

    def __init__(self, store: ObjectStore[Any], url: str | None = None, *, writer: str = "") -> None:
        super().__init__(store, url)
        self.writer = writer
        self._root: Version | None = None  # of the root that this process put last

    def __reduce__(self) -> Any:
        return writable_objects, (self._url or self._store_and_process[0], self.writer)

    def put(self, key: str, parts: Iterable[bytes | memoryview], check: Callable[[], None] | None = None) -> None:
        """Put an object whole; see `put_all`."""
        self.put_all({key: b"".join(parts)}, check)

    def put_all(self, objects: Mapping[str, bytes], check: Callable[[], None] | None = None) -> None:
        """Put objects, each whole, in the place of those that were there while the store was claimed.

        Args:
            objects: Their bytes by key.
            check: Called after the look at what is there; it raises an error if that may not be replaced.

        Raises:
            ConflictError: Another writer has claimed the store.
            StorageError: The server reported an error.
        """
        due = list(objects)
        for _ in range(TRIES):
            there = list(in_order(self, self._version, due))
            # After the look: what a later writer puts now is not what was seen, so it is not replaced.
            self.check_claim()
            if check is not None:
                check()
            done = in_order(
                self, self._put_seen, [(key, objects[key], seen) for key, seen in zip(due, there, strict=True)]
            )
            due = [key for key, is_done in zip(due, list(done), strict=True) if not is_done]
            if not due:
                return
        raise ConflictError(f"{self.path(due[0])}: another process keeps replacing it; open the store again")

    def put_new(self, key: str, data: bytes) -> bool:
        """Put an object if there is none, or one with the same bytes; return whether it is there now."""
        return self._put(key, data, None) is not None

    def claim(self, root: bytes, seen: Version) -> None:
        """Put a root that names this writer in the place of the one that was seen.

        Raises:
            ConflictError: Another root is there.
            StorageError: The server reported an error.
        """
        self._root = seen
        self.put_root(root)

    def put_root(self, data: bytes) -> None:
        """Put the root in the place of the last one of this writer.

        Raises:
            ConflictError: Another writer has claimed the store.
            StorageError: The server reported an error, and the root is not there, or cannot be read.
        """
        version = self._put(ROOT, data, self._root)
        if version is None:
            raise ConflictError(f"{self.root}: another writer opened the store meanwhile; open it again")
        self._root = version

    def get_root(self) -> tuple[bytes, Version]:
        """Return the root and its version.

        Raises:
            MissingStoreError: There is none.
            StorageError: The server reported an error.
        """
        return self._get_with_version(ROOT)

    def check_conditions(self) -> None:
        """Check with an object of its own that puts depend on what is there: some servers ignore the conditions.

        Raises:
            StorageError: They do not, or the server takes no objects.
        """
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
            import obstore

            with contextlib.suppress(Exception):
                obstore.delete(self._store.store, key)

    def check_claim(self) -> None:
        """Check that no other writer has claimed the store.

        Raises:
            ConflictError: One has.
        """
        if f'"writer": "{self.writer}"'.encode() not in bytes(self.get(ROOT)):
            raise ConflictError(f"{self.root}: another writer opened the store meanwhile; open it again")

    def _version(self, key: str) -> Version | None:
        """Return the version of an object; None if there is none."""
        import obstore

        store = self._store
        try:
            return _version_of(self._call(key, "looking at", lambda: obstore.head(store.store, key)))
        except FileNotFoundError:
            return None

    def _get_with_version(self, key: str) -> tuple[bytes, Version]:
        import obstore

        store = self._store
        try:
            result = self._call(key, "reading", lambda: obstore.get(store.store, key))
            return self._call(key, "reading", lambda: bytes(result.bytes())), _version_of(result.meta)
        except FileNotFoundError as error:
            raise MissingStoreError(f"{self.path(key)}: there is no such key") from error

    def _put_seen(self, item: tuple[str, bytes, Version | None]) -> bool:
        return self._put(*item) is not None

    def _put(self, key: str, data: bytes, seen: Version | None) -> Version | None:
        """Put an object in the place of the one that was seen, or of none.

        If the answer is lost, the client asks again, and its own object is in the way; so the object is read then.

        Returns:
            The version of the object; None if another one is there.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        store = self._store
        mode: Any = "create" if seen is None else seen
        try:
            return _version_of(obstore.put(store.store, key, data, mode=mode))
        except (AlreadyExistsError, PreconditionError):
            there, version = self._get_with_version(key)
            return version if there == data else None
        except Exception as error:
            with contextlib.suppress(StoreError):
                there, version = self._get_with_version(key)
                if there == data:
                    return version
            raise self._refused(key, "writing", error) from error


def _version_of(found: Mapping[str, Any]) -> Version:
    return {name: found[name] for name in ("e_tag", "version") if found.get(name) is not None}
