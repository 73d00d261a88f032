"""The protocol with one safeguard taken out: what a campaign has to find, or it would find nothing else either."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest

from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.storage import LocalStorage
from store_spec.errors import StorageError
from store_spec.format.layout import ROOT, Root
from store_spec.format.records import Records

Without = Callable[[pytest.MonkeyPatch], None]


@contextmanager
def taken_out(safeguard: Without) -> Iterator[None]:
    """Do without one safeguard while this context is open."""
    with pytest.MonkeyPatch.context() as patch:
        safeguard(patch)
        yield


def without_rename(patch: pytest.MonkeyPatch) -> None:
    """Write files in place."""

    def put(storage: LocalStorage, key: str, parts: Iterable[bytes], check: Callable[[], None] | None = None) -> None:
        if check is not None:
            check()
        try:
            descriptor = os.open(storage.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                for part in parts:
                    view = memoryview(part)
                    while view:
                        view = view[os.write(descriptor, view) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise StorageError(error.errno, f"{storage.path(key)}: writing failed: {error.strerror}") from error

    patch.setattr(LocalStorage, "put", put)


def without_order(patch: pytest.MonkeyPatch) -> None:
    """Put the root first, and then the tables that it counts."""
    write = LocalLedger._write

    def root_first(ledger: LocalLedger, new: Records, root: Root, data: bytes) -> None:
        ledger._storage.put(ROOT, [data])
        with taken_out(lambda inner: inner.setattr(LocalLedger, "_check_root", lambda _: None)):
            write(ledger, new, root, data)

    patch.setattr(LocalLedger, "_write", root_first)


def without_recovery(patch: pytest.MonkeyPatch) -> None:
    """Open a store for writing as its last writer left it."""
    patch.setattr(LocalLedger, "_recover", lambda _: None)


def without_errors(patch: pytest.MonkeyPatch) -> None:
    """Take it for done when a file could not be put."""
    put = LocalStorage.put

    def careless(
        storage: LocalStorage, key: str, parts: Iterable[bytes], check: Callable[[], None] | None = None
    ) -> None:
        try:
            put(storage, key, parts, check)
        except OSError:
            return

    patch.setattr(LocalStorage, "put", careless)


def without_syncing(patch: pytest.MonkeyPatch) -> None:
    """Sync nothing; where no power is cut this is no safeguard, but most of the time."""
    patch.setattr(os, "fsync", lambda _: None)
