"""A slice of each campaign against stores: the same cases in small numbers, each with the control that must fail."""

import pytest

from tests.campaigns import buckets, readers, rivals, rot, starts


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy machine
@pytest.mark.parametrize("module", [rot, rivals, readers, starts, buckets], ids=lambda module: module.NAME)
def test_every_promise_holds_and_the_control_breaks(module):
    outcome = module.campaign(quick=True)
    assert outcome.ok(), str(outcome)
