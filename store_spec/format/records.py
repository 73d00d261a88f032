"""Check the rows of a sequence against the schema, and compute its row of each table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceError
from store_spec.format.class_names import wrong_code
from store_spec.format.missing_runs import Runs, SequenceRuns, missing_runs, no_runs
from store_spec.format.row_facts import RowFacts, derived, describe_rows
from store_spec.format.sequence_columns import checked_columns, columns_crc32c
from store_spec.format.times import checked_times
from store_spec.schema import DTYPES, LARGEST_NAME_BYTES, MISSING_RUNS, NO_FILE, TABLES, Missing, Rows, Schema

SOURCES = f"{TABLES}/source"
SHA256_DIGITS = 64
NAMED_TOGETHER = 2**12  # sequences whose numbers are lists at a time: these take far more memory than arrays
CHECKED_VALUES = 2**20  # values that are looked at together
MOST_AXES = 32  # of arrays that come as lists in lists


def recorded(schema: Schema) -> tuple[str, ...]:
    """Return the arrays in `Records.columns`; offsets and names follow from its other fields."""
    tables = (fact.name for fact in schema.arrays() if "/" in fact.name and fact.name != SOURCES)
    return (*tables, *(name for name in schema.row_arrays if not schema.is_sharded(name)))


def proved(schema: Schema) -> tuple[str, ...]:
    """Return the tables that the identity in the root covers, apart from names and lengths."""
    names = (fact.name for fact in schema.arrays() if fact.name.startswith(f"{TABLES}/"))
    return tuple(name for name in names if name not in (SOURCES, *derived("time")))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceId:
    """Where a sequence comes from.

    Args:
        name: The source's POSIX path relative to the root, or any name that the user chose.
        part: 0, 1, ... for the sequences of one source, in order.
        size: Bytes of the source file; -1 if there is no file.
        sha256: SHA-256 of its bytes; 32 zero bytes if there is no file.
    """

    name: str
    part: int = 0
    size: int = NO_FILE
    sha256: bytes = bytes(32)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SequenceError(f"source={self.name!r:.200} is not text; a source has a name: str(...) makes one")
        if not self.name:
            raise SequenceError("a sequence needs the name of its source; the name given is empty")
        try:
            size = len(self.name.encode())
        except UnicodeEncodeError as error:
            raise SequenceError(f"source {self.name!r}: its name is not valid Unicode; rename it") from error
        if size > LARGEST_NAME_BYTES:
            raise SequenceError(
                f"source {self.name[:80]!r}...: its name has {size:,} bytes; at most {LARGEST_NAME_BYTES:,} are kept"
            )

    def __str__(self) -> str:
        return f"{self.name} (part {self.part})" if self.part else self.name


@dataclass(frozen=True, slots=True)
class Records:
    """The table rows of consecutive sequences, as columns."""

    sources: tuple[str, ...]
    lengths: NDArray[np.int64]
    label_lengths: NDArray[np.int64]  # zeros unless labels have lengths of their own
    columns: dict[str, NDArray[Any]]  # by array name, one row per sequence
    missing: dict[str, SequenceRuns] = field(default_factory=dict)  # by array name, if missing values are allowed

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, rows: slice) -> Records:
        return Records(
            self.sources[rows],
            self.lengths[rows],
            self.label_lengths[rows],
            {name: column[rows] for name, column in self.columns.items()},
            {name: runs[rows] for name, runs in self.missing.items()},
        )

    @staticmethod
    def concatenate(several: Sequence[Records]) -> Records:
        """Join records of consecutive sequences; `several` has at least one item."""
        if len(several) == 1:
            return several[0]
        return Records(
            tuple(source for records in several for source in records.sources),
            np.concatenate([records.lengths for records in several]),
            np.concatenate([records.label_lengths for records in several]),
            {name: np.concatenate([records.columns[name] for records in several]) for name in several[0].columns},
            {
                name: SequenceRuns.concatenate([records.missing[name] for records in several])
                for name in several[0].missing
            },
        )

    def identity(self, before: str, schema: Schema) -> str:
        """Continue the chain of hashes that identifies the content of a store (SPEC.md, "Identity")."""
        digest = bytes.fromhex(before)
        for at in range(0, len(self.sources), NAMED_TOGETHER):
            digest = _chained(digest, self[at : at + NAMED_TOGETHER], schema)
        return digest.hex()


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSequence:
    """One sequence as it will be stored.

    Args:
        rows: `inputs` (steps, *feature shape), `labels` (rows, *target shape), and, if the store has them, `time`
            (steps,) and `filled` (steps, *feature shape); contiguous, of the schema's dtypes.
        columns: The further columns by the names of their arrays, (1,) each.
    """

    rows: dict[str, NDArray[Any]]
    columns: dict[str, NDArray[Any]]


def check_sequence(
    schema: Schema,
    inputs: ArrayLike,
    labels: ArrayLike,
    source: SourceId,
    *,
    columns: Mapping[str, Any] | None = None,
    time: ArrayLike | None = None,
    filled: ArrayLike | None = None,
) -> CheckedSequence:
    """Check a sequence against the schema, and return it as it will be stored.

    Labels of the `sequence` axis may have the shape (*target shape); they then get a first axis of 1.

    Raises:
        SequenceError: A shape, a dtype or a value does not fit.
    """
    x = _rows("inputs", inputs, schema.inputs, schema.missing, source)
    if labels is inputs and schema.labels_like_inputs:
        y = x  # a single array, which is checked and compressed only once
    else:
        y = _array("labels", labels, schema.labels, schema.missing, source)
        if schema.label_axis == "sequence" and y.shape == schema.labels.shape:
            y = y[None]
        y = _rows("labels", y, schema.labels, schema.missing, source)
    if schema.label_axis == "step" and len(x) != len(y):
        one = '; one for all of them is a label of label_axis="sequence" (--label-axis)' if len(y) == 1 else ""
        raise SequenceError(
            f"{source}: {len(x):,} input rows but {len(y):,} label rows; labels on the step axis need one per input row"
            + one
        )
    if schema.label_axis == "sequence" and len(y) != 1:
        raise SequenceError(
            f"{source}: {len(y):,} label rows, where the sequence axis has 1: give shape {schema.labels.shape}"
        )
    rows = {"inputs": x, "labels": y}
    _check_finite("inputs", x, schema, source)
    if y is not x:
        _check_finite("labels", y, schema, source)
    _check_classes(y, schema.labels, source)
    times = checked_times(schema.time, time, len(x), source)
    if times is not None:
        rows["time"] = times
    if schema.filled:
        rows["filled"] = np.zeros(x.shape, bool) if filled is None else _checked_filled(filled, x, source)
    elif filled is not None and (mask := _checked_filled(filled, x, source)).any():
        raise SequenceError(
            f"{source}: filled is True for {int(mask.sum()):,} of {mask.size:,} values, where this store does not "
            "say which were filled in; a new store does: create_store has filled=True; build has --mask for tables, "
            "and with --process the first sequence of the first source must give filled"
        )
    return CheckedSequence(rows, checked_columns(schema.columns, columns, source))


def _checked_filled(filled: ArrayLike, inputs: NDArray[Any], source: SourceId) -> NDArray[np.bool_]:
    array = np.asarray(filled)
    if array.dtype != bool or array.shape != inputs.shape:
        raise SequenceError(
            f"{source}: filled is {array.dtype} of shape {array.shape}; it is bool of shape {inputs.shape}, as inputs: "
            "True where a value was filled in"
        )
    return np.ascontiguousarray(array)


def _check_classes(labels: NDArray[Any], rows: Rows, source: SourceId) -> None:
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


def describe(schema: Schema, checked: CheckedSequence, source: SourceId) -> Records:
    """Return the table rows of one sequence that `check_sequence` has passed."""
    columns: dict[str, NDArray[Any]] = {}
    missing: dict[str, Runs] = {}
    facts: RowFacts | None = None
    for name, rows in checked.rows.items():  # of these `inputs` come first
        if facts is None or name != "labels" or rows is not checked.rows["inputs"]:  # as for forecasting
            facts = describe_rows(name, rows, np.array([0, len(rows)]))
        columns |= facts.columns(name)
        if schema.missing == "keep" and facts.moments is not None:
            whole = int(facts.moments.count.sum()) == rows.size  # as most are, then nobody need look again
            missing[name] = no_runs() if whole else missing_runs(rows)
    lengths = {name: len(rows) for name, rows in checked.rows.items()}
    return recorded_row(schema, source, lengths=lengths, columns=columns, missing=missing, first=checked)


def recorded_row(
    schema: Schema,
    source: SourceId,
    *,
    lengths: Mapping[str, int],
    columns: Mapping[str, NDArray[Any]],
    missing: Mapping[str, Runs],
    first: CheckedSequence,
) -> Records:
    """Return the table rows of one sequence.

    Args:
        schema: Of the store.
        source: Where it comes from.
        lengths: Rows of each array.
        columns: What follows from these rows, (1, ...) each, by the tables' names.
        missing: The runs of rows of inputs and labels that miss a value, where the store keeps such; otherwise empty.
        first: Its further columns, and the first row of its labels.
    """
    columns = {
        "sequences/part": np.array([source.part], np.int64),
        "sequences/source_size": np.array([source.size], np.int64),
        "sequences/source_sha256": np.frombuffer(source.sha256, np.uint8)[None],
        **columns,
        **first.columns,
    }
    if schema.label_axis == "sequence":
        columns["labels"] = first.rows["labels"][:1].copy()  # the caller may fill the same array again
    own = lengths["labels"] if schema.label_axis == "own" else 0
    return Records(
        (source.name,),
        np.array([lengths["inputs"]], np.int64),
        np.array([own], np.int64),
        columns,
        {MISSING_RUNS[name]: SequenceRuns(np.array([len(runs)], np.int64), runs) for name, runs in missing.items()},
    )


def no_records(schema: Schema) -> Records:
    """Return records without any sequence."""
    nothing = np.zeros(0, np.int64)
    facts = map(schema.fact, recorded(schema))
    columns = {fact.name: np.zeros((0, *schema.shape(fact)), schema.dtype(fact)) for fact in facts}
    arrays = MISSING_RUNS.values() if schema.missing == "keep" else ()
    missing = {name: SequenceRuns(nothing, no_runs()) for name in arrays}
    return Records((), nothing, nothing, columns, missing)


def _rows(name: str, values: ArrayLike, rows: Rows, missing: Missing, source: SourceId) -> NDArray[Any]:
    array = _array(name, values, rows, missing, source)
    if array.shape == (0,):  # an empty list has no dtype, and no second axis
        return rows.empty(0)
    if array.ndim == 0 or array.shape[1:] != rows.shape:
        expected = ", ".join(["rows", *map(str, rows.shape)])
        raise SequenceError(f"{source}: {name} have shape {array.shape}, where this store has ({expected})")
    if array.dtype.newbyteorder("=") != rows.dtype and not _keeps_values(array, rows):
        raise SequenceError(
            f"{source}: {name} are {array.dtype}, where this store has {rows.dtype}; converting could lose values"
            + _instead(array.dtype, rows.dtype)
        )
    return np.ascontiguousarray(array, rows.dtype)


def _instead(dtype: np.dtype[Any], stored: np.dtype[Any]) -> str:
    """Advise what to do about a dtype that has numbers which the store's dtype lacks."""
    if dtype.kind not in "biufc":
        return ": convert them yourself: only numbers are stored"
    both = np.result_type(dtype, stored)
    if both.name not in DTYPES:  # a long double
        return ": convert them yourself"
    if _holds_all(both, dtype) and _holds_all(both, stored):
        return f": convert them yourself, or make a store of {both}"
    make = "" if both == stored else "make a store of it and "
    return (
        f", and no dtype holds all of both; {both} rounds whole numbers beyond 2**53: if it may, {make}convert them "
        f"yourself (a first build does so with --dtype {both})"
    )


