"""Which sequences are in a padded batch together: arithmetic on their lengths, without reading any rows.

    sorted, longest first   | bucket 0               | bucket 1               |      batch_size=2, world_size=2
    shuffled within         | round 0    | round 1   | round 2    | round 3   |
    batches of ranks        | r 0 | r 1  | r 0 | r 1 | r 0 | r 1  | r 0 | r 1 |
    epoch                   round 2, round 0, round 3, round 1

A round is one batch for each rank, of similar lengths, so that no rank waits long for another. The rounds do not depend
on how many ranks share a round of `batch_size * world_size` sequences. With buckets, the last two rounds are divided
evenly enough for any number of ranks; otherwise, the last sequences are distributed as by `ranks.Turns`.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.format.runs import Ints, bounds_of
from store_spec.reading.argument_checks import whole_number
from store_spec.reading.one_epoch import EpochOptions
from store_spec.sequences.slices import drawn

Side = Literal["start", "end"]

MANY = 2**31  # more than the sequences or steps of any batch, small enough that products stay exact


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BatchPlan:
    """The batches of an epoch: batch i has the sequences `order[first[i]:first[i + 1]]`."""

    order: Ints  # (samples,), sequences, without those that are left out; with weights, they may occur several times
    first: Ints  # (batches + 1,). Batch `round * world_size + rank` belongs to rank `rank`. No batch is empty.

    def longest(self, lengths: Ints) -> Ints:
        """Return the largest of `lengths` in each batch."""
        starts = self.first[:-1]
        return np.maximum.reduceat(lengths[self.order], starts) if len(starts) else starts

    def padding(self, lengths: Ints) -> float:
        """Return the share of padding in the steps of all batches, 0 to 1."""
        computed = int((self.longest(lengths) * np.diff(self.first)).sum())
        return 1 - int(lengths[self.order].sum()) / computed if computed else 0.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PaddedOptions(EpochOptions):
    """The arguments of `PaddedBatches`, apart from the rows, and which sequences are in a batch.

    The order is a pure function of seed, epoch, all lengths and these arguments.

    >>> plan = PaddedOptions(batch_size=2, bucket=True).plan(np.array([9, 1, 8, 2]))
    >>> plan.order.tolist(), plan.first.tolist(), plan.padding(np.array([9, 1, 8, 2]))
    ([0, 2, 3, 1], [0, 2, 4], 0.09090909090909094)
    """

    batch_size: int | None = None  # the largest number of sequences in a batch; None for no such limit
    max_steps: int | None = None  # the largest number of steps in a batch, including padding; None for no such limit
    bucket: bool = False  # put sequences of similar lengths together
    side: Side = "end"
    truncate: int | None = None
    truncate_side: Side = "end"
    lengths: bool = False

    def __post_init__(self) -> None:
        if self.batch_size is None and self.max_steps is None:
            raise WindowError(
                "neither batch_size nor max_steps is given; a batch needs one of them, or both, as its limit"
            )
        for name in ("batch_size", "max_steps", "truncate"):
            if getattr(self, name) is not None:
                self._set(name, whole_number(name, getattr(self, name), 1))
        for name, value in (("side", self.side), ("truncate_side", self.truncate_side)):
            if value not in ("start", "end"):
                raise WindowError(f"{name} is {value!r}; it must be 'start' or 'end'")
        EpochOptions.__post_init__(self)
        if self.drop_last and self.max_steps is not None:
            raise WindowError(
                f"drop_last=True with max_steps={self.max_steps:,}: batches then have no set size; leave one out"
            )

    def plan(
        self, lengths: Ints, resumed: tuple[int, object] = (0, 0), weights: NDArray[np.float64] | None = None
    ) -> BatchPlan:
        """Return the batches of sequences of these lengths, each of which is at most `max_steps`.

        For an epoch that is resumed, `resumed` is how many rounds were taken and the sequences in them. With `weights`,
        (sequences,), as many sequences are drawn with replacement.
        """
        random = np.random.default_rng(np.random.SeedSequence(self.random, spawn_key=(2,)))
        order = drawn(random, len(lengths), weights) if self.shuffle else np.arange(len(lengths))
        if self.drop_last and self.shuffle and self.batch_size is not None:  # else the shortest would be left out
            order = order[: len(order) - len(order) % (self.batch_size * self.world_size)]
        if not len(order):
            return _check_resumed(BatchPlan(order=order, first=np.zeros(1, np.int64)), 0, resumed)
        if self.bucket:
            order = order[np.argsort(-lengths[order], kind="stable")]
            sizes = self.batch_sizes(lengths[order]) * min(self.world_size, MANY)
            order, first = self._in_buckets(order, sizes, random)
            first = self._even(first)
        elif self.max_steps is not None or self.batch_size is None:
            first = self._even(self._fill_rounds(lengths[order]))
        else:
            turns = self.turns(len(order), self.batch_size).after(*resumed)
            first = np.array([turns.samples_before(number) for number in range(len(turns) + 1)], np.int64)
        if self.bucket and self.shuffle:
            turn = np.repeat(random.permutation(len(first) - 1), np.diff(first))
            order, sizes = order[np.argsort(turn, kind="stable")], np.bincount(turn)
        else:
            order, sizes = order[: first[-1]], np.diff(first)
        shares = sizes[:, None] // self.world_size + (np.arange(self.world_size) < sizes[:, None] % self.world_size)
        plan = BatchPlan(order=order, first=bounds_of(shares))
        return _check_resumed(plan, self.world_size, resumed)

    def batch_sizes(self, longest: Ints) -> Ints:
        """Return (sequences,), how many sequences fit into a batch if its longest has the length `longest[i]`."""
        most = np.full(len(longest), min(self.batch_size or MANY, MANY), np.int64)
        if self.max_steps is not None:
            most = np.minimum(most, min(self.max_steps, MANY) // np.maximum(longest, 1))
        return most

    def _in_buckets(self, order: Ints, sizes: Ints, random: np.random.Generator) -> tuple[Ints, Ints]:
        """Shuffle sorted sequences within buckets; return them, and the first position of each round."""
        most = in_bucket = 1  # rounds in a bucket
        if self.shuffle:
            # For R rounds, about 2 sqrt(R) buckets of sqrt(R) / 2 rounds each: with more sequences there is less
            # padding, and a sequence may meet more other ones.
            most = max(2, math.isqrt(len(order) // int(sizes[len(order) // 2])) // 2)
            in_bucket = 1 + int(random.integers(most))  # of the first, so that buckets have other bounds in each epoch
        first, edges = [0], [0]
        while edges[-1] < len(order):
            start = edges[-1]
            size = int(sizes[start])  # all others in the bucket are shorter, so as many fit
            stop = min(len(order), start + in_bucket * size)
            first += [*range(start + size, stop, size), stop]
            edges.append(stop)
            in_bucket = most
        if self.shuffle:
            bucket = np.repeat(np.arange(len(edges) - 1), np.diff(edges))
            order = order[np.lexsort((random.random(len(order)), bucket))]
        return order, np.array(first)

    def _fill_rounds(self, lengths: Ints) -> Ints:
        """Return the first position of each round if sequences are added in order as long as they fit."""
        ranks, budget = self.world_size, self.max_steps
        assert budget is not None
        first, each, longest = [0], 0, 0  # sequences of each rank in this round so far, and the longest of them
        for number, length in enumerate(np.maximum.reduceat(lengths, np.arange(0, len(lengths), ranks)).tolist()):
            if each == self.batch_size or (each and (each + 1) * max(longest, length) > budget):
                first.append(number * ranks)
                each = longest = 0
            each, longest = each + 1, max(longest, length)
        return np.array([*first, len(lengths)])

    def _even(self, first: Ints) -> Ints:
        """Make sure that the last round has a sequence for each rank, or leave it out with `drop_last`."""
        ranks, rest = self.world_size, int(first[-1] - first[-2])
        least = ranks
        if self.max_steps is None and self.batch_size is not None:
            if self.drop_last:
                return first if rest == self.batch_size * ranks else first[:-1]
            least = max(ranks, self.batch_size * ranks // 2)  # enough for any number of ranks with the same product
        if rest < least:
            # The missing sequences come from the last round that can spare them; rounds between are shifted.
            spare = np.flatnonzero(np.diff(first[:-1]) >= least - rest + ranks)
            if len(spare):
                first = first.copy()
                first[spare[-1] + 1 : -1] -= least - rest
            elif rest < ranks:
                raise WindowError(
                    f"{first[-1]:,} sequences cannot be distributed to world_size={ranks:,} ranks with the same number "
                    f"of batches each: {rest:,} are left over; "
                    + ("use drop_last=True or fewer ranks" if self.max_steps is None else "use fewer ranks")
                )
        return first


def _check_resumed(plan: BatchPlan, ranks: int, resumed: tuple[int, object]) -> BatchPlan:
    """Check that the rounds that were taken have the given number of sequences, and return the plan."""
    rounds, sequences = resumed
    here = int(plan.first[rounds * ranks])
    if here != sequences:
        raise WindowError(f"{rounds:,} batches of all ranks do not hold {sequences!r:.40} sequences, but {here:,}")
    return plan
