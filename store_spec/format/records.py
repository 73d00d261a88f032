"""Check the rows of a sequence against the schema, and compute its row of each table, at once or piece by piece."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import SequenceError
from store_spec.format.codec import crc32c, crc32c_each
from store_spec.format.moments import Moments, RunningMoments, moments_of_sequences
from store_spec.format.names import check_text
from store_spec.format.runs import Runs, SequenceRuns, cut_at, missing_runs, no_runs
from store_spec.format.sequence_columns import checked_columns, columns_crc32c
from store_spec.format.times import checked_times
from store_spec.format.value_checks import check_classes, check_finite, checked_filled, checked_rows
from store_spec.schema import LARGEST_NAME_BYTES, MISSING_RUNS, MOMENTS, NO_FILE, TABLES, Rows, Schema

SOURCES = f"{TABLES}/source"
LENGTHS = ("row_size", "label_row_size")
SHA256_DIGITS = 64
HASHED_TOGETHER = 2**12  # sequences whose records are lists at a time: lists take far more memory than arrays

WITH_MOMENTS = tuple(MISSING_RUNS)  # inputs and labels
_DERIVED = {array: tuple(f"stats/{array}_{moment}" for moment in MOMENTS) for array in WITH_MOMENTS}
_DERIVED["time"] = f"{TABLES}/time_first", f"{TABLES}/time_last"


def derived(array: str) -> tuple[str, ...]:
    """Return the tables that are computed from the rows of an array, besides its checksums."""
    return _DERIVED.get(array, ())


def recorded(schema: Schema) -> tuple[str, ...]:
    """Return the tables in `Records.columns`: all but offsets and runs."""
    names = (fact.name for fact in schema.arrays() if schema.axis(fact) == "sequence")
    return tuple(names)


def proved(schema: Schema) -> tuple[str, ...]:
    """Return the tables that the identity in the root covers."""
    names = (name for name in recorded(schema) if name in LENGTHS or name.startswith(f"{TABLES}/"))
    return tuple(name for name in names if name not in derived("time"))


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceId:
    """Where a sequence comes from."""

    name: str  # the source's POSIX path relative to the root, or any name that the user chose
    part: int = 0  # 0, 1, ... for the sequences of one source, in order
    size: int = NO_FILE  # bytes of the source file
    sha256: bytes = bytes(32)  # of these bytes; zeros if there is no file

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise SequenceError(f"source={self.name!r:.200} is not text; a source has a name: str(...) makes one")
        if not self.name:
            raise SequenceError("a sequence needs the name of its source; the name given is empty")
        check_text(self.name, f"source {self.name!r:.80}: its name", LARGEST_NAME_BYTES, SequenceError)

    def __str__(self) -> str:
        return f"{self.name} (part {self.part})" if self.part else self.name


@dataclass(frozen=True, slots=True)
class Records:
    """The table rows of consecutive sequences, as columns."""

    columns: dict[str, NDArray[Any]]  # by table, one row per sequence
    missing: dict[str, SequenceRuns] = field(default_factory=dict)  # by array name, if missing values are allowed

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def sources(self) -> NDArray[Any]:
        """The name of each sequence's source, (sequences,) object."""
        return self.columns[SOURCES]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """The steps of each sequence, (sequences,)."""
        return self.columns["row_size"]

    @property
    def label_lengths(self) -> NDArray[np.int64]:
        """The label rows of each sequence, (sequences,); zeros unless labels have lengths of their own."""
        return self.columns.get("label_row_size", np.zeros_like(self.lengths))

    @property
    def nbytes(self) -> int:
        """Bytes of the columns and runs."""
        columns = sum(column.nbytes for column in self.columns.values())
        return columns + sum(each.runs.nbytes for each in self.missing.values())

    def __getitem__(self, rows: slice) -> Records:
        columns = {name: column[rows] for name, column in self.columns.items()}
        return Records(columns, {name: runs[rows] for name, runs in self.missing.items()})

    @staticmethod
    def empty(schema: Schema) -> Records:
        """Return records without any sequence."""
        facts = map(schema.fact, recorded(schema))
        columns = {fact.name: np.zeros((0, *schema.shape(fact)), schema.dtype(fact)) for fact in facts}
        arrays = MISSING_RUNS.values() if schema.missing == "keep" else ()
        return Records(columns, {name: SequenceRuns(np.zeros(0, np.int64), no_runs()) for name in arrays})

    @staticmethod
    def concatenate(several: Sequence[Records]) -> Records:
        """Join records of consecutive sequences; `several` has at least one item."""
        if len(several) == 1:
            return several[0]
        one = several[0]
        columns = {name: np.concatenate([records.columns[name] for records in several]) for name in one.columns}
        missing = {name: SequenceRuns.concatenate([each.missing[name] for each in several]) for name in one.missing}
        return Records(columns, missing)

    def identity(self, before: str, schema: Schema) -> str:
        """Continue the chain of hashes that identifies the content of a store (SPEC.md, "Identity")."""
        digest = bytes.fromhex(before)
        for at in range(0, len(self.sources), HASHED_TOGETHER):
            digest = _chained(digest, self[at : at + HASHED_TOGETHER], schema)
        return digest.hex()


