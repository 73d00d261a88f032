"""The four kinds of batches, for tests of what they have in common."""

import threading
from typing import Any

import pytest

import store_spec
from store_spec.disk.snapshot import Snapshot

# Small batches: a numbered store has 4 to 11.
USUAL: dict[str, dict[str, Any]] = {
    "windows": {"window": 4, "batch_size": 30},
    "padded": {"batch_size": 4},
    "packed": {"tokens": 32, "batch_size": 2},
    "streams": {"batch_size": 2, "window": 20},
}
KINDS = tuple(USUAL)
# One batch of all sequences of LENGTHS, or small batches of windows.
WHOLE: dict[str, dict[str, Any]] = {
    "windows": {"batch_size": 16},
    "padded": {"batch_size": 18},
    "packed": {"tokens": 308},
    "streams": {"batch_size": 1, "window": 308},
}
OF_BATCHES = (
    *("batch_size", "shuffle", "seed", "epoch", "rank", "world_size"),
    *("drop_last", "memory", "index", "weights", "transform"),
)
every_kind = pytest.mark.parametrize("kind", KINDS)


def begin(store: store_spec.Store, kind: str, **options: Any) -> Any:
    """Begin an epoch of a kind; windows take the options of `windows` and of `batches` together."""
    options = USUAL[kind] | options
    if kind != "windows":
        return getattr(store, kind)(**options)
    of_batches = {name: options.pop(name) for name in OF_BATCHES if name in options}
    return store.windows(**options).batches(**of_batches)


def chunks_read(monkeypatch: pytest.MonkeyPatch, size: int = 8) -> list[tuple[str, int]]:
    """Return a list to which each decompressed chunk is added: its array and its number."""
    read: list[tuple[str, int]] = []
    read_rows = Snapshot.rows

    def noted(self: Snapshot, name: str, start: int, stop: int, **more: Any) -> Any:
        read.extend((name, number) for number in range(start // size, -(-stop // size)))
        return read_rows(self, name, start, stop, **more)

    monkeypatch.setattr(Snapshot, "rows", noted)
    return read


def threads() -> set[threading.Thread]:
    """Return our threads. Those of another test may exist until garbage collection."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("seqzarr")}


def assert_ended(some: set[threading.Thread]) -> None:
    """Wait for threads to end."""
    for thread in some:
        thread.join(60)
        assert not thread.is_alive()
