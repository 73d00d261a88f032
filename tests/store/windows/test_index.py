"""The arithmetic of windows, compared with loops that list every window row by row."""

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from store_spec.errors import SequenceIndexError, StoreError, WindowError
from store_spec.windows.shape import Short, Target, WindowShape
from tests.store.window_oracle import index_of_lengths, list_windows, shapes, usable

TARGETS: tuple[Target, ...] = ("future", "last", "aligned", "sequence")


@given(st.lists(st.integers(0, 40), max_size=8), shapes(TARGETS, ("error",)))
def test_short_error_refuses_what_short_drop_would_drop(lengths: list[int], shape: WindowShape) -> None:
    dropping = replace(shape, short="drop")
    whole = {window.sequence for window in list_windows(lengths, dropping)}
    short = [sequence for sequence in range(len(lengths)) if sequence not in whole]
    if short:
        begin, end = usable(lengths[short[0]], shape.steps)
        with pytest.raises(WindowError) as caught:
            index_of_lengths(lengths, shape)
        assert str(caught.value).startswith(
            f"sequence {short[0]} has {end - begin} usable steps, but a window and its label need"
            f" {shape.least_span}; {len(short)} of {len(lengths)} sequences are too short"
        )
    else:
        index, dropped = index_of_lengths(lengths, shape), index_of_lengths(lengths, dropping)
        assert index.first.tolist() == dropped.first.tolist()


@given(st.integers(0, 2**53), st.floats(0, 1, exclude_min=True, exclude_max=True))
@example(100, 0.29)
@example(2**53, 0.8)
@example(2**53 - 1, 0.8)
@example(2**33 + 1, 0.5)
@example(10**12, 5e-324)
@example(10**12, 1 - 2**-53)
@example(2**33, (2**32 + 1 - 2**-20) / 2**33)  # the product is the float64 just below an integer
def test_steps_cut_a_sequence_of_any_length_in_two(length: int, at: float) -> None:
    """(at, 1) begins where (0, at) ends, and together they are the sequence."""
    early, late = (
        index_of_lengths([length], WindowShape(window=1, target="last", steps=steps)) for steps in ((0, at), (at, 1))
    )
    bounds = [int(bound) for index in (early, late) for bound in (index.start[0], index.stop[0])]
    middle = math.floor(round(length * at, 6))
    assert bounds == [0, middle, middle, length]
    assert len(early) + len(late) == length


def test_two_to_the_62_windows_are_the_most() -> None:
    """2**62 windows can be numbered and found; one more is refused, also if the sum wraps to zero in int64."""
    shape = WindowShape(window=1, target="last")
    most = [2**53] * 512
    index = index_of_lengths(most, shape)
    assert len(index) == 2**62
    assert index.locate(2**62 - 1) == index.locate(-1) == (511, 2**53 - 1)
    assert [each.tolist() for each in index.locate_many([2**53 - 1, 2**61 + 3])] == [[0, 256], [2**53 - 1, 3]]
    for lengths in ([*most, 1], [2**53] * 2048):
        with pytest.raises(WindowError, match=f"give {sum(lengths):,} windows, but at most {2**62:,} are"):
            index_of_lengths(lengths, shape)
    assert len(index_of_lengths([2**53] * 2048, WindowShape(window=2**53))) == 0


@pytest.mark.parametrize("short", ["drop", "pad"])
def test_fields_as_large_as_int64_do_not_overflow(short: Short) -> None:
    """A span or a stride far beyond any sequence gives no or one window per sequence, not a wrapped number."""
    huge = 2**63 - 1
    one_each = WindowShape(window=2, stride=huge, target="last", short=short)
    whole = index_of_lengths([5, 0, 2**53], one_each)
    assert [whole.locate(number) for number in range(len(whole))] == [(0, 0), (2, 0)]
    sparse = WindowShape(window=2, sampling_rate=huge - 1, target="last", short=short)
    index = index_of_lengths([5, 0, 2**53], sparse)
    assert len(index) == (2 if short == "pad" else 0)
    assert index.real_rows([0, 2], [0, 0]).tolist() == ([1, 1] if short == "pad" else [2, 2])
    assert len(index_of_lengths([5, 2**53], WindowShape(window=1, lead=huge - 2, short=short))) == 0


