"""Process functions: what turns one source into sequences, named by the user or made by `tabular`."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

from builder.errors import NoSuchProcessError, UsageError
from builder.frames.tabular import Tabular

# Of a path, and of `arguments` by name; it returns (inputs, labels), a Sequence or a LongSequence, or an iterable of
# these.
Process = Callable[..., Any]

OWN_PACKAGES = ("builder", "store_spec")


def load_process(process: Process | str | None) -> Process:
    """Return the function that `module:function` names; one given as such is returned as it is.

    The working folder is searched too, as `python` itself would.

    Raises:
        NoSuchProcessError: There is no such module or function.
        UsageError: It is no such name, cannot be called, or its module cannot be imported.
    """
    if process is None:
        raise UsageError("no process function is given")
    if not isinstance(process, str):
        if not callable(process):
            raise UsageError(f"process={process!r:.200} cannot be called; give a function, or its name module:function")
        return process
    module_name, colon, name = process.partition(":")
    if not (colon and name and all(part.isidentifier() for part in module_name.split("."))):
        raise UsageError(f"process {process!r} is not of the form module:function, as in my_sources:read_wav")
    with searching([str(Path.cwd())]):
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise UsageError(f"process {process!r}: module {module_name} cannot be imported: {error}") from error
            raise NoSuchProcessError(
                f"process {process!r}: there is no module {module_name} in {Path.cwd()} or on the search path; "
                "run from the folder that holds it, or install it"
            ) from error
        except Exception as error:
            raise UsageError(f"process {process!r}: importing it failed: {type(error).__name__}: {error}") from error
        except SystemExit as error:
            raise UsageError(
                f"process {process!r}: {module_name} exits when it is imported ({error.code!r:.200}); put what it does "
                "as a script under if __name__ == '__main__'"
            ) from error
    function = getattr(module, name, None)
    if not callable(function):
        there = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        named = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
        raise NoSuchProcessError(f"process {process!r}: {module_name} has no {name}; it has {named or 'no functions'}")
    return function  # type: ignore[no-any-return]


def load_recorded_process(name: str) -> Process:
    """Return the function whose name a store records.

    A store can come from a stranger, and installed packages have functions that do harm to whatever path they are
    given: only what modules of the user's own define is called on the word of a store, nothing that they import from
    there, and nothing of this package, which calls what it is told to.

    Raises:
        NoSuchProcessError: Nothing is found by that name; it has to be given again, by whatever name it has now.
        UsageError: It is not the user's own, and has to be given again; or its module cannot be imported.
    """
    again = "give it again with process (--process)"
    module, _, function = name.partition(":")
    if module == "__main__" or not all(part.isidentifier() for part in (*module.split("."), function)):
        raise NoSuchProcessError(f"the process function {name!r:.200} cannot be found by its name; {again}")
    process: Process | None = None
    if not is_installed(module):
        try:
            process = load_process(name)
        except NoSuchProcessError as error:
            raise NoSuchProcessError(f"{error}; or {again}") from error
    if process is None or is_installed(process.__module__ or "builtins"):  # where it, or its class, is defined
        raise UsageError(
            f"the process function {name!r:.200} is not one of yours but lies in an installed package, and such a one "
            f"is not called because a store says so; {again}"
        )
    return process


def is_installed(module: str) -> bool:
    """Tell whether a module is Python's, ours, or of an installed package."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package in OWN_PACKAGES:
        return True
    try:
        with searching([str(Path.cwd())]):
            spec = importlib.util.find_spec(package)  # of a name without dots, this imports nothing
    except (ImportError, ValueError):
        return False
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(not {"site-packages", "dist-packages"}.isdisjoint(Path(place).parts) for place in places)


def describe_process(process: Process, given: str | None = None) -> dict[str, Any]:
    """Return what the store records of a process function: its options, or its name.

    Args:
        process: The function.
        given: The name under which it was given, if it was.
    """
    if isinstance(process, Tabular):
        return {"tabular": process.recorded()}
    return {"function": _name(process, given)}


def _name(process: Process, given: str | None) -> str:
    """Return where a function is defined, if that leads to it; else how it was given, or what leads nowhere."""
    module = getattr(process, "__module__", None) or "?"
    name = getattr(process, "__qualname__", type(process).__qualname__)
    if getattr(sys.modules.get(module), name, None) is process:
        return f"{module}:{name}"
    # An object that can be called, or the function inside a decorated one: the bare name would lead to another.
    return given or f"{module}:{name}{'()' if name.isidentifier() else ''}"


class Portable:
    """A process function that travels to the workers as bytes, and is unpickled where it is called.

    So a module that is not there is an error of the call, as any other; a worker that fails to read a message drops
    it, and asks for it again for ever.

    Raises:
        UsageError: When called: it cannot be imported there.
    """

    def __init__(self, process: Process) -> None:
        self._process: Process | None = process
        self._data = b""

    def __call__(self, path: Path) -> Any:
        """Call the function."""
        if self._process is None:
            try:
                self._process = pickle.loads(self._data)  # noqa: S301  # made by our own coordinator
            except Exception as error:
                raise UsageError(
                    f"the process function cannot be imported on a worker: {type(error).__name__}: {error}; "
                    "its module must be installed there, or lie in the folder that the build is started from"
                ) from error
        return self._process(path)

    def __getstate__(self) -> bytes:
        if not self._data:
            try:
                self._data = cloudpickle.dumps(self._process)
            except Exception as error:  # whatever an object of the user's own raises
                raise UsageError(
                    f"the process function cannot be sent to workers: {type(error).__name__}: {error}; have it make "
                    "what cannot be sent when it is called, or work in this process: workers=0 (--workers 0)"
                ) from error
        return self._data

    def __setstate__(self, data: bytes) -> None:
        self._process, self._data = None, data


@contextmanager
def searching(folders: Iterable[str]) -> Iterator[None]:
    """Search these folders for modules as well, after all others."""
    added = [folder for folder in folders if folder not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)
