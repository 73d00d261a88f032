"""Measure everything in rounds, and print medians, ratios within a round, and whether goals are met."""

import statistics
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from tests.benchmarks.children import Figures


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of each step in each round."""

    rounds: list[dict[Hashable, Figures]]

    def median(self, step: Hashable, figure: str = "rate") -> float:
        """Return the median of all rounds."""
        return statistics.median(one[step][figure] for one in self.rounds)

    def ratio(self, step: Hashable, other: Hashable, figure: str = "rate") -> float:
        """Return the median of the ratios to another step of the same round."""
        return statistics.median(one[step][figure] / one[other][figure] for one in self.rounds)


def repeat(rounds: int, steps: Mapping[Hashable, Callable[[], Figures]]) -> Results:
    """Run all steps in turn, once in each round."""
    return Results([{step: run() for step, run in steps.items()} for _ in range(rounds)])


def at_least(found: float, goal: float | None, of: str) -> list[str]:
    """Return two cells: the goal, and whether it is met."""
    return ["", ""] if goal is None else [f">= {goal:g} {of}", "yes" if found >= goal else "no"]


def at_most(found: float, goal: float, unit: str) -> list[str]:
    """Return two cells: the goal, and whether it is met."""
    return [f"<= {goal:,.0f} {unit}", "yes" if found <= goal else "no"]


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table with the first column aligned left, and numbers aligned right."""
    first, *widths = (max(map(len, column)) for column in zip(heads, *rows, strict=True))
    for number, (name, *cells) in enumerate([heads, *rows]):
        padded = (f" {cell:>{width}} |" for cell, width in zip(cells, widths, strict=True))
        print(f"| {name:<{first}} |", *padded, sep="")
        if not number:
            print(f"|{'-' * (first + 2)}|", *(f"{'-' * (width + 1)}:|" for width in widths), sep="")
