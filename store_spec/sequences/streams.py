"""Batches that continue where the previous one ended, for networks that carry their state from batch to batch.

A sequence has its place in the lanes by arithmetic on lengths, without reading any rows:

    lane 0 | a a a a | a c c c |              sequences of 5, 4, 3 and 4 steps in two batches of 2 lanes and 4 steps
    lane 1 | b b b b | d d d d |

    lane 0 | a a a a | a . . . | d d d d |    the same with align=True, in three batches; a dot is padding
    lane 1 | b b b b | c c c . | . . . . |

These are the lanes of all ranks: their content does not depend on how the ranks share them.
"""

import heapq
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from store_spec.format.runs import Ints, spread
from store_spec.reading.named_batch import Batch
from store_spec.reading.one_epoch import EpochOptions
from store_spec.reading.read_ranges import PIECE_BYTES
from store_spec.sequences.slices import SliceBatches, SlicePlan, SliceReader, Slices, batches_of, drawn

ONE_BY_ONE = 2**16  # sequences that are assigned one by one, the longest; others are assigned in groups


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LanePlan:
    """The places of sequences in the steps of all lanes, one lane after another."""

    lanes: int
    steps: int  # steps of each lane in a batch
    batches: int  # a lane has `batches * steps` steps, including padding
    sequence: Ints  # (sequences,), the sequences that have steps, lane by lane, in order
    start: Ints  # (sequences,), the first step of each
    stop: Ints  # (sequences,), the step after its last

    @property
    def padding(self) -> float:
        """The share of padding in the steps of all lanes."""
        computed = self.lanes * self.batches * self.steps
        return 1 - int((self.stop - self.start).sum()) / computed if computed else 0.0

    def slices(self, lanes: range, batches: range) -> Slices:
        """Return the slices in these lanes of these batches, batch by batch and lane by lane."""
        batch, lane = np.divmod(np.arange(len(batches) * len(lanes)), len(lanes))
        low = (lanes.start + lane) * self.batches * self.steps + np.asarray(batches)[batch] * self.steps
        first = np.searchsorted(self.stop, low, side="right")
        counts = np.searchsorted(self.start, low + self.steps, side="left") - first
        which, cell = spread(first, counts), np.repeat(np.arange(len(low)), counts)
        start = np.maximum(self.start[which], low[cell])
        return Slices(
            shapes=[(len(lanes), self.steps)] * len(batches),
            batch=batch[cell],
            lane=lane[cell],
            column=start - low[cell],
            sequence=self.sequence[which],
            start=start - self.start[which],
            count=np.minimum(self.stop[which], low[cell] + self.steps) - start,
        )