@dataclass(frozen=True, slots=True, eq=False)
class CheckedSequence:
    """One sequence as it will be stored."""

    # `inputs` (steps, *feature shape), `labels` (rows, *target shape), and, if the store has them, `time` (steps,) and
    # `filled` (steps, *feature shape); contiguous, of the schema's dtypes.
    rows: dict[str, NDArray[Any]]
    columns: dict[str, NDArray[Any]]  # the further columns by the names of their arrays, (1,) each

    def record(self, schema: Schema, source: SourceId) -> Records:
        """Return its table rows."""
        columns: dict[str, NDArray[Any]] = {}
        missing: dict[str, Runs] = {}
        for name, rows in self.rows.items():  # `inputs` come first
            if name == "labels" and rows is self.rows["inputs"]:  # the same array is described once
                columns |= {table.replace("inputs", "labels"): column for table, column in columns.items()}
            else:
                columns |= describe_rows(name, rows, np.array([0, len(rows)]))
            if schema.missing == "keep" and name in WITH_MOMENTS:
                whole = int(columns[f"stats/{name}_count"].sum()) == rows.size  # the usual case: no value is NaN
                missing[name] = no_runs() if whole else missing_runs(rows)
        lengths = {name: len(rows) for name, rows in self.rows.items()}
        return recorded_row(schema, source, lengths=lengths, columns=columns, missing=missing, first=self)


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
    """
    x = checked_rows("inputs", inputs, schema.inputs, schema.missing, source)
    if labels is inputs and schema.labels_like_inputs:
        y = x  # a single array, which is checked and compressed only once
    else:
        single = schema.label_axis == "sequence"
        y = checked_rows("labels", labels, schema.labels, schema.missing, source, single=single)
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
    check_finite("inputs", x, schema.missing, source)
    if y is not x:
        check_finite("labels", y, schema.missing, source)
    check_classes(y, schema.labels, source)
    times = checked_times(schema.time, time, len(x), source)
    if times is not None:
        rows["time"] = times
    if schema.filled:
        rows["filled"] = np.zeros(x.shape, bool) if filled is None else checked_filled(filled, x, source)
    elif filled is not None and (mask := checked_filled(filled, x, source)).any():
        raise SequenceError(
            f"{source}: filled is True for {int(mask.sum()):,} of {mask.size:,} values, where this store does not "
            "say which were filled in; a new store does: create_store has filled=True; build has --mask for tables, "
            "and with --process the first sequence of the first source must give filled"
        )
    return CheckedSequence(rows, checked_columns(schema.columns, columns, source))


def describe_rows(array: str, rows: NDArray[Any], bounds: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return what the tables record about consecutive sequences of an array: by table, one row for each sequence.

    `rows` are contiguous, and `bounds` is (sequences + 1,): where each sequence begins in them, and the last one ends.
    """
    crcs = np.array(crc32c_each(rows, bounds.tolist()), np.uint32)
    columns: dict[str, NDArray[Any]] = {f"{TABLES}/{array}_crc32c": crcs}
    if array in WITH_MOMENTS:
        columns |= _moment_columns(array, moments_of_sequences(rows, bounds))
    if array == "time":
        ends = np.zeros((2, len(bounds) - 1), np.int64)  # 0 for an empty sequence
        has_steps = bounds[:-1] < bounds[1:]
        ends[:, has_steps] = rows[bounds[:-1][has_steps]], rows[bounds[1:][has_steps] - 1]
        columns |= zip(derived("time"), ends, strict=True)
    return columns


