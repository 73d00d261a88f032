"""The commit protocol without one of its safeguards, for the control runs of campaigns."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any
from unittest import mock

from builder.execution.run import Run
from store_spec.disk import storage as storage_module
from store_spec.disk.ledger import Ledger, ShardJob
from store_spec.disk.local_ledger import LocalLedger
from store_spec.disk.storage import LocalStorage
from store_spec.format.layout import ROOT, Root
from store_spec.format.records import Records

PUT, WRITE, JOBS = LocalStorage.put, LocalLedger._write, Ledger.jobs


def _put_in_place(
    storage: LocalStorage, key: str, parts: Iterable[bytes], check: Callable[[], None] | None = None, **_: Any
) -> None:
    """Overwrite a file, instead of renaming a temporary one."""
    if check is not None:
        check()
    with storage_module.naming_errors(storage.path(key), "writing"):
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


def _done_before(ledger: Ledger, *, final: bool = False) -> list[ShardJob]:
    """Take shards for written when they are not yet."""
    pending = JOBS(ledger, final=final)
    for job in pending:
        ledger.mark_done(job)
    return pending


PATCHES: dict[str, tuple[AbstractContextManager[Any], ...]] = {
    "atomic rename": (mock.patch.object(LocalStorage, "put", _put_in_place),),
    "reporting write errors": (mock.patch.object(LocalStorage, "put", _put_carelessly),),
    "writing the root last": (mock.patch.object(LocalLedger, "_write", _write_root_first),),
    "recovery": (mock.patch.object(LocalLedger, "_recover"),),
    "removing temporary files": (mock.patch.object(LocalLedger, "tidy"),),
    "waiting for shards": (
        mock.patch.object(Ledger, "jobs", _done_before),
        mock.patch.multiple(Run, _is_due=lambda _: True, _has_open_jobs=lambda _: False),
    ),
    "fsync": (mock.patch("os.fsync", _do_nothing),),  # saves time in campaigns without power cuts
}


@contextmanager
def without(safeguard: str) -> Iterator[None]:
    """Remove a safeguard while this context is open."""
    with ExitStack() as removed:
        for patch in PATCHES[safeguard]:
            removed.enter_context(patch)
        yield
