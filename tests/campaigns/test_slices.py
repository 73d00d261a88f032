"""A slice of each campaign: the same cases in small numbers, each with the control that must fail."""

import pytest

from tests.campaigns import buckets, failures, fuzz, kills, power_cuts, readers, rivals, rot, starts, stateful, workers
from tests.campaigns.outcome import Outcome

CAMPAIGNS = [kills, power_cuts, failures, rot, rivals, readers, starts, buckets, fuzz, stateful, workers]


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy machine
@pytest.mark.parametrize("module", CAMPAIGNS, ids=lambda module: module.NAME)
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
