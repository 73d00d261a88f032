"""A slice of each campaign about file operations; in each, the control has to break."""

from __future__ import annotations

import pytest

from tests.campaigns import failures, kills, power_cuts
from tests.campaigns.outcome import Outcome


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy machine
@pytest.mark.parametrize("module", [kills, power_cuts, failures], ids=lambda module: module.NAME)
def test_every_promise_holds_and_the_control_breaks(module):
    outcome = module.campaign(quick=True)
    assert outcome.ok(), str(outcome)


def test_a_campaign_whose_control_finds_nothing_has_failed():
    outcome = Outcome(name="x", figures={"cases": 1_000}, broken=(), control="nothing taken out", control_broke=0)
    assert not outcome.ok()
    assert "x: FAILED" in str(outcome)
    assert "1,000" in str(outcome)


def test_a_campaign_that_broke_a_promise_has_failed():
    outcome = Outcome(name="x", figures={}, broken=("rows are gone",), control="all", control_broke=7)
    assert not outcome.ok()
    assert "broken: rows are gone" in str(outcome)
