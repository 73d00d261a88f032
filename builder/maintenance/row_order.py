"""The order in which `compact` writes sequences: by name, by length, or shuffled."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import UsageError

Kind = Literal["store", "name", "length", "shuffle"]
_KINDS: Final = get_args(Kind)
_SEED: Final = re.compile(r"[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Order:
    """An order of sources, whose parts stay together.

    Args:
        kind: `store`: unchanged. `name`: as in a single build. `length`: by the steps of all parts, the shortest first.
            `shuffle`: by a hash of the name and the seed, which does not depend on other sources.
        seed: The seed of `shuffle`.
    """

    kind: Kind = "store"
    seed: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an order, such as `name` or `shuffle:7`.

        >>> Order.parse("shuffle:7"), str(Order.parse("shuffle"))
        (Order(kind='shuffle', seed=7), 'shuffle:0')
        """
        word, colon, seed = text.strip().partition(":")
        for kind in _KINDS:
            if word == kind and not colon:
                return cls(kind)
        if word == "shuffle" and _SEED.fullmatch(seed):
            return cls("shuffle", int(seed))
        raise UsageError(f"order={text!r:.80} is not one of {', '.join(_KINDS)}; a seed is a whole number: shuffle:7")

    def __str__(self) -> str:
        return f"shuffle:{self.seed}" if self.kind == "shuffle" else self.kind

    def sort(self, sources: Sequence[str], parts: NDArray[np.int64], lengths: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the indices (sequences,) of the sequences in this order; the sort is stable.

        Args:
            sources: The source of each sequence.
            parts: (sequences,) the number of each sequence within its source; a source begins at part 0.
            lengths: (sequences,) the steps of each sequence.

        >>> Order("length").sort(["a", "b", "b"], np.array([0, 0, 1]), np.array([9, 2, 3])).tolist()
        [1, 2, 0]
        """
        count = len(sources)
        if self.kind == "store" or not count:
            return np.arange(count)
        firsts = np.flatnonzero(parts == 0)  # the first sequence of each source
        source_of = np.searchsorted(firsts, np.arange(count), "right") - 1
        names = [sources[first] for first in firsts.tolist()]
        keys: list[Any] = names
        if self.kind == "length":
            keys = np.add.reduceat(lengths, firsts).tolist()
        elif self.kind == "shuffle":
            keys = [hashlib.sha256(f"order {self.seed}:{name}".encode()).digest() for name in names]
        rank = np.empty(len(firsts), np.int64)  # of each source in the new order
        rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(firsts))
        return np.argsort(rank[source_of], kind="stable")
