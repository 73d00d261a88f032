"""The names of sources that a store has lost, guessed from the files that are there: who asks has them proved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Key = tuple[int, bytes]  # a file's size and hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Nameless:
    """The sequences of one source whose name was lost, which follow one another.

    Args:
        first: The number of the first.
        key: The file that it was.
        retired: Whether they are.
    """

    first: int
    key: Key
    retired: bool


def guessed(lost: Sequence[Nameless], files: Mapping[str, Key], known: frozenset[str]) -> dict[int, str]:
    """Return a name for each source that has lost its own, by the number of its first sequence, as far as one is near.

    A file of the very bytes is the source. Of several alike each is taken once, in the order of the names, as a build
    takes them. What has no such file may be one that changed: those that are left over are taken in their order.

    Args:
        lost: The sources, in the order of their sequences.
        files: What each file that is there is now, in the order of their names.
        known: The names that the store still has of sources that are not retired.

    >>> one, other = Nameless(first=0, key=(9, b"x"), retired=False), Nameless(first=2, key=(7, b"y"), retired=False)
    >>> guessed([one, other], {"a.csv": (9, b"x"), "b.csv": (8, b"z"), "c.csv": (3, b"")}, frozenset({"c.csv"}))
    {0: 'a.csv', 2: 'b.csv'}
    """
    names: dict[int, str] = {}
    for key in dict.fromkeys(one.key for one in lost):
        ours = [one for one in lost if one.key == key]
        alike = [name for name, found in files.items() if found == key]
        free = [name for name in alike if name not in known] or alike
        live = [one for one in ours if not one.retired]
        if len(free) == len(ours):
            names |= {one.first: name for one, name in zip(ours, free, strict=True)}
        elif free and len(free) >= len(live):
            # What is retired came from one of them before, and was built again by other code, or updated twice.
            names |= {one.first: free[0] for one in ours}
            names |= {one.first: name for one, name in zip(live, free, strict=False)}
    left = [name for name in files if name not in known and name not in names.values()]
    nameless = [one for one in lost if one.first not in names and not one.retired]
    return names | {one.first: name for one, name in zip(nameless, left, strict=False)}