def _holds_all(wide: np.dtype[Any], dtype: np.dtype[Any]) -> bool:
    """Return whether a dtype that NumPy promotes to has all values: it promotes int64 to float64, which has not."""
    if dtype.kind not in "iu" or wide.kind not in "fc":
        return True
    return 8 * dtype.itemsize - (dtype.kind == "i") <= np.finfo(wide).nmant + 1


def with_masks(values: Any) -> Any:
    """Return nested lists with masked arrays as one masked array, and anything else unchanged.

    From such lists NumPy itself would make an array of the values below the masks.

    >>> with_masks([np.ma.masked_greater([1, 2], 1), [3, 4]]).tolist()
    [[1, None], [3, 4]]
    """
    if not isinstance(values, list | tuple):
        return values
    for depth in range(MOST_AXES):
        level: Iterable[Any] = values
        for _ in range(depth):
            level = chain.from_iterable(level)
        kinds = {*map(type, level)}  # for a million numbers faster than making an array of them
        # A single masked number is not an array; NumPy makes it NaN.
        if any(issubclass(kind, np.ma.MaskedArray) and kind is not type(np.ma.masked) for kind in kinds):
            try:
                masked = _stack_masked(values)
                return masked if np.ma.is_masked(masked) else values
            except ValueError:  # unequal shapes: NumPy says what is wrong with these
                return values
        if not all(issubclass(kind, list | tuple) for kind in kinds):
            break
    return values


