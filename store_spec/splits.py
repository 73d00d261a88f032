"""Which split a source belongs to: a pure function of its name and a seed, so it stays there as files are added."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError

DEFAULT_SPLITS: Mapping[str, float] = {"train": 0.8, "val": 0.1, "test": 0.1}


def position(source: str, seed: int) -> float:
    """Return where a source lies in [0, 1): the first 53 bits of SHA-256 of `seed`, a colon and its name."""
    digest = hashlib.sha256(f"{seed}:{source}".encode()).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53


def members(sources: Sequence[str], name: str, shares: Mapping[str, float], seed: int) -> NDArray[np.int64]:
    """Return the numbers of the sequences whose source is in split `name`.

    Args:
        sources: Each sequence's source; the parts of one source stay together.
        name: One of `shares`.
        shares: Each split's share of the sources; positive, in order, 1 together.
        seed: Another seed deals the sources anew.

    Raises:
        WindowError: There is no such split, or the shares are not shares.
    """
    if name not in shares:
        raise WindowError(f"split {name!r} is not one of {', '.join(map(repr, shares))}")
    if any(not share > 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1.0):
        raise WindowError(f"shares {dict(shares)} are not all above 0, or make {sum(shares.values())}, not 1")
    names = list(shares)
    bounds = np.cumsum([0.0, *shares.values()])
    bounds[-1] = 1.0
    low, high = bounds[names.index(name)], bounds[names.index(name) + 1]
    where = {source: position(source, seed) for source in dict.fromkeys(sources)}
    at = np.array([where[source] for source in sources])
    return np.flatnonzero((at >= low) & (at < high))
