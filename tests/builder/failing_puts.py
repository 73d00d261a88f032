"""A disk that fails in the middle of a copy."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from store_spec.disk.storage import LocalStorage
from store_spec.errors import StoreError


@contextmanager
def failing_puts(count: int) -> Iterator[None]:
    """Let this number of puts succeed, and later ones fail; batches are small, and a commit follows each of them."""
    put, left = LocalStorage.put, count

    def failing(storage: LocalStorage, key: str, parts: Any, check: Any = None) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoreError(f"{key}: the disk is gone")
        put(storage, key, parts, check)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "put", failing)
        patch.setattr("builder.execution.run.COMMIT_SECONDS", 0.0)
        patch.setattr(sys.modules["builder.maintenance.compact"], "BATCH_BYTES", 100)
        yield
