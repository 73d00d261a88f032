"""Measure how well shuffled batches of windows mix the sequences of a store."""

import warnings
from dataclasses import dataclass

from builder.amounts import count_text
from builder.build_errors import UsageError
from store_spec import Mixing, Short, Store, Target, WindowError, Windows

WINDOW_OPTIONS = ("window", "stride", "horizon", "lead", "sampling_rate", "target", "short")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shuffle:
    """The arguments of `store.windows(window, ...).batches(batch, shuffle=True, ...)` to measure.

    `target=None` means `"sequence"` if the store has one label per sequence, otherwise `"future"`.
    """

    window: int
    stride: int = 1
    horizon: int = 1
    lead: int = 0
    sampling_rate: int = 1
    target: Target | None = None
    short: Short = "drop"
    batch: int = 256
    memory: int | str = "256MB"
    seed: int = 0
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ShuffleMixing:
    """The arguments of a shuffle, and how well it mixes."""

    shuffle: Shuffle
    mixing: Mixing


def windows_of(store: Store, shuffle: Shuffle) -> Windows:
    """Return the windows that are shuffled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # callers report if there are no windows
        return store.windows(**{name: getattr(shuffle, name) for name in WINDOW_OPTIONS})


def measure_shuffle(store: Store, shuffle: Shuffle) -> ShuffleMixing:
    """Measure how well a shuffle mixes, without reading rows; UsageError if there are no such windows or batches."""
    try:
        windows = windows_of(store, shuffle)
        if len(store) and not len(windows):
            raise UsageError(
                f"{store.path}: windows of {shuffle.window:,} steps fit nowhere: the longest of "
                f"{count_text(len(store), 'sequence')} has {count_text(int(store.lengths.max()), 'step')}, which must "
                "include the label; use fewer steps"
            )
        mixing = windows.mixing(shuffle.batch, seed=shuffle.seed, epoch=shuffle.epoch, memory=shuffle.memory)
    except WindowError as error:
        raise UsageError(str(error)) from error
    return ShuffleMixing(shuffle=shuffle, mixing=mixing)
