"""Which files are the sources: listing a folder or a glob, in the order that the store keeps."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fnmatch import translate
from itertools import islice, pairwise
from pathlib import Path, PurePosixPath

from builder.build_errors import UsageError
from builder.formats import KNOWN_SUFFIXES, check_format, format_of
from store_spec.building import belongs_to_store

_WILDCARD = re.compile(r"[*?\[]")
# How many files are looked at to say, in an error, what is there instead.
_LOOKED_AT = 10_000
MISNAMED = (
    "its name is not valid UTF-8, so no store can keep it; rename it, or the folder that it lies in "
    r"(\x and two digits stand for a byte that is no text)"
)


LISTED = 5  # of files that are ignored


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceList:
    """The sources of a build, by name: POSIX paths relative to `root`, sorted by code point."""

    root: Path  # as the caller wrote it: relative stays relative
    names: tuple[str, ...]
    # Files of no known format, links to folders, which are not followed and end in "/", and what is no file, as pipes.
    ignored: tuple[str, ...] = ()
    # Files that cannot be sources, since no store can keep their names: these as `readable_name` gives them.
    misnamed: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for before, after in pairwise(self.names):
            if before >= after:
                raise UsageError(f"sources must be sorted, each named once, but {after!r} follows {before!r}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def ignored_listed(self) -> tuple[str, ...]:
        """The first of the files that are ignored."""
        return self.ignored[:LISTED]

    def path(self, name: str) -> Path:
        """Return where the source `name` lies."""
        return self.root / name


def discover(
    sources: str | Path,
    *,
    format: str | None = None,  # noqa: A002 - the option's name
    any_suffix: bool = False,
    exclude: Collection[Path] = (),
    allow_none: bool = False,
) -> SourceList:
    """List the sources in a folder, or those that a glob pattern matches.

    From a folder, and the folders in it, come the files of known formats; names that begin with "." or "_" are left
    out, with all below them, and so are stores of ours, with what lies beside them. A glob (`**` stands for any
    folders) takes what it matches; as in a shell, a wildcard matches no leading ".". Links to files are followed, links
    to folders are not. A link that leads nowhere, or round in a circle, is listed, so that reading it fails by name
    rather than that it goes missing. A file whose name is not UTF-8 is no source; it is listed apart.

    Args:
        sources: A folder, one file, or a glob; the root of a glob is the part before its first wildcard.
        format: Read every file as this format: a folder then gives all its files.
        any_suffix: Take all files of a folder, as a process function can read any.
        exclude: Files and folders that are no sources, wherever they lie: the manifest, the store.
        allow_none: Whether a folder may hold no source, or a pattern match none.

    Raises:
        UsageError: There is no such folder, nothing matches, or a folder cannot be listed.
    """
    if format is not None:
        check_format(format)
    every = any_suffix or format is not None
    text = os.fspath(sources)
    if not text:  # as of a shell's variable that is not set; a path of nothing is the working folder
        raise UsageError("the sources are an empty name; give a folder, a file or a pattern")
    path = Path(text)
    # What is there under that very name wins over reading it as a pattern: run[1].csv can be a file.
    others: list[str] = []
    if path.is_dir():
        root = path
        found = list(_walk(text, "", _excluded(root, exclude), others))
        taken = found if every else [name for name in found if format_of(name)]
    elif os.path.lexists(path):
        root, found, taken = path.parent, [path.name], [path.name]
    elif _WILDCARD.search(text):
        root, parts = _fixed_part(path)
        if not root.is_dir():
            raise UsageError(f"{text}: there is no folder {root}")
        matched = set(_glob(os.fspath(root), "", parts, _excluded(root, exclude), others))
        found = taken = list(matched)
    else:
        raise UsageError(f"{text}: no such file or folder")
    if not taken and not allow_none:
        raise UsageError(f"{text}: {_nothing(root, is_folder=path.is_dir())}")
    kept = set(taken)
    ignored = {name for name in found if name not in kept}.union(others)
    return SourceList(
        root=root,
        names=tuple(sorted(filter(_is_utf8, taken))),
        ignored=tuple(map(readable_name, sorted(ignored))),
        misnamed=tuple(readable_name(name) for name in sorted(taken) if not _is_utf8(name)),
    )


def readable_name(name: str) -> str:
    r"""Return a file's name as text: as it is if it is UTF-8, or with the bytes that are not written as in \xff.

    Then its backslashes are doubled: no two such names give the same text. A name that is UTF-8 can be that text too.

    >>> readable_name("b\udcff.csv") == r"b\xff.csv", readable_name("b.csv")
    (True, 'b.csv')
    """
    if _is_utf8(name):
        return name
    return os.fsencode(name).replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")


def _is_utf8(name: str) -> bool:
    """Tell whether the bytes of a name are text; Python has each other byte as half a letter."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _walk(folder: str, prefix: str, excluded: frozenset[str], others: list[str]) -> Iterator[str]:
    """Yield the files below `folder`, named from the root; add links to folders, and pipes, to `others`."""
    for entry in _entries(folder):
        name = prefix + entry.name
        if entry.name.startswith((".", "_")) or name in excluded:
            continue
        if entry.is_dir(follow_symlinks=False):
            if not belongs_to_store(entry.path):
                yield from _walk(entry.path, f"{name}/", excluded, others)
        elif _is_file(entry):
            yield name
        else:
            others.append(f"{name}/" if entry.is_dir() else name)


