"""The constants and types of format version 1: names, dtypes, dimensions, defaults.

A test compares them with SPEC.md.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from store_spec.errors import SchemaError
from store_spec.format.codec import LARGEST_CHUNK_BYTES, Codec
from store_spec.format.names import Classes, checked_classes, checked_names, checked_notes
from store_spec.format.sequence_columns import SequenceColumn, as_columns
from store_spec.format.times import Time

VERSION = (1, 0)
ATTRIBUTE = "seqzarr"  # the root attribute with a list of one object that has everything of this format
CONVENTION = {
    "uuid": "b1d3a6c8-2f0e-4f5b-9a57-6f3c6a0e8d21",
    "name": "seqzarr",
    "description": "Ragged sequences in contiguous arrays: sequence i is the rows offsets[i] to offsets[i + 1]",
}
CF_ATTRIBUTES = {"Conventions": "CF-1.13", "featureType": "timeSeries"}

LabelAxis = Literal["step", "sequence", "own"]
Missing = Literal["error", "keep"]
LABEL_AXES: tuple[LabelAxis, ...] = get_args(LabelAxis)
MISSING: tuple[Missing, ...] = get_args(Missing)

# Zarr's name of each dtype that `inputs` and `labels` may have: NumPy has the same names.
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "float32", "float64", "complex64", "complex128",
)  # fmt: skip

CHUNK_BYTES = 2**18
SHARD_BYTES = 2**26
TABLE_CHUNK_BYTES = 2**18
LARGEST_NAME_BYTES = 2**12  # of a source, in UTF-8
STRING_BYTES = 32  # the assumed size of a string when the chunk of a table is chosen
LARGEST_SHARD_CHUNKS = 2**20  # the index of a shard has 16 bytes per chunk
HASH_BYTES = 32
SHOWN_NAMES = 8  # of features, in the text of a schema
TABLE_CODEC = Codec("zstd", 3)  # of all arrays without shards: small, and mostly zeros behind the last row
NO_FILE = -1  # `sequences/source_size` of a sequence that was appended as arrays

Tail = Literal["", "inputs", "labels", "features", "targets", "hash", "run"]


@dataclass(frozen=True, slots=True)
class ArrayFact:
    """One array of the store: a line of the table "Arrays" in SPEC.md."""

    name: str
    dtype: str  # empty: from the schema
    axis: str  # the name of the first dimension; empty: from the label axis
    tail: Tail  # the further dimensions
    only: Literal["", "own", "time", "keep", "filled"] = ""  # the array exists only with this label axis or option


MOMENTS = ("count", "mean", "m2", "min", "max")
_STATISTICS: dict[str, Tail] = {"inputs": "features", "labels": "targets"}

ARRAYS = (
    ArrayFact("inputs", "", "step", "inputs"),
    ArrayFact("labels", "", "", "labels"),
    ArrayFact("time", "int64", "step", "", "time"),
    ArrayFact("filled", "bool", "step", "inputs", "filled"),
    ArrayFact("offsets", "int64", "sequence_bound", ""),
    ArrayFact("row_size", "int64", "sequence", ""),
    ArrayFact("label_offsets", "int64", "label_sequence_bound", "", "own"),
    ArrayFact("label_row_size", "int64", "sequence", "", "own"),
    ArrayFact("missing_inputs", "int64", "missing_inputs_run", "run", "keep"),
    ArrayFact("missing_labels", "int64", "missing_labels_run", "run", "keep"),
    ArrayFact("sequences/source", "string", "sequence", ""),
    ArrayFact("sequences/part", "int64", "sequence", ""),
    ArrayFact("sequences/source_size", "int64", "sequence", ""),
    ArrayFact("sequences/source_sha256", "uint8", "sequence", "hash"),
    ArrayFact("sequences/inputs_crc32c", "uint32", "sequence", ""),
    ArrayFact("sequences/labels_crc32c", "uint32", "sequence", ""),
    ArrayFact("sequences/time_first", "int64", "sequence", "", "time"),
    ArrayFact("sequences/time_last", "int64", "sequence", "", "time"),
    ArrayFact("sequences/time_crc32c", "uint32", "sequence", "", "time"),
    ArrayFact("sequences/filled_crc32c", "uint32", "sequence", "", "filled"),
    *(
        ArrayFact(f"stats/{array}_{moment}", "int64" if moment == "count" else "float64", "sequence", tail)
        for array, tail in _STATISTICS.items()
        for moment in MOMENTS
    ),
)
MISSING_RUNS = {"inputs": "missing_inputs", "labels": "missing_labels"}  # the runs of rows with a missing value
ROW_ARRAYS = ("inputs", "labels", "time", "filled")  # rows of sequences; labels of whole sequences are in a table
TABLES = "sequences"  # the group of tables, except statistics
GROUPS = (TABLES, "stats")
_FACTS = {fact.name: fact for fact in ARRAYS}


@dataclass(frozen=True, slots=True)
class Rows:
    """The dtype, the shape and the names of one row of `inputs` or `labels`.

    Args:
        dtype: Any numeric dtype or bool, in this machine's byte order.
        shape: Shape of one row: `(17,)`, `(64, 64, 3)`, or `()` for a single number.
        names: A name for each feature (for each position on the last axis), or None.
        classes: For labels that are integers: for each target the names of its classes, or None if it has none. The
            code k stands for the class `names[k]`. None: no target has classes.
        units: The unit of each feature, "" if it is not known; None: none is known.
        descriptions: What each feature is, likewise.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    names: tuple[str, ...] | None = None
    classes: Classes | None = None
    units: tuple[str, ...] | None = None
    descriptions: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", np.dtype(self.dtype).newbyteorder("="))
        try:
            object.__setattr__(self, "shape", tuple(operator.index(size) for size in self.shape))
        except TypeError:
            raise SchemaError(f"a row of shape {self.shape!r:.80}; a shape is a tuple of whole numbers") from None
        if self.dtype.name not in DTYPES:
            raise SchemaError(f"dtype {self.dtype} cannot be stored; take one of {', '.join(DTYPES)}")
        if any(size < 1 for size in self.shape):
            raise SchemaError(f"a row of shape {self.shape} holds nothing; each size must be at least 1")
        object.__setattr__(self, "names", checked_names(self.names, self.features))
        for what in ("units", "descriptions"):
            object.__setattr__(self, what, checked_notes(getattr(self, what), self.features, what))
        object.__setattr__(self, "classes", checked_classes(self.classes, self.dtype, self.features))

    def __repr__(self) -> str:
        names = "" if self.names is None else f", names={_names_text(self.names)}"
        classes = "" if self.classes is None else f", classes=({', '.join(map(_names_text, self.classes))},)"
        return f"Rows({self.dtype.name!r}, {self.shape}{names}{classes})"

    @property
    def features(self) -> int:
        """The number of features for statistics: the size of the last axis."""
        return self.shape[-1] if self.shape else 1

    @property
    def nbytes(self) -> int:
        """Bytes of one row."""
        return math.prod(self.shape) * self.dtype.itemsize

    def empty(self, rows: int) -> NDArray[Any]:
        """Return an array of `rows` rows, not initialised."""
        return np.empty((rows, *self.shape), self.dtype)

    def to_json(self) -> dict[str, Any]:
        """Return the member of the root attributes."""
        names = None if self.names is None else list(self.names)
        return {"dtype": self.dtype.name, "shape": list(self.shape), "names": names} | self.notes()

    def notes(self) -> dict[str, list[str]]:
        """Return the units and descriptions, if there are any."""
        notes = {"units": self.units, "descriptions": self.descriptions}
        return {what: list(texts) for what, texts in notes.items() if texts is not None}


