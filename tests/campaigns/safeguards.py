"""The commit protocol without one of its safeguards, for the control runs of campaigns."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

from store_spec.disk import storage as storage_module
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.storage import LocalStorage
from store_spec.format.layout import ROOT, Root
from store_spec.format.records import Records

Patch = Callable[[pytest.MonkeyPatch], None]


@contextmanager
def patched(patch: Patch) -> Iterator[None]:
    """Apply a patch while this context is open."""
    with pytest.MonkeyPatch.context() as context:
        patch(context)
        yield


def write_in_place(patch: pytest.MonkeyPatch) -> None:
    """Overwrite files, instead of renaming temporary files."""

    def put(storage: LocalStorage, key: str, parts: Iterable[bytes], check: Callable[[], None] | None = None) -> None:
        if check is not None:
            check()
        try:
            descriptor = os.open(storage.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
            try:
                for part in parts:
                    storage_module._write(descriptor, part)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise storage_module._refused(storage.path(key), "writing", error) from error

    patch.setattr(LocalStorage, "put", put)


def write_root_first(patch: pytest.MonkeyPatch) -> None:
    """Write the root before the tables that it describes."""
    write = LocalLedger._write

    def root_first(ledger: LocalLedger, new: Records, root: Root, data: bytes) -> None:
        ledger._storage.put(ROOT, [data])
        with patched(lambda inner: inner.setattr(LocalLedger, "_check_root", lambda _: None)):
            write(ledger, new, root, data)

    patch.setattr(LocalLedger, "_write", root_first)


def skip_recovery(patch: pytest.MonkeyPatch) -> None:
    """Open a store for writing without recovering it."""
    patch.setattr(LocalLedger, "_recover", lambda _: None)


def ignore_write_errors(patch: pytest.MonkeyPatch) -> None:
    """Continue as if each file had been written."""
    put = LocalStorage.put

    def careless_put(*args: object, **kwargs: object) -> None:
        with suppress(OSError):
            put(*args, **kwargs)  # type: ignore[arg-type]

    patch.setattr(LocalStorage, "put", careless_put)


def skip_fsync(patch: pytest.MonkeyPatch) -> None:
    """Do not call fsync. This saves time in campaigns without power cuts, where fsync has no effect on the result."""
    patch.setattr(os, "fsync", lambda _: None)
