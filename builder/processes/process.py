"""Process functions, which turn a source into sequences: find them by name, and record them."""

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from builder.amounts import first_names
from builder.build_errors import NoSuchProcessError, UsageError
from builder.frames.tabular import Tabular

# Takes a path, and `arguments` by name. Returns (inputs, labels), a Sequence or a LongSequence, or an iterable of
# these.
ProcessFunction = Callable[..., Any]
OWN_PACKAGES = ("builder", "store_spec")


def load_process(process: ProcessFunction | str) -> ProcessFunction:
    """Return a function, or import it by its name `module:function`, also from the working folder.

    Raises:
        NoSuchProcessError: The module or the function does not exist.
        UsageError: The name is not of that form, the object cannot be called, or its module cannot be imported.
    """
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
                "run the command in the folder of the module, or install it"
            ) from error
        except (Exception, SystemExit) as error:
            raise UsageError(f"process {process!r}: importing it failed: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = sorted(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        there = first_names(names, 20) or "no functions"
        raise NoSuchProcessError(f"process {process!r}: {module_name} has no {name}; it has {there}")
    return function  # type: ignore[no-any-return]


def load_recorded_process(name: str) -> ProcessFunction:
    """Return the function whose name a store records.

    A store can come from a stranger, and installed packages have functions that are harmful when called with a path.
    Therefore only functions of the user's own modules are called because a store names them.

    Raises:
        NoSuchProcessError: There is no function with this name; the user must pass it under its present name.
        UsageError: The function is in an installed package, so that the user must pass it; or its module cannot be
            imported.
    """
    again = "give the function with process (--process)"
    module, _, function = name.partition(":")
    if module == "__main__" or not all(part.isidentifier() for part in (*module.split("."), function)):
        raise NoSuchProcessError(f"the process function {name!r:.200} cannot be found by its name; {again}")
    process: ProcessFunction | None = None
    if not is_installed(module):
        try:
            process = load_process(name)
        except NoSuchProcessError as error:
            raise NoSuchProcessError(f"{error}; or {again}") from error
    if process is None or is_installed(process.__module__ or "builtins"):  # the module that defines it or its class
        raise UsageError(
            f"the process function {name!r:.200} is in an installed package, and such functions are not called only "
            f"because a store names them; {again}"
        )
    return process


def is_installed(module: str) -> bool:
    """Return whether a module belongs to Python, to seqzarr, or to an installed package."""
    package = module.partition(".")[0]
    if package in sys.stdlib_module_names or package in OWN_PACKAGES:
        return True
    try:
        with searching([str(Path.cwd())]):
            spec = importlib.util.find_spec(package)  # imports nothing, as the name has no dots
    except (ImportError, ValueError):
        return False
    places = [] if spec is None else [spec.origin or "", *(spec.submodule_search_locations or ())]
    return any(not {"site-packages", "dist-packages"}.isdisjoint(Path(place).parts) for place in places)


def describe_process(process: ProcessFunction, given_name: str | None = None) -> dict[str, Any]:
    """Return the record of a process function for a store: its options, or its name.

    `given_name` is the name by which the user gave the function; None if the user gave the function itself.
    """
    if isinstance(process, Tabular):
        return {"tabular": process.recorded()}
    module = getattr(process, "__module__", None) or "?"
    name = getattr(process, "__qualname__", type(process).__qualname__)
    if getattr(sys.modules.get(module), name, None) is process:
        return {"function": f"{module}:{name}"}
    # For a callable object, or a function inside a decorated one, the plain name would find another object.
    return {"function": given_name or f"{module}:{name}{'()' if name.isidentifier() else ''}"}


@contextmanager
def searching(folders: Iterable[str]) -> Iterator[None]:
    """Also search these folders for modules, after all others."""
    added = [folder for folder in folders if folder not in sys.path]
    sys.path.extend(added)
    try:
        yield
    finally:
        for folder in added:
            sys.path.remove(folder)
