"""What all tests share: how many examples hypothesis makes; and no test prints how far it is, however slow it is."""

import os

import pytest
from hypothesis import HealthCheck, settings

# A folder or a patch of a test is shared by its examples, which each make what they need in it.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

settings.register_profile("quick", SHARED, max_examples=10)
settings.register_profile("thorough", SHARED, max_examples=30)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.execution.progress_bar.LINE_SECONDS", 1e6)
