"""Splits of sources by a hash of their name and a seed, so that no source changes its split when files are added."""

import hashlib
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.reading.argument_checks import array_of, whole_number

DEFAULT_SPLITS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}
LISTED_VALUES = 20  # values of each kind that are listed if only some are names of splits


def position(source: str, seed: int | str) -> float:
    """Return the position of a source in [0, 1): the first 53 bits of SHA-256 of `seed`, a colon and its name."""
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def folds(sources: Sequence[str], count: int, seed: int) -> list[NDArray[np.bool_]]:
    """Return which sequences each of `count` folds holds out: (sequences,), each source in one fold.

    A source stays in its fold when files are added. Its position is independent of its position for `members`;
    otherwise the folds of a split would differ in size, and some would be empty.
    """
    count, seed = whole_number("count", count, 2), whole_number("seed", seed, 0)
    fold = {source: int(position(source, f"folds {seed}") * count) for source in dict.fromkeys(sources)}
    numbers = set(fold.values())
    if len(numbers) < count:
        none = next(number for number in range(count) if number not in numbers)
        raise WindowError(
            f"fold {none} of {count:,} would hold out none of {len(fold):,} sources; use fewer folds, or another seed"
        )
    each = np.array([fold[source] for source in sources])
    return [each == number for number in range(count)]


def groups(by: ArrayLike, sequences: int, where: str = "by") -> list[str]:
    """Return the name of each sequence's group; `by` is (sequences,), text or whole numbers."""
    values = array_of(by)
    if values.shape != (sequences,):
        raise WindowError(f"{where} has shape {values.shape}; give one value for each of {sequences:,} sequences")
    names = values.tolist()
    for number, name in enumerate(names):
        if not isinstance(name, str | int):
            raise WindowError(f"{where}[{number:,}] is {name!r:.80}; groups are named by text or whole numbers")
    return [str(name) for name in names]


def members(
    groups: Sequence[str],
    names: Iterable[str],
    shares: Mapping[str, float],
    seed: int,
    *,
    sources: Sequence[str] | None = None,
    allow_empty: bool = False,
) -> dict[str, NDArray[np.int64]]:
    """Return the numbers of the sequences in each of the splits `names`, some of `shares`: see `split_of_each`."""
    if not isinstance(shares, Mapping):
        raise WindowError(f"shares {shares!r:.80}; give each split's share, as {{'train': 0.8, 'val': 0.2}}")
    for name in names:
        if name not in shares:
            raise WindowError(f"split {name!r} is not one of {', '.join(map(repr, shares))}")
    places = split_of_each(groups, shares, seed, sources=sources)
    splits = {name: np.flatnonzero(places == list(shares).index(name)) for name in names}
    if allow_empty:
        return splits
    count = f"{len(set(groups)):,} {'sources' if sources is None else 'groups'}"
    advice = 'another seed, or by="sequence", by="source", a column or an array, or give allow_empty=True'
    empty = next((name for name, numbers in splits.items() if not len(numbers)), None)
    if empty is not None:
        raise WindowError(
            f"split {empty!r}, a share of {shares[empty]}, would have none of {count}; use fewer splits, {advice}"
        )
    pinned = sources is not None and are_pinned(groups, shares)  # then no hash decides
    for name, numbers in splits.items():
        if len(numbers) == len(groups) and len(shares) > 1 and not pinned:
            split = f"split {name!r}, a share of {shares[name]},"
            warnings.warn(f"{split} has all of {count}; use {advice}", stacklevel=3)
    return splits


def are_pinned(groups: Sequence[str], shares: Mapping[str, float]) -> bool:
    """Return whether the groups are names of splits; then each sequence is in the split that its group names."""
    return not {_canonical(name) for name in shares}.isdisjoint(map(_canonical, set(groups)))


def split_of_each(
    groups: Sequence[str], shares: Mapping[str, float], seed: int, *, sources: Sequence[str] | None = None
) -> NDArray[np.int64]:
    """Return (sequences,), the split of each sequence as its position in `shares`.

    `groups` are the values of `by` of `Store.splits`, which explains all else, or the sources; `sources` is then None,
    because sources are never names of splits.
    """
    seed = whole_number("seed", seed, 0)
    if any(not share > 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1.0):
        raise WindowError(f"shares {dict(shares)} are not all above 0, or make {sum(shares.values())}, not 1")
    places = {_canonical(name): place for place, name in enumerate(shares)}
    if len(places) < len(shares):
        raise WindowError(
            f"shares {dict(shares)} name a split twice; case does not matter, and valid and validation are val"
        )
    in_order = dict.fromkeys(name for name in (*DEFAULT_SPLITS, *sorted(places)) if name in places)
    order = np.array([places[name] for name in in_order])
    bounds = np.cumsum(np.array(list(shares.values()))[order])[:-1]
    pins, hashed = {}, groups
    if sources is not None:  # for any selection, so that a source with an empty group stays in its split
        hashed = [group or source for group, source in zip(groups, sources, strict=True)]
        values = dict.fromkeys(filter(None, groups))
        pins = {value: places[name] for value in values if (name := _canonical(value)) in places}
        others = [value for value in values if value not in pins]
        if pins and others:
            raise WindowError(
                f"by mixes names of splits, {list(pins)[:LISTED_VALUES]!r:.400}, with {len(others):,} that are none of "
                f"{list(shares)}: {others[:LISTED_VALUES]!r:.400}; give shares that name every value, or leave a value "
                "empty for a split by the hash of its source"
            )
    distinct = tuple(dict.fromkeys(hashed))
    at = np.array([position(one, seed) for one in distinct])
    split_of = dict(zip(distinct, order[np.searchsorted(bounds, at, side="right")].tolist(), strict=True))
    return np.array([pins.get(group, split_of[one]) for group, one in zip(groups, hashed, strict=True)], np.int64)


def _canonical(name: str) -> str:
    """Return the form of a split's name that is used for comparison."""
    name = str(name).casefold()
    return "val" if name in {"valid", "validation"} else name
