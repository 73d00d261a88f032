"""A slice of the campaign in which workers and schedulers are killed."""

from __future__ import annotations

import pytest

from tests.campaigns import workers


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy machine
def test_every_promise_holds_and_the_control_breaks():
    outcome = workers.campaign(quick=True)
    assert outcome.ok(), str(outcome)
