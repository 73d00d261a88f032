"""The types of paths, and of stores, on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

EMPTY = "is empty, like an unset shell variable; give a path, or . for the working folder"


class GivenPath(click.Path):
    """A path that is not empty; pathlib takes an empty path for the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)


class GivenStore(GivenPath):
    """A store to read: a Path, or a URL as a str."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return a URL unchanged; a Path would drop one of its slashes."""
        return value if isinstance(value, str) and is_url(value) else super().convert(value, param, ctx)


def is_url(text: str) -> bool:
    """Return whether the name of a store is a URL."""
    return "://" in text


def store_name(store: Path | str) -> str:
    """Return the last part of the path or the URL of a store."""
    return str(store).rstrip("/").rpartition("/")[2] or str(store)