TIMES = Rows(np.dtype(np.int64), ())  # a row of `time`


def _names_text(names: tuple[str, ...] | None) -> str:
    """Return the `repr` of names; if there are many, only of the first ones and the last."""
    if names is None or len(names) <= SHOWN_NAMES:
        return repr(names)
    return f"({', '.join(map(repr, names[: SHOWN_NAMES - 1]))}, ..., {names[-1]!r}; {len(names):,} in all)"


@dataclass(frozen=True, slots=True)
class Chunking:
    """How many steps a chunk and a shard hold, the same for all arrays on one axis.

    Args:
        chunk: Steps that are compressed together, and read together.
        shard: Steps in one file: a whole number of chunks.
    """

    chunk: int
    shard: int

    def __post_init__(self) -> None:
        if self.chunk < 1 or self.shard < 1:
            raise SchemaError(f"a chunk of {self.chunk:,} and a shard of {self.shard:,} steps; both must be at least 1")
        if self.shard % self.chunk:
            fit = -(-self.shard // self.chunk) * self.chunk
            raise SchemaError(f"a shard of {self.shard:,} steps cuts a chunk of {self.chunk:,}; use shard={fit:,}")
        if self.shard // self.chunk > LARGEST_SHARD_CHUNKS:
            raise SchemaError(
                f"a shard of {self.shard // self.chunk:,} chunks; at most {LARGEST_SHARD_CHUNKS:,}: enlarge chunks"
            )

    @classmethod
    def for_rows(cls, row_bytes: int, *, chunk_bytes: int | None = None, shard_bytes: int | None = None) -> Chunking:
        """Choose from the bytes of a row: a power of two of steps near `chunk_bytes`, and as many chunks as fit.

        A size that is None is chosen to fit the other.

        >>> Chunking.for_rows(48)
        Chunking(chunk=4096, shard=1396736)
        """
        if shard_bytes is None:
            shard_bytes = max(SHARD_BYTES, chunk_bytes or 0)
        if chunk_bytes is None:
            chunk_bytes = min(CHUNK_BYTES, shard_bytes)
        if chunk_bytes < 1 or shard_bytes < chunk_bytes:
            raise SchemaError(f"chunks of {chunk_bytes:,} bytes in shards of {shard_bytes:,}; a shard has whole chunks")
        if max(row_bytes, chunk_bytes) > LARGEST_CHUNK_BYTES:
            raise SchemaError(
                f"a chunk of {max(row_bytes, chunk_bytes):,} bytes; Blosc compresses {LARGEST_CHUNK_BYTES:,} at most: "
                "make chunks smaller, or cut rows into smaller ones"
            )
        chunk = 2 ** max(0, math.floor(math.log2(chunk_bytes / max(1, row_bytes))))
        chunks = max(1, shard_bytes // (chunk * max(1, row_bytes)))
        return cls(chunk, chunk * min(chunks, LARGEST_SHARD_CHUNKS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Schema:
    """The schema of a store: dtypes, shapes, chunks and options.

    Args:
        inputs: One row of `inputs`.
        labels: One row of `labels`.
        steps: Chunks and shards of the arrays on the step axis.
        label_steps: The same for labels of the `own` axis; None on other axes.
        label_axis: `step`: one label row for each input row. `sequence`: one label row for the whole sequence.
            `own`: label sequences with their own lengths.
        missing: `error`: NaN is refused. `keep`: NaN may stand for missing values. Infinities are always refused.
        codec: How the chunks of rows are compressed; tables always have the same codec.
        columns: Further columns of each sequence.
        time: The unit and meaning of times; None if the store has no times.
        filled: Whether the store records which values of inputs were filled in.
    """

    inputs: Rows
    labels: Rows
    steps: Chunking
    label_axis: LabelAxis = "step"
    label_steps: Chunking | None = None
    missing: Missing = "error"
    codec: Codec = field(default_factory=Codec)
    columns: tuple[SequenceColumn, ...] = ()
    time: Time | None = None
    filled: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", as_columns(self.columns))
        if type(self.filled) is not bool:
            raise SchemaError(f"filled={self.filled!r:.80} is not True or False")
        if self.label_axis not in LABEL_AXES:
            raise SchemaError(f"label axis {self.label_axis!r:.80} is not one of {', '.join(LABEL_AXES)}")
        if self.inputs.classes is not None:
            raise SchemaError("classes of inputs; only labels have classes")
        if self.missing not in MISSING:
            raise SchemaError(f"missing={self.missing!r:.80} is not one of {', '.join(MISSING)}")
        if (self.label_steps is not None) != (self.label_axis == "own"):
            raise SchemaError(f"label_steps={self.label_steps} with label axis {self.label_axis!r}; it goes with 'own'")
        for name in filter(self.is_sharded, self.row_arrays):
            steps, nbytes = self.chunking(name).chunk, self.chunking(name).chunk * self.rows(name).nbytes
            if nbytes > LARGEST_CHUNK_BYTES:
                raise SchemaError(
                    f"{name}: a chunk of {steps:,} steps is {nbytes:,} bytes; "
                    f"Blosc compresses {LARGEST_CHUNK_BYTES:,} at most: make chunks smaller"
                )

    @classmethod
    def plan(
        cls,
        inputs: Rows,
        labels: Rows,
        *,
        chunk_bytes: int | None = None,
        shard_bytes: int | None = None,
        **options: Any,
    ) -> Schema:
        """Choose chunks and shards by the widest row on each axis; `options` are further fields of the schema."""

        def fit(row_bytes: int) -> Chunking:
            return Chunking.for_rows(row_bytes, chunk_bytes=chunk_bytes, shard_bytes=shard_bytes)

        axis = options.get("label_axis", "step")
        on_steps = [inputs, *([labels] if axis == "step" else []), *([TIMES] if options.get("time") else [])]
        steps = fit(max(rows.nbytes for rows in on_steps))
        label_steps = fit(labels.nbytes) if axis == "own" else None
        options["codec"] = options.get("codec") or Codec()
        return cls(inputs=inputs, labels=labels, steps=steps, label_steps=label_steps, **options)

    def rows(self, name: str) -> Rows:
        """Return the rows of `inputs`, `labels`, `time` or `filled`."""
        if name == "filled":
            return Rows(np.dtype(bool), self.inputs.shape)
        return {"inputs": self.inputs, "labels": self.labels, "time": TIMES}[name]

    @property
    def step_bytes(self) -> int:
        """Bytes of the widest row on the axis `step`."""
        return max(self.rows(name).nbytes for name in self.sharded()["step"])

    def is_sharded(self, name: str) -> bool:
        """Return whether an array is in shards; all other arrays are tables, and `labels` may be one of them."""
        return name in ROW_ARRAYS and (name, self.label_axis) != ("labels", "sequence")

    def chunking(self, name: str) -> Chunking:
        """Return the rows of a chunk and of a file of an array; a file of a table is one chunk of about 256 KiB."""
        if self.is_sharded(name):
            return self.label_steps if name == "labels" and self.label_steps is not None else self.steps
        fact = self.fact(name)
        value_bytes = STRING_BYTES if fact.dtype == "string" else self.dtype(fact).itemsize
        row_bytes = value_bytes * math.prod(self.shape(fact))
        return Chunking.for_rows(row_bytes, chunk_bytes=TABLE_CHUNK_BYTES, shard_bytes=TABLE_CHUNK_BYTES)

    def sharded(self) -> dict[str, tuple[str, ...]]:
        """Return the arrays in shards, by axis. Arrays on the same axis have the same rows in the same shards."""
        by_axis: dict[str, tuple[str, ...]] = {}
        for fact in self.arrays():
            if self.is_sharded(fact.name):
                by_axis[self.axis(fact)] = (*by_axis.get(self.axis(fact), ()), fact.name)
        return by_axis

    def chunk_bytes(self, name: str) -> int:
        """Return the bytes of a decoded chunk of an array."""
        fact = self.fact(name)
        return self.chunking(name).chunk * self.dtype(fact).itemsize * math.prod(self.shape(fact))

    @property
    def labels_like_inputs(self) -> bool:
        """Whether rows of `inputs` have the type of rows of `labels`, as for forecasting."""
        x, y = self.inputs, self.labels
        return self.label_axis == "step" and (x.dtype, x.shape) == (y.dtype, y.shape)

    @property
    def row_arrays(self) -> tuple[str, ...]:
        """The arrays with rows of the sequences; `labels` may be a table."""
        return tuple(fact.name for fact in self.arrays() if fact.name in ROW_ARRAYS)

    def codec_of(self, fact: ArrayFact) -> Codec:
        """Return how the chunks of an array are compressed."""
        return self.codec if self.is_sharded(fact.name) else TABLE_CODEC

    def axis(self, fact: ArrayFact) -> str:
        """Return the name of an array's first dimension."""
        return fact.axis or {"step": "step", "sequence": "sequence", "own": "label_step"}[self.label_axis]

    def arrays(self) -> tuple[ArrayFact, ...]:
        """Return the arrays that a store of this schema has."""
        present = ["", self.label_axis, self.missing]
        present += (["time"] if self.time is not None else []) + (["filled"] if self.filled else [])
        facts = (fact for fact in ARRAYS if fact.only in present)
        return (*facts, *(ArrayFact(column.array, column.dtype, "sequence", "") for column in self.columns))

    def folders(self) -> tuple[str, ...]:
        """Return the folders inside a store of this schema: its groups, then its arrays."""
        return (*GROUPS, *(fact.name for fact in self.arrays()))

    def fact(self, name: str) -> ArrayFact:
        """Return an array by its name.

        Raises:
            LookupError: The store has no such array.
        """
        columns = (ArrayFact(column.array, column.dtype, "sequence", "") for column in self.columns)
        fact = _FACTS.get(name) or next((fact for fact in columns if fact.name == name), None)
        if fact is None:
            raise LookupError(f"there is no array {name!r:.200}")
        return fact

    def shape(self, fact: ArrayFact) -> tuple[int, ...]:
        """Return the shape of one row of an array."""
        if fact.tail in ("inputs", "labels"):
            return self.inputs.shape if fact.tail == "inputs" else self.labels.shape
        if fact.tail in ("features", "targets"):
            return (self.inputs.features if fact.tail == "features" else self.labels.features,)
        return {"": (), "hash": (HASH_BYTES,), "run": (2,)}[fact.tail]

    def dtype(self, fact: ArrayFact) -> np.dtype[Any]:
        """Return the dtype of an array; that of strings is object."""
        if fact.dtype == "string":
            return np.dtype(object)
        return np.dtype(fact.dtype) if fact.dtype else self.rows(fact.name).dtype


def rows_of(dtype: DTypeLike, shape: Sequence[int], names: Sequence[str] | None = None) -> Rows:
    """Describe one row: `rows_of("float32", (12,))`."""
    return Rows(np.dtype(dtype), tuple(shape), None if names is None else tuple(names))
