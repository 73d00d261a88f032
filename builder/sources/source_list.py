"""List the sources in a folder, or those that a glob matches, in the order of the store; join files to sources."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise
from os import PathLike
from pathlib import Path, PurePosixPath
from urllib.parse import unquote

from builder.build_errors import UsageError
from builder.formats import KNOWN_SUFFIXES, format_of
from builder.sources.folder import Folder, LocalFolder, list_bucket
from builder.sources.patterns import check_expression, has_wildcard, is_wanted, split_pattern
from store_spec.building import StorePlace, belongs_to_store, is_url, place_of

_MOST_COUNTED = 10_000  # files that are counted for an error about the contents of a folder
MISNAMED = (
    "its name is not valid UTF-8, so it cannot be stored; rename it, or its folder "
    r"(\x and two digits mean a byte that is not text)"
)
LISTED = 5  # ignored files
_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceList:
    """The sources of a build, by name: POSIX paths relative to a folder, sorted by code point."""

    folder: Folder
    names: tuple[str, ...]
    # Files of unknown formats, links to folders, which are not followed and end in "/", and other things such as pipes.
    ignored: tuple[str, ...] = ()
    # Files whose names cannot be stored, as `readable_name` writes them.
    misnamed: tuple[str, ...] = ()
    in_folders: bool = False  # whether each folder that a pattern matches is a source
    # The files of each source that consists of several files, in order; empty: each source is one file.
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for before, after in pairwise(self.names):
            if before >= after:
                raise UsageError(f"sources must be sorted, each named once, but {after!r} follows {before!r}")

    @property
    def ignored_listed(self) -> tuple[str, ...]:
        """The first ignored files."""
        return self.ignored[:LISTED]


def discover(
    sources: str | PathLike[str],
    *,
    any_suffix: bool = False,
    exclude: Collection[StorePlace] = (),
    allow_none: bool = False,
) -> SourceList:
    """List the sources in a folder, or those that a glob pattern matches.

    A folder is searched recursively for files of known formats. Names that begin with "." or "_" are skipped, and so
    are stores, with their build folders. A glob (`**` matches any folders) takes every file that it matches; as in a
    shell, a wildcard does not match a leading ".". A glob that ends in "/" means the files of known formats in the
    folders that it matches, not deeper. Links to files are followed, links to folders are not. Broken links are listed,
    so that reading them fails and they are not overlooked. Names that are not UTF-8 are listed separately.

    Args:
        sources: A folder, one file, or a glob; the root of a glob is the part before its first wildcard.
        any_suffix: Take all files of a folder, since the format is given, or a process function reads them.
        exclude: Files and folders that are never sources: the manifest, the store.
        allow_none: Whether a folder may contain no source, or a pattern match no file.
    """
    text = os.fspath(sources)
    if not text:  # such as a shell variable that is not set; Path("") would be the working folder
        raise UsageError("the name of the sources is empty; give a folder, a file or a pattern")
    if is_url(text):
        if not text.startswith("file:"):
            return _discover_objects(text, any_suffix=any_suffix, exclude=exclude, allow_none=allow_none)
        text = f"{place_of(text)}/" if text.endswith("/") else str(place_of(text))
    path, in_folders = Path(text), False
    # An existing file takes precedence over a pattern: run[1].csv can be a file.
    others: list[str] = []
    if path.is_dir():
        root = path
        files = list(_walk(text, "", (), _excluded(root, exclude), others))
        chosen = files if any_suffix else [name for name in files if format_of(name)]
    elif os.path.lexists(path):
        root, files, chosen = path.parent, [path.name], [path.name]
    elif has_wildcard(text):
        in_folders = text.endswith("/")
        fixed, pattern = split_pattern(path.parts, in_folders=in_folders)
        root = Path(*fixed)
        if not root.is_dir():
            raise UsageError(f"{text}: there is no folder {root}")
        files = chosen = list(_walk(os.fspath(root), "", pattern, _excluded(root, exclude), others))
        if in_folders and not any_suffix:
            chosen = [name for name in files if format_of(name)]
    else:
        raise UsageError(f"{text}: no such file or folder")
    if not chosen and not allow_none:
        raise UsageError(f"{text}: {_no_source_text(root, is_folder=path.is_dir())}")
    ignored = set(files).difference(chosen).union(others)
    return SourceList(
        folder=LocalFolder(root),
        names=tuple(sorted(filter(_is_utf8, chosen))),
        ignored=tuple(map(readable_name, sorted(ignored))),
        misnamed=tuple(readable_name(name) for name in sorted(chosen) if not _is_utf8(name)),
        in_folders=in_folders,
    )


def _discover_objects(url: str, *, any_suffix: bool, exclude: Collection[StorePlace], allow_none: bool) -> SourceList:
    bucket, names, pattern = list_bucket(url)
    in_folders = bool(pattern) and url.endswith("/")
    excluded = tuple(unquote(f"{place}/") for place in exclude)
    names = [name for name in names if not f"{unquote(bucket.url)}/{name}".startswith(excluded)]
    one = list(bucket.objects) == [unquote(url).rpartition("/")[2]]
    every = any_suffix or one or (bool(pattern) and not in_folders)
    chosen = names if every else [name for name in names if format_of(name)]
    if not chosen and not allow_none:
        what = f"none of {len(names):,} objects has a known format" if names else "there are no such objects"
        raise UsageError(f"{url.partition('?')[0]}: {what}")  # a query can be a password
    ignored = sorted(set(names).difference(chosen))
    return SourceList(folder=bucket, names=tuple(sorted(chosen)), ignored=tuple(ignored), in_folders=in_folders)


def readable_name(name: str) -> str:
    r"""Return a file's name as text; bytes that are not UTF-8 become \xff, and backslashes are then doubled.

    So different names that are not UTF-8 give different texts.

    >>> readable_name("b\udcff.csv") == r"b\xff.csv", readable_name("b.csv")
    (True, 'b.csv')
    """
    if _is_utf8(name):
        return name
    return os.fsencode(name).replace(b"\\", rb"\\").decode("utf-8", "backslashreplace")


def _is_utf8(name: str) -> bool:
    """Return whether a name is UTF-8; Python represents other bytes as surrogates."""
    return _SURROGATE.search(name) is None


def _walk(
    folder: str, prefix: str, pattern: tuple[str, ...], excluded: frozenset[str], others: list[str]
) -> Iterator[str]:
    """Yield the files below `folder` that a pattern matches, named from the root.

    Pipes are added to `others`, and links to folders if there is no pattern.
    """
    try:
        with os.scandir(folder or ".") as listed:
            entries = list(listed)
    except OSError as error:
        raise UsageError(f"{folder}: listing this folder failed: {error.strerror}") from error
    for entry in entries:
        name, is_folder = prefix + entry.name, entry.is_dir(follow_symlinks=False)
        if name in excluded or not is_wanted(name, pattern, is_folder=is_folder):
            continue
        if is_folder:
            if not belongs_to_store(entry.path):
                yield from _walk(entry.path, f"{name}/", pattern, excluded, others)
        elif _is_file(entry):
            yield name
        elif not entry.is_dir():
            others.append(name)
        elif not pattern:
            others.append(f"{name}/")


def _is_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a file, a link to one, or a broken link."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _excluded(root: Path, exclude: Collection[StorePlace]) -> frozenset[str]:
    """Return the excluded paths below `root`, relative to it."""
    base = root.resolve()
    paths = [place.resolve() for place in exclude if isinstance(place, Path)]
    return frozenset(path.relative_to(base).as_posix() for path in paths if path.is_relative_to(base))


def _no_source_text(root: Path, *, is_folder: bool) -> str:
    """Return the message that no source was found, with the contents of the folder."""
    names = list(islice(_walk(os.fspath(root), "", (), frozenset(), []), _MOST_COUNTED))
    suffixes = Counter(PurePosixPath(name).suffix or "no suffix" for name in names)
    listed = ", ".join(f"{count:,} with {suffix}" for suffix, count in suffixes.most_common(8))
    total = f"{suffixes.total():,}" + (" or more" if len(names) == _MOST_COUNTED else "")
    there = f"{root} holds {total} files: {listed}" if suffixes else f"{root} holds no files"
    if not is_folder:
        return f"the pattern matches no file; {there}"
    known = " ".join(KNOWN_SUFFIXES)
    return f"no file has a known format; {there}. Known: {known}; for other formats give --format or --process"


def check_sequence_from(pattern: str) -> str:
    """Return the option unchanged; UsageError if it is not a regular expression."""
    check_expression(pattern, "sequence_from")
    return pattern


def texts_in_path(pattern: str, path: str) -> tuple[str, ...]:
    r"""Return what determines the source of a file: the texts that the groups of the pattern find in its path.

    >>> texts_in_path(r"(\w+)_\d{8}\.csv", "north/p7_20240131.csv"), texts_in_path(r"(\w+)_\d{8}\.csv", "notes.csv")
    (('p7',), ())
    >>> texts_in_path(r"(?P<user>\d+)/.*?(?P<walk>\d+)-", "07/walk3-a.csv")
    ('07', '3')
    """
    match = re.search(pattern, path)
    return () if match is None else match.groups("") or (match[0],)


def folder_of(path: str) -> tuple[str, ...]:
    """Return what determines the source of a file: its folder."""
    return (path.rpartition("/")[0],)


def group_files(listing: SourceList, texts_of: Callable[[str], tuple[str, ...]], what: str) -> SourceList:
    """Form sources from the files of a listing; files without a source are ignored, and reported.

    `texts_of` returns the texts that determine the source of a file; together they are its name. The files of a source
    are in the order of their names, in which numbers are compared as numbers. If no file has a source, or two sources
    would have the same name, a UsageError is raised, in which `what` names the rule.
    """
    files: dict[str, list[str]] = {}
    ignored = list(listing.ignored)
    for path in listing.names:
        texts = texts_of(path)
        source = "/".join(texts).strip("/")
        of_source = files.setdefault(source, []) if source else ignored
        if source and of_source and (other := texts_of(of_source[0])) != texts:
            raise UsageError(
                f"{listing.folder}: {what} finds {other} in {of_source[0]} and {texts} in {path}, which would be one "
                f"source, {source}"
            )
        of_source.append(path)
    if listing.names and not files:
        raise UsageError(
            f"{listing.folder}: {what} matches none of the files ({len(listing.names):,} in all), such as "
            f"{listing.names[0]}"
        )
    return replace(
        listing,
        names=tuple(sorted(files)),
        files={source: tuple(sorted(paths, key=_natural_key)) for source, paths in files.items()},
        ignored=tuple(sorted(ignored)),
    )


def _natural_key(path: str) -> tuple[list[tuple[str, int]], str]:
    """Return the sort key of a path: its texts and numbers in turn, then its code points.

    >>> sorted(["f10.csv", "f9.csv", "f009.csv"], key=_natural_key)
    ['f009.csv', 'f9.csv', 'f10.csv']
    """
    parts = re.split(r"([0-9]+)", path)
    texts, numbers = parts[::2], [*map(int, parts[1::2]), -1]
    return list(zip(texts, numbers, strict=True)), path
