"""Kills: a writer dies at every operation that changes the disk, and in the middle of every write; so does recovery.

What a killed process leaves is what lay in the folder just then: it is kept before each operation, and looked at
afterwards. Processes that are really killed show that this is so.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from tests.campaigns.outcome import Outcome
from tests.campaigns.real_kills import kill_processes
from tests.campaigns.recording import Checker, Moment, record, recorded
from tests.campaigns.repairing import Repairing
from tests.campaigns.safeguards import (
    Without,
    taken_out,
    without_order,
    without_recovery,
    without_rename,
    without_syncing,
)
from tests.campaigns.scenario import Scenario
from tests.campaigns.scenarios import scenarios
from tests.campaigns.trees import write_tree

CONTROLS: dict[str, Without] = {
    "renaming into place": without_rename,
    "root last": without_order,
    "recovery": without_recovery,
}


def campaign(*, quick: bool) -> Outcome:
    """Kill everywhere; in the quick form, at a sample of the places."""
    broken: list[str] = []
    points = recoveries = distinct = finished = 0
    with tempfile.TemporaryDirectory() as temporary, taken_out(without_syncing):
        place = Path(temporary).resolve()
        for scenario in scenarios(place, small=quick, third=0 if quick else None):
            folder = place / scenario.name
            recording, checker = recorded(scenario, folder, every=89 if quick else 1)
            points += len(recording.moments)
            broken += checked(scenario, checker, recording.moments)
            for moment in recording.some(120 if quick else 100):
                write_tree(moment.tree, folder / "live")
                recovery = record(scenario, folder / "live", scenario.reopen, every=89 if quick else 1)
                recoveries += len(recovery.moments)
                broken += checked(scenario, checker, recovery.moments, f"before {moment}, and in the recovery ")
            distinct += checker.distinct
            finished += checker.finished
        real = kill_processes(place / "real", quick=quick)
        controls = {
            name: control(without, place / f"without {name}", quick=quick) for name, without in CONTROLS.items()
        }
    return Outcome(
        figures={
            "kills at an operation": points,
            "kills of the recovery from them": recoveries,
            "different states of the disk": distinct,
            "jobs done again from these": finished,
            "processes killed at an operation": real.at_operations,
            "processes killed at any moment": real.at_any_moment,
        },
        violations=(*broken, *real.broken),
        controls=controls,
    )


def checked(scenario: Scenario, checker: Checker, moments: Iterable[Moment], when: str = "") -> list[str]:
    """Return a sentence for each moment whose death breaks a promise."""
    return [
        f"{scenario.name}, killed {when}before {moment}: {problem}"
        for moment in moments
        if (problem := checker.check(moment.tree, moment.allowed))
    ]


def control(without: Without, place: Path, *, quick: bool) -> int:
    """Return how many deaths break a promise without one safeguard; of writers alone, as repairs recover first."""
    count = 0
    with taken_out(without):
        writing = [one for one in scenarios(place, small=True) if not isinstance(one, Repairing)]
        for scenario in writing[: 2 if quick else None]:
            recording, checker = recorded(scenario, place / scenario.name, every=43 if quick else 5)
            count += len(checked(scenario, checker, recording.moments))
    return count
