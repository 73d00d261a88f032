"""Rounds that measure all readers in turn: medians, ratios within a round, and whether a goal is met."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.reading.works import Work

Key = tuple[str, Any]  # a work and a reader, or a step and the number of processes
Round = dict[Key, dict[str, Any]]  # the results of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How much is measured.

    Args:
        places: Where each store is.
        seconds: The time of each measurement.
        rounds: The number of rounds; tables show medians.
        limit: Bytes of memory for readers with limited memory.
    """

    places: Mapping[str, Path]
    seconds: float
    rounds: int
    limit: int

    def place(self, work: Work) -> str:
        """Return where the store of a work is."""
        return str(self.places[work.store])


def in_rounds(
    setting: Setting, works: Sequence[Work], readers: Sequence[str], measured: Callable[[str, Work], dict[str, Any]]
) -> list[Round]:
    """Measure each reader of each work in turn, once in each round."""
    return [
        {(work.name, reader): measured(reader, work) for work in works for reader in readers}
        for _ in range(setting.rounds)
    ]


def median(rounds: Sequence[Round], key: Key, field: str = "rate") -> float:
    """Return the median of all rounds."""
    return float(statistics.median(one[key][field] for one in rounds))


def ratio(rounds: Sequence[Round], key: Key, other: Key, field: str = "rate") -> float:
    """Return the median of the ratios of two rates."""
    return float(statistics.median(one[key][field] / one[other][field] for one in rounds))


def at_least(found: float, goal: float | None, of: str) -> list[str]:
    """Return two cells: the goal, and whether it is met."""
    return ["", ""] if goal is None else [f">= {goal:g} {of}", "yes" if found >= goal else "no"]


def at_most(found: float, goal: float, unit: str) -> list[str]:
    """Return two cells: the goal, and whether it is met."""
    return [f"<= {goal:,.0f} {unit}", "yes" if found <= goal else "no"]
