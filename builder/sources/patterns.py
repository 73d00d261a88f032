"""Patterns for the paths of sources, in folders and buckets."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from builder.build_errors import SourceError, UsageError

_WILDCARD = re.compile(r"[*?\[]")


def has_wildcard(text: str) -> bool:
    """Return whether text is a pattern, or a component of one."""
    return _WILDCARD.search(text) is not None


def split_pattern(parts: Sequence[str], *, in_folders: bool) -> tuple[Sequence[str], tuple[str, ...]]:
    """Split the components of a path before the first one with a wildcard; the pattern is empty if none has one.

    With `in_folders` the pattern matches folders, and means the files in them.
    """
    first = next((number for number, part in enumerate(parts) if has_wildcard(part)), len(parts))
    return parts[:first], (*parts[first:], *("*",) * (in_folders and first < len(parts)))


def is_wanted(name: str, pattern: tuple[str, ...], *, is_folder: bool = False) -> bool:
    """Return whether a pattern matches the name of a file, or can match that of a file in a folder.

    In a pattern `**` matches any folders, and a wildcard does not match a leading dot. Without a pattern all names
    match but those with components that begin with a dot or an underscore.

    >>> is_wanted("a/b/1.csv", ("**", "*.csv")), is_wanted("a/.1.csv", ("a", "*")), is_wanted("a/_1.csv", ())
    (True, False, False)
    """
    if not pattern:
        return not name.startswith((".", "_")) and "/." not in name and "/_" not in name
    return _matches(name.split("/"), pattern, is_folder=is_folder)


def _matches(name: Sequence[str], pattern: tuple[str, ...], *, is_folder: bool) -> bool:
    """Return what `is_wanted` does, for the components of a name."""
    head, rest = pattern[0], pattern[1:]
    any_depth = head == "**"
    if any_depth and rest and _matches(name, rest, is_folder=is_folder):
        return True
    if (name[0].startswith(".") and not head.startswith(".")) or not fnmatchcase(name[0], head):
        return False
    left = pattern if any_depth else rest
    if len(name) == 1:
        return bool(left) if is_folder else not rest
    return bool(left) and _matches(name[1:], left, is_folder=is_folder)


def check_expression(pattern: str, option: str) -> re.Pattern[str]:
    """Compile the value of an option; refuse one that is not a regular expression."""
    try:
        return re.compile(pattern)
    except re.error as error:
        raise UsageError(f"{option}={pattern!r:.200} is not a regular expression: {error}") from None


def match_name(pattern: str, source: str, option: str) -> re.Match[str]:
    """Return where a regular expression matches the name of a source; SourceError if it does not."""
    match = re.search(pattern, source)
    if match is None:
        raise SourceError(
            f"its name does not match '{pattern}' of {option} (--{option.replace('_', '-')}); correct one of the two, "
            "or leave the file out of the sources"
        )
    return match
