"""A slice of the fuzzing of stores and sources, with the control that must fail."""

import pytest

from tests.campaigns import fuzz


@pytest.mark.slow
@pytest.mark.timeout(900)  # minutes on a busy machine
def test_damaged_documents_and_sources_are_refused_or_read_right_and_the_control_breaks():
    outcome = fuzz.campaign(quick=True)
    assert outcome.ok(), str(outcome)
