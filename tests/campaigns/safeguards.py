"""The commit protocol without one of its safeguards, for the control runs of campaigns."""

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from typing import Any
from unittest import mock

from store_spec.disk import storage as storage_module
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.storage import LocalStorage
from store_spec.format.layout import ROOT, Root
from store_spec.format.records import Records

PUT, WRITE = LocalStorage.put, LocalLedger._write


def _put_in_place(
    storage: LocalStorage, key: str, parts: Iterable[bytes], check: Callable[[], None] | None = None
) -> None:
    """Overwrite a file, instead of renaming a temporary one."""
    if check is not None:
        check()
    with storage_module._naming(storage.path(key), "writing"):
        descriptor = os.open(storage.path(key), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        try:
            for part in parts:
                storage_module._write(descriptor, part)
        finally:
            os.close(descriptor)


def _put_carelessly(*arguments: Any, **options: Any) -> None:
    """Continue as if the file had been written."""
    with suppress(OSError):
        PUT(*arguments, **options)


def _write_root_first(ledger: LocalLedger, new: Records, root: Root, data: bytes) -> None:
    """Write the root before the tables that it describes."""
    ledger._storage.put(ROOT, [data])
    with mock.patch.object(LocalLedger, "_check_root"):
        WRITE(ledger, new, root, data)


def _do_nothing(descriptor: int) -> None:
    pass


# By the name of a safeguard, a context without it.
WITHOUT: dict[str, AbstractContextManager[Any]] = {
    "atomic rename": mock.patch.object(LocalStorage, "put", _put_in_place),
    "reporting write errors": mock.patch.object(LocalStorage, "put", _put_carelessly),
    "writing the root last": mock.patch.object(LocalLedger, "_write", _write_root_first),
    "recovery": mock.patch.object(LocalLedger, "_recover"),
    "fsync": mock.patch("os.fsync", _do_nothing),  # saves time in campaigns without power cuts
}
