"""What the tables keep of each sequence: checked rows in, one row for each table out."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.codec import crc32c
from store_spec.errors import SequenceError
from store_spec.moments import moments
from store_spec.schema import ARRAYS, LARGEST_NAME_BYTES, MOMENTS, NO_FILE, Missing, Rows, Schema

# The arrays whose rows stand in `Records.columns`; those of the offsets and of the names follow from other fields.
RECORDED = tuple(fact.name for fact in ARRAYS if "/" in fact.name and fact.dtype != "string")


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceId:
    """Where a sequence comes from.

    Args:
        name: The source's POSIX path relative to the root, or any name of the user's.
        part: 0, 1, ... for the sequences of one source, in order.
        size: Bytes of the source file; -1 where there is none.
        sha256: SHA-256 of its bytes; 32 zero bytes where there is none.
    """

    name: str
    part: int = 0
    size: int = NO_FILE
    sha256: bytes = bytes(32)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SequenceError(f"source={self.name!r:.200} is no text; a source has a name: str(...) makes one")
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
    """The table rows of some sequences that follow one another, as columns."""

    sources: tuple[str, ...]
    lengths: NDArray[np.int64]
    label_lengths: NDArray[np.int64]  # zeros unless labels have lengths of their own
    columns: dict[str, NDArray[Any]]  # by array name, one row a sequence

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, rows: slice) -> Records:
        return Records(
            self.sources[rows],
            self.lengths[rows],
            self.label_lengths[rows],
            {name: column[rows] for name, column in self.columns.items()},
        )

    @staticmethod
    def concatenate(several: Sequence[Records]) -> Records:
        """Join records of sequences that follow one another; at least one."""
        if len(several) == 1:
            return several[0]
        return Records(
            tuple(source for records in several for source in records.sources),
            np.concatenate([records.lengths for records in several]),
            np.concatenate([records.label_lengths for records in several]),
            {name: np.concatenate([records.columns[name] for records in several]) for name in several[0].columns},
        )

    def identity(self, before: str) -> str:
        """Continue the chain of hashes that names what a store holds (SPEC.md, "Identity")."""
        digest = bytes.fromhex(before)
        names = ("part", "source_size", "source_sha256", "inputs_crc32c", "labels_crc32c")
        parts, sizes, hashes, inputs, labels = (self.columns[f"sequences/{name}"] for name in names)
        for number, source in enumerate(self.sources):
            line = (
                f"{source}\n{parts[number]} {sizes[number]} {hashes[number].tobytes().hex()} "
                f"{self.lengths[number]} {self.label_lengths[number]} {inputs[number]:08x} {labels[number]:08x}"
            )
            digest = hashlib.sha256(digest + line.encode()).digest()
        return digest.hex()


def check_sequence(
    schema: Schema, inputs: ArrayLike, labels: ArrayLike, source: SourceId
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows as they will be stored, after checking them against the schema.

    Returns:
        inputs (steps, *feature shape) and labels (rows, *target shape), contiguous, of the schema's dtypes. Labels of
        the `sequence` axis may come as (*target shape) and get a first axis of 1.

    Raises:
        SequenceError: A shape, a dtype or a value does not fit.
    """
    x = _rows("inputs", inputs, schema.inputs, schema.missing, source)
    y = _array("labels", labels, schema.labels, schema.missing, source)
    if schema.label_axis == "sequence" and y.shape == schema.labels.shape:
        y = y[None]
    y = _rows("labels", y, schema.labels, schema.missing, source)
    if schema.label_axis == "step" and len(x) != len(y):
        raise SequenceError(
            f"{source}: {len(x):,} input rows but {len(y):,} label rows; labels on the step axis need one per input row"
        )
    if schema.label_axis == "sequence" and len(y) != 1:
        raise SequenceError(
            f"{source}: {len(y):,} label rows, where the sequence axis has 1: give shape {schema.labels.shape}"
        )
    for name, rows in (("inputs", x), ("labels", y)):
        _check_finite(name, rows, schema, source)
    return x, y


def describe(schema: Schema, inputs: NDArray[Any], labels: NDArray[Any], source: SourceId) -> Records:
    """Return the table rows of one sequence that `check_sequence` has passed."""
    columns: dict[str, Any] = {
        "sequences/part": np.int64(source.part),
        "sequences/source_size": np.int64(source.size),
        "sequences/source_sha256": np.frombuffer(source.sha256, np.uint8),
    }
    for name, rows in (("inputs", inputs), ("labels", labels)):
        columns[f"sequences/{name}_crc32c"] = np.uint32(crc32c(rows))
        statistics = moments(rows)
        columns |= {f"stats/{name}_{moment}": getattr(statistics, moment) for moment in MOMENTS}
    if schema.label_axis == "sequence":
        columns["labels"] = labels[0].copy()  # the caller may fill the same array again for the next sequence
    own = len(labels) if schema.label_axis == "own" else 0
    return Records(
        (source.name,),
        np.array([len(inputs)], np.int64),
        np.array([own], np.int64),
        {name: np.asarray(value)[None] for name, value in columns.items()},
    )


