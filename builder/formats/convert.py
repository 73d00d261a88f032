"""Convert columns to one array of one dtype, refusing values that would change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from builder.build_errors import SourceError, UsageError
from builder.formats.column_choice import list_names
from builder.formats.table import Array, DType, Table

# Above this, float64 does not hold every whole number.
EXACT_IN_FLOAT64 = 2**53
FILL_IN = "fill it in, say what to do with such steps with --missing, or leave the column out with --exclude"


def parse_dtype(dtype: DTypeLike | None) -> DType | None:
    """Return the dtype that an option names, in native byte order: bool, integer or float, up to 64 bits."""
    if dtype is None:
        return None
    try:
        parsed = np.dtype(dtype).newbyteorder("=")
    except (TypeError, ValueError, SyntaxError):
        raise UsageError(f"dtype={dtype!r} is not a dtype; float32, int16, bool are some") from None
    if not is_number(parsed):
        raise UsageError(f"dtype={dtype!r} cannot be stored; bool, integers and floats up to 64 bits can")
    return parsed


def is_number(dtype: DType) -> bool:
    """Return whether arrays of this dtype can be stored."""
    return dtype.kind in "biuf" and dtype.itemsize <= 8


def check_all(*checks: Callable[[], Any], found: SourceError | None = None) -> list[Any]:
    """Return the result of each function, or raise one SourceError for all that they raise, and for `found`."""
    errors = [] if found is None else [found]
    results = []
    for check in checks:
        try:
            results.append(check())
        except SourceError as error:
            errors.append(error)
    if not errors:
        return results
    *reasons, last = texts = dict.fromkeys(map(str, errors))  # each once, in order
    if len({reason.partition("; ")[2] for reason in texts}) == 1:  # the same advice is given once
        reasons = [reason.partition("; ")[0] for reason in reasons]
    raise errors[0] if len(texts) == 1 else SourceError("; also ".join([*reasons, last]))


def require_values(table: Table) -> None:
    """Refuse missing and infinite values; the error has the row and column of the first, and their number."""
    if table.is_full:
        return
    absent = {name: per_row(mask) for name, mask in table.gaps().items()}
    check_all(
        lambda: refuse_any(absent, table, "missing value", FILL_IN),
        lambda: require_finite(table),
    )


def require_finite(table: Table, absent: Mapping[str, NDArray[np.bool_]] | None = None) -> None:
    """Refuse infinite values, except where `absent` marks them as missing; NaN is accepted."""
    infinite = {name: np.isinf(column) for name, column in table.columns.items() if column.dtype.kind == "f"}
    for name, mask in (absent or {}).items():
        if name in infinite:
            infinite[name] &= ~mask
    masks = {name: per_row(mask) for name, mask in infinite.items()}
    refuse_any(masks, table, "infinite value", "correct it, or leave the column out with --exclude")


def stack(table: Table, names: Sequence[str], *, dtype: DType | None) -> Array:
    """Return the columns `names` as one array (rows, columns, ...).

    Without a dtype it is that to which NumPy promotes the columns. Values that would change by more than rounding to
    the requested float dtype are refused.
    """
    rounds = dtype is not None
    if table.block is not None:
        block = table.block if tuple(table.columns) == tuple(names) else take_columns(table.block, table.columns, names)
        target = dtype if dtype is not None else block.dtype
        return convert(block, target, names, rounds=rounds, number=table.number)
    columns = [table.columns[name] for name in names]
    target = dtype if dtype is not None else np.result_type(*{column.dtype for column in columns})
    out = np.empty((table.rows, len(columns), *columns[0].shape[1:]), target)
    for number, (name, column) in enumerate(zip(names, columns, strict=True)):
        block = column[:, None]
        out[:, number] = convert(block, target, (name,), rounds=rounds, number=table.number)[:, 0]
    return out


def convert(
    array: Array,
    target: DType,
    names: Sequence[str],
    *,
    rounds: bool,
    number: Callable[[int], int] = lambda row: row + 1,
    advice: str = "",
) -> Array:
    """Convert `array` (rows, columns, ...) to the dtype `target`, in C order.

    Args:
        array: Numbers or bool.
        target: The dtype of the result; values that do not fit are refused.
        names: The names of the columns.
        rounds: Whether integers may be rounded to floats. Floats may always be rounded to narrower floats, but not to
            infinity.
        number: Returns the number of a row in the file, from 1, for its index.
        advice: What the user can do about values that do not fit; by default to give another --dtype.
    """
    if array.dtype == target:
        return np.ascontiguousarray(array)
    with np.errstate(over="ignore", invalid="ignore"):
        converted = array.astype(target, order="C")
    lost = lost_values(array, converted, rounds=rounds)
    if lost is not None and lost.any():
        row, column, *index = np.argwhere(lost)[0].tolist()
        value, count = array[row, column, *index].item(), int(lost.sum())
        name = f"{names[column]}{index or ''}"  # with the index of the value if steps are arrays
        other = "--dtype float64 would round it" if target.kind == "f" and not rounds else "choose another --dtype"
        advice = advice or f"{other}, or leave the column out with --exclude"
        raise SourceError(
            f"row {number(row):,}, column {name}: {value!r} does not fit into {target} ({count:,} in all); {advice}"
        )
    return converted


def lost_values(array: Array, converted: Array, *, rounds: bool) -> NDArray[np.bool_] | None:
    """Return a mask of the values that changed by more than rounding; None if there are none."""
    kind, target = array.dtype.kind, converted.dtype
    if kind == "b":
        return None
    if target.kind == "b":
        return np.asarray((array != 0) & (array != 1))
    if target.kind == "f":
        if kind == "f" or rounds:
            infinite = np.isinf(converted)
            return np.asarray(infinite & np.isfinite(array)) if infinite.any() else None
        most = 2 ** (np.finfo(target).nmant + 1)
        return np.asarray((array > most) | (array < -most))
    limits = np.iinfo(target)
    if kind == "f":
        # float(limits.max) rounds up to the power of two that is just too large; NaN fails every comparison.
        with np.errstate(over="ignore"):  # in float16 the limits become infinite
            fits = (array >= float(limits.min)) & (array < float(limits.max + 1)) & (array == np.trunc(array))
        return np.asarray(~fits)
    return np.asarray((array < limits.min) | (array > limits.max))


def take_columns(block: Array, order: Iterable[str], names: Sequence[str]) -> Array:
    """Return columns of a block, without a copy if they are adjacent."""
    position = {name: number for number, name in enumerate(order)}
    numbers = [position[name] for name in names]
    first = numbers[0] if numbers else 0
    if numbers == list(range(first, first + len(numbers))):
        return block[:, first : first + len(numbers)]
    return block[:, numbers]


def per_row(mask: Array) -> NDArray[np.bool_]:
    """Reduce a mask (rows, ...) to (rows,), True if any value of the row is True."""
    return np.asarray(mask.any(axis=tuple(range(1, mask.ndim))))


def refuse_any(
    masks: Mapping[str, NDArray[np.bool_]],
    table: Table,
    what: str,
    advice: str,
    why: Callable[[str, int], str] = lambda _, __: "",
) -> None:
    """Raise SourceError for the first row, and in it the first column, whose mask (rows,) is True.

    `why` returns an explanation for a column and a row of the file.
    """
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    first = {name: int(masks[name].argmax()) for name, count in counts.items() if count}
    if not first:
        return
    name = min(first, key=lambda name: first[name])
    row = table.number(first[name])
    others = f", also in {list_names([one for one in first if one != name])}" if len(first) > 1 else ""
    total = f"{sum(counts.values()):,} in all{others}"
    raise SourceError(f"row {row:,}, column {name}: {what}{why(name, row)} ({total}); {advice}")
