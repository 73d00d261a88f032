"""Sees every operation on the files of a folder before it is done: to record it, to look, to let it fail, or to die.

It stands between Python and the system, in the place of the functions of `os`. What a library writes on its own is
missed, until it is renamed; `tests/campaigns/power_cuts.py` notices where that leaves a log which does not give what
lies in the folder.
"""

from __future__ import annotations

import builtins
import importlib
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHANGES = frozenset({"create", "write", "sync", "rename", "unlink", "mkdir", "rmdir", "link", "truncate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of the system. Paths are POSIX, relative to the watched folder; "" is that folder."""

    kind: str  # one of CHANGES; or "open", "read", "list", "close", which change nothing
    path: str
    target: str = ""  # the new name of a rename or a link
    offset: int = 0  # where bytes are written; how many are left by a truncation
    data: bytes = b""  # that are written; of a file that is renamed, all
    folder: bool = False  # whether a folder is synced

    @property
    def commits(self) -> bool:
        """Whether it makes a commit, or makes one safe: it is about the store's own name, or a name in its folder."""
        if self.kind == "rename":
            return self.target.count("/") < 2 and ".build/" not in self.target
        return self.folder and "/" not in self.path

    def __str__(self) -> str:
        return f"{self.kind} {self.path or '.'}" + (f" to {self.target}" if self.target else "")


@dataclass(slots=True)
class _File:
    path: str
    offset: int = 0
    written: bool = False
    halved: bool = False


@dataclass(slots=True, eq=False)
class Watch:
    """Watches a folder. Each write is done in two halves, so that half-written files are seen too.

    `before` is called with each operation; it may raise OSError in its place. Syncing is noted, and not done.
    """

    folder: Path
    before: Callable[[Operation], None]
    log: list[Operation] = field(default_factory=list)  # what was done, without what failed
    _open: dict[int, _File] = field(default_factory=dict)
    _paused: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch while this context is open."""
        with pytest.MonkeyPatch.context() as patch:
            calls: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
                "open": self._opening,
                "close": self._closing,
                "write": self._writing,
                "fsync": self._syncing,
                "fdatasync": self._syncing,
                "ftruncate": self._cutting,
                "pread": self._reading,
                "replace": self._renaming("rename"),
                "rename": self._renaming("rename"),
                "link": self._renaming("link"),
                "truncate": self._naming("truncate"),
                "unlink": self._naming("unlink"),
                "remove": self._naming("unlink"),
                "mkdir": self._naming("mkdir"),
                "rmdir": self._naming("rmdir"),
                "scandir": self._naming("list"),
                "listdir": self._naming("list"),
            }
            for name, make in calls.items():
                patch.setattr(os, name, self._unless_paused(make, getattr(os, name)))
            # Written in Python upon the functions above.
            for module in (builtins, io):
                patch.setattr(module, "open", self._plainly(builtins.open))
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let operations pass unseen."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    def _unless_paused(self, make: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
        watched = make(call)

        def either(*args: Any, **kwargs: Any) -> Any:
            return (call if self._paused else watched)(*args, **kwargs)

        return either

    def _see(self, operation: Operation) -> None:
        with self.paused():
            self.before(operation)

    def _inside(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Return where a path lies in the folder; None if it is elsewhere."""
        if isinstance(path, int):
            return self._open[path].path if path in self._open else None
        name = os.fsdecode(path)
        if dir_fd is not None:
            return f"{self._open[dir_fd].path}/{name}".lstrip("/") if dir_fd in self._open else None
        full = Path(os.path.abspath(name))
        if not full.is_relative_to(self.folder):
            return None
        inside = full.relative_to(self.folder).as_posix()
        return "" if inside == "." else inside

    def _opening(self, call: Callable[..., int]) -> Callable[..., int]:
        def watched(path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
            inside = self._inside(path, dir_fd)
            if inside is None:
                return call(path, flags, mode, dir_fd=dir_fd)
            with self.paused():
                new = flags & os.O_CREAT and not os.path.lexists(self.folder / inside)
            kind = "create" if new else "truncate" if flags & os.O_TRUNC else "open"
            operation = Operation(kind=kind, path=inside)
            self._see(operation)
            descriptor = call(path, flags, mode, dir_fd=dir_fd)
            self.log.append(operation)
            file = self._open[descriptor] = _File(inside, written=bool(flags & (os.O_WRONLY | os.O_RDWR)))
            if flags & os.O_APPEND:
                file.offset = os.fstat(descriptor).st_size
            return descriptor

        return watched

    def _closing(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def watched(descriptor: int) -> None:
            file = self._open.pop(descriptor, None)
            call(descriptor)  # a file is closed even where an error is reported
            if file is not None and file.written:
                self._see(Operation(kind="close", path=file.path))

        return watched

    def _writing(self, call: Callable[[int, Any], int]) -> Callable[[int, Any], int]:
        def watched(descriptor: int, data: Any) -> int:
            file = self._open.get(descriptor)
            if file is None:
                return call(descriptor, data)
            view = memoryview(data).cast("B")
            file.halved = not file.halved and len(view) > 1
            part = bytes(view[: len(view) // 2] if file.halved else view)
            operation = Operation(kind="write", path=file.path, offset=file.offset, data=part)
            self._see(operation)
            written = call(descriptor, part)
            assert written == len(part), f"{file.path}: the system wrote {written:,} bytes of {len(part):,}"
            self.log.append(operation)
            file.offset += written
            return written

        return watched

    def _syncing(self, call: Callable[[int], None]) -> Callable[[int], None]:
        def watched(descriptor: int) -> None:
            file = self._open.get(descriptor)
            if file is None:
                call(descriptor)
                return
            with self.paused():
                operation = Operation(kind="sync", path=file.path, folder=os.path.isdir(self.folder / file.path))
            self._see(operation)
            self.log.append(operation)

        return watched

    def _cutting(self, call: Callable[[int, int], None]) -> Callable[[int, int], None]:
        def watched(descriptor: int, length: int) -> None:
            inside = self._inside(descriptor)
            self._do("truncate", inside, lambda: call(descriptor, length), offset=length)

        return watched

    def _reading(self, call: Callable[[int, int, int], bytes]) -> Callable[[int, int, int], bytes]:
        def watched(descriptor: int, length: int, offset: int) -> bytes:
            found: bytes = self._do("read", self._inside(descriptor), lambda: call(descriptor, length, offset))
            return found

        return watched

    def _naming(self, kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(call: Callable[..., Any]) -> Callable[..., Any]:
            def watched(path: Any = ".", *args: Any, dir_fd: int | None = None, **kwargs: Any) -> Any:
                others = kwargs if dir_fd is None else {**kwargs, "dir_fd": dir_fd}
                left = args[0] if kind == "truncate" else 0
                return self._do(kind, self._inside(path, dir_fd), lambda: call(path, *args, **others), offset=left)

            return watched

        return make

    def _renaming(self, kind: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def make(call: Callable[..., Any]) -> Callable[..., Any]:
            def watched(source: Any, target: Any) -> Any:
                inside = self._inside(source)
                with self.paused():
                    # A library may have written it without this watch.
                    data = Path(source).read_bytes() if inside is not None and os.path.isfile(source) else b""
                name = self._inside(target) or ""
                return self._do(kind, inside, lambda: call(source, target), target=name, data=data)

            return watched

        return make

    def _do(
        self,
        kind: str,
        inside: str | None,
        call: Callable[[], Any],
        *,
        target: str = "",
        offset: int = 0,
        data: bytes = b"",
    ) -> Any:
        if inside is None:
            return call()
        operation = Operation(kind=kind, path=inside, target=target, offset=offset, data=data)
        self._see(operation)
        result = call()
        self.log.append(operation)
        return result

    def _plainly(self, call: Callable[..., Any]) -> Callable[..., Any]:
        plain = importlib.import_module("_pyio")

        def watched(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            seen = not self._paused and set(mode) & set("wax+") and self._inside(file) is not None
            return (plain.open if seen else call)(file, mode, *args, **kwargs)

        return watched
