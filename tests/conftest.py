"""Settings for all tests: the number of hypothesis examples, and no progress bars, however slow a test is."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The examples of a test share its folders and patches, and each makes what it needs there.
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])

# The same examples each time: whether a change lands does not depend on chance. "thorough" looks for new ones.
settings.register_profile("quick", SHARED, max_examples=10, derandomize=True)
settings.register_profile("thorough", SHARED, max_examples=30)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


@pytest.fixture(autouse=True, scope="session")
def _no_waiting_for_the_disk() -> Iterator[None]:
    """Skip fsync in this process, which would take most of the time; tests about fsync record its calls."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        yield


@pytest.fixture(autouse=True)
def _no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builder.execution.progress_bar.LINE_SECONDS", 1e6)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow tests of reading to read nothing, of which a user is warned; the builder may cause no such warning."""
    nothing = "ignore:.*(0 windows|0 batches|statistics of 0 steps|the selection has 0 of|classes of 0 label rows)"
    for item in items:
        if Path(__file__).parent / "builder" not in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(nothing))
