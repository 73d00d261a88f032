"""The commit protocol in a folder (SPEC.md, "Commits"): a lock, files that are renamed into place, and fsync."""

import contextlib
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from store_spec.disk.ledger import Ledger
from store_spec.disk.lock import folder_locked, locked
from store_spec.disk.places import check_outside
from store_spec.disk.snapshot import Snapshot, check_root, read_root
from store_spec.disk.storage import LocalStorage, naming_errors, sync_folder
from store_spec.errors import ConflictError, MissingStoreError, StoreExistsError
from store_spec.format.documents import encode_document, group_document
from store_spec.format.layout import ROOT, Root, chunk_number
from store_spec.format.records import Records
from store_spec.schema import GROUPS

NEW = "new"  # the store in the build folder, until its first commit
SPILLED = "spilled"  # prefix of the folder in the build folder that exists while a ledger is open


class LocalLedger(Ledger):
    """A store in a folder that is open for writing, under its lock. Use it as a context manager."""

    path: Path
    _storage: LocalStorage

    @classmethod
    @contextlib.contextmanager
    def create_at(cls, path: Path, root: Root) -> Iterator[Self]:
        """See `Ledger.create`."""
        check_outside(path)
        path = path.absolute()  # the caller may change to another folder before the commit
        with locked(path) as folder:
            if path.exists() or path.is_symlink():
                raise StoreExistsError(f"{path}: something is there already; remove it, or open it with mode='a'")
            with _folder_for_spilled(folder) as spilled:
                storage = LocalStorage(folder / NEW, spilled)
                for key in ("", *root.schema.folders()):
                    storage.make_folder(key)
                for name in GROUPS:
                    storage.put(f"{name}/{ROOT}", [encode_document(group_document())])
                with folder_locked(storage.root):  # the lock stays when the folder is renamed
                    yield cls(path, storage, root, None, spilled)

    @classmethod
    @contextlib.contextmanager
    def open_at(cls, path: Path) -> Iterator[Self]:
        """See `Ledger.open`."""
        path = path.absolute()
        if not path.is_dir():
            raise MissingStoreError(f"{path}: there is no store; create it first")
        with locked(path) as folder, cls.under_lock(path, folder) as ledger:
            yield ledger

    @classmethod
    @contextlib.contextmanager
    def under_lock(cls, path: Path, folder: Path) -> Iterator[Self]:
        """Open a store like `open_at`; the caller holds the lock, which is in `folder`."""
        path = path.absolute()
        with _folder_for_spilled(folder) as spilled:
            storage = LocalStorage(path, spilled)
            data = read_root(storage)
            # An earlier writer may have died before its commit was synced, and this writer builds on that commit.
            storage.sync([""])
            sync_folder(path.parent)
            snapshot = Snapshot.of(storage, data)
            check_root(snapshot)
            ledger = cls(path, storage, snapshot.root, data, spilled)
            ledger._recover()
            yield ledger

    def tidy(self) -> None:
        """Remove partial files that a dead worker left. No job may be running."""
        for key in ("", *self.schema.folders()):
            self._storage.delete_partial(key)

    def _write(self, new: Records, root: Root, data: bytes) -> None:
        self._check_root()  # before the last chunks of the tables are replaced
        self._put_tables(self._storage.put, new)
        folders = ["", *self.schema.folders()]
        if self._committed is None:
            self._put_documents(root)
            self._storage.put(ROOT, [data])
            self._storage.sync(folders)
            self._appear()
            return
        self._storage.sync(folders)
        self._check_root()
        self._storage.put(ROOT, [data])
        self._storage.sync([""])
        self._put_documents(root)

    def _check_root(self) -> None:
        if self._committed is not None and self._storage.get(ROOT) != self._committed:
            raise ConflictError(f"{self.path}: another writer, without the lock, committed meanwhile; open it again")

    def _appear(self) -> None:
        """Move the new store to its path: this is the first commit."""
        if self.path.exists():
            raise StoreExistsError(f"{self.path}: something appeared there meanwhile; nothing of it was touched")
        with naming_errors(self.path, "naming the new store"):
            self._storage.root.rename(self.path)
        sync_folder(self.path.parent)
        self._storage = replace(self._storage, root=self.path)

    def _put_documents(self, root: Root) -> list[str]:
        """Refresh the arrays' own metadata; return the folders in which it changed, which are not synced yet."""
        folders = []
        for key, data in root.documents().items():
            with contextlib.suppress(MissingStoreError):
                if self._storage.get(key) == data:
                    continue
            self._storage.put(key, [data])
            folders.append(key.removesuffix(f"/{ROOT}"))
        return folders

    def _recover(self) -> None:
        """Remove files that belong to no commit, and bring the arrays' own metadata up to date with the root."""
        for fact in self.schema.arrays():
            files = self.root.files(fact.name)
            for file in self._storage.list(fact.name):
                number = chunk_number(self.schema, fact.name, file)
                if number is not None and number >= files:
                    self._storage.delete(f"{fact.name}/{file}")
        self.tidy()
        # After this, a power cut leaves documents that are at worst behind the root.
        self._storage.sync(self._put_documents(self.root))


@contextlib.contextmanager
def _folder_for_spilled(build_folder: Path) -> Iterator[Path]:
    """Yield a folder with a new name, which is removed at the end; first remove what earlier writers left.

    On a cluster of the user's, a worker may outlive its writer. Without this folder it can neither spill rows nor
    replace a shard that another writer has written meanwhile.
    """
    for name in LocalStorage(build_folder).list():
        if name == NEW or name.startswith(SPILLED):
            _remove(build_folder / name)
    spilled = build_folder / f"{SPILLED}.{secrets.token_hex(8)}"
    LocalStorage(spilled).make_folder()
    try:
        yield spilled
    finally:
        with contextlib.suppress(OSError):  # an earlier error is the one to report
            if spilled.exists():  # otherwise a user removed `build_folder`, and what is there now is another writer's
                _remove(build_folder / NEW)
                _remove(spilled)


def _remove(folder: Path) -> None:
    """Remove a folder, if it exists. It is renamed first; the next writer removes what a worker still writes there."""
    with naming_errors(folder, "removing"), contextlib.suppress(FileNotFoundError):
        renamed = folder.rename(folder.with_name(f"{SPILLED}.{secrets.token_hex(8)}"))
        shutil.rmtree(renamed, ignore_errors=True)
