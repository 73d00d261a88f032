"""How the samples of an epoch are dealt to batches and ranks: arithmetic on their positions in its order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from store_spec.errors import WindowError
from store_spec.reading.sizes import parse_bytes


def whole_number(name: str, value: object, least: int) -> int:
    """Return an argument as an int of at least `least`; anything else is a WindowError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise WindowError(f"{name} is {value!r}; it must be a whole number of at least {least}")
    return int(value)


def memory_bytes(memory: int | str) -> int:
    """Return the argument `memory`, bytes or a text such as `"256MB"`, as an int of at least 1; or raise as above."""
    return whole_number("memory", parse_bytes(memory, WindowError) if isinstance(memory, str) else memory, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The batches of one rank, where ranks take turns: of R ranks, rank r has the samples r, r + R, ... of the epoch.

        sample   0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18        world_size=2, size=4, 19 samples
        rank 0   |0     1     2     3|   |0     1     2     3|   |0     1|
        rank 1      |0     1     2     3|   |0     1     2     3|   |0|

    Each sample is in one batch of one rank, and all ranks have equally many batches, none of them empty. What is left
    after the last whole round is one smaller batch for each rank. Where these are fewer samples than ranks, the last
    whole round is dealt again with them, as two batches for each rank. The order of samples does not depend on how
    many ranks there are: `size * world_size` samples are taken together, whatever the two are, but for these last two
    batches. Other ranks that go on after the first of them are dealt what it left: see `after`.

    Args:
        samples: How many there are.
        size: Samples in a batch.
        rank: Whose batches, from 0.
        world_size: How many ranks there are.
        drop_last: Leave out what is left after the last whole round: every batch has `size` samples.
        begun: How many batches each rank had taken, and the samples of all, when the rest was dealt.

    Raises:
        WindowError: An argument is impossible, or samples would have to be left out and `drop_last` is False: there
            are fewer of them than ranks, or batches of one sample that do not come out even.

    >>> [Turns(samples=19, size=4, rank=rank, world_size=2)[2] for rank in (0, 1)]
    [(8, 10), (8, 9)]
    """

    samples: int
    size: int
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False
    begun: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("world_size", 1), ("rank", 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.rank >= self.world_size:
            raise WindowError(
                f"rank={self.rank:,} with world_size={self.world_size:,}; ranks are 0 to {self.world_size - 1:,}"
            )
        if 0 < self._left < self.world_size and not self.drop_last and (not self._rounds or self.size == 1):
            left, instead = "", f"drop_last=True, which leaves out {self._left:,}, or fewer ranks"
            if self.begun[0]:
                left, instead = " that are left of the epoch", "fewer ranks"
            raise WindowError(
                f"{self._samples:,} samples{left} cannot be dealt to world_size={self.world_size:,} ranks in equally "
                f"many batches of at most {self.size:,}; use {instead}"
            )

    @property
    def last(self) -> tuple[int, int]:
        """How many batches come before what is dealt otherwise to other ranks, and the samples in them."""
        whole = self.samples // (self.size * self.world_size)
        return whole, self.taken(whole)

    @property
    def _samples(self) -> int:
        """Samples that are dealt."""
        return self.samples - self.begun[1]

    @property
    def _rounds(self) -> int:
        """Whole rounds."""
        return self._samples // (self.size * self.world_size)

    @property
    def _left(self) -> int:
        """Samples after the last whole round."""
        return self._samples % (self.size * self.world_size)

    @property
    def _again(self) -> bool:
        """Whether the last whole round is dealt again."""
        return 0 < self._left < self.world_size and not self.drop_last

    def __len__(self) -> int:
        return self.begun[0] + self._rounds + (1 if self._left and not self.drop_last else 0)

    def __getitem__(self, number: int) -> tuple[int, int]:
        """Return (start, stop) of a batch, counted in the samples of this rank."""
        if not 0 <= number < len(self):
            raise IndexError(f"batch {number:,} of {len(self):,}")
        start, stop = self.taken(number), self.taken(number + 1)
        return self.own(start), self.own(stop)

    def taken(self, number: int) -> int:
        """Return how many samples all ranks together have after this many batches of each."""
        begun, samples = self.begun
        if number < begun:
            return number * self.size * self.world_size
        if number == len(self) and not self.drop_last:
            return self.samples
        if number == begun + self._rounds and self._again:
            return self.samples - self.world_size  # the last batch has one sample for each rank
        return samples + (number - begun) * self.size * self.world_size

    def after(self, number: int, samples: object) -> Self:
        """Return the turns of an epoch of which this many batches are taken, by ranks that were as many or others.

        Args:
            number: Batches that each rank has taken, at most `len`.
            samples: How many those of all ranks held.

        Raises:
            WindowError: No ranks that take as many together have taken so many, or what is left are fewer than ranks.
        """
        if samples == self.taken(number):
            return self
        together = self.size * self.world_size
        whole = number * together
        again = not self.drop_last and number == self.samples // together  # some ranks deal what is before that
        if type(samples) is not int or not (
            samples == whole or (again and self.samples - together // 2 <= samples < whole)
        ):
            raise WindowError(
                f"{number:,} batches of all ranks, which take {together:,} samples together, do not hold "
                f"{samples!r:.40}, but {self.taken(number):,}"
            )
        return replace(self, begun=(number, samples))

    def own(self, samples: int) -> int:
        """Return how many of the first samples of the epoch are this rank's."""
        return (samples - self.rank + self.world_size - 1) // self.world_size