def _stack_masked(values: Any) -> Any:
    return np.ma.stack([_stack_masked(one) for one in values]) if isinstance(values, list | tuple) else values


def _array(name: str, values: ArrayLike, rows: Rows, missing: Missing, source: SourceId) -> NDArray[Any]:
    values = with_masks(values)
    if np.ma.is_masked(values):
        if missing != "keep" or rows.dtype.kind not in "fc":
            count = int(np.ma.getmaskarray(np.ma.asarray(values)).sum())
            raise SequenceError(
                f"{source}: {name}: {count:,} values are masked; fill them, or leave this sequence out "
                '(a store of floats with missing="keep" takes them as NaN)'
            )
        filled = np.ma.filled(values, 0)
        if filled.dtype.kind in "fc" or not _keeps_values(filled, rows):
            return np.ma.filled(values, np.nan) if filled.dtype.kind in "fc" else filled
        filled = filled.astype(rows.dtype)
        filled[np.ma.getmaskarray(np.ma.asarray(values))] = np.nan
        return filled
    try:
        array = np.asarray(values)
        # Python's floats do not say how many bits they need.
        as_here = _is_listed(values) and array.dtype.kind == "f" and rows.dtype.kind in "fc"
        return np.asarray(values, rows.dtype) if as_here else array
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


