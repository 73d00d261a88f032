"""Intercept the file operations of Python in a folder: record them, fail them, or stop before one.

`Interceptor` replaces the functions of `os` with which stores are written. It cannot see other writes, as those of C
libraries; the log has the content of such a file once the file is renamed. The `power-cuts` campaign checks that each
log reproduces the files.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

MUTATIONS = frozenset({"create", "write", "sync", "rename", "unlink", "mkdir", "rmdir", "truncate"})
# By the name of a function of `os` whose first argument is a path, the kind of operation.
BY_PATH = {
    "replace": "rename", "rename": "rename", "truncate": "truncate", "ftruncate": "truncate", "unlink": "unlink",
    "remove": "unlink", "mkdir": "mkdir", "rmdir": "rmdir", "pread": "read", "scandir": "list", "listdir": "list",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One system call. Paths are POSIX paths relative to the intercepted folder, which is "" itself."""

    kind: str  # one of MUTATIONS, or "open", "read", "list" or "close"
    path: str
    target: str = ""  # the new name, for "rename"
    offset: int = 0  # where "write" writes; the new length, for "truncate"
    data: bytes = b""  # the bytes written; for "rename", the whole content
    is_folder: bool = False  # for "sync"

    @property
    def commits(self) -> bool:
        """Whether it changes or syncs a name directly in the store, or the store's own name, as a commit does."""
        if self.kind == "rename":
            return self.target.count("/") < 2 and ".build/" not in self.target
        return self.is_folder and "/" not in self.path

    def __str__(self) -> str:
        return f"{self.kind} {self.path or '.'}" + (f" to {self.target}" if self.target else "")


@dataclass(slots=True)
class _OpenFile:
    path: str
    writable: bool
    offset: int = 0
    is_halved: bool = False


@dataclass(slots=True, eq=False)
class Interceptor:
    """Intercepts the operations in a folder.

    Each write is split into two, so that a partly written file can be observed. A sync is recorded and not executed.
    """

    folder: Path  # absolute
    before: Callable[[Operation], None]  # called before each operation, which an exception prevents
    log: list[Operation] = field(default_factory=list)  # all operations that succeeded
    _open_files: dict[int, _OpenFile] = field(default_factory=dict)
    _is_paused: bool = False

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Intercept operations while this context is open."""
        hooks: dict[str, Callable[..., Any]] = {"open": self._open, "close": self._close, "write": self._write}
        hooks |= dict.fromkeys(("fsync", "fdatasync"), self._sync)
        hooks |= {name: partial(self._by_path, kind) for name, kind in BY_PATH.items()}
        with pytest.MonkeyPatch.context() as patch:
            for name, hook in hooks.items():
                patch.setattr(os, name, partial(self._dispatch, hook, getattr(os, name)))
            yield

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not intercept operations while this context is open."""
        before, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = before

    def _dispatch(self, hook: Callable[..., Any], call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs) if self._is_paused else hook(call, *args, **kwargs)

    def _report(self, operation: Operation) -> None:
        with self.paused():
            self.before(operation)

    def _relative(self, path: Any, dir_fd: int | None = None) -> str | None:
        """Return the path of a file relative to the folder, or None if it is elsewhere."""
        if isinstance(path, int):
            return self._open_files[path].path if path in self._open_files else None
        name = os.fsdecode(path)
        if dir_fd is not None:
            return f"{self._open_files[dir_fd].path}/{name}".lstrip("/") if dir_fd in self._open_files else None
        full = Path(os.path.abspath(name))
        if not full.is_relative_to(self.folder):
            return None
        relative = full.relative_to(self.folder).as_posix()
        return "" if relative == "." else relative

    def _execute(self, operation: Operation, call: Callable[[], Any]) -> Any:
        self._report(operation)
        result = call()
        self.log.append(operation)
        return result

    def _open(self, call: Any, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        relative = self._relative(path, dir_fd)
        if relative is None:
            return int(call(path, flags, mode, dir_fd=dir_fd))
        with self.paused():
            is_new = flags & os.O_CREAT and not os.path.lexists(self.folder / relative)
        kind = "create" if is_new else "truncate" if flags & os.O_TRUNC else "open"
        operation = Operation(kind=kind, path=relative)
        descriptor: int = self._execute(operation, lambda: call(path, flags, mode, dir_fd=dir_fd))
        self._open_files[descriptor] = _OpenFile(relative, bool(flags & (os.O_WRONLY | os.O_RDWR)))
        return descriptor

    def _close(self, call: Any, descriptor: int) -> None:
        file = self._open_files.pop(descriptor, None)
        call(descriptor)  # first, because a failing close closes the file nevertheless
        if file is not None and file.writable:
            self._report(Operation(kind="close", path=file.path))

    def _write(self, call: Any, descriptor: int, data: Any) -> int:
        file = self._open_files.get(descriptor)
        if file is None:
            return int(call(descriptor, data))
        view = memoryview(data).cast("B")
        file.is_halved = not file.is_halved and len(view) > 1
        part = bytes(view[: len(view) // 2] if file.is_halved else view)
        operation = Operation(kind="write", path=file.path, offset=file.offset, data=part)
        written: int = self._execute(operation, lambda: call(descriptor, part))
        assert written == len(part), f"{file.path}: the system wrote {written:,} of {len(part):,} bytes"
        file.offset += written
        return written

    def _sync(self, call: Any, descriptor: int) -> None:
        file = self._open_files.get(descriptor)
        if file is None:
            call(descriptor)
            return
        with self.paused():
            is_folder = os.path.isdir(self.folder / file.path)
        self._execute(Operation(kind="sync", path=file.path, is_folder=is_folder), lambda: None)

    def _by_path(self, kind: str, call: Any, path: Any = ".", *args: Any, **kwargs: Any) -> Any:
        relative = self._relative(path, kwargs.get("dir_fd"))
        if relative is None:
            return call(path, *args, **kwargs)
        operation = Operation(kind=kind, path=relative)
        if kind == "truncate":
            operation = replace(operation, offset=args[0])
        elif kind == "rename":
            with self.paused():
                data = Path(path).read_bytes() if os.path.isfile(path) else b""  # see the docstring of this module
            operation = replace(operation, target=self._relative(args[0]) or "", data=data)
        return self._execute(operation, lambda: call(path, *args, **kwargs))


def before_mutation(number: int, action: Callable[[], None]) -> Callable[[Operation], None]:
    """Return a function for `Interceptor.before` that calls `action` before mutation `number`, counted from 0."""
    numbers = itertools.count()

    def before(operation: Operation) -> None:
        if operation.kind in MUTATIONS and next(numbers) == number:
            action()

    return before
