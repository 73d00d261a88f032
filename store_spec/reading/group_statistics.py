"""Statistics of groups of sequences, such as those of each patient or site, and normalisation by them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import WindowError
from store_spec.reading.scaling import Scale, Scaler, SequenceScales
from store_spec.reading.statistics import Statistics

if TYPE_CHECKING:
    from store_spec.store import Store


class GroupStatistics(Mapping[str, Statistics]):
    """The statistics of each group, by its name. From `store.stats_by("patient")`.

    As `normalize=`, each sequence is normalised by the statistics of its group.

    Args:
        store: The sequences.
        by: The column of `sequences` whose values are the groups; or `"source"`.
        options: The period: the other arguments of `store.stats`.

    Raises:
        WindowError: There is no such column, or it has values that are neither text nor whole numbers; or a group has
            no steps in the period.
    """

    def __init__(self, store: Store, by: str, options: Mapping[str, Any]) -> None:
        if not isinstance(by, str):
            raise WindowError(f'{store.path}: by={by!r:.80}; give the name of a column of sequences, or "source"')
        self.store, self.by, self._options = store, by, options
        members: dict[str, list[int]] = {}
        for number, name in enumerate(store.grouped(by)):
            members.setdefault(name, []).append(number)
        self._groups: dict[str, Statistics] = {}
        for name, numbers in members.items():
            try:
                self._groups[name] = store.select(numbers).stats(**options)
            except WindowError as error:
                raise WindowError(f"{error}; these are the sequences with {by}={name!r:.80}") from None

    def __getitem__(self, name: str) -> Statistics:
        return self._groups[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        return f"<statistics of {len(self):,} groups by {self.by!r}: {', '.join(self):.200}>"

    def standard(self) -> GroupScaler:
        """Return the normalisation of each group to mean 0 and standard deviation 1, as `Statistics.standard`."""
        return self._scaler("standard")

    def minmax(self) -> GroupScaler:
        """Return the normalisation of each group to minimum 0 and maximum 1, as `Statistics.minmax`."""
        return self._scaler("minmax")

    def robust(self, low: float = 0.25, high: float = 0.75) -> GroupScaler:
        """Return the normalisation of each group to median 0 and inter-quartile range 1, as `Statistics.robust`."""
        return self._scaler("robust", low, high)

    def _scaler(self, how: str, *arguments: float) -> GroupScaler:
        scalers = {name: getattr(statistics, how)(*arguments) for name, statistics in self._groups.items()}
        return GroupScaler(by=self.by, groups=scalers, earlier=partial(self._earlier, how, arguments))

    def _earlier(self, how: str, arguments: tuple[float, ...], count: int) -> GroupScaler:
        """Return the scaler of the sequences that are among the first `count` of the whole store."""
        scaler: GroupScaler = getattr(GroupStatistics(self.store.first(count), self.by, self._options), how)(*arguments)
        return scaler


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupScaler:
    """Normalisation of each sequence by the numbers of its group. From `GroupStatistics`.

    `windows.scaler(index)` returns the numbers of windows, to undo it.
    """

    by: str  # the column of `sequences` whose values are the groups; or `"source"`
    groups: Mapping[str, Scaler]  # the normalisation of each group, by its name
    # Returns the normalisation that follows from only the first so many sequences of its store.
    earlier: Callable[[int], GroupScaler] = field(repr=False)

    def digest(self) -> str:
        """Return a hash of all groups and numbers, as 16 hexadecimal digits."""
        digest = hashlib.sha256(self.by.encode())
        for name, scaler in sorted(self.groups.items()):
            digest.update(f"\0{name}\0{scaler.digest()}".encode())
        return digest.hexdigest()[:16]

    def stop_of_each(self, count: int) -> NDArray[np.int64]:
        """Return the step after the last one that was used of each of the `count` sequences of the whole store."""
        stop = np.zeros(count, np.int64)
        for scaler in self.groups.values():
            if scaler.statistics is not None:
                np.maximum(stop, scaler.statistics.stop_of_each(count), out=stop)
        return stop

    def scales(self, store: Store, name: str) -> SequenceScales:
        """Return the numbers of each sequence for `inputs` or `labels`."""
        number_of = {group: number for number, group in enumerate(self.groups)}
        groups = [number_of.get(group, -1) for group in store.grouped(self.by)]
        if -1 in groups:
            sequence = groups.index(-1)
            raise WindowError(
                f"{store.path}: sequence {sequence:,} has {self.by}={store.grouped(self.by)[sequence]!r:.80}, and "
                f"normalize has statistics of {len(self.groups):,} groups without it: {', '.join(self.groups):.200}"
            )
        group_of_each = np.full(store.counts.sequences, -1, np.int64)
        group_of_each[store.selection] = groups
        each = [getattr(scaler, name) for scaler in self.groups.values()]
        numbers = Scale(
            center=np.stack([scale.center for scale in each]), scale=np.stack([scale.scale for scale in each])
        )
        return SequenceScales(store.snapshot, name, numbers, group_of_each)
