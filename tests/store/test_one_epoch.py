"""A loop over batches that were all taken would train on nothing: it is refused, and says what to do."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec import Store
from store_spec.errors import WindowError

Make = Callable[[Store], Any]

MADE: dict[str, Make] = {
    "windows.batches": lambda store: store.windows(3).batches(2, shuffle=True),
    "store.padded": lambda store: store.padded(2),
    "store.streams": lambda store: store.streams(2, 4),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    path = tmp_path_factory.mktemp("epochs") / "s.zarr"
    with store_spec.create_store(path, inputs=("float32", (2,)), labels=("float32", ())) as writer:
        for number, steps in enumerate((9, 4, 7)):
            writer.append(np.ones((steps, 2), "f4"), np.ones(steps, "f4"), source=f"walk-{number}")
    return store_spec.open_store(path)


@pytest.fixture(params=list(MADE.values()), ids=list(MADE))
def make(request: pytest.FixtureRequest) -> Make:
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize(("name", "make"), MADE.items(), ids=list(MADE))
def test_a_second_loop_is_refused_and_says_how_to_get_the_next_epoch(store: Store, name: str, make: Make):
    batches = make(store)
    assert len(list(batches)) == len(batches) > 1
    with pytest.raises(WindowError, match=rf"{len(batches)} taken.*all batches of this epoch were taken.*{name}\("):
        iter(batches)
    assert next(batches, None) is None  # as of any iterator


@pytest.mark.parametrize(("name", "make"), MADE.items(), ids=list(MADE))
def test_batches_are_no_list_of_samples(store: Store, name: str, make: Make):
    with pytest.raises(WindowError, match=rf"of {name} come one after another .*store_spec\.torch\.BatchDataset"):
        make(store)[0]


def test_a_loop_that_was_left_goes_on_in_the_next_one(store: Store, make: Make):
    batches = make(store)
    for _ in batches:
        break
    assert len(list(batches)) == len(batches) - 1


def test_a_state_makes_it_begin_again_and_the_end_is_a_state_too(store: Store, make: Make):
    batches = make(store)
    begin = batches.state_dict()
    all_of_them = len(list(batches))
    end = batches.state_dict()
    batches.load_state_dict(begin)
    assert len(list(batches)) == all_of_them
    batches.load_state_dict(end)
    assert list(batches) == []


def test_threads_that_come_when_the_others_have_taken_all_get_nothing(store: Store, make: Make):
    batches, found = make(store), []
    assert list(batches)
    late = threading.Thread(target=lambda: found.append(list(batches)))
    late.start()
    late.join()
    assert found == [[]]


@pytest.mark.parametrize("name", ["store.padded", "store.streams"])
def test_a_copy_is_no_loop_that_ended(store: Store, name: str):
    batches = MADE[name](store)
    assert list(batches)
    assert list(pickle.loads(pickle.dumps(batches))) == []