def _moment_columns(array: str, moments: Moments) -> dict[str, NDArray[Any]]:
    return {f"stats/{array}_{name}": getattr(moments, name) for name in MOMENTS}


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

    `lengths` are the numbers of rows by array, `columns` the results of `describe_rows` for all arrays, and `missing`
    the runs of rows with a missing value, in a store that allows these. `first` has the further columns, and the first
    row of the labels.
    """
    columns = {
        SOURCES: np.array([source.name], object),
        "row_size": np.array([lengths["inputs"]], np.int64),
        "sequences/part": np.array([source.part], np.int64),
        "sequences/source_size": np.array([source.size], np.int64),
        "sequences/source_sha256": np.frombuffer(source.sha256, np.uint8)[None],
        **columns,
        **first.columns,
    }
    if schema.label_axis == "sequence":
        columns["labels"] = first.rows["labels"][:1].copy()  # the caller may fill the same array again
    if schema.label_axis == "own":
        columns["label_row_size"] = np.array([lengths["labels"]], np.int64)
    runs_by_array = {
        MISSING_RUNS[name]: SequenceRuns(np.array([len(runs)], np.int64), runs) for name, runs in missing.items()
    }
    return Records(columns, runs_by_array)


class RunningRows:
    """Describes one sequence of an array from pieces of its rows; the bits do not depend on where these are cut."""

    def __init__(self, array: str, row: Rows) -> None:
        self.length, self.first, self.last = 0, 0, 0  # the number of rows; the first and the last time
        self._array, self._crc = array, 0
        self._moments = RunningMoments(row.shape, row.dtype) if array in WITH_MOMENTS else None

    def add(self, rows: NDArray[Any]) -> None:
        """Add the next rows; no reference to them is kept."""
        self._crc = crc32c(rows, self._crc)
        if self._moments is not None:
            self._moments.add(rows)
        if self._array == "time" and len(rows):
            self.first = self.first if self.length else int(rows[0])
            self.last = int(rows[-1])
        self.length += len(rows)

    def result(self) -> dict[str, NDArray[Any]]:
        """Return what `describe_rows` returns for all rows; none can be added afterwards."""
        columns: dict[str, NDArray[Any]] = {f"{TABLES}/{self._array}_crc32c": np.array([self._crc], np.uint32)}
        if self._moments is not None:
            columns |= _moment_columns(self._array, self._moments.result().as_row())
        if self._array == "time":
            columns |= zip(derived("time"), np.array([[self.first], [self.last]], np.int64), strict=True)
        return columns


class Piecewise:
    """One sequence that is added piece by piece; `check_sequence` has checked each piece.

    Its table rows have the same bits as those of all rows at once. The further columns are taken from the first piece,
    and so are the labels on the label axis `sequence`.

    >>> from store_spec.schema import Rows
    >>> schema = Schema.plan(Rows(np.dtype("float32"), (2,)), Rows(np.dtype("float32"), ()))
    >>> source, x = SourceId(name="a"), np.arange(12, dtype="float32").reshape(6, 2)
    >>> whole = Piecewise(schema, source)
    >>> for piece in (x[:4], x[4:]):
    ...     whole.add(check_sequence(schema, piece, piece[:, 0], source))
    >>> at_once = check_sequence(schema, x, x[:, 0], source).record(schema, source)
    >>> columns = whole.record().columns
    >>> all(columns[name].tobytes() == at_once.columns[name].tobytes() for name in columns)
    True
    """

    def __init__(self, schema: Schema, source: SourceId) -> None:
        self._schema, self._source = schema, source
        self._rows = {name: RunningRows(name, schema.rows(name)) for name in schema.row_arrays}
        arrays = MISSING_RUNS if schema.missing == "keep" else ()
        self._missing: dict[str, list[Runs]] = {name: [no_runs()] for name in arrays}  # of each piece
        self._labels: NDArray[Any] | None = None  # the first row
        self._columns: dict[str, NDArray[Any]] | None = None  # of the first piece

    def add(self, piece: CheckedSequence) -> None:
        """Add the next piece, of all arrays or of some; no reference to them is kept."""
        if self._columns is None:
            self._columns = dict(piece.columns)
        if "labels" in piece.rows:
            if self._labels is None:
                self._labels = piece.rows["labels"][:1].copy()
            elif self._schema.label_axis == "sequence":
                others = {name: rows for name, rows in piece.rows.items() if name != "labels"}
                piece = CheckedSequence(others, piece.columns)
        if "time" in piece.rows:
            self._check_times(piece.rows["time"])
        for name, rows in piece.rows.items():
            if name in self._missing:
                self._missing[name].append(missing_runs(rows) + self._rows[name].length)
            self._rows[name].add(rows)

    def record(self) -> Records:
        """Return the table rows of the sequence, which has at least one piece; none can be added afterwards."""
        if self._columns is None or self._labels is None:
            raise SequenceError(f"{self._source}: a sequence that comes in pieces has at least one; give an empty one")
        results = (running.result() for running in self._rows.values())
        lengths = {name: running.length for name, running in self._rows.items()}
        return recorded_row(
            self._schema,
            self._source,
            lengths=lengths,
            columns={name: column for columns in results for name, column in columns.items()},
            missing={
                name: cut_at(np.concatenate(runs), np.array([0, lengths[name]])) for name, runs in self._missing.items()
            },
            first=CheckedSequence({"labels": self._labels}, self._columns),
        )

    def _check_times(self, times: NDArray[Any]) -> None:
        before = self._rows["time"]
        if len(times) and before.length and int(times[0]) < before.last:
            time = self._schema.time
            assert time is not None
            raise SequenceError(
                f"{self._source}: time falls at step {before.length:,}, from {time.shown(before.last)} to "
                f"{time.shown(int(times[0]))}; sort the steps, or split the sequence there"
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
