"""A selection of sequences of a store, and what the tables say about them; no rows are read."""

from __future__ import annotations

import fnmatch
import hashlib
import operator
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.disk.tables import read_only
from store_spec.errors import SchemaError, SequenceIndexError, WindowError
from store_spec.format import retired
from store_spec.format.layout import Counts
from store_spec.format.runs import runs_of_sequences
from store_spec.lazy_property import lazy_property
from store_spec.reading.argument_checks import array_of, positions
from store_spec.reading.columns import position
from store_spec.reading.disk_usage import DiskUsage, disk_usage
from store_spec.reading.sequence_table import SequenceTable
from store_spec.reading.splits import DEFAULT_SPLITS, are_pinned, groups, split_of_each
from store_spec.schema import Schema

if TYPE_CHECKING:
    import zarr

    from store_spec.disk.cache import CacheUse

Pair = tuple[NDArray[Any], NDArray[Any]]


class Selection:
    """Sequences of one committed state, by number, with their names, places and lengths.

    `selection` is (sequences,), numbers of sequences of the state, counting retired ones; None for all that are not
    retired.
    """

    def __init__(self, snapshot: Snapshot, selection: NDArray[np.int64] | None = None) -> None:
        self.snapshot = snapshot
        self._selection = None if selection is None else read_only(selection)  # None: all that are not retired

    def __repr__(self) -> str:
        schema, what = self.schema, "" if self._selection is None else f" of {self._live:,}"
        return (
            f"<seqzarr store {self.path.name}: {len(self):,}{what} sequences, {int(self.lengths.sum()):,} steps, "
            f"inputs {schema.inputs.shape} {schema.inputs.dtype}, "
            f"labels {schema.labels.shape} {schema.labels.dtype} per {schema.label_axis}>"
        )

    def view(self, which: slice | NDArray[np.int64] | NDArray[np.bool_]) -> Self:
        """Return a view of the sequences of these numbers, or of this mask; without the checks of `store.select`."""
        return type(self)(self.snapshot, self.selection[which])

    @property
    def path(self) -> Any:
        """The Path of the store's folder; for a zarr store, a text that identifies it."""
        return self.snapshot.storage.root

    @property
    def schema(self) -> Schema:
        """The schema: dtypes, shapes, names, the label axis."""
        return self.snapshot.root.schema

    @property
    def counts(self) -> Counts:
        """The counts of the whole store, regardless of this selection, including retired sequences."""
        return self.snapshot.root.counts

    @property
    def provenance(self) -> dict[str, Any]:
        """What the builder recorded about the build: options, process, failures."""
        return self.snapshot.root.provenance

    @property
    def identity(self) -> str:
        """A hash of all sequences of the store that are not retired, as 64 hexadecimal digits."""
        return self.snapshot.root.whole_identity

    @lazy_property
    def selection(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the numbers of these sequences in the store, counting retired ones."""
        if self._selection is not None:
            return self._selection
        every = len(self.snapshot.bounds("inputs")) - 1  # checked against the files, unlike the count in the root
        return read_only(retired.others(self.snapshot.root.retired, every))

    @property
    def has_labels(self) -> bool:
        """Whether the store has labels; without them, targets come from the inputs.

        A store without labels has the label axis `own`, and no label row at all.
        """
        return self.schema.label_axis != "own" or self.counts.label_steps > 0

    @lazy_property
    def contents(self) -> str:
        """A hash of the rows of these sequences, their places and their order, as 32 hexadecimal digits."""
        schema = self.schema
        digest = hashlib.sha256(f"{schema.steps.chunk}".encode())
        for rows in (schema.inputs, schema.labels):
            digest.update(f" {rows.dtype.name} {rows.shape}".encode())
        for crcs in self.snapshot.read_tables(f"sequences/{array}_crc32c" for array in schema.row_arrays):
            digest.update(crcs[self.selection].astype("<u4").tobytes())
        for places in (self.starts, self.lengths, self.label_starts, self.label_lengths):
            digest.update(places.astype("<i8").tobytes())
        return digest.hexdigest()[:32]

    @lazy_property
    def starts(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the row of `inputs` at which each sequence starts."""
        return read_only(self.snapshot.bounds("inputs")[:-1][self.selection])

    @lazy_property
    def lengths(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the steps of each sequence."""
        return read_only(np.diff(self.snapshot.bounds("inputs"))[self.selection])

    @lazy_property
    def label_starts(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the row of `labels` at which each sequence's labels start."""
        return read_only(self.snapshot.bounds("labels")[:-1][self.selection])

    @lazy_property
    def label_lengths(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the label rows of each sequence."""
        return read_only(np.diff(self.snapshot.bounds("labels"))[self.selection])

    def places(self, array: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first row and the number of rows of each sequence in an array, (sequences,) each."""
        return (self.label_starts, self.label_lengths) if array == "labels" else (self.starts, self.lengths)

    @lazy_property
    def sources(self) -> tuple[str, ...]:
        """The name of each sequence's source."""
        names = self.snapshot.sources()
        if self._selection is None and not self.snapshot.root.retired:
            return tuple(names)
        return tuple(names[number] for number in self.selection)

    @lazy_property
    def parts(self) -> NDArray[np.int64]:
        """Int64 (sequences,): the part of its source that each sequence is: 0, 1, ..."""
        return read_only(self.snapshot.table("sequences/part")[self.selection])

    @lazy_property
    def sequences(self) -> SequenceTable:
        """Source, part and length of each sequence, and the store's further columns, by name."""
        return SequenceTable(self)

    def __contains__(self, source: object) -> bool:
        """Return whether a source of that name is selected. Without this method Python would read all sequences."""
        return isinstance(source, str) and source in self.sources

    def __len__(self) -> int:
        return self._live if self._selection is None else len(self._selection)

    @property
    def _live(self) -> int:
        return self.counts.sequences - retired.count(self.snapshot.root.retired)

    def class_names(self, target: int | str = 0) -> tuple[str, ...]:
        """Return the names of a target's classes: the code k in the labels stands for name k.

        Args:
            target: The target's number or name.

        Raises:
            WindowError: There is no such target.
            SchemaError: It has no classes.
        """
        labels = self.schema.labels
        place = position("target", target, labels, self.path)
        found = None if labels.classes is None else labels.classes[place]
        if found is None:
            raise SchemaError(f"{self.path}: target {target!r:.80} has no classes")
        return found

    @property
    def cache_use(self) -> CacheUse | None:
        """What this process has read through the cache of `open_store(..., cache=...)`; None without a cache."""
        cache = getattr(self.snapshot.storage, "cache", None)
        return None if cache is None else cache.use

    def grouped(self, by: str | ArrayLike | None) -> Sequence[str]:
        """Return the group of each sequence for `split` and `folds`, as text: its source, or the value of `by`.

        With `by="sequence"`, each sequence is a group; with `by="source"`, the sequences of a source are one.
        """
        if not isinstance(by, str):
            return self.sources if by is None else groups(by, len(self))
        if by == "sequence" and by not in self.sequences:
            return [f"{source} {part}" for source, part in zip(self.sources, self.parts.tolist(), strict=True)]
        if by not in self.sequences:
            raise WindowError(
                f"{self.path}: by={by!r:.80} is not a column of its sequences; there are "
                f"{', '.join(self.sequences):.400}"
            )
        return groups(self.sequences[by], len(self), f"{self.path}: sequences[{by!r:.80}]")

    def split_numbers(self, *, seed: int = 0, by: str | ArrayLike | None = None) -> NDArray[np.int64]:
        """Return int64 (sequences,): the split of each sequence, by its position in `DEFAULT_SPLITS`; see `splits`."""
        sources = None if by is None else self.sources
        return split_of_each(self.grouped(by), DEFAULT_SPLITS, seed, sources=sources)

    def names_splits(self, by: str | ArrayLike) -> bool:
        """Return whether the values of `by` are names of the default splits, so that no hash decides."""
        return are_pinned(self.grouped(by), DEFAULT_SPLITS)

    def missing_rows(self, name: str) -> int | None:
        """Return how many rows of `inputs` or `labels` have a missing value; None if the store refuses these."""
        if self.schema.missing != "keep":
            return None
        starts, lengths = self.places(name)
        _, runs = runs_of_sequences(self.snapshot.missing(name), starts, starts + lengths)
        return int((runs[:, 1] - runs[:, 0]).sum())

    @property
    def group(self) -> zarr.Group:
        """The whole store in this state as a zarr group for reading, regardless of later commits and this selection.

        A missing chunk is an error. zarr checks less than `read`: neither sizes nor checksums of sequences.
        """
        import zarr

        from store_spec.disk.zarr_arrays import SnapshotStore

        return zarr.open_group(SnapshotStore(self.snapshot), mode="r")

    def array(self, name: str) -> zarr.Array[Any]:
        """Return an array of `group`, with the rows of all sequences: `inputs`, `offsets`, `stats/inputs_mean`, ...

        Raises:
            SchemaError: There is no such array.

        >>> import tempfile, numpy as np, store_spec
        >>> path = tempfile.mkdtemp() + "/walks.zarr"
        >>> with store_spec.create_store(path, inputs=("int8", ()), labels=("int8", ())) as writer:
        ...     writer.append(np.arange(5, dtype="int8"), np.zeros(5, "int8"), source="walk")
        >>> store_spec.open_store(path).array("inputs")[1:3]
        array([1, 2], dtype=int8)
        """
        import zarr

        names = [fact.name for fact in self.schema.arrays()]
        if name not in names:
            raise SchemaError(f"{self.path}: there is no array {name!r:.80}; there are {', '.join(names):.400}")
        array = self.group[name]
        assert isinstance(array, zarr.Array)
        return array

    def disk_usage(self) -> DiskUsage:
        """Return the files and bytes of the whole store, by array."""
        return disk_usage(self.snapshot)

    def numbers(self, which: ArrayLike | str | Sequence[str]) -> NDArray[np.int64]:
        """Return the numbers of some of these sequences; see `store.select` for the argument and the errors."""
        names = [which] if isinstance(which, str) else which
        values = array_of(names)
        if values.dtype == object and all(isinstance(one, bool | np.bool_) for one in values.flat):
            values = values.astype(bool)  # a mask of pandas, which could have missing values
        if values.dtype.kind in "OT" and values.size and not any(name is None for name in values.flat):
            return self._numbers_of_sources([str(name) for name in values.flat])
        if values.dtype == bool:
            if values.shape != (len(self),):
                raise SequenceIndexError(f"{self.path}: a mask of shape {values.shape} for {len(self):,} sequences")
            return np.flatnonzero(values)
        return positions("sequence", values.reshape(-1), len(self), self.path, advice=", by names or a mask")

    def _steps_of(self, number: int, start: int, stop: int | None) -> tuple[int, int, int]:
        """Check the number of a sequence and a range of its steps, and return them."""
        if type(number) is not int or not 0 <= number < len(self):  # `positions` takes a quarter of the time of a read
            advice = '; select gives those of a source: store.select("walk-0")[0]'
            number = int(positions("sequence", number, len(self), self.path, ndim=0, advice=advice))
        length = int(self.lengths[number])
        try:
            start, stop = operator.index(start), length if stop is None else operator.index(stop)
        except TypeError:
            raise SequenceIndexError(
                f"{self.path}: steps {start!r:.40} to {stop!r:.40} of sequence {number}; they are whole numbers"
            ) from None
        if not 0 <= start <= stop <= length:
            raise SequenceIndexError(
                f"{self.path}: sequence {number} has {length:,} steps; {start:,} to {stop:,} are not in it"
            )
        return number, start, stop

    def _numbers_of_sources(self, names: list[str]) -> NDArray[np.int64]:
        numbers: dict[str, list[int]] = {}
        for number, source in enumerate(self.sources):
            numbers.setdefault(source, []).append(number)
        names = [match for name in names for match in _matches(name, numbers)]
        missing = [name for name in names if name not in numbers]
        if missing and not numbers:
            raise SequenceIndexError(f"{self.path}: no sequences at all")
        if missing:
            raise SequenceIndexError(
                f"{self.path}: no sequence of source {missing[0]!r} ({len(missing):,} of {len(names):,} unknown); "
                f"sources are named like {self.sources[0]!r}"
            )
        return np.array([number for name in names for number in numbers[name]], np.int64)


def _matches(name: str, names: Collection[str]) -> list[str]:
    """Return a name itself; or the names that it matches, if there are any, as a pattern with `*` for any text."""
    if name in names or "*" not in name:
        return [name]
    return fnmatch.filter(names, name.replace("[", "[[]").replace("?", "[?]")) or [name]
