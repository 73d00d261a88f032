"""What the page of a store says, all of it, before it looks like anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from builder.errors import UsageError
from builder.inspection import Inspection, Shuffle, Shuffled, inspection_of, measured, split_numbers
from builder.length_bins import length_bins
from builder.recorded import options_given
from builder.report.classes import Balance, balance_of
from builder.report.drawings import Drawing, draw
from builder.report.features import Feature, describe_features
from builder.report.kept import KeptColumn, kept_columns
from builder.report.sampling import Sample, sample_rows
from builder.report.splits import Compared, compare
from store_spec import Store
from store_spec.format import retired
from store_spec.reading.splits import DEFAULT_SPLITS
from store_spec.schema import Schema

LENGTH_BINS = 40
LONG = 20  # longest by median length from which on the bins double
SHOWN_FEATURES = 500
SHOWN_TARGETS = 100
SHOWN_FAILURES = 100
SHOWN_RETIRED = 50
SHOWN_OPTIONS = 100  # more than a build has; a stranger's store can have any number
LONGEST_WINDOW = 256  # steps, of the windows whose mixing is told
BATCHES = (256, 32, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The page of a store.

    Args:
        name: Of its folder: the page says nothing of where that lies.
        found: What `inspect` finds.
        lengths: (shortest, longest, how many sequences): a finer histogram than that of `found`.
        features: The first `SHOWN_FEATURES`.
        targets: The first `SHOWN_TARGETS`.
        sampled: What was read of `inputs` and `labels` for what is not exact.
        compared: Features and targets by split; those that differ most first.
        retired: The first sources of retired sequences, and how many of these each has.
        labels_are_inputs: Every sequence has the same bytes in both; then targets are told of nowhere else.
        kept: Further columns of the sequences.
        classes: Names of the classes of each target.
        options: Of the build.
        shuffled: How well windows mix; None where there are none.
        no_shuffle: Why there are none.
    """

    name: str
    found: Inspection
    schema: Schema
    lengths: tuple[tuple[int, int, int], ...]
    features: tuple[Feature, ...]
    targets: tuple[Feature, ...]
    sampled: dict[str, Sample]
    drawings: tuple[Drawing, ...]
    balances: tuple[Balance, ...]
    compared: tuple[Compared, ...]
    retired: tuple[tuple[str, int], ...]
    labels_are_inputs: bool
    kept: tuple[KeptColumn, ...]
    classes: tuple[tuple[str, ...] | None, ...]
    options: tuple[tuple[str, str], ...]
    shuffled: Shuffled | None
    no_shuffle: str


def describe(store: Store, shuffle: Shuffle | None = None, split_by: str | None = None) -> Content:
    """Find out all that the page says. Tables are read whole, rows only in part: see `sampling`.

    Args:
        store: That is shown.
        shuffle: Windows whose mixing is told; None: chosen so that most sequences have some.
        split_by: A column of sequences, for the splits of `store.split(..., by=split_by)`.

    Raises:
        UsageError: There are no such windows of this store, or no such column.
        ChecksumError: The bytes on disk are not those that were written.
    """
    numbers, names = split_numbers(store, split_by), tuple(DEFAULT_SPLITS)
    found = inspection_of(store, shuffle, split_by, numbers=numbers)
    shuffled, no_shuffle = _shuffled(store) if shuffle is None else (found.shuffle, "")
    same = store.snapshot.labels_are_inputs()
    statistics = {name: tuple(one for one in found.statistics if one.array == name) for name in ("inputs", "labels")}
    samples = {name: sample_rows(store, name) for name in ("inputs", "labels")}
    return Content(
        name=Path(store.path).name,
        found=found,
        schema=store.schema,
        lengths=_lengths(store.lengths) if len(store) else (),
        features=describe_features(store, statistics["inputs"], samples["inputs"], SHOWN_FEATURES),
        targets=() if same else describe_features(store, statistics["labels"], samples["labels"], SHOWN_TARGETS),
        sampled=samples,
        drawings=draw(
            store,
            statistics["inputs"] if same else found.statistics,
            tuple(names[number] for number in numbers.tolist()),
        ),
        balances=() if same else balance_of(statistics["labels"], samples["labels"], numbers, len(names)),
        compared=compare(store, numbers, ("inputs",) if same else ("inputs", "labels")),
        retired=_retired(store),
        labels_are_inputs=same,
        kept=kept_columns(store, found.columns),
        classes=store.schema.labels.classes or (),
        options=() if found.build is None else tuple(options_given(found.build))[:SHOWN_OPTIONS],
        shuffled=shuffled,
        no_shuffle=no_shuffle,
    )


def _lengths(lengths: NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    return length_bins(lengths, LENGTH_BINS, doubling=int(lengths.max()) > LONG * max(1.0, float(np.median(lengths))))


def _shuffled(store: Store) -> tuple[Shuffled | None, str]:
    """Measure windows that most sequences have, half as long as the median, a power of 2; or say why there are none."""
    if store.schema.label_axis == "own":
        return None, "Labels have lengths of their own, so there are no windows to shuffle."
    half = int(np.median(store.lengths)) // 2 if len(store) else 0
    window, reason = min(LONGEST_WINDOW, 2 ** max(0, half.bit_length() - 1)), ""
    for batch in BATCHES:  # of wide rows, only small batches fit the memory
        try:
            return measured(store, Shuffle(window=window, batch=batch)), ""
        except UsageError as error:
            # Where the store lies is no part of the page.
            reason = str(error).removeprefix(f"{store.path}: ")
    return None, f"Windows of {window:,} steps are not shuffled: {reason}."


def _retired(store: Store) -> tuple[tuple[str, int], ...]:
    ranges = store.snapshot.root.retired
    if not ranges:
        return ()
    names = store.snapshot.sources()
    found: dict[str, int] = {}
    for number in retired.members(ranges).tolist():
        found[names[number]] = found.get(names[number], 0) + 1
    return tuple(list(found.items())[:SHOWN_RETIRED])
