"""Flags of the command line, from the declarations of options, and the types of its paths and stores."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from builder.options.declaration import Option, options_of
from builder.planning.build_options import BuildOptions

JSON = Option(
    "as_json",
    False,
    flag="json",
    help="Print one JSON object, and nothing else.",
    section="What is shown",
    kind="switch",
)
QUIET = Option("quiet", False, help="Print nothing but errors and problems.", section="What is shown", kind="switch")
OF_ENGINE = (*(options_of(BuildOptions)[name] for name in ("workers", "scheduler")), JSON, QUIET)
Function = TypeVar("Function", bound=Callable[..., Any])


class GivenPath(click.Path):
    """A path that is not empty; pathlib takes an empty path for the working folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Refuse an empty path."""
        if value == "":
            self.fail("is empty, like an unset shell variable; give a path, or . for the working folder", param, ctx)
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


def flags_of(options: Iterable[Option]) -> tuple[Option, ...]:
    """Return the flags of some options, in order."""
    return tuple(flag for option in options for flag in option.flags)


def add_flags(flags: Iterable[Option]) -> Callable[[Function], Function]:
    """Return a decorator that adds these flags to a command; the value of a flag that is not given is None."""

    def decorate(function: Function) -> Function:
        for flag in reversed([*flags]):
            function = _decorator(flag)(function)
        return function

    return decorate


def _decorator(flag: Option) -> Callable[[Function], Function]:
    if flag.kind == "switch" and flag.default is None:
        written = f"{flag.written}/--no-{flag.written.removeprefix('--')}"
        return click.option(written, flag.name, default=None, help=flag.flag_help)
    if flag.kind == "switch":
        return click.option(flag.written, flag.name, is_flag=True, help=flag.flag_help)
    kinds: dict[str, Any] = {"number": int, "path": GivenPath(path_type=Path)}
    return click.option(
        flag.written,
        flag.name,
        metavar=flag.metavar,
        type=click.Choice(flag.choices) if flag.choices else kinds.get(flag.kind),
        multiple=flag.repeated,
        help=flag.flag_help,
    )
