"""The type of paths on the command line."""

from __future__ import annotations

from typing import Any

import click

EMPTY = "is empty, as a shell variable is that is not set; give a path, or . for the working folder"


class GivenPath(click.Path):
    """A path that is not empty; pathlib takes an empty path for the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail(EMPTY, param, ctx)
        return super().convert(value, param, ctx)
