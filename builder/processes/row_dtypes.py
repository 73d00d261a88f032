"""Rows of another dtype than the sources give: what `compact` makes of them, and a later build of such a store too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from builder.build_errors import SourceError, UsageError
from builder.formats.convert import lost_values, parse_dtype
from builder.formats.table import Array, DType
from store_spec.format.value_checks import with_masks
from store_spec.schema import Schema

ARRAYS = ("inputs", "labels")
Conversions = tuple[tuple[str, str], ...]  # (inputs or labels, dtype): one after another, since each may round


def dtypes_asked(old: Schema, dtype: DTypeLike | None, label_dtype: DTypeLike | None) -> dict[str, DType]:
    """Return the dtypes that rows shall have; without those that nobody asks for.

    Args:
        old: What the rows are.
        dtype: Of inputs, and of labels too where these are floats and have no dtype of their own here.
        label_dtype: Of labels, whatever they are.

    Raises:
        UsageError: One of them is none that can be stored; or rows are complex numbers, or classes, and it is not for
            these.
    """
    inputs, labels = parse_dtype(dtype), parse_dtype(label_dtype)
    if labels is None and old.labels.dtype.kind == "f":
        labels = inputs
    if labels is not None and old.labels.classes is not None and labels.kind not in "iu":
        raise UsageError(
            f"label_dtype={labels} (--label-dtype): labels are {old.labels.dtype} and have classes, for which whole "
            "numbers stand; choose one of these, as int16, or leave it out"
        )
    asked = {name: one for name, one in zip(ARRAYS, (inputs, labels), strict=True) if one is not None}
    for name in asked:
        if old.rows(name).dtype.kind == "c":
            raise UsageError(f"{name} are {old.rows(name).dtype}, of which no other dtype is made; leave the dtype out")
    return asked


def conversions(old: Schema, new: Schema) -> Conversions:
    """Return what makes rows of one store those of another."""
    return tuple((name, new.rows(name).dtype.name) for name in ARRAYS if old.rows(name).dtype != new.rows(name).dtype)


def check_narrowing(before: Conversions, now: Conversions) -> None:
    """Refuse to make rows again what they were before they were made less: those of a later build would go both ways.

    Args:
        before: What was done to rows of the store already.
        now: What is to be done to them.

    Raises:
        UsageError: An earlier dtype holds less than a later one.
    """
    for name, dtype in now:
        for array, earlier in before:
            if array == name and earlier != dtype and np.can_cast(earlier, dtype):
                option = "dtype" if name == "inputs" else "label_dtype"
                raise UsageError(
                    f"{option}={dtype} (--{option.replace('_', '-')}): {name} of this store were made {earlier} by an "
                    f"earlier compact, and what a later build adds would be rounded to that first; compact the store "
                    "that was not converted, or leave the dtype out"
                )


def converted(rows: Array, target: DType, name: str, source: object) -> Array:
    """Return rows (rows, *shape) of another dtype; floats, and whole numbers that become floats, may be rounded.

    Raises:
        SourceError: A value would become another one, as beyond what the dtype holds, or no whole number.
    """
    if rows.dtype == target:
        return rows
    with np.errstate(over="ignore", invalid="ignore"):
        found = np.ascontiguousarray(rows.astype(target))
    lost = lost_values(rows, found, rounds=True)
    if lost is not None and lost.any():
        place = tuple(int(axis) for axis in np.argwhere(lost)[0])
        column = f", column {place[-1]:,}" if len(place) > 1 else ""
        raise SourceError(
            str(source),
            f"{name}: row {place[0]:,}{column} is {rows[place].item()!r}, which does not fit into {target} "
            f"({int(lost.sum()):,} such values)",
        )
    return found


def converted_as(conversions: Conversions, given: Any, name: str, source: object) -> Any:
    """Return what a process function gives for inputs or labels, as a store was made to have it.

    What is no array of plain numbers is returned as it is: whoever checks it says what is wrong.
    """
    given = with_masks(given) if conversions else given
    for array, dtype in conversions:
        if array != name or np.ma.is_masked(given):
            continue
        try:
            rows = np.asarray(given)
        except (TypeError, ValueError):  # lists of unequal length
            return given
        if rows.dtype.kind not in "biuf":
            return given
        given = converted(rows, np.dtype(dtype), name, source)
    return given


def conversions_recorded(value: Any) -> Conversions | None:
    """Read what a store records of this; None: it cannot be.

    >>> conversions_recorded([["inputs", "float32"]]), conversions_recorded([["inputs", "text"]])
    ((('inputs', 'float32'),), None)
    """
    found = []
    for pair in value if isinstance(value, list) else (None,):
        match pair:
            case ["inputs" | "labels" as name, str(dtype)]:
                try:
                    parsed = parse_dtype(dtype)
                except UsageError:
                    return None
                assert parsed is not None
                found.append((name, parsed.name))
            case _:
                return None
    return tuple(found)


def costs(old: Schema, new: Schema) -> tuple[str, ...]:
    """Say what other dtypes do to the values, and to the bytes of each."""
    return tuple(
        _cost(name, old.rows(name).dtype, new.rows(name).dtype)
        for name in ARRAYS
        if old.rows(name).dtype != new.rows(name).dtype
    )


def _cost(name: str, before: DType, after: DType) -> str:
    changed = f"{name}: {before} to {after}, {before.itemsize} to {after.itemsize} bytes a value"
    if after.kind != "f":
        return f"{changed}; every value is as it was"
    info = np.finfo(after)
    digits, error = info.nmant + 1, f"{2.0 ** -(info.nmant + 1):.1g}"
    if before.kind in "iu" and 8 * before.itemsize > digits:
        return f"{changed}; whole numbers beyond {2**digits:,} are rounded, by at most {error} of each"
    if before.kind == "f" and before.itemsize > after.itemsize:
        least = float(info.smallest_subnormal) / 2
        return (
            f"{changed}; values are rounded, by at most {error} of each "
            f"(nearer to 0 than {float(info.smallest_normal):.1g}: by at most {least:.1g})"
        )
    return f"{changed}; every value is as it was"


def check_begun(begun: Schema, asked: Mapping[str, DType], store: object) -> None:
    """Refuse another dtype than a copy was begun with.

    Raises:
        UsageError: Says both.
    """
    for name, dtype in asked.items():
        if begun.rows(name).dtype != dtype:
            raise UsageError(
                f"{store}: {name} are {begun.rows(name).dtype} there, and the option now gives {dtype}; leave it out, "
                "or give another path"
            )
