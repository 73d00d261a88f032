"""Which split a source belongs to: a pure function of its name and a seed, so it stays there as files are added."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.reading.ranks import whole_number

DEFAULT_SPLITS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


def position(source: str, seed: int | str) -> float:
    """Return where a source lies in [0, 1): the first 53 bits of SHA-256 of `seed`, a colon and its name."""
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def folds(sources: Sequence[str], count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return which sequences each of `count` folds holds out: (sequences,), each source in one fold.

    A source stays in its fold when files are added. Where it lies has nothing to do with where it lies for `members`:
    else the folds of a split would be parts of it of other sizes, and some empty.

    Raises:
        WindowError: There are fewer than two folds, or one of them is empty; or the seed is no whole number.
    """
    count, seed = whole_number("count", count, 2), whole_number("seed", seed, 0)
    fold = {source: int(position(source, f"folds {seed}") * count) for source in dict.fromkeys(sources)}
    found = set(fold.values())
    if len(found) < count:
        none = next(number for number in range(count) if number not in found)
        raise WindowError(
            f"fold {none} of {count:,} would hold out none of {len(fold):,} sources; use fewer folds, or another seed"
        )
    each = np.array([fold[source] for source in sources])
    return [each == number for number in range(count)]


def groups(by: ArrayLike, sequences: int, where: str = "by") -> list[str]:
    """Return the name of each sequence's group: what it is called, or its number.

    Args:
        by: (sequences,), text or whole numbers.
        sequences: How many there are.
        where: What it is called in errors.

    Raises:
        WindowError: It is not as above.
    """
    values = np.asarray(by)
    if values.shape != (sequences,):
        raise WindowError(f"{where} has shape {values.shape}; give one value for each of {sequences:,} sequences")
    names = values.tolist()
    for number, name in enumerate(names):
        if not isinstance(name, str | int):
            raise WindowError(f"{where}[{number:,}] is {name!r:.80}; groups are named by text or whole numbers")
    return [str(name) for name in names]


def members(
    groups: Sequence[str],
    name: str,
    shares: Mapping[str, float],
    seed: int,
    *,
    sources: Sequence[str] | None = None,
) -> NDArray[np.int64]:
    """Return the numbers of the sequences that are in split `name`, which is one of `shares`: see `split_of_each`.

    Raises:
        WindowError: There is no such split, or as `split_of_each`.
    """
    if not isinstance(shares, Mapping):
        raise WindowError(f"shares {shares!r:.80}; give each split's share, as {{'train': 0.8, 'val': 0.2}}")
    if name not in shares:
        raise WindowError(f"split {name!r} is not one of {', '.join(map(repr, shares))}")
    return np.flatnonzero(split_of_each(groups, shares, seed, sources=sources) == list(shares).index(name))


def are_pinned(groups: Sequence[str], shares: Mapping[str, float]) -> bool:
    """Tell whether groups are the names of splits, and say so themselves in which each sequence is."""
    return not shares.keys().isdisjoint(groups)


def split_of_each(
    groups: Sequence[str], shares: Mapping[str, float], seed: int, *, sources: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Return (sequences,), which of the splits each sequence is in.

    Args:
        groups: Each sequence's source, or what else tells sequences apart: those of one group are in one split, by a
            hash. Where they are the names of splits, each sequence is where its group says. Where a name is empty, the
            sequence is by the hash of its source.
        shares: Each split's share of the groups; positive, in order, 1 together.
        seed: Another seed deals the groups anew.
        sources: Each sequence's source; None: the groups are the sources, and name no splits.

    Raises:
        WindowError: The shares are not shares, some groups are names of splits and others are not, or the seed is no
            whole number: 1.0 is another text than 1, and would deal otherwise.
    """
    seed = whole_number("seed", seed, 0)
    if any(not share > 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1.0):
        raise WindowError(f"shares {dict(shares)} are not all above 0, or make {sum(shares.values())}, not 1")
    bounds = np.cumsum(list(shares.values()))[:-1]
    pins, hashed = {split: number for number, split in enumerate(shares)}, groups
    if sources is not None:  # of an empty name whatever else is selected: a source stays in its split
        hashed = [group or source for group, source in zip(groups, sources, strict=True)]
    if sources is None or not are_pinned(groups, shares):
        pins = {}
    elif other := next((group for group in groups if group and group not in pins), None):
        raise WindowError(
            f"by: {other!r:.80} is none of the splits {', '.join(shares)}, of which others of its values are the "
            "names; give shares that name it, or leave it empty for a split by a hash"
        )
    each = tuple(dict.fromkeys(hashed))
    at = np.array([position(one, seed) for one in each])
    split_of = dict(zip(each, np.searchsorted(bounds, at, side="right").tolist(), strict=True))
    found = [pins.get(group, split_of[one]) for group, one in zip(groups, hashed, strict=True)]
    return np.array(found, np.int64)
