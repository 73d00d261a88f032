"""How the windows of an epoch are dealt to batches and ranks: arithmetic on their positions in the epoch's order.

    round 0                round 1                tail                      world_size=2, size=4, 19 windows
    | rank 0 | rank 1 |    | rank 0 | rank 1 |    |r 0|r1|
    0        4        8            12       16    0+16 18 19

A round is one batch for each rank, so a rank of R gets the batches r, r + R, r + 2R, ... of the epoch, and the order
of windows does not depend on how many ranks there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from store_spec.errors import WindowError


def whole_number(name: str, value: object, least: int) -> int:
    """Return an argument as an int of at least `least`; anything else is a WindowError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise WindowError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return int(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Deal:
    """The batches of one rank: ranges of positions in the order of an epoch.

    Each window is in one batch of one rank, and all ranks have equally many batches, none of them empty. What is left
    after the last whole round is dealt evenly, as one smaller batch for each rank. Where these are fewer windows than
    ranks, the last whole round is dealt again with them, as two batches for each rank.

    Args:
        windows: How many there are.
        size: Windows in a batch.
        rank: Whose batches, from 0.
        world_size: How many ranks there are.
        drop_last: Leave out what is left after the last whole round: every batch has `size` windows.

    Raises:
        WindowError: An argument is impossible, or windows would have to be left out and `drop_last` is False: there
            are fewer windows than ranks, or batches of one window that do not come out even.

    >>> [Deal(windows=19, size=4, rank=rank, world_size=2)[2] for rank in (0, 1)]
    [(16, 18), (18, 19)]
    """

    windows: int
    size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("world_size", 1), ("rank", 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.rank >= self.world_size:
            raise WindowError(
                f"rank={self.rank:,} with world_size={self.world_size:,}; ranks are 0 to {self.world_size - 1:,}"
            )
        if 0 < self._left < self.world_size and not self.drop_last and (not self._rounds or self.size == 1):
            raise WindowError(
                f"{self.windows:,} windows cannot be dealt to world_size={self.world_size:,} ranks in equally many "
                f"batches of at most {self.size:,}; use drop_last=True, which leaves out {self._left:,}, or fewer ranks"
            )

    @property
    def _rounds(self) -> int:
        """Whole rounds."""
        return self.windows // (self.size * self.world_size)

    @property
    def _left(self) -> int:
        """Windows after the last whole round."""
        return self.windows % (self.size * self.world_size)

    def __len__(self) -> int:
        return self._rounds + (1 if self._left and not self.drop_last else 0)

    def __getitem__(self, number: int) -> tuple[int, int]:
        """Return (start, stop) of a batch of this rank."""
        if not 0 <= number < len(self):
            raise IndexError(f"batch {number:,} of {len(self):,}")
        again = 0 < self._left < self.world_size and not self.drop_last
        if number < self._rounds - again:
            start = (number * self.world_size + self.rank) * self.size
            return start, start + self.size
        start = (self._rounds - again) * self.size * self.world_size
        if not again:
            return self._share(start, self.windows)
        middle = self.windows - self.world_size  # the last round has one window for each rank
        return self._share(start, middle) if number < self._rounds else self._share(middle, self.windows)

    def _share(self, start: int, stop: int) -> tuple[int, int]:
        """Deal a range evenly: ranks differ by one window at most, the first ones have more."""
        each, more = divmod(stop - start, self.world_size)
        low = start + self.rank * each + min(self.rank, more)
        return low, low + each + (1 if self.rank < more else 0)
