"""What `verify` found to be wrong with a store: one line each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from store_spec.errors import StoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is wrong with a store; as text, one line.

    Args:
        store: The store's name.
        where: The file or folder, relative to the store; empty for the store itself.
        what: What is wrong with it, and what to do.
        leftover: Nothing committed is wrong: a writer was cut off, and the next one puts this right when it opens
            the store.
    """

    store: str
    where: str
    what: str
    leftover: bool = False

    def __str__(self) -> str:
        return f"{PurePosixPath(self.store, self.where)}: {self.what}"


class Report:
    """Collects problems: each once, and one line for all sequences that have the same with the same file."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[tuple[str, str], tuple[Problem, int]] = {}

    def add(self, where: str, what: str, *, kind: str = "", leftover: bool = False) -> bool:
        """Take note of a problem; further ones of the same `kind` with the same file are only counted.

        Returns:
            Whether it is the first of its kind.
        """
        key = where, kind or what
        problem, times = self._found.get(key, (None, 0))
        new = problem is None
        if problem is None:
            name = self._root.name or self._root.resolve().name
            problem = Problem(store=name, where=where, what=what, leftover=leftover)
        self._found[key] = problem, times + bool(kind)
        return new

    def error(self, error: StoreError) -> bool:
        """Take note of an error, whose text begins with the path of a file; tell whether it is the first like it."""
        text = getattr(error, "strerror", None) or str(error)
        inside = text.startswith(f"{self._root}/")
        where, _, what = text.removeprefix(f"{self._root}/" if inside else str(self._root)).partition(": ")
        return self.add(where, what)

    def problems(self) -> list[Problem]:
        """Return all problems in the order in which they were found."""
        return [
            replace(one, what=f"{one.what} ({times - 1:,} more like this)") if times > 1 else one
            for one, times in self._found.values()
        ]