def plan_lanes(
    lengths: Ints,
    *,
    lanes: int,
    steps: int,
    align: bool,
    random: np.random.Generator | None,
    weights: NDArray[np.float64] | None = None,
    drop_last: bool = False,
) -> LanePlan:
    """Assign sequences to lanes with little padding: the longest first, each to the lane that is shortest so far.

    Args:
        lengths: (sequences,), the steps of each sequence.
        lanes: How many lanes there are.
        steps: Steps of each lane in a batch.
        align: Start sequences at the first step of a batch only.
        random: For a shuffled order; None for the order of the sequences.
        weights: (sequences,), to draw as many sequences with replacement; None for each once.
        drop_last: Leave out the batches at the end for which some lane is too short.

    >>> lane_plan = plan_lanes(np.array([5, 4, 3, 4]), lanes=2, steps=4, align=False, random=None)
    >>> lane_plan.sequence.tolist(), lane_plan.start.tolist(), lane_plan.batches
    ([0, 2, 1, 3], [0, 5, 8, 12], 2)
    """
    sequence = np.flatnonzero(lengths)
    if weights is not None and random is not None:
        sequence = drawn(random, len(lengths), weights)
        sequence = sequence[lengths[sequence] > 0]
    sizes = -(-lengths[sequence] // steps) * steps if align else lengths[sequence]
    if random is None:
        order = np.argsort(-sizes, kind="stable")
    else:  # nearly the longest first: lengths are rounded to about a tenth, so that other sequences share a lane
        mantissa, exponent = np.frexp(sizes.astype(np.float64))
        order = np.lexsort((random.random(len(sizes)), -np.floor(mantissa * 16), -exponent))
    sequence, sizes = sequence[order], sizes[order]
    lane = _assign(sizes, lanes)
    turn = sequence if random is None else random.random(len(sequence))
    order = np.lexsort((turn, lane))
    sequence, sizes, lane = sequence[order], sizes[order], lane[order]
    ends = np.cumsum(sizes)
    first = np.searchsorted(lane, np.arange(lanes + 1))  # the first sequence of each lane
    bounds = np.concatenate(([0], ends))[first]
    in_lane = np.diff(bounds)
    batches = int(in_lane.min()) // steps if drop_last else -(-int(in_lane.max()) // steps)
    start = ends - sizes - bounds[lane]
    stop = start + lengths[sequence]
    if drop_last:  # leave out sequences that begin after the last batch, and cut those that reach beyond it
        some = start < batches * steps
        sequence, start, stop, lane = sequence[some], start[some], stop[some].clip(max=batches * steps), lane[some]
    before = lane * (batches * steps)
    return LanePlan(
        lanes=lanes,
        steps=steps,
        batches=batches,
        sequence=sequence,
        start=start + before,
        stop=stop + before,
    )


def _assign(sizes: Ints, lanes: int) -> Ints:
    """Return the lane of each of some sequences, which are sorted by falling size."""
    singly = max(ONE_BY_ONE, 64 * lanes)
    together = -(-max(0, len(sizes) - singly) // singly)  # the others make at most as many groups, to take no longer
    edges = np.arange(min(len(sizes), singly))
    if together:
        edges = np.concatenate((edges, np.arange(singly, len(sizes), together)))
    ends = [(0, lane) for lane in range(lanes)]  # a heap
    lane_of = []
    for steps in np.add.reduceat(sizes, edges).tolist() if len(sizes) else ():
        end, lane = ends[0]
        lane_of.append(lane)
        heapq.heapreplace(ends, (end + steps, lane))
    return np.repeat(np.array(lane_of, np.int64), np.diff(np.append(edges, len(sizes))))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StreamOptions(EpochOptions):
    """The arguments of `Streams`, apart from the sequences and their rows."""

    sizes: ClassVar = ("batch_size", "window")
    batch_size: int
    window: int
    align: bool = False


class StreamPlan(SlicePlan):
    """The batches of one rank in an epoch of streams."""

    options: StreamOptions

    def __init__(self, options: StreamOptions, rows: SliceReader, weights: NDArray[np.float64] | None) -> None:
        super().__init__(options, rows, weights)
        rows.check_labels_of_steps("streams")
        lanes, steps = options.batch_size, options.window
        batch = lanes * steps * (rows.step_bytes + 2 + 8 * options.index)
        # This refuses too many lanes before memory is allocated for them.
        self.room = rows.room(batch, lanes, f"a batch of {lanes:,} lanes of {steps:,} steps")
        rows.store.snapshot.check_files()  # memory is allocated by the number of steps that the root claims
        sequence = np.random.SeedSequence(options.random, spawn_key=(3,))
        self.places = places = plan_lanes(  # the places of sequences in the lanes of all ranks
            rows.lengths,
            lanes=lanes * options.world_size,
            steps=steps,
            align=options.align,
            random=np.random.default_rng(sequence) if options.shuffle else None,
            weights=weights,
            drop_last=options.drop_last,
        )
        slices = lanes + len(places.sequence) // max(1, places.batches * options.world_size)  # in a batch, on average
        self.bytes_of_each = np.broadcast_to(batch + slices * PIECE_BYTES, places.batches)
        self.padding = places.padding

    def __len__(self) -> int:
        return self.places.batches

    def __str__(self) -> str:
        options, padding = self.options, 100 * self.padding
        return f"{options.batch_size:,} lanes of {options.window:,} steps with {padding:.1f} % padding"

    def _read(self, numbers: range) -> list[Batch]:
        options, reader = self.options, self.rows
        first = options.rank * options.batch_size
        slices = self.places.slices(range(first, first + options.batch_size), numbers)
        is_start = (slices.start == 0).tolist()
        slices = replace(slices, start=slices.start + reader.first[slices.sequence])
        columns = reader.step_columns(slices)
        columns["reset"] = slices.zeros((), np.bool_)
        for place, reset in zip(slices.places(columns["reset"]), is_start, strict=True):
            place[0] = reset
        if reader.options.mask:
            columns["mask"] = slices.real()
        if options.index:
            each = zip(slices.real(), slices.of_steps(slices.sequence), strict=True)
            columns["index"] = [np.where(real, number, -1) for real, number in each]
        return batches_of(columns, options.transform)


class Streams(SliceBatches[StreamPlan]):
    """An iterator over batches that continue, lane by lane, where the previous one ended. Get one from `store.streams`.

    This is for truncated backpropagation through time: the state of the network is carried from batch to batch, but
    gradients are not, and a sequence may be far longer than a batch. Each step occurs once per epoch. From the first
    batch on, a thread reads ahead. `OneEpoch` explains threads that share an iterator, forks, errors and a second loop.
    A `Batch` is a tuple of new arrays with names:

    * inputs (lanes, steps, *feature shape),
    * labels (lanes, steps, *target shape): those of the steps; on the `sequence` axis, for each step the label of its
      sequence,
    * reset, bool (lanes, steps), True where a sequence starts: reset the state of this lane before this step,
    * mask, with `mask=True`: bool (lanes, steps), True for real steps; the other arrays are zero at other steps,
    * value_mask, with `value_mask=True`: bool (lanes, steps, *feature shape), True for real values of inputs,
    * static, with `static=`: (lanes, steps, columns), for each step the columns of its sequence,
    * index, with `index=True`: int64 (lanes, steps), the sequence of each step, -1 in padding.

    In a lane, sequences follow each other without gaps, and lanes have about the same length. There is padding only
    after the last sequence of each lane; `padding` is its share. As a sequence may start in the middle of a batch,
    reset has a value for each step, for networks that loop over steps themselves. Networks that process a batch as a
    whole, such as `torch.nn.LSTM` and Keras, can reset their state only between two calls. Pass them a batch in parts:

        cuts = [0, *np.flatnonzero(reset[:, 1:].any(axis=0)) + 1, steps]  # one part, unless a sequence starts inside
        for start, stop in itertools.pairwise(cuts):
            keep = torch.from_numpy(~reset[:, start, None])
            output, state = lstm(x[:, start:stop], tuple(each * keep for each in state))

    Or use `align=True`: sequences then start at the first step of a batch only, so `reset[:, 0]` is enough. This adds
    padding after every sequence, on average half of `steps`; use `mask=True` to leave it out of the loss.

    Batches are read in groups, as many as `memory` allows, so that a chunk is decompressed about once for each sequence
    in it.

    Args:
        store: The sequences. Sequences without steps are left out. Labels may not be on the `own` axis.
        batch_size: How many lanes a batch of each rank has, and so how many sequences are side by side.
        window: Steps of each lane in a batch.
        align: Start sequences at the first step of a batch only.
        shuffle: Shuffle sequences. The order is a pure function of seed, epoch, the lengths, `batch_size * world_size`,
            `window` and `align`. Otherwise each lane has its sequences in the order of the store.
        rank: It has `batch_size` lanes of all, those from `rank * batch_size` on.
        world_size: A state can be resumed with another number of ranks if `batch_size * world_size` is the same.
        drop_last: Leave out the batches at the end in which a lane has no steps or too few.
        steps: Use only this part of each sequence, as for `windows`.

    `normalize`, `features`, `targets`, `static`, `before`, `after`, `dtype`, `mask` and `value_mask` are those of
    `store_spec.reading.row_options.RowOptions`; all others are those of `store_spec.reading.one_epoch.EpochOptions`.
    Padding stays zero.

    Raises:
        WindowError: An argument is not as above, labels are on the `own` axis, the store has no information for
            `value_mask`, or a batch does not fit into the memory.

    >>> import tempfile, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", (1,))) as writer:
    ...     for number, steps in enumerate([5, 4, 3, 4]):
    ...         x, y = np.ones((steps, 2), "float32"), np.ones((steps, 1), "float32")
    ...         writer.append(x, y, source=f"walk-{number}")
    >>> store = store_spec.open_store(path)
    >>> for x, y, reset in store.streams(2, 4):
    ...     print(x.shape, y.shape, [np.flatnonzero(lane).tolist() for lane in reset])
    (2, 4, 2) (2, 4, 1) [[0], [0]]
    (2, 4, 2) (2, 4, 1) [[1], [0]]
    >>> store.streams(2, 4).padding, round(store.streams(2, 4, align=True).padding, 3)
    (0.0, 0.333)
    """

    _of, _kind, _plan_class = "store.streams", "streams", StreamPlan
    varying_axes = 0
