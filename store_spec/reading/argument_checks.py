"""Check the arguments of readers: whole numbers, sizes in bytes, fractions, positions and weights."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SchemaError, SequenceIndexError, StoreError, WindowError
from store_spec.format.moments import Floats
from store_spec.format.runs import Ints

Options = TypeVar("Options")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
INT64_MAX = 2**63 - 1


def options_of(options: type[Options], arguments: Mapping[str, Any]) -> Options:
    """Make options from the arguments of a method that have the names of their fields."""
    names = [each.name for each in fields(options) if each.name in arguments]  # type: ignore[arg-type]  # a dataclass
    return options(**{name: arguments[name] for name in names})


def whole_number(name: str, value: object, least: int, most: int | None = None) -> int:
    """Check an argument, and return it as a Python int, which cannot overflow later as NumPy's integers can."""
    within = isinstance(value, int | np.integer) and least <= value and (most is None or value <= most)
    if isinstance(value, int | np.integer) and not isinstance(value, bool) and within:
        return int(value)
    limit = "" if most is None else f" and at most {most:,}"
    raise WindowError(f"{name} is {value!r}; it must be a whole number of at least {least}{limit}")


def parse_bytes(size: int | str, error: type[StoreError] = SchemaError) -> int:
    """Parse a size: a number of bytes, or text such as `256MB` (10**6) or `64MiB` (2**20).

    Raises:
        StoreError: The text is not a size; the class of the error is the argument `error`.

    >>> parse_bytes("1.5kB"), parse_bytes("64MiB"), parse_bytes(4096)
    (1500, 67108864, 4096)
    """
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", str(size), re.IGNORECASE)
    if match is None:
        raise error(f"{size!r} is not a size in bytes; write for example '64MB' or '64MiB'")
    return round(float(match[1]) * UNITS[(match[2] or "").lower()])


def memory_bytes(memory: int | str) -> int:
    """Return the argument `memory`, a number of bytes or a text such as `"256MB"`, as an int of at least 1."""
    return whole_number("memory", parse_bytes(memory, WindowError) if isinstance(memory, str) else memory, 1)


def fraction_of(lengths: NDArray[np.int64], fraction: float) -> NDArray[np.int64]:
    """Return floor(lengths * fraction), where the product is first rounded to six decimals.

    `np.round` is not used because it multiplies by a million, which is not exact for a product above 2**33.
    """
    product = lengths * fraction
    nearest = np.rint(product)
    return np.asarray(np.where(np.abs(product - nearest) <= 5e-7, nearest, np.floor(product)), np.int64)


def checked_fractions(steps: object) -> tuple[float, float]:
    """Check `steps`, and return it as a tuple of two floats."""
    if isinstance(steps, Sequence) and len(steps) == 2 and all(isinstance(bound, Real) for bound in steps):
        low, high = steps
        if 0 <= low < high <= 1:
            return float(low), float(high)
    raise WindowError(f"steps is {steps!r}; it must be (low, high) with 0 <= low < high <= 1, or None")


def array_of(values: ArrayLike) -> NDArray[Any]:
    """Convert to an array. Masked values become None, and lists of different lengths an array of a single None."""
    if np.ma.is_masked(values):
        values = np.ma.asarray(values).tolist()
    try:
        array = np.asarray(values)
    except ValueError:
        return np.array([None])
    # Text as objects, because strings in NumPy's own dtype lose a NUL at their end.
    return np.asarray(values, object) if array.dtype.kind == "U" else array


def positions(
    noun: str, numbers: ArrayLike, count: int, where: object, *, ndim: int | None = None, advice: str = ""
) -> NDArray[np.int64]:
    """Return the positions of some of `count` things by their numbers; negative ones count from the end.

    `noun` says what the things are, `where` is the store, and `ndim` the dimensions that `numbers` must have.
    """
    values = array_of(numbers)
    if not values.size:  # NumPy makes an empty list float64
        values = values.astype(np.int64)
    whole = values.dtype.kind in "iu" and ndim in (None, values.ndim)
    absent = (values < -count) | (values >= count) if whole else np.ones(values.shape, bool)
    if not whole or absent.any():
        wrong = f"{int(values[absent][0]):,}" if whole else f"{numbers!r:.80}"
        raise SequenceIndexError(
            f"{where}: {noun} {wrong} asked for, but there are {count:,}, by whole numbers from 0{advice}"
        )
    values = values.astype(np.int64, copy=False)
    return np.where(values < 0, values + count, values)


def checked_weights(weights: ArrayLike | None, counts: Ints, where: object) -> Floats | None:
    """Check weights (sequences,) of at least 0, not all of them 0, and return them as float64; None if there are none.

    `counts` is (sequences,), how many samples each sequence has.
    """
    if weights is None:
        return None
    try:
        values = np.array(array_of(weights).tolist(), np.float64)
    except (TypeError, ValueError) as error:
        raise WindowError(f"{where}: weights are not numbers ({error}); give one for each sequence") from error
    if values.shape != counts.shape:
        raise WindowError(f"{where}: weights of shape {values.shape}; give one for each of {len(counts):,} sequences")
    wrong = ~((values >= 0) & np.isfinite(values))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise WindowError(f"{where}: weights[{at:,}] is {values[at]}; a weight is a number from 0 on")
    with np.errstate(over="ignore"):
        mass = float((values * counts).sum())
    if counts.any() and not 0 < mass < np.inf:
        raise WindowError(
            f"{where}: the weights of all {int(counts.sum()):,} samples make {mass}; nothing can be drawn by that"
        )
    return values


def digest_of(weights: Floats | None) -> str | None:
    """Return a hash of weights, for a state."""
    return None if weights is None else hashlib.sha256(weights.astype("<f8").tobytes()).hexdigest()[:16]
