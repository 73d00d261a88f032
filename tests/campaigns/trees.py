"""The content of a folder as a value that can be kept, compared and written again."""

import os
import re
import shutil
from pathlib import Path

Tree = dict[str, bytes | None]  # by POSIX path: the bytes of a file, or None for a folder

_PARTIAL = re.compile(r"\.[0-9a-f]{16}(\.[0-9]+)?\.partial$")
_SPILLED = re.compile(r"(\.build/spilled)\.[0-9a-f]{16}(/\d+)?(/\w+)?(\.[0-9a-f]{16})?")
_LOCK = re.compile(r"\.build/lock$")
_CACHE = re.compile(r"\.build(/seen\.[a-z]+(\.[0-9a-f]{16}\.partial)?)?$")


def read_tree(folder: Path) -> Tree:
    tree: Tree = {}
    folders = [""]
    while folders:
        parent = folders.pop()
        with os.scandir(folder / parent) as entries:
            for entry in entries:
                name = f"{parent}/{entry.name}" if parent else entry.name
                if entry.is_dir(follow_symlinks=False):
                    tree[name] = None
                    folders.append(name)
                else:
                    with open(entry.path, "rb") as file:
                        tree[name] = file.read()
    return tree


def write_tree(tree: Tree, folder: Path) -> None:
    """Replace the content of a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in sorted(tree):  # parents first
        data = tree[name]
        if data is None:
            os.mkdir(f"{folder}/{name}")
        else:
            with open(f"{folder}/{name}", "wb") as file:
                file.write(data)


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


def difference(found: Tree, expected: Tree) -> str:
    """Describe how two trees differ; return an empty string if they are equal."""
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name, 0) != expected.get(name, 0))
    if not names:
        return ""
    name = names[0]
    how = "is left over" if name not in expected else "is missing" if name not in found else "has other bytes"
    return f"{name} {how}" + (f", and {len(names) - 1:,} more differ" if names[1:] else "")
