"""Convert rows to another dtype, for `compact` and for later builds of the stores that it made."""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from builder.build_errors import SourceError, UsageError
from builder.formats.convert import lost_values, parse_dtype
from builder.formats.table import Array, DType
from store_spec import Schema
from store_spec.building import refuse_masked_rows

ARRAYS = ("inputs", "labels")
Conversions = tuple[tuple[str, str], ...]  # (inputs or labels, dtype), in order, since each conversion may round


def target_dtypes(old: Schema, dtype: DTypeLike | None, label_dtype: DTypeLike | None) -> dict[str, DType]:
    """Return the new dtypes by array, for those that get one.

    `dtype` is for inputs, and for labels that are floats if `label_dtype` is None.
    """
    inputs, labels = parse_dtype(dtype), parse_dtype(label_dtype)
    if labels is None and old.labels.dtype.kind == "f":
        labels = inputs
    if labels is not None and old.labels.classes is not None and labels.kind not in "iu":
        raise UsageError(
            f"label_dtype={labels} (--label-dtype): labels are {old.labels.dtype} and have classes, whose codes are "
            "integers; choose an integer dtype such as int16, or leave it out"
        )
    targets = {name: one for name, one in zip(ARRAYS, (inputs, labels), strict=True) if one is not None}
    for name in targets:
        if old.rows(name).dtype.kind == "c":
            raise UsageError(f"{name} are {old.rows(name).dtype}, which cannot be converted; leave the dtype out")
    return targets


def conversions(old: Schema, new: Schema) -> Conversions:
    """Return the conversions from the rows of one store to those of another."""
    return tuple((name, new.rows(name).dtype.name) for name in ARRAYS if old.rows(name).dtype != new.rows(name).dtype)


def check_narrowing(before: Conversions, now: Conversions) -> None:
    """Refuse a wider dtype if an earlier copy narrowed it: later builds would round new rows to the narrow one."""
    for name, dtype in now:
        for array, earlier in before:
            if array == name and earlier != dtype and np.can_cast(earlier, dtype):
                option = "dtype" if name == "inputs" else "label_dtype"
                raise UsageError(
                    f"{option}={dtype} (--{option.replace('_', '-')}): an earlier compact converted the {name} of "
                    f"this store to {earlier}, and later builds would round new rows to that first; compact the store "
                    "that was not converted, or leave the dtype out"
                )


def convert_rows(rows: Array, target: DType, name: str) -> Array:
    """Return rows (rows, *shape) of another dtype; SourceError if a value does not fit.

    Floats, and integers that become floats, may be rounded.
    """
    if rows.dtype == target:
        return rows
    with np.errstate(over="ignore", invalid="ignore"):
        result = np.ascontiguousarray(rows.astype(target))
    lost = lost_values(rows, result, rounds=True)
    if lost is not None and lost.any():
        place = tuple(int(axis) for axis in np.argwhere(lost)[0])
        column = f", column {place[-1]:,}" if len(place) > 1 else ""
        raise SourceError(
            f"{name}: row {place[0]:,}{column} is {rows[place].item()!r}, which does not fit into {target} "
            f"({int(lost.sum()):,} such values)"
        )
    return result


def convert_like_store(conversions: Conversions, value: Any, name: str, source: object) -> Any:
    """Convert the inputs or labels of a process function like those of the store.

    Anything but an array of numbers is returned unchanged; the check of the sequence refuses it. Masked values stay
    masked.
    """
    if conversions:
        refuse_masked_rows(name, value, source)
        value = np.asanyarray(value) if hasattr(value, "__array__") else value  # with its mask
    mask = np.ma.getmaskarray(value) if np.ma.is_masked(value) else None
    result = value
    for array, dtype in conversions:
        if array != name:
            continue
        try:
            rows = np.asarray(result if mask is None else np.ma.filled(result, 0))
        except (TypeError, ValueError):  # lists of unequal length
            return value
        if rows.dtype.kind not in "biuf":
            return value
        result = convert_rows(rows, np.dtype(dtype), name)
    return result if mask is None or result is value else np.ma.MaskedArray(result, mask)


def parse_conversions(value: Any) -> Conversions | None:
    """Parse the conversions that a store records; return None if the record is not valid.

    >>> parse_conversions([["inputs", "float32"]]), parse_conversions([["inputs", "text"]])
    ((('inputs', 'float32'),), None)
    """
    try:
        pairs = [(name, parse_dtype(dtype)) for name, dtype in value]
    except (TypeError, ValueError, UsageError):
        return None
    parsed = tuple((name, dtype.name) for name, dtype in pairs if name in ARRAYS and dtype is not None)
    return parsed if len(parsed) == len(pairs) else None
