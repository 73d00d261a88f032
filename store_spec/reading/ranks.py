"""How the samples of an epoch are distributed over batches and ranks, by their positions in the epoch."""

from dataclasses import dataclass, replace
from typing import Self

from store_spec.errors import WindowError
from store_spec.reading.argument_checks import whole_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Turns:
    """The batches of one rank. Ranks take turns: of R ranks, rank r has the samples r, r + R, ... of the epoch.

        sample   0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15 16 17 18        world_size=2, size=4, 19 samples
        rank 0   |0     1     2     3|   |0     1     2     3|   |0     1|
        rank 1      |0     1     2     3|   |0     1     2     3|   |0|

    A round is one batch of each rank. Each sample is in one batch of one rank, and all ranks have the same number of
    batches, none of them empty. The samples after the last whole round make one smaller batch for each rank. If there
    are fewer of them than ranks, they are distributed together with the last whole round, as two batches for each rank.
    The order of samples does not depend on the number of ranks: each round takes `size * world_size` samples together,
    except for the last two batches. An epoch can be resumed by another number of ranks: see `after`.

    Without `drop_last`, samples that cannot be distributed are a WindowError: there are fewer of them than ranks, or
    batches have one sample and their number is not a multiple of the ranks.

    >>> [Turns(samples=19, size=4, rank=rank, world_size=2)[2] for rank in (0, 1)]
    [(8, 10), (8, 9)]
    """

    samples: int
    size: int  # samples in a batch
    rank: int = 0
    world_size: int = 1
    drop_last: bool = False  # leave out the samples after the last whole round, so that every batch has `size` samples
    resumed: tuple[int, int] = (0, 0)  # batches that each rank had taken, and samples of all ranks, before resuming

    def __post_init__(self) -> None:
        for name, least in (("size", 1), ("world_size", 1), ("rank", 0)):
            object.__setattr__(self, name, whole_number(name, getattr(self, name), least))
        if self.rank >= self.world_size:
            raise WindowError(
                f"rank={self.rank:,} with world_size={self.world_size:,}; ranks are 0 to {self.world_size - 1:,}"
            )
        rounds, rest = self._rounds
        if 0 < rest < self.world_size and not self.drop_last and (not rounds or self.size == 1):
            which, instead = "", f"drop_last=True, which leaves out {rest:,}, or fewer ranks"
            if self.resumed[0]:
                which, instead = " that are left of the epoch", "fewer ranks"
            raise WindowError(
                f"{self.samples - self.resumed[1]:,} samples{which} cannot be distributed to "
                f"world_size={self.world_size:,} ranks with the same number of batches of at most {self.size:,} each; "
                f"use {instead}"
            )

    @property
    def last(self) -> tuple[int, int]:
        """The batches that are the same for any number of ranks: how many each rank has, and the samples of all."""
        whole = self.samples // (self.size * self.world_size)
        return whole, self.samples_before(whole)

    @property
    def _rounds(self) -> tuple[int, int]:
        """How many whole rounds there are to distribute, and the samples after the last of them."""
        return divmod(self.samples - self.resumed[1], self.size * self.world_size)

    def __len__(self) -> int:
        rounds, rest = self._rounds
        return self.resumed[0] + rounds + (1 if rest and not self.drop_last else 0)

    def __getitem__(self, number: int) -> tuple[int, int]:
        """Return (start, stop) of a batch, counted in the samples of this rank."""
        if not 0 <= number < len(self):
            raise IndexError(f"batch {number:,} of {len(self):,}")
        start, stop = self.samples_before(number), self.samples_before(number + 1)
        return self.share(start), self.share(stop)

    def samples_before(self, number: int) -> int:
        """Return how many samples are in the first `number` batches of all ranks together."""
        (batches, samples), (rounds, rest) = self.resumed, self._rounds
        if number < batches:
            return number * self.size * self.world_size
        if number == len(self) and not self.drop_last:
            return self.samples
        if number == batches + rounds and 0 < rest < self.world_size and not self.drop_last:
            return self.samples - self.world_size  # the last round is split; its last batch has one sample of each rank
        return samples + (number - batches) * self.size * self.world_size

    def after(self, number: int, samples: object) -> Self:
        """Return the turns of a resumed epoch, of which perhaps another number of ranks has taken the first batches.

        `number` is how many batches each rank has taken, and `samples` how many samples all ranks have taken together.
        """
        if samples == self.samples_before(number):
            return self
        together = self.size * self.world_size
        whole = number * together
        in_last_round = not self.drop_last and number == self.samples // together  # other ranks may have split it
        if type(samples) is not int or not (
            samples == whole or (in_last_round and self.samples - together // 2 <= samples < whole)
        ):
            raise WindowError(
                f"{number:,} batches of all ranks, which take {together:,} samples together, do not hold "
                f"{samples!r:.40}, but {self.samples_before(number):,}"
            )
        return replace(self, resumed=(number, samples))

    def share(self, samples: int) -> int:
        """Return how many of the first `samples` samples of the epoch are this rank's."""
        return (samples - self.rank + self.world_size - 1) // self.world_size
