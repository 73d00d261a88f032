"""Everything that a reader does with a hostile store, and its events under an audit hook."""

import importlib
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zarr.storage import MemoryStore

from store_spec import StoreError
from tests.store.damage import ROOT
from tests.store.everything import crashes_in, errors_in, problems_in, read_all

HARMLESS = (
    *("cpython.", "gc.", "object.", "builtins.id", "sys._getframe", "sys._current_frames", "_thread.start"),
    *("code.__new__", "sys.excepthook", "sys.unraisablehook"),
)


def use(path: Path | MemoryStore) -> tuple[StoreError | None, list[str]]:
    """Read everything in a store; return the first error, and the problems that `verify` finds."""
    found = read_all(path)
    for crash in crashes_in(found):
        raise crash
    return next(iter(errors_in(found)), None), problems_in(path)


class Watch:
    """The audit events that reading a store does not need."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._seen: set[str] = set()
        sys.addaudithook(self._hook)

    def during(self, path: Path, action: Callable[[Path], object]) -> list[str]:
        """Call a function with a store, and return the events."""
        self._seen.clear()
        self._folder = os.path.realpath(path)
        action(path)
        self._folder = None
        return sorted(self._seen)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._folder and not event.startswith(HARMLESS) and not _stays(event, arguments, self._folder):
            self._seen.add(f"{event} {arguments!r:.200}")


def watched(stores: list[str]) -> dict[str, list[str]]:
    """Use each store and return the events; the first two are used once before, so that everything is imported."""
    watch = Watch()
    importlib.import_module("numpy.ma")  # some functions of NumPy import it late
    for path in stores[:2]:
        use(Path(path))
    return {path: watch.during(Path(path), use) for path in stores}


def tempted(path: str) -> dict[str, list[str]]:
    """Do things that no store may cause, and return the events of each."""
    watch = Watch()
    return {name: watch.during(Path(path), action) for name, action in TEMPTATIONS.items()}


def _stays(event: str, arguments: tuple[Any, ...], folder: str) -> bool:
    """Return whether an event is the opening of a file in a folder for reading."""
    if event == "open":
        path, _, flags = arguments
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
            return False
    elif event in {"os.scandir", "os.listdir"}:
        path, flags = arguments[0], 0
    else:
        return False
    if isinstance(path, int):
        return True  # it was opened before
    where = Path(folder, os.fsdecode(path))  # a reader opens files relative to the folder of the store
    # Links are not followed in the last part of a path, but in its folders.
    real = (
        os.path.join(os.path.realpath(where.parent), where.name) if flags & os.O_NOFOLLOW else os.path.realpath(where)
    )
    return real == folder or real.startswith(folder + os.sep)


TEMPTATIONS: dict[str, Callable[[Path], object]] = {
    "open": lambda path: os.close(os.open(path.parent / "outside", os.O_RDONLY)),
    "open beside the folder": lambda path: os.close(
        os.open("../outside", os.O_RDONLY, dir_fd=os.open(path, os.O_RDONLY | os.O_DIRECTORY))
    ),
    "open by a link": lambda path: (path / "link").read_bytes(),
    "open for writing": lambda path: (path / "offsets" / ROOT).open("r+b").close(),
    "list": lambda path: os.listdir(path.parent),
    "import": lambda _: __import__("colorsys"),
    "exec": lambda _: exec("1"),  # noqa: S102
    "compile": lambda _: compile("1", "", "eval"),
    "unpickle": lambda _: __import__("pickle").loads(b"cos\ngetpid\n."),
    "run": lambda _: os.system(":"),  # noqa: S605
    "connect": lambda _: socket.socket().close(),
    "remove": lambda path: os.unlink(path / "link"),
}
