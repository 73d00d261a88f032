"""Make the options of a kind of batches from the arguments of a method."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

Options = TypeVar("Options")


def options_of(options: type[Options], arguments: Mapping[str, Any]) -> Options:
    """Make options from the arguments of a method that have the names of their fields."""
    names = [each.name for each in fields(options) if each.name in arguments]  # type: ignore[arg-type]  # a dataclass
    return options(**{name: arguments[name] for name in names})
