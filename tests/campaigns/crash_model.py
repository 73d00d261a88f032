"""What a power cut may leave: a model of a POSIX file system, fed with the log of what was done.

* Bytes of a file are safe after a sync of that file; before, each write may survive or not, whole or in part, in any
  order, and the file's length may survive without them, as zeros.
* A name (made, renamed, removed) is safe after a sync of its folder; before, each may survive or not, in any order,
  whatever became of the bytes. Syncing a folder makes no bytes safe, nor what lies in folders within.
* A rename is one step: the old name or the new one. One between two folders is safe when either was synced.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from tests.campaigns.operations import Operation
from tests.campaigns.trees import Tree


class Fate(Enum):
    """What becomes of a write, or a truncation, that was not synced."""

    LOST = "lost"
    KEPT = "kept"
    LENGTH = "its length alone is kept, and the bytes are zeros"
    HALF = "the first half of its bytes is kept"


@dataclass(slots=True, eq=False)
class File:
    """A file, whatever its names."""

    safe: bytes = b""
    unsafe: list[tuple[int, bytes | None]] = field(default_factory=list)  # offset and bytes; None: cut off there

    def left(self, fate: Callable[[bytes | None], Fate]) -> bytes:
        """Return its bytes after a power cut."""
        data = bytearray(self.safe)
        for offset, written in self.unsafe:
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
    """A folder, whatever its name."""

    now: dict[str, Node] = field(default_factory=dict)
    safe: dict[str, Node] = field(default_factory=dict)


Node = File | Folder


@dataclass(frozen=True, slots=True, eq=False)
class Renaming:
    """One change of names that survives as a whole: what each name in each folder then is; None: nothing."""

    names: tuple[tuple[Folder, str, Node | None], ...]

    def apply(self, names_of: Callable[[Folder], dict[str, Node]]) -> None:
        """Change names."""
        for folder, name, node in self.names:
            if node is None:
                names_of(folder).pop(name, None)
            else:
                names_of(folder)[name] = node


class Disk:
    """A folder on a disk, all of it safe at first."""

    def __init__(self, tree: Tree) -> None:
        self._root = Folder()
        self._unsafe: list[Renaming] = []  # changes of names, in the order in which they were made
        for name in sorted(tree):
            data = tree[name]
            self._change((name, Folder() if data is None else File(data)))
        for folder in [self._root, *(node for node in map(self._node, tree) if isinstance(node, Folder))]:
            folder.safe = dict(folder.now)
        self._unsafe.clear()

    def do(self, operation: Operation) -> None:
        """Take note of the next operation in the log."""
        path, target = operation.path, operation.target
        match operation.kind:
            case "create":
                self._change((path, File()))
            case "mkdir":
                self._change((path, Folder()))
            case "unlink" | "rmdir":
                self._change((path, None))
            case "rename":
                if not self._exists(path):  # written by a library, unseen
                    self._change((path, File(unsafe=[(0, operation.data)])))
                self._change((path, None), (target, self._node(path)))
            case "link":
                self._change((target, self._node(path)))
            case "write":
                self._file(path).unsafe.append((operation.offset, operation.data))
            case "truncate":
                self._file(path).unsafe.append((operation.offset, None))
            case "sync":
                self._sync(self._node(path))

    def nothing(self) -> Tree:
        """Return what is left where only what is safe survives."""
        return _tree(self._root, lambda folder: folder.safe, lambda _: Fate.LOST)

    def everything(self) -> Tree:
        """Return what is left where all survives, as after a kill."""
        return _tree(self._root, lambda folder: folder.now, lambda _: Fate.KEPT)

    def names_alone(self, fate: Fate) -> Tree:
        """Return what is left where all names survive, and of bytes that are not safe this."""
        return _tree(self._root, lambda folder: folder.now, lambda written: Fate.KEPT if written is None else fate)

    def chance(self, rng: random.Random) -> Tree:
        """Return what is left where what is not safe survives by chance, and in any order."""
        odds = rng.random()
        some = [one for one in self._unsafe if rng.random() < odds]
        if rng.random() < 0.5:
            rng.shuffle(some)
        names = {id(folder): dict(folder.safe) for folder in self._folders()}
        for one in some:
            one.apply(lambda folder: names[id(folder)])
        fates = list(Fate) if rng.random() < 0.5 else [Fate.LOST, Fate.KEPT]
        return _tree(self._root, lambda folder: names[id(folder)], lambda _: rng.choice(fates))

    def _node(self, path: str) -> Node:
        node: Node = self._root
        for name in filter(None, path.split("/")):
            assert isinstance(node, Folder), path
            node = node.now[name]
        return node

    def _exists(self, path: str) -> bool:
        above, _, name = path.rpartition("/")
        folder = self._node(above)
        return isinstance(folder, Folder) and name in folder.now

    def _file(self, path: str) -> File:
        node = self._node(path)
        assert isinstance(node, File), path
        return node

    def _change(self, *names: tuple[str, Node | None]) -> None:
        found = []
        for path, node in names:
            above, _, name = path.rpartition("/")
            folder = self._node(above)
            assert isinstance(folder, Folder), path
            found.append((folder, name, node))
        change = Renaming(tuple(found))
        change.apply(lambda folder: folder.now)
        self._unsafe.append(change)

    def _sync(self, node: Node) -> None:
        if isinstance(node, File):
            node.safe = node.left(lambda _: Fate.KEPT)
            node.unsafe.clear()
            return
        touched = {id(node)}
        # A change that becomes safe takes along those before it to the same names.
        names: set[tuple[int, str]] = set()
        made_safe = []
        for change in reversed(self._unsafe):
            its_names = {(id(folder), name) for folder, name, _ in change.names}
            if touched & {id(folder) for folder, _, _ in change.names} or names & its_names:
                names |= its_names
                made_safe.append(change)
        for change in reversed(made_safe):
            change.apply(lambda folder: folder.safe)
        kept = set(map(id, made_safe))
        self._unsafe = [change for change in self._unsafe if id(change) not in kept]

    def _folders(self) -> Iterable[Folder]:
        """Return every folder that has, had, or may again have a name."""
        found: dict[int, Folder] = {}
        waiting: list[Node | None] = [self._root]
        for change in self._unsafe:
            waiting += [part for folder, _, node in change.names for part in (folder, node)]
        while waiting:
            node = waiting.pop()
            if isinstance(node, Folder) and id(node) not in found:
                found[id(node)] = node
                waiting += [*node.now.values(), *node.safe.values()]
        return found.values()


def _tree(root: Folder, names_of: Callable[[Folder], dict[str, Node]], fate: Callable[[bytes | None], Fate]) -> Tree:
    tree: Tree = {}
    left: dict[int, bytes] = {}  # a file with two names is one file still
    waiting: list[tuple[str, Folder]] = [("", root)]
    while waiting:
        inside, folder = waiting.pop()
        for name, node in names_of(folder).items():
            path = f"{inside}{name}"
            if isinstance(node, Folder):
                tree[path] = None
                waiting.append((f"{path}/", node))
            else:
                if id(node) not in left:
                    left[id(node)] = node.left(fate) if node.unsafe else node.safe
                tree[path] = left[id(node)]
    return tree
