"""The result of a campaign."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

SHOWN = 50  # violations printed in full


@dataclass(slots=True)
class Outcome:
    """The result of a campaign. If a control finds no violation, the campaign could not detect a real one either."""

    figures: Counter[str] = field(default_factory=Counter)  # in the order in which they are printed
    violations: list[str] = field(default_factory=list)  # one message per violated promise
    controls: dict[str, int] = field(default_factory=dict)  # violations found without a safeguard, by its name

    def count(self, figure: str, where: object, problem: str) -> None:
        """Count a case. If it violates a promise, there is a problem."""
        self.figures[figure] += 1
        if problem:
            self.violations.append(f"{where}: {problem}")

    def control(self, safeguard: str, problems: Iterable[object]) -> None:
        """Count the cases with a problem without a safeguard."""
        self.controls[safeguard] = self.controls.get(safeguard, 0) + sum(map(bool, problems))

    def add(self, part: "Outcome") -> None:
        self.figures.update(part.figures)
        self.violations += part.violations

    def ok(self) -> bool:
        """Return whether every promise held and every control found violations."""
        return not self.violations and bool(self.controls) and all(self.controls.values())

    def __str__(self) -> str:
        """Return a table of all figures and controls, followed by the violations."""
        rows = {**self.figures, **{f"violations without {name}": count for name, count in self.controls.items()}}
        width = max(map(len, rows), default=0)
        lines = ["all promises held" if self.ok() else "FAILED"]
        lines += [f"  {name:<{width}}  {count:,}" for name, count in rows.items()]
        lines += [f"  violation: {message}" for message in self.violations[:SHOWN]]
        if len(self.violations) > SHOWN:
            lines.append(f"  and {len(self.violations) - SHOWN:,} more")
        lines += [f"  the control without {name} found nothing" for name, count in self.controls.items() if not count]
        return "\n".join(lines)
