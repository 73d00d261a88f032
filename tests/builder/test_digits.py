"""Which numbers float32 keeps: vectorised, against the digits that Python writes."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from builder.frames.digits import needs_more_digits


def is_lost(text: str) -> bool:
    """Say whether float32 does not have a decimal number, and, written with as many digits, is another number."""
    if float(np.float32(float(text))) == float(text):
        return False
    digits = len(Decimal(text).normalize().as_tuple().digits)
    return Decimal(f"{float(np.float32(float(text))):.{digits - 1}e}") != Decimal(text)


@given(st.lists(st.tuples(st.integers(-(10**10), 10**10), st.integers(-30, 25)), min_size=1, max_size=30))
def test_the_digits_of_a_number_tell_whether_float32_keeps_it(numbers):
    texts = [f"{whole}e{exponent}" for whole, exponent in numbers]
    values = np.array([float(text) for text in texts])
    assert needs_more_digits(values).tolist() == [is_lost(text) for text in texts]


@given(st.lists(st.floats(width=32, allow_subnormal=False)))
def test_what_was_written_from_float32_is_kept(numbers):
    values = np.array([float(str(np.float32(number))) for number in numbers])
    assert not needs_more_digits(values).any()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
@example([2.0**-24])  # exact in float32; Python writes it with 16 of its 17 digits, the last of which is 5
def test_floats_of_many_digits_are_not_kept_unless_they_are_short(numbers):
    values = np.array(numbers, np.float64)
    with np.errstate(over="ignore"):
        expected = [is_lost(repr(number)) for number in numbers]
    assert needs_more_digits(values).tolist() == expected


def test_a_mask_has_the_shape_of_the_values():
    values = np.array([[0.1, np.nan], [np.inf, 16777217.0], [1e300, 5.0]])
    assert needs_more_digits(values).tolist() == [[False, False], [False, True], [True, False]]
