"""A model of a POSIX file system that computes which states a power cut may leave.

* Bytes are safe once their file is synced. Before that, each write may survive or not, whole or in part, in any order.
  The new length of the file may survive without the bytes, which are then zeros.
* A name that was created, renamed or removed is safe once its folder is synced. Before that, each change may survive
  or not, in any order, whether or not the bytes survive. Syncing a folder does not sync its files and subfolders.
* A rename is atomic. A rename between two folders is safe once either is synced.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.campaigns.operations import Operation
from tests.campaigns.trees import Tree


class Fate(Enum):
    """What a power cut does to a write or a truncation that was not synced."""

    LOST = auto()
    KEPT = auto()
    LENGTH = auto()  # the length is kept, but the bytes are zeros
    HALF = auto()  # only the first half of the bytes is kept


@dataclass(slots=True, eq=False)
class File:
    synced: bytes = b""
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)  # offset and bytes; None: truncated there

    def content(self, fate: Callable[[bytes | None], Fate]) -> bytes:
        """Return the bytes after a power cut that does this to each unsynced change."""
        data = bytearray(self.synced)
        for offset, written in self.unsynced:
            what = fate(written)
            if what is Fate.LOST:
                continue
            if written is None:
                del data[offset:]
                continue
            part = {Fate.KEPT: written, Fate.LENGTH: bytes(len(written)), Fate.HALF: written[: len(written) // 2]}[what]
            data.extend(bytes(max(0, offset - len(data))))
            data[offset : offset + len(part)] = part
        return bytes(data)


@dataclass(slots=True, eq=False)
class Folder:
    current: dict[str, Node] = field(default_factory=dict)
    synced: dict[str, Node] = field(default_factory=dict)


Node = File | Folder
NameChange = tuple[tuple[Folder, str, Node | None], ...]  # atomic: the new node of each name; None: removed


def _change_names(change: NameChange, names_of: Callable[[Folder], dict[str, Node]]) -> None:
    for folder, name, node in change:
        if node is None:
            names_of(folder).pop(name, None)
        else:
            names_of(folder)[name] = node


class Disk:
    """A folder on a disk. At first everything is synced."""

    def __init__(self, tree: Tree) -> None:
        self._root = Folder()
        self._unsynced: list[NameChange] = []  # in the order of the operations
        for name in sorted(tree):
            data = tree[name]
            self._change((name, Folder() if data is None else File(data)))
        self._sync_changes(self._unsynced)

    def apply(self, operation: Operation) -> None:
        path, target = operation.path, operation.target
        match operation.kind:
            case "create":
                self._change((path, File()))
            case "mkdir":
                self._change((path, Folder()))
            case "unlink" | "rmdir":
                self._change((path, None))
            case "rename":
                folder, name = self._parent(path)
                if name not in folder.current:  # a library wrote it, unseen by the interceptor
                    self._change((path, File(unsynced=[(0, operation.data)])))
                self._change((path, None), (target, self._node(path)))
            case "write" | "truncate":
                node = self._node(path)
                assert isinstance(node, File), path
                node.unsynced.append((operation.offset, operation.data if operation.kind == "write" else None))
            case "sync":
                self._sync(self._node(path))

    def synced(self) -> Tree:
        """Return the state in which only synced changes survive."""
        return _tree(self._root, lambda folder: folder.synced, lambda _: Fate.LOST)

    def current(self, fate: Fate = Fate.KEPT) -> Tree:
        """Return the state in which all names and truncations survive, and unsynced writes have this fate."""
        return _tree(self._root, lambda folder: folder.current, lambda written: Fate.KEPT if written is None else fate)

    def sample(self, rng: random.Random) -> Tree:
        """Return a state in which a random subset of the unsynced changes survives, in random order."""
        odds = rng.random()
        changes = [change for change in self._unsynced if rng.random() < odds]
        if rng.random() < 0.5:
            rng.shuffle(changes)
        names: dict[int, dict[str, Node]] = {}

        def names_of(folder: Folder) -> dict[str, Node]:
            return names.setdefault(id(folder), dict(folder.synced))

        for change in changes:
            _change_names(change, names_of)
        fates = list(Fate) if rng.random() < 0.5 else [Fate.LOST, Fate.KEPT]
        return _tree(self._root, names_of, lambda _: rng.choice(fates))

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for name in filter(None, path.split("/")):
            assert isinstance(node, Folder), path
            node = node.current[name]
        return node

    def _parent(self, path: str) -> tuple[Folder, str]:
        parent, _, name = path.rpartition("/")
        folder = self._node(parent)
        assert isinstance(folder, Folder), path
        return folder, name

    def _change(self, *names: tuple[str, Node | None]) -> None:
        change = tuple((*self._parent(path), node) for path, node in names)
        _change_names(change, lambda folder: folder.current)
        self._unsynced.append(change)

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.synced = node.content(lambda _: Fate.KEPT)
            node.unsynced.clear()
            return
        # Earlier changes of a name are synced together with a later one.
        names: set[tuple[int, str]] = set()
        synced = []
        for change in reversed(self._unsynced):
            changed = {(id(folder), name) for folder, name, _ in change}
            if any(folder is node for folder, _, _ in change) or names & changed:
                names |= changed
                synced.append(change)
        self._sync_changes(synced[::-1])

    def _sync_changes(self, changes: list[NameChange]) -> None:
        for change in changes:
            _change_names(change, lambda folder: folder.synced)
        done = set(map(id, changes))
        self._unsynced = [change for change in self._unsynced if id(change) not in done]


def _tree(root: Folder, names_of: Callable[[Folder], dict[str, Node]], fate: Callable[[bytes | None], Fate]) -> Tree:
    tree: Tree = {}
    waiting: list[tuple[str, Folder]] = [("", root)]
    while waiting:
        parent, folder = waiting.pop()
        for name, node in names_of(folder).items():
            path = f"{parent}{name}"
            if isinstance(node, Folder):
                tree[path] = None
                waiting.append((f"{path}/", node))
            else:
                tree[path] = node.content(fate) if node.unsynced else node.synced
    return tree
