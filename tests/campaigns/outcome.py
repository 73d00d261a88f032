"""The result of a campaign."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SHOWN = 50  # violations printed in full


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of one campaign.

    Args:
        figures: What was counted, in the order in which it is printed.
        violations: One message per violated promise.
        controls: The violations found without a safeguard, by the name of the safeguard. If a control finds none, the
            campaign could not detect a real violation either, so it has failed.
    """

    figures: Mapping[str, int | str]
    violations: Sequence[str]
    controls: Mapping[str, int]

    def ok(self) -> bool:
        """Return whether every promise held and every control found violations."""
        return not self.violations and bool(self.controls) and all(self.controls.values())

    def __str__(self) -> str:
        """Return a table of all figures and controls, followed by the violations."""
        rows = {**self.figures, **{f"violations without {name}": count for name, count in self.controls.items()}}
        width = max(map(len, rows))
        lines = ["all promises held" if self.ok() else "FAILED"]
        lines += [
            f"  {name:<{width}}  {value if isinstance(value, str) else f'{value:,}'}" for name, value in rows.items()
        ]
        lines += [f"  violation: {message}" for message in self.violations[:SHOWN]]
        if len(self.violations) > SHOWN:
            lines.append(f"  and {len(self.violations) - SHOWN:,} more")
        lines += [f"  the control without {name} found nothing" for name, count in self.controls.items() if not count]
        return "\n".join(lines)