def no_records(schema: Schema) -> Records:
    """Return the records of no sequence."""
    nothing = np.zeros(0, np.int64)
    columns = {
        fact.name: np.zeros((0, *schema.shape(fact)), schema.dtype(fact))
        for fact in schema.arrays()
        if fact.name in RECORDED or (fact.name == "labels" and schema.label_axis == "sequence")
    }
    return Records((), nothing, nothing, columns)


def _rows(name: str, given: ArrayLike, rows: Rows, missing: Missing, source: SourceId) -> NDArray[Any]:
    array = _array(name, given, rows, missing, source)
    if array.shape == (0,):  # an empty list has no dtype, and no second axis
        return rows.empty(0)
    if array.ndim == 0 or array.shape[1:] != rows.shape:
        expected = ", ".join(["rows", *map(str, rows.shape)])
        raise SequenceError(f"{source}: {name} have shape {array.shape}, where this store has ({expected})")
    if array.dtype.newbyteorder("=") != rows.dtype and not _keeps_values(array, rows):
        make = f", or make a store of {array.dtype}" if array.dtype.kind in "biufc" else ": only numbers are stored"
        raise SequenceError(
            f"{source}: {name} are {array.dtype}, where this store has {rows.dtype}; converting could lose values: "
            f"convert them yourself{make}"
        )
    return np.ascontiguousarray(array, rows.dtype)


def _array(name: str, given: ArrayLike, rows: Rows, missing: Missing, source: SourceId) -> NDArray[Any]:
    if np.ma.is_masked(given):
        if missing != "keep" or rows.dtype.kind not in "fc":
            count = int(np.ma.getmaskarray(np.ma.asarray(given)).sum())
            raise SequenceError(
                f"{source}: {name}: {count:,} values are masked; fill them, or leave this sequence out "
                '(a store of floats with missing="keep" takes them as NaN)'
            )
        return np.ma.filled(given, np.nan)
    try:
        array = np.asarray(given)
        # Python's own floats say nothing of a dtype.
        return np.asarray(given, rows.dtype) if _is_listed(given) and array.dtype.kind == "f" else array
    except (TypeError, ValueError) as error:  # lists of unequal length
        raise SequenceError(f"{source}: {name} are no array ({error})") from error


def _is_listed(given: object) -> bool:
    """Tell whether these are plain Python numbers, in lists."""
    while isinstance(given, list | tuple) and given:
        given = given[0]
    return type(given) in (int, float, list, tuple)


def _keeps_values(array: NDArray[Any], rows: Rows) -> bool:
    """Tell whether every value is the same in the store's dtype."""
    if array.dtype.kind in "iu" and rows.dtype.kind in "iu":
        limits = np.iinfo(rows.dtype)
        return not array.size or (int(array.min()) >= limits.min and int(array.max()) <= limits.max)
    if array.dtype.kind in "iu" and rows.dtype.kind in "fc":
        # NumPy calls int64 to float64 safe, but 2**53 + 1 has no float64.
        with np.errstate(over="ignore", invalid="ignore"):
            floats = array.astype(rows.dtype).real
            within = np.abs(floats.astype(np.float64)) < 2.0 ** (8 * array.itemsize)  # else the cast back is undefined
            return bool((within & (np.where(within, floats, 0).astype(array.dtype) == array)).all())
    return np.can_cast(array.dtype, rows.dtype, "safe")


def allowed(rows: NDArray[Any], missing: Missing) -> NDArray[np.bool_]:
    """Tell which values a store may hold: of the shape of `rows`, or one True where every value will do."""
    if rows.dtype.kind not in "fc":
        return np.ones((), bool)
    good: NDArray[np.bool_] = np.isfinite(rows) if missing == "error" else ~np.isinf(rows)
    return good


def surely_finite(rows: NDArray[Any]) -> bool:
    """Tell whether every value is finite, as nearly always; False says nothing. One pass, and no array of answers."""
    if rows.dtype.kind not in "fc":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(rows.sum()))


def _check_finite(name: str, rows: NDArray[Any], schema: Schema, source: SourceId) -> None:
    if surely_finite(rows):
        return
    good = allowed(rows, schema.missing)
    if good.all():
        return
    place = tuple(int(axis[0]) for axis in np.nonzero(~good))
    column = f", column {place[-1]}" if len(place) > 1 else ""
    wanted = "finite numbers" if schema.missing == "error" else "finite numbers or NaN"
    raise SequenceError(
        f"{source}: {name}: row {place[0]}{column} is {rows[place]}, where this store has {wanted} "
        f"({int((~good).sum()):,} such values); mend them, or leave this sequence out"
    )