def _glob(
    folder: str, prefix: str, parts: tuple[str, ...], excluded: frozenset[str], others: list[str]
) -> Iterator[str]:
    """Yield the files below `folder` that the components `parts` of a pattern match; add pipes to `others`."""
    head, rest = parts[0], parts[1:]
    any_depth = head == "**"
    if any_depth and rest:
        yield from _glob(folder, prefix, rest, excluded, others)
    matches = re.compile(translate("*" if any_depth else head)).match
    for entry in _entries(folder):
        name = prefix + entry.name
        hidden = entry.name.startswith(".") and not head.startswith(".")
        if hidden or name in excluded or not matches(entry.name):
            continue
        if entry.is_dir(follow_symlinks=False):
            if (any_depth or rest) and not belongs_to_store(entry.path):
                yield from _glob(entry.path, f"{name}/", parts if any_depth else rest, excluded, others)
        elif not rest and _is_file(entry):
            yield name
        elif not rest and not entry.is_dir():
            others.append(name)


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """List a folder."""
    try:
        with os.scandir(folder or ".") as entries:
            return list(entries)
    except OSError as error:
        raise UsageError(f"{folder}: the folder cannot be listed: {error.strerror}") from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file, a link to one, or a link to nothing, also round in a circle."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _fixed_part(pattern: Path) -> tuple[Path, tuple[str, ...]]:
    """Cut a pattern before its first component with a wildcard."""
    parts = pattern.parts
    first = next(number for number, part in enumerate(parts) if _WILDCARD.search(part))
    return Path(*parts[:first]), parts[first:]


def _excluded(root: Path, exclude: Collection[Path]) -> frozenset[str]:
    """Return the names, relative to `root`, of what is excluded and lies below it."""
    base = root.resolve()
    paths = [path.resolve() for path in exclude]
    return frozenset(path.relative_to(base).as_posix() for path in paths if path.is_relative_to(base))


def _nothing(root: Path, *, is_folder: bool) -> str:
    """Say that nothing was found, and what is there instead."""
    names = list(islice(_walk(os.fspath(root), "", frozenset(), []), _LOOKED_AT))
    suffixes = Counter(PurePosixPath(name).suffix or "no suffix" for name in names)
    listed = ", ".join(f"{count:,} with {suffix}" for suffix, count in suffixes.most_common(8))
    total = f"{suffixes.total():,}" + (" or more" if len(names) == _LOOKED_AT else "")
    there = f"{root} holds {total} files: {listed}" if suffixes else f"{root} holds no files"
    if not is_folder:
        return f"the pattern matches no file; {there}"
    known = " ".join(KNOWN_SUFFIXES)
    return f"no file of a known format; {there}. Known: {known}; for others give --format or --process"
