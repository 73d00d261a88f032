"""What a campaign found: its figures, the promises that were broken, and what its control did."""

from __future__ import annotations

from dataclasses import dataclass

SHOWN = 50  # broken promises that are shown; those behind them are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One run of one campaign. The control is the same campaign with one safeguard taken out; it has to break."""

    name: str
    figures: dict[str, int | float | str]  # what was counted, in the order in which it is shown
    broken: tuple[str, ...]  # a sentence for each promise that did not hold
    control: str  # which safeguard the control takes out
    control_broke: int  # cases that the control broke; 0: the campaign is too weak to find anything

    def __post_init__(self) -> None:
        if self.control_broke < 0:
            raise ValueError(f"{self.name}: the control broke {self.control_broke:,} cases; it is 0 or more")

    def ok(self) -> bool:
        """Tell whether every promise held, and the control shows that a broken one would have been seen."""
        return not self.broken and self.control_broke > 0

    def __str__(self) -> str:
        """Return a short table: a line for each figure, the control, and each broken promise."""
        rows = [*self.figures.items(), (f"control ({self.control}) broke", self.control_broke)]
        width = max(len(name) for name, _ in rows)
        lines = [f"{self.name}: {'all promises held' if self.ok() else 'FAILED'}"]
        lines += [f"  {name:<{width}}  {_shown(value)}" for name, value in rows]
        lines += [f"  broken: {sentence}" for sentence in self.broken[:SHOWN]]
        if self.broken[SHOWN:]:
            lines.append(f"  and {len(self.broken) - SHOWN:,} more")
        if not self.control_broke:
            lines.append("  broken: the control found nothing, so this campaign would not see a broken promise")
        return "\n".join(lines)


def _shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
