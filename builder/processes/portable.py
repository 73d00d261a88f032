"""Process functions on their way to the workers."""

import pickle
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from builder.build_errors import UsageError
from builder.processes.process_code import code_alone, imported_object

_known_code = lru_cache(maxsize=16)(code_alone)  # an import is not repeated, so the code stays the same


class Portable:
    """A function that is sent to the workers as bytes, and unpickled when it is called.

    The call raises a UsageError if a worker lacks a module, or imported it before it was edited. (A worker that cannot
    unpickle a message would request it again endlessly.)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Callable[..., Any] | None = function
        self._data = b""
        self._code: str | None = None  # of the function where it was pickled

    def __call__(self, path: Path) -> Any:
        """Call the function."""
        if self._function is None:
            self._function = self._load()
        return self._function(path)

    def _load(self) -> Callable[..., Any]:
        try:
            function: Callable[..., Any] = pickle.loads(self._data)  # noqa: S301  # made by our own coordinator
        except Exception as error:
            raise UsageError(
                f"the process function cannot be imported on a worker: {type(error).__name__}: {error}; "
                "its module must be installed there, or be in the folder in which the build is started, on a disk that "
                "the worker has too"
            ) from error
        if None not in (self._code, code := _known_code(imported_object(function))) and code != self._code:
            raise UsageError(
                "this process and a worker have different versions of the process function: one of them imported it "
                "before it was edited; start that one again"
            )
        return function

    def __getstate__(self) -> tuple[bytes, str | None]:
        if not self._data:
            try:
                self._data = cloudpickle.dumps(self._function)
            except Exception as error:  # the user's objects can raise anything
                raise UsageError(
                    f"the process function cannot be sent to workers: {type(error).__name__}: {error}; create objects "
                    "that cannot be pickled inside the function, or work in this process: workers=0 (--workers 0)"
                ) from error
            self._code = None if self._function is None else code_alone(imported_object(self._function))
        return self._data, self._code

    def __setstate__(self, state: tuple[bytes, str | None]) -> None:
        self._function, (self._data, self._code) = None, state
