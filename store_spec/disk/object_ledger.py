"""The commit protocol on an object store (SPEC.md, "Commits on an object store")."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from store_spec.disk.ledger import Ledger
from store_spec.disk.object_storage import Version, WritableObjects
from store_spec.disk.snapshot import check_root
from store_spec.disk.storage import PROBE
from store_spec.errors import FormatError, MissingStoreError, StoreError, StoreExistsError
from store_spec.format.layout import OFFSETS, ROOT, Root
from store_spec.format.records import Records
from store_spec.schema import GROUPS


class ObjectLedger(Ledger):
    """A store on an object store that is open for writing, and claimed by this writer."""

    _storage: WritableObjects

    def __init__(self, storage: WritableObjects, root: Root, spilled: Path, *, is_new: bool) -> None:
        super().__init__(storage.root, storage, root, None if is_new else root.encode(), spilled)
        self._there = root.encode()  # the last root that was put, without `writer`, even if its commit failed later

    @classmethod
    @contextlib.contextmanager
    def create_at(cls, storage: WritableObjects, root: Root) -> Iterator[ObjectLedger]:
        """See `Ledger.create`."""
        # If a writer died before it put the root, there are only keys of an empty store.
        of_empty_stores = {*root.schema.folders(), *(f"{group}/{ROOT}" for group in GROUPS)}
        keys = (f"{group}/{name}" if group else name for group in ("", *GROUPS) for name in storage.list(group))
        if any(key not in of_empty_stores and not key.startswith(PROBE) for key in keys):
            raise StoreExistsError(f"{storage.root}: something is there already; remove it, or open it with mode='a'")
        storage.check_conditions()
        with _claimed(storage, root, None) as ledger:
            yield ledger

    @classmethod
    @contextlib.contextmanager
    def open_at(cls, storage: WritableObjects) -> Iterator[ObjectLedger]:
        """See `Ledger.open`."""
        try:
            data, seen = storage.get_with_version(ROOT)
        except MissingStoreError as error:
            raise MissingStoreError(f"{storage.root}: there is no store; create it first") from error
        root = Root.decode(data, str(storage.path(ROOT)))
        storage.check_conditions()
        with _claimed(storage, root, seen) as ledger:
            yield ledger

    def _write(self, new: Records, root: Root, data: bytes) -> None:
        objects: dict[str, bytes] = {}
        self._put_tables(lambda key, parts: objects.update({key: b"".join(parts)}), new)
        if self._committed is None:  # there is no claim without a root, so none of these may exist yet
            for key, first in (objects | root.documents()).items():
                if not self._storage.put_new(key, first):
                    raise StoreExistsError(
                        f"{self._storage.path(key)}: is there already, of another store, which may be unfinished; "
                        f"remove everything below {self._storage.root}"
                    )
        else:
            self._storage.put_all(objects)
        self._storage.put_root(replace(root, writer=self._storage.writer).encode())
        self._there = data
        if self._committed is not None:
            self.put_documents(root)

    def put_documents(self, root: Root) -> None:
        """Refresh the arrays' own metadata."""
        documents = root.documents()
        last = {key: documents.pop(key) for name in OFFSETS if (key := f"{name}/{ROOT}") in documents}
        self._storage.put_all(documents)
        self._storage.put_all(last)

    def release(self) -> None:
        """Put the root without the name of this writer, as a folder has it. If that fails, the next writer does it."""
        with contextlib.suppress(StoreError):
            self._storage.put_root(self._there)


@contextlib.contextmanager
def _claimed(storage: WritableObjects, root: Root, seen: Version | None) -> Iterator[ObjectLedger]:
    """Claim a store in the state that was seen, None for a new one, and release it at the end."""
    storage.writer = secrets.token_hex(8)
    with tempfile.TemporaryDirectory(prefix="seqzarr-", ignore_cleanup_errors=True) as spilled:
        ledger = ObjectLedger(storage, root, Path(spilled), is_new=seen is None)
        if seen is None:
            ledger.commit()
        else:
            storage.root_version = seen
            storage.put_root(replace(root, writer=storage.writer).encode())
        try:  # from here on, the root is this writer's
            if seen is not None:
                try:  # no other writer puts newer documents meanwhile
                    check_root(ledger.snapshot())
                except FormatError:
                    storage.check_claim()
                    raise
                ledger.put_documents(root)
            yield ledger
        finally:
            ledger.release()
