"""What all tests of the store share."""

import itertools
from collections.abc import Iterator

import pytest

from store_spec.windows import batches


@pytest.fixture(autouse=True, scope="module")
def _rows_kept_in_every_second_epoch(request: pytest.FixtureRequest) -> Iterator[None]:
    """Read every second epoch as where rows do not fit into memory: those of most stores here do, and would be kept."""
    fit, turns = batches._rows_that_fit, itertools.cycle((False, True))
    with pytest.MonkeyPatch.context() as patch:
        if not request.module.__name__.endswith("test_row_cache"):
            patch.setattr(batches, "_rows_that_fit", lambda *arguments: fit(*arguments) if next(turns) else None)
        yield
