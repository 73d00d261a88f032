"""A model of a POSIX file system that computes which states a power cut may leave.

* Bytes are safe once their file is synced. Before that, each write may survive or not, whole or in part, in any order.
  The new length of the file may survive without the bytes, which are then zeros.
* A name that was created, renamed or removed is safe once its folder is synced. Before that, each change may survive
  or not, in any order, whether or not the bytes survive. Syncing a folder does not sync its files and subfolders.
* A rename is atomic. A rename between two folders is safe once either is synced.
"""

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


class Folder:
    """A folder; the disk has its names."""


Node = File | Folder
Name = tuple[Node, str]  # in a folder
Change = dict[Name, Node | None]  # atomic: the new node of each name; None: removed


def _change_names(names: dict[Name, Node], change: Change) -> None:
    for name, node in change.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


class Disk:
    """A folder on a disk. At first everything is synced."""

    def __init__(self, tree: Tree) -> None:
        self._root = Folder()
        self._current: dict[Name, Node] = {}
        self._synced: dict[Name, Node] = {}
        self._unsynced: list[Change] = []  # in the order of the operations
        for path in sorted(tree):
            data = tree[path]
            self._change({self._name(path): Folder() if data is None else File(data)})
        self._sync_names(self._unsynced)

    def apply(self, operation: Operation) -> None:
        path = operation.path
        match operation.kind:
            case "create":
                self._change({self._name(path): File()})
            case "mkdir":
                self._change({self._name(path): Folder()})
            case "unlink" | "rmdir":
                self._change({self._name(path): None})
            case "rename":
                name = self._name(path)
                if name not in self._current:  # a library wrote it, unseen by the interceptor
                    self._change({name: File(unsynced=[(0, operation.data)])})
                self._change({name: None, self._name(operation.target): self._current[name]})
            case "write" | "truncate":
                node = self._node(path)
                assert isinstance(node, File), path
                node.unsynced.append((operation.offset, operation.data if operation.kind == "write" else None))
            case "sync":
                self._sync(self._node(path))

    def synced(self) -> Tree:
        """Return the state in which only synced changes survive."""
        return self._tree(self._synced, lambda _: Fate.LOST)

    def current(self, fate: Fate = Fate.KEPT) -> Tree:
        """Return the state in which all names and truncations survive, and unsynced writes have this fate."""
        return self._tree(self._current, lambda written: Fate.KEPT if written is None else fate)

    def sample(self, rng: random.Random) -> Tree:
        """Return a state in which a random subset of the unsynced changes survives, in random order."""
        odds = rng.random()
        changes = [change for change in self._unsynced if rng.random() < odds]
        if rng.random() < 0.5:
            rng.shuffle(changes)
        names = dict(self._synced)
        for change in changes:
            _change_names(names, change)
        fates = list(Fate) if rng.random() < 0.5 else [Fate.LOST, Fate.KEPT]
        return self._tree(names, lambda _: rng.choice(fates))

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for name in filter(None, path.split("/")):
            node = self._current[node, name]
        return node

    def _name(self, path: str) -> Name:
        parent, _, name = path.rpartition("/")
        return self._node(parent), name

    def _change(self, change: Change) -> None:
        _change_names(self._current, change)
        self._unsynced.append(change)

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.synced = node.content(lambda _: Fate.KEPT)
            node.unsynced.clear()
            return
        # Earlier changes of a name are synced together with a later one.
        names: set[Name] = set()
        changes: list[Change] = []
        for change in reversed(self._unsynced):
            if any(folder is node for folder, _ in change) or names & change.keys():
                names |= change.keys()
                changes.insert(0, change)
        self._sync_names(changes)

    def _sync_names(self, changes: list[Change]) -> None:
        for change in changes:
            _change_names(self._synced, change)
        done = set(map(id, changes))
        self._unsynced = [change for change in self._unsynced if id(change) not in done]

    def _tree(self, names: dict[Name, Node], fate: Callable[[bytes | None], Fate]) -> Tree:
        content: dict[Node, list[tuple[str, Node]]] = {}
        for (folder, name), node in names.items():
            content.setdefault(folder, []).append((name, node))
        tree: Tree = {}
        waiting: list[tuple[str, Node]] = [("", self._root)]
        while waiting:
            parent, folder = waiting.pop()
            for name, node in content.get(folder, ()):
                path = f"{parent}{name}"
                if isinstance(node, File):
                    tree[path] = node.content(fate) if node.unsynced else node.synced
                else:
                    tree[path] = None
                    waiting.append((f"{path}/", node))
        return tree
