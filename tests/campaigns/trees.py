"""All that lies in a folder, as a value that can be kept, compared, and written out again."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

Tree = dict[str, bytes | None]  # the bytes of each file, None for a folder, by POSIX path

_PARTIAL = re.compile(r"\.[0-9a-f]{16}(\.[0-9]+)?\.partial$")
_SPILLED = re.compile(r"(\.build/spilled)\.[0-9a-f]{16}(/\d+)?(/\w+)?(\.[0-9a-f]{16})?")
_LOCK = re.compile(r"\.build/lock$")
_CACHE = re.compile(r"\.build(/seen\.[a-z]+(\.[0-9a-f]{16}\.partial)?)?$")


def read_tree(folder: Path) -> Tree:
    tree: Tree = {}
    folders = [""]
    while folders:
        inside = folders.pop()
        with os.scandir(folder / inside) as entries:
            for entry in entries:
                name = f"{inside}/{entry.name}" if inside else entry.name
                if entry.is_dir(follow_symlinks=False):
                    tree[name] = None
                    folders.append(name)
                else:
                    with open(entry.path, "rb") as file:
                        tree[name] = file.read()
    return tree


def write_tree(tree: Tree, folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    place = f"{folder}/"
    for name in sorted(tree):  # a folder comes before what lies in it
        data = tree[name]
        if data is None:
            os.mkdir(place + name)
        else:
            with open(place + name, "wb") as file:
                file.write(data)


def normal(tree: Tree) -> frozenset[tuple[str, bytes | None]]:
    """Return what two runs of one job have in common: without the random part of names, and who held the lock."""
    return frozenset(
        (_SPILLED.sub(r"\1\2\3", _PARTIAL.sub(".partial", name)), b"" if _LOCK.search(name) and data else data)
        for name, data in tree.items()
    )


def promised(tree: Tree) -> Tree:
    """Return a tree without the cache beside a store, which builds write when they like."""
    return {name: data for name, data in tree.items() if not _CACHE.search(name)}


def difference(found: Tree, expected: Tree) -> str:
    """Say in which files two trees differ; nothing if they do not."""
    names = sorted(name for name in found.keys() | expected.keys() if found.get(name, 0) != expected.get(name, 0))
    if not names:
        return ""
    name = names[0]
    how = "is left over" if name not in expected else "is missing" if name not in found else "has other bytes"
    return f"{name} {how}" + (f", and {len(names) - 1:,} more differ" if names[1:] else "")
