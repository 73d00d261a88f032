"""Run the quick form of each campaign."""

from collections import Counter

import pytest

from tests.campaigns.__main__ import NAMES, run
from tests.campaigns.outcome import Outcome


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy machine
@pytest.mark.parametrize("name", NAMES)
def test_every_promise_holds_and_every_control_finds_violations(name):
    outcome = run(name, quick=True)
    assert outcome.ok(), str(outcome)


def test_a_campaign_fails_if_one_control_finds_nothing():
    outcome = Outcome(Counter(cases=1_000), controls={"fsync": 3, "rename": 0})
    assert not outcome.ok()
    assert str(outcome).startswith("FAILED")
    assert "1,000" in str(outcome)
    assert "the control without rename found nothing" in str(outcome)


def test_a_campaign_fails_if_a_promise_is_violated():
    outcome = Outcome(violations=["rows are missing"], controls={"fsync": 7})
    assert not outcome.ok()
    assert "violation: rows are missing" in str(outcome)
