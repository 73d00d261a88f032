"""Check the values of a sequence, and convert them to the dtype of the store if no value changes."""

from contextlib import suppress
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceError
from store_spec.format.names import wrong_code
from store_spec.schema import Missing, Rows

CHECKED_VALUES = 2**20  # values that are checked at a time
MOST_AXES = 64  # of an array that is given as nested lists


def checked_rows(
    name: str, values: ArrayLike, rows: Rows, missing: Missing, source: object, *, single: bool = False
) -> NDArray[Any]:
    """Return rows as they will be stored, contiguous and in the dtype of the store; raise a SequenceError otherwise.

    With `single`, the values may be one row without the first axis.
    """
    array = _as_array(name, values, rows, missing, source)
    if single and array.shape == rows.shape:
        array = array[None]
    if array.shape == (0,):  # an empty list has no dtype, and no second axis
        return rows.empty(0)
    if array.ndim == 0 or array.shape[1:] != rows.shape:
        expected = ", ".join(["rows", *map(str, rows.shape)])
        raise SequenceError(f"{source}: {name} have shape {array.shape}, where this store has ({expected})")
    if array.dtype.newbyteorder("=") != rows.dtype and not _keeps_values(array, rows):
        raise SequenceError(
            f"{source}: {name} are {array.dtype}, where this store has {rows.dtype}; converting could lose values: "
            "convert them yourself, or make a store of another dtype"
        )
    return np.ascontiguousarray(array, rows.dtype)


def refuse_masked_rows(name: str, values: Any, source: object) -> None:
    """Refuse masked arrays in lists: NumPy would make an array of the values below their masks."""
    level = values if isinstance(values, list | tuple) else ()
    for _ in range(MOST_AXES):
        kinds = {*map(type, level)}  # for a million numbers faster than making an array of them
        # A single masked number is not an array; NumPy makes it NaN.
        if any(issubclass(kind, np.ma.MaskedArray) for kind in kinds - {type(np.ma.masked)}):
            raise SequenceError(
                f"{source}: {name} are a list of masked arrays; give one masked array: np.ma.stack(...)"
            )
        lists = {kind for kind in kinds if issubclass(kind, list | tuple)}
        if not lists:
            return
        level = [*chain.from_iterable(level if kinds == lists else [one for one in level if type(one) in lists])]


def _as_array(name: str, values: ArrayLike, rows: Rows, missing: Missing, source: object) -> NDArray[Any]:
    """Return values as an array, masked ones as NaN if the store allows that; raise a SequenceError otherwise."""
    refuse_masked_rows(name, values, source)
    if not isinstance(values, np.ndarray) and hasattr(values, "__array__"):
        with suppress(TypeError, ValueError):  # raised again below
            values = np.asanyarray(values)  # with its mask, as a variable of netCDF4 has
    if isinstance(values, np.ma.MaskedArray) and (mask := np.ma.getmaskarray(values)).any():
        if missing != "keep" or rows.dtype.kind not in "fc":
            raise SequenceError(
                f"{source}: {name}: {int(mask.sum()):,} values are masked; fill them, or leave this "
                'sequence out (a store of floats with missing="keep" takes them as NaN)'
            )
        filled = np.ma.filled(values, 0)
        if filled.dtype.kind not in "fc":
            if not _keeps_values(filled, rows):
                return filled
            filled = filled.astype(rows.dtype)
        filled[mask] = np.nan
        return filled
    try:
        array = np.asarray(values)
        # Python's floats have no dtype of their own, so they are taken in that of the store.
        is_float_list = _is_listed(values) and array.dtype.kind == "f" and rows.dtype.kind in "fc"
        return np.asarray(values, rows.dtype) if is_float_list else array
    except (TypeError, ValueError, OverflowError) as error:  # lists of unequal length
        raise SequenceError(f"{source}: {name} are not an array ({error})") from error


def _is_listed(values: object) -> bool:
    """Return whether these are plain Python numbers, possibly in nested lists."""
    while isinstance(values, list | tuple) and values:
        values = values[0]
    return type(values) in (int, float, list, tuple)


def _keeps_values(array: NDArray[Any], rows: Rows) -> bool:
    """Return whether every value is the same in the store's dtype."""
    if array.dtype.kind in "iu" and rows.dtype.kind in "iu":
        limits = np.iinfo(rows.dtype)
        return not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)
    if array.dtype.kind in "iu" and rows.dtype.kind in "fc":
        # NumPy regards int64 to float64 as safe, but float64 does not have 2**53 + 1.
        with np.errstate(over="ignore", invalid="ignore"):
            floats = array.astype(rows.dtype).real
            # The cast back is undefined for larger values.
            within = np.abs(floats.astype(np.float64)) < 2.0 ** (8 * array.itemsize)
            return bool((within & (np.where(within, floats, 0).astype(array.dtype) == array)).all())
    return np.can_cast(array.dtype, rows.dtype, "safe")


def allowed(rows: NDArray[Any], missing: Missing) -> NDArray[np.bool_]:
    """Return which values are allowed in a store: a mask of the shape of `rows`, or a single True if all are."""
    if rows.dtype.kind not in "fc":
        return np.ones((), bool)
    good: NDArray[np.bool_] = np.isfinite(rows) if missing == "error" else ~np.isinf(rows)
    return good


def check_finite(name: str, rows: NDArray[Any], missing: Missing, source: object) -> None:
    """Raise a SequenceError if a value is infinite, or is NaN and `missing` does not allow that."""
    size = max(1, CHECKED_VALUES // max(1, rows[:1].size))  # the mask of a large array may not fit into memory
    count, place = 0, tuple[int, ...]()
    for start in range(0, len(rows), size):
        good = allowed(rows[start : start + size], missing)
        if good.all():
            continue
        if not count:
            row, *rest = (int(axis[0]) for axis in np.nonzero(~good))
            place = start + row, *rest
        count += int((~good).sum())
    if not count:
        return
    column = f", column {place[-1]}" if len(place) > 1 else ""
    allowed_values = "finite numbers" if missing == "error" else "finite numbers or NaN"
    advice = "mend them, or leave this sequence out"
    if missing == "error" and np.isnan(rows[place]):
        advice += '; where NaN stands for missing values, make a store of missing="keep" (--missing keep)'
    raise SequenceError(
        f"{source}: {name}: row {place[0]}{column} is {rows[place]}, where this store has {allowed_values} "
        f"({count:,} such values); {advice}"
    )


def checked_filled(filled: ArrayLike, inputs: NDArray[Any], source: object) -> NDArray[np.bool_]:
    """Return the mask of values that were filled in; raise a SequenceError if it does not fit the inputs."""
    array = np.asarray(filled)
    if array.dtype != bool or array.shape != inputs.shape:
        raise SequenceError(
            f"{source}: filled is {array.dtype} of shape {array.shape}; it is bool of shape {inputs.shape}, as inputs: "
            "True where a value was filled in"
        )
    return np.ascontiguousarray(array)


def check_classes(labels: NDArray[Any], rows: Rows, source: object) -> None:
    """Raise a SequenceError if a label is not the code of a class."""
    if rows.classes is None or not labels.size:
        return
    codes = labels.reshape(-1, rows.features)
    wrong = wrong_code(rows.classes, codes.min(axis=0), codes.max(axis=0))
    if wrong is not None:
        target, code, count = wrong
        step = int((codes[:, target] == code).argmax()) // (len(codes) // len(labels))
        raise SequenceError(
            f"{source}: labels: row {step:,}, target {target:,} is {code}, where this store has {count:,} classes, "
            "from 0 on; give the code of one, or extend the classes first"
        )