def surely_finite(rows: NDArray[Any]) -> bool:
    """Return True if every value is certainly finite; False means unknown. This takes one pass and no mask."""
    if rows.dtype.kind not in "fc":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(rows.sum()))


def _check_finite(name: str, rows: NDArray[Any], schema: Schema, source: SourceId) -> None:
    if surely_finite(rows):
        return
    size = max(1, CHECKED_VALUES // max(1, rows[:1].size))  # the mask of a large array may not fit into memory
    count, place = 0, tuple[int, ...]()
    for start in range(0, len(rows), size):
        bad = ~allowed(rows[start : start + size], schema.missing)
        wrong = int(bad.sum())
        if wrong and not count:
            row, *rest = (int(axis[0]) for axis in np.nonzero(bad))
            place = start + row, *rest
        count += wrong
    if not count:
        return
    column = f", column {place[-1]}" if len(place) > 1 else ""
    allowed_values = "finite numbers" if schema.missing == "error" else "finite numbers or NaN"
    advice = "mend them, or leave this sequence out"
    if schema.missing == "error" and np.isnan(rows[place]):
        advice += '; where NaN stands for missing values, make a store of missing="keep" (--missing keep)'
    raise SequenceError(
        f"{source}: {name}: row {place[0]}{column} is {rows[place]}, where this store has {allowed_values} "
        f"({count:,} such values); {advice}"
    )


def _chained(digest: bytes, records: Records, schema: Schema) -> bytes:
    crcs = [records.columns[f"{TABLES}/{array}_crc32c"].tolist() for array in schema.row_arrays]
    crcs += [columns_crc32c(schema.columns, records.columns)] if schema.columns else []
    parts, sizes, hashes = (records.columns[f"{TABLES}/{name}"] for name in ("part", "source_size", "source_sha256"))
    digits, columns = hashes.tobytes().hex(), (parts, sizes, records.lengths, records.label_lengths)
    numbers = zip(*(column.tolist() for column in columns), strict=True)
    every = zip(records.sources, numbers, zip(*crcs, strict=True), range(0, len(digits), SHA256_DIGITS), strict=True)
    for source, (part, size, length, label_length), mine, at in every:
        line = f"{source}\n{part} {size} {digits[at : at + SHA256_DIGITS]} {length} {label_length} "
        line += " ".join([f"{crc:08x}" for crc in mine])
        digest = hashlib.sha256(digest + line.encode()).digest()
    return digest
