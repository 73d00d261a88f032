"""A slice of the campaign of histories."""

from __future__ import annotations

import pytest

from tests.campaigns import stateful


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy machine
def test_every_promise_holds_and_the_control_breaks():
    outcome = stateful.campaign(quick=True)
    assert outcome.ok(), str(outcome)
