"""pyarrow and pyarrow.compute, imported at their first use: that takes time and memory, and NPY files need neither."""

from importlib import import_module
from typing import Any, Final


class _LateModule:
    """A module that is imported when one of its names is used."""

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self._module), name)
        setattr(self, name, value)  # so that this method is not called again for it
        return value


pa: Final[Any] = _LateModule("pyarrow")
pc: Final[Any] = _LateModule("pyarrow.compute")