@pytest.mark.parametrize(("dtype", "window"), [(np.uint8, np.uint8(200)), (np.int16, np.int8(100)), (np.uint64, 100)])
def test_narrow_and_unsigned_integers_are_taken_at_their_value(dtype: type[Any], window: Any) -> None:
    stride: Any = np.int8(7)
    narrow = WindowShape(window=window, stride=stride, lead=3)
    plain = WindowShape(window=int(window), stride=7, lead=3)
    assert narrow == plain
    assert hash(narrow) == hash(plain)
    index = index_of_lengths([250, 30, 220], narrow)
    listed = [(window.sequence, window.start) for window in list_windows([250, 30, 220], plain)]
    assert [index.locate(number) for number in range(len(index))] == listed
    sequences, starts = index.locate_many(np.arange(len(index), dtype=dtype))
    assert list(zip(sequences.tolist(), starts.tolist(), strict=True)) == listed


BAD_COUNTS = (True, 1.0, "3", None, 2**63, -(2**70), np.float64(2), np.bool_(1))


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        *itertools.product(("window", "stride", "horizon", "sampling_rate"), (0, -1, *BAD_COUNTS), (1,)),
        *itertools.product(("lead",), (-2, *BAD_COUNTS), (-1,)),
    ],
)
def test_a_count_out_of_range_is_refused_by_name(name: str, value: Any, least: int) -> None:
    bad: dict[str, Any] = {"window": 4, name: value}
    good: dict[str, Any] = {"window": 4, name: least}
    with pytest.raises(WindowError) as caught:
        WindowShape(**bad)
    allowed = f"a whole number of at least {least} and at most {2**63 - 1:,}"
    assert str(caught.value) == f"{name} is {value!r}; it must be {allowed}"
    assert getattr(WindowShape(**good), name) == least


@pytest.mark.parametrize("value", ["Future", "", None, 3, ["last"]])
def test_an_unknown_target_or_short_is_refused_with_the_known_ones(value: Any) -> None:
    with pytest.raises(WindowError) as caught:
        WindowShape(window=4, target=value)
    allowed = '"future", "last", "aligned", "sequence"'
    assert str(caught.value) == f"target is {value!r}; it must be one of {allowed}"
    with pytest.raises(WindowError) as caught:
        WindowShape(window=4, short=value)
    assert str(caught.value) == f'short is {value!r}; it must be one of "drop", "pad", "error"'


@pytest.mark.parametrize(
    "steps",
    [
        *((0.5, 0.5), (0.8, 0.2), (-0.1, 1), (0, 1.1), (0, 10**400)),
        *((math.nan, 1), (0, math.nan), (0, math.inf)),
        *(0.8, (0.8,), (0, 0.5, 1), "01", ("0", "1"), (None, 1), {0.0: 1, 1.0: 2}),
    ],
)
def test_invalid_shares_of_a_sequence_are_refused(steps: Any) -> None:
    with pytest.raises(WindowError) as caught:
        WindowShape(window=4, steps=steps)
    allowed = "(low, high) with 0 <= low < high <= 1, or None"
    assert str(caught.value) == f"steps is {steps!r}; it must be {allowed}"


def test_steps_become_a_tuple_of_floats() -> None:
    """A list, as from JSON, and integers give the same hashable shape."""
    steps: Any = [0, np.float32(0.5)]
    shape = WindowShape(window=4, steps=steps)
    assert shape == WindowShape(window=4, steps=(0.0, 0.5))
    assert hash(shape) == hash(WindowShape(window=4, steps=(0.0, 0.5)))
    assert all(type(bound) is float for bound in shape.steps or ())


def test_a_span_beyond_int64_is_refused_with_its_parts() -> None:
    """Each field fits, but not their sum; targets that ignore horizon and lead do not count them."""
    with pytest.raises(WindowError) as caught:
        WindowShape(window=2, sampling_rate=2**62, lead=2**62, horizon=5)
    said = str(caught.value)
    assert f"spans {2**62 + 1 + (2**62 + 5) * 2**62:,} steps, but at most {2**63 - 1:,}" in said
    assert f"window=2 with sampling_rate={2**62:,}, lead={2**62:,} and horizon=5" in said
    assert WindowShape(window=2, sampling_rate=2**62, lead=2**62, target="last").span == 2**62 + 1


def test_memory_is_three_numbers_a_sequence_whatever_the_windows() -> None:
    """A thousand million windows take as much as three."""
    for length in (3, 10**9):
        index = index_of_lengths([length] * 10, WindowShape(window=2))
        assert index.first.nbytes + index.start.nbytes + index.stop.nbytes == 8 * (3 * 10 + 1)


def test_errors_also_have_the_matching_type_of_python() -> None:
    assert issubclass(SequenceIndexError, IndexError)
    assert issubclass(WindowError, ValueError)
    assert issubclass(WindowError, StoreError)
