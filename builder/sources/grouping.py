"""Sources of several files: the files of a folder, or files whose paths have the same groups of a pattern."""

import re
from collections.abc import Callable
from dataclasses import replace

from builder.build_errors import UsageError
from builder.sources.source_list import SourceList


def check_sequence_from(pattern: str) -> str:
    """Return the option unchanged; UsageError if it is not a regular expression."""
    try:
        re.compile(pattern)
    except re.error as error:
        raise UsageError(f"sequence_from={pattern!r:.200} is not a regular expression: {error}") from None
    return pattern


def source_of(pattern: str, path: str) -> str | None:
    r"""Return the name of the source of a file: the texts that the groups of the pattern find in its path.

    >>> source_of(r"(\w+)_\d{8}\.csv", "north/p7_20240131.csv"), source_of(r"(\w+)_\d{8}\.csv", "notes.csv")
    ('p7', None)
    >>> source_of(r"(?P<user>\d+)/.*?(?P<walk>\d+)-", "07/walk3-a.csv")
    '07/3'
    """
    match = re.search(pattern, path)
    if match is None:
        return None
    found = "/".join(group or "" for group in match.groups()) if match.groups() else match[0]
    return found.strip("/") or None


def folder_of(path: str) -> str | None:
    """Return the folder of a file; None if it is the root."""
    return path.rpartition("/")[0] or None


def group_files(listing: SourceList, source_of_file: Callable[[str], str | None], what: str) -> SourceList:
    """Form sources from the files of a listing; files without a source are ignored, and reported.

    The files of a source are in the order of their names, in which numbers are compared as numbers. If no file has a
    source, a UsageError is raised.
    """
    files: dict[str, list[str]] = {}
    ignored = list(listing.ignored)
    for path in listing.names:
        source = source_of_file(path)
        (ignored if source is None else files.setdefault(source, [])).append(path)
    if listing.names and not files:
        raise UsageError(
            f"{listing.folder}: {what} matches none of the files ({len(listing.names):,} in all), such as "
            f"{listing.names[0]}"
        )
    return replace(
        listing,
        names=tuple(sorted(files)),
        files={source: tuple(sorted(paths, key=_natural)) for source, paths in files.items()},
        ignored=tuple(sorted(ignored)),
    )


def _natural(path: str) -> tuple[list[tuple[str, int]], str]:
    """Return the sort key of a path: its texts and numbers in turn, then its code points.

    >>> sorted(["f10.csv", "f9.csv", "f009.csv"], key=_natural)
    ['f009.csv', 'f9.csv', 'f10.csv']
    """
    parts = re.split(r"([0-9]+)", path)
    texts, numbers = parts[::2], [*map(int, parts[1::2]), -1]
    return list(zip(texts, numbers, strict=True)), path
