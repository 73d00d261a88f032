"""The content of a folder as a value that can be kept, compared and written again."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

Tree = dict[str, bytes | None]  # by POSIX path: the bytes of a file, or None for a folder

_PARTIAL = re.compile(r"\.[0-9a-f]{16}(\.[0-9]+)?\.partial$")
_SPILLED = re.compile(r"(\.build/spilled)\.[0-9a-f]{16}(/\d+)?(/\w+)?(\.[0-9a-f]{16})?")
_LOCK = re.compile(r"\.build/lock$")
_CACHE = re.compile(r"\.build(/seen\.[a-z]+(\.[0-9a-f]{16}\.partial)?)?$")


def read_tree(folder: Path) -> Tree:
    paths = folder.rglob("*")
    return {path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes() for path in paths}


def write_tree(tree: Tree, folder: Path) -> None:
    """Replace the content of a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in sorted(tree):  # parents first
        data, path = tree[name], folder / name
        if data is None:
            path.mkdir()
        else:
            path.write_bytes(data)


def normalize(tree: Tree) -> frozenset[tuple[str, bytes | None]]:
    """Return what is equal in every run of a job: without random parts of names and without the owner of the lock."""
    return frozenset(
        (_SPILLED.sub(r"\1\2\3", _PARTIAL.sub(".partial", name)), b"" if _LOCK.search(name) and data else data)
        for name, data in tree.items()
    )


def without_cache(tree: Tree) -> Tree:
    """Return a tree without the cache of builds, whose bytes are not promised."""
    return {name: data for name, data in tree.items() if not _CACHE.search(name)}


def without_spilled(tree: Tree) -> Tree:
    """Return a tree without spilled rows: their files have random names, so they are removed in any order."""
    return {name: data for name, data in tree.items() if not _SPILLED.search(name)}


def difference(found: Mapping[str, object], expected: Mapping[str, object]) -> str:
    """Describe how two trees differ; return an empty string if they are equal."""
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name, 0) != expected.get(name, 0))
    if not names:
        return ""
    name = names[0]
    how = "is left over" if name not in expected else "is missing" if name not in found else "has other bytes"
    return f"{name} {how}" + (f", and {len(names) - 1:,} more differ" if names[1:] else "")
