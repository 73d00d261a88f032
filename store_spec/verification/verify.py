"""Check every checksum and every invariant of a store, and collect the problems."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.places import StoreLocation
from store_spec.disk.snapshot import Snapshot
from store_spec.disk.storage import PARTIAL, PROBE, LocalStorage, Storage, storage_of
from store_spec.errors import DAMAGE, FormatError, MissingStoreError, StorageError
from store_spec.format import retired
from store_spec.format.documents import LARGEST_DOCUMENT, decode_document, difference, group_document, same
from store_spec.format.layout import BLANK, BOUNDS, ROOT, Counts, array_document, chunk_number
from store_spec.format.records import LENGTHS, SOURCES, Records, proved
from store_spec.format.runs import Runs, bounds_of, wrong_run
from store_spec.format.sequence_columns import wrong_value
from store_spec.schema import GROUPS, MISSING_RUNS, NO_FILE, TABLES
from store_spec.verification.described_rows import PartCheck
from store_spec.verification.parts import Bounds, Checked, Part, TableReader, committed_files, cut, overlapping
from store_spec.verification.problems import Problem, ProblemList

Columns = dict[str, NDArray[Any] | None]
Mapper = Callable[[PartCheck, Sequence[Part]], Iterable[Checked]]


def verify(path: StoreLocation, *, mapper: Mapper = PartCheck.each) -> list[Problem]:
    """Read all committed data of a store, and return the problems; an empty list if there are none.

    Compares every chunk with its checksum, the rows of each sequence with the checksums and moments in the tables,
    the tables with one another, the arrays' own metadata with the root, and the files with those that the store has.
    Uncommitted rows are not reported, but half-written files are. Rows are not read if it is unknown to which sequences
    they belong, because both the offsets and the lengths are damaged.

    It needs memory for two chunks of rows (or 2 MiB, if that is more; 16 times as much for a store at a URL, since so
    many requests are made at the same time), the names of all sources, about 100 bytes for each sequence, and 16 for
    each run of steps with a missing value.

    Args:
        path: The path or the URL of the store, or a zarr store. A server that does not list keys, such as any at an
            `https://` URL, is not searched for files that do not belong to the store, and a warning says so.
        mapper: Checks the parts of the rows, which is nearly all of the work. It is called once, like `map`, with a
            function and parts that can be pickled: pass the `imap` of a process pool to check several parts at once.

    Raises:
        MissingStoreError: There is no store at that path.
        StorageError: The process has too many open files, or too little memory, or the root or a folder cannot be read.

    >>> import tempfile, numpy as np, store_spec
    >>> path = tempfile.mkdtemp() + "/walks.zarr"
    >>> with store_spec.create_store(path, inputs=("int8", ()), labels=("int8", ())) as writer:
    ...     writer.append(np.arange(5, dtype="int8"), np.zeros(5, "int8"), source="walk")
    >>> verify(path)
    []
    """
    storage = storage_of(path)
    report = ProblemList(storage.root)
    try:
        snapshot = Snapshot.of(storage)
    except FormatError as error:
        report.error(error)
    else:
        names = _verify(snapshot, report, mapper)
        return report.problems(names, snapshot.root.retired)
    return report.problems()


def _verify(snapshot: Snapshot, report: ProblemList, mapper: Mapper) -> Sequence[str] | None:
    """Collect all problems; return the source of each sequence, or None if they cannot be read."""
    schema = snapshot.root.schema
    before = _strays(snapshot)
    facts = [fact for fact in schema.arrays() if not schema.is_sharded(fact.name)]
    tables = {fact.name: TableReader(snapshot, report, fact) for fact in facts}
    offsets = _bounds(snapshot, report, tables, "step")
    label_offsets = offsets
    if schema.label_axis == "own":
        label_offsets = _bounds(snapshot, report, tables, "label_step")
    elif schema.label_axis == "sequence":  # one row of labels each
        label_offsets = None if tables["labels"].lost else np.arange(tables["labels"].count + 1)
    bounds = {name: label_offsets if name == "labels" else offsets for name in schema.row_arrays}
    parts = list(_parts(snapshot, report, tables, bounds))
    results = iter(mapper(PartCheck(snapshot.slim()), parts))
    first = list(islice(results, 1))  # the processes of a mapper check further parts from here on
    columns = {name: tables[name].whole() for name in proved(schema) if name not in LENGTHS}
    _check_sources(report, tables, columns, snapshot.root.retired)
    _check_columns(snapshot, tables, columns)
    _check_identity(snapshot, report, columns, offsets, label_offsets)
    for checked in chain(first, results):
        report.take(checked.report)
        for name, seen in checked.seen.items():
            tables[name].seen |= seen
    for table in tables.values():
        table.finish()
    _check_documents(snapshot, report)
    # A running writer creates and deletes files, so only files that exist before and after are reported.
    after = _strays(snapshot)
    for where, (what, leftover) in before.items():
        if where in after:
            report.add(where, what, leftover=leftover)
    if not snapshot.storage.lists:
        text = "this server does not list keys, so files that do not belong to the store were not looked for"
        warnings.warn(f"{snapshot.storage.root}: {text}", stacklevel=3)
    names = columns["sequences/source"]
    return None if names is None else names.tolist()


def _parts(
    snapshot: Snapshot, report: ProblemList, tables: dict[str, TableReader], bounds_by_array: dict[str, Bounds | None]
) -> Iterator[Part]:
    """List the files of each array with rows, and divide it into parts."""
    for array, bounds in bounds_by_array.items():
        if array in tables:
            present = tables[array].present
        else:
            present = committed_files(snapshot, report, array, partial(overlapping, bounds))
        if bounds is not None:  # otherwise it is unknown which rows there are, which was reported
            yield from cut(snapshot, array, bounds, present, _missing(report, tables, array, bounds))


def _missing(report: ProblemList, tables: dict[str, TableReader], array: str, bounds: Bounds) -> Runs | None:
    """Return the recorded runs of missing values of an array; None if there is no such table, or it is invalid."""
    name = MISSING_RUNS.get(array, "")
    runs = tables[name].whole() if name in tables else None
    if runs is not None and (wrong := wrong_run(runs, bounds)) is not None:
        report.add(tables[name].key(wrong[0]), f"{wrong[1]}; restore or rebuild that file")
        return None
    return runs


def _bounds(snapshot: Snapshot, report: ProblemList, tables: dict[str, TableReader], axis: str) -> Bounds | None:
    """Return the bounds of the sequences, from the lengths if the offsets are wrong; None if neither can be used."""
    (offsets, sizes), last = (tables[name].whole() for name in BOUNDS[axis]), snapshot.root.counts.of(axis)
    if offsets is not None and sizes is not None:
        try:
            return snapshot.tables.check_offsets(axis, offsets, sizes)
        except DAMAGE as error:
            report.error(error)
    for bounds in (offsets, None if sizes is None else bounds_of(sizes)):
        if bounds is not None and bounds[0] == 0 and bounds[-1] == last and (bounds[1:] >= bounds[:-1]).all():
            return bounds
    return None


def _check_sources(
    report: ProblemList, tables: dict[str, TableReader], columns: Columns, retired_ranges: retired.Ranges
) -> None:
    """Check that the parts of a source are 0, 1, ... and adjacent, have one fingerprint, and are retired together."""
    names, parts, sizes = (columns[f"sequences/{name}"] for name in ("source", "part", "source_size"))
    if sizes is not None:
        for number in np.flatnonzero(sizes < NO_FILE).tolist():
            tables["sequences/source_size"].wrong(number, f"a source of {sizes[number]:,} bytes", "size")
    if names is None:
        return
    gone = np.zeros(len(names), bool)
    gone[retired.members(retired_ranges)] = True
    live: set[str] = set()
    for number, name in enumerate(names.tolist()):
        # A retired source may be followed by its newer version.
        is_newer = parts is not None and parts[number] == 0 and gone[number - 1]
        same = number > 0 and names[number - 1] == name and not is_newer
        if not name:
            tables[SOURCES].wrong(number, "a source without a name", "empty")
        if not same and name in live:
            tables[SOURCES].wrong(number, "it lies apart from others of its source", "apart")
        if not gone[number]:
            live.add(name)
        due = int(parts[number - 1]) + 1 if same and parts is not None else 0
        if parts is not None and parts[number] != due:
            what = f"its part is {parts[number]:,}, where {due:,} is due"
            tables["sequences/part"].wrong(number, what, "part")
        if same:
            _check_alike(tables, columns, number)
            if gone[number] != gone[number - 1]:
                what = "retired has some sequences of a source and not all"
                report.add(ROOT, what, kind="retired", sequences=((number - 1, number + 1),))


def _check_alike(tables: dict[str, TableReader], columns: Columns, number: int) -> None:
    for column in ("sequences/source_size", "sequences/source_sha256"):
        values = columns[column]
        if values is not None and not np.array_equal(values[number], values[number - 1]):
            tables[column].wrong(number, "it differs from the part before it", "differs")


def _check_columns(snapshot: Snapshot, tables: dict[str, TableReader], columns: Columns) -> None:
    """Check that further columns of sequences have values that a writer stores."""
    for column in snapshot.root.schema.columns:
        values = columns[column.array]
        wrong = None if values is None else wrong_value(column, values)
        if wrong is not None:
            tables[column.array].wrong(*wrong, "value")


def _check_identity(
    snapshot: Snapshot,
    report: ProblemList,
    columns: Columns,
    offsets: Bounds | None,
    label_offsets: Bounds | None,
) -> None:
    """Compute the hash over all sequences, and compare it with the root's, if all of its tables can be read."""
    readable = {name: column for name, column in columns.items() if column is not None}
    if offsets is None or label_offsets is None or len(readable) < len(columns):
        return  # the unreadable table was reported
    readable["row_size"] = np.diff(offsets)
    if snapshot.root.schema.label_axis == "own":
        readable["label_row_size"] = np.diff(label_offsets)
    found = Records(readable).identity(BLANK, snapshot.root.schema)
    if found != snapshot.root.identity:
        report.add(
            "sequences",
            f"its sequences have the identity {found[:16]}, not {snapshot.root.identity[:16]} as {ROOT} has; a file in "
            "it comes from another store or is an older copy: restore or rebuild it",
        )


def _check_documents(snapshot: Snapshot, report: ProblemList) -> None:
    """Compare the own metadata of each array and group with the root."""
    schema, counts = snapshot.root.schema, snapshot.root.counts
    _check_groups(snapshot, report)
    for fact in schema.arrays():
        key, count = f"{fact.name}/{ROOT}", snapshot.root.committed(fact.name)
        expected = array_document(schema, fact, counts)
        found = _document(snapshot, report, key)
        if found is None or same(found, expected):
            continue
        shape = found.get("shape")
        rows = shape[0] if isinstance(shape, list) and shape else None
        before = array_document(schema, fact, Counts())  # attributes may depend on whether there are labels
        alike = any(same(found, one | {"shape": [rows, *one["shape"][1:]]}) for one in (expected, before))
        if type(rows) is not int or not 0 <= rows < 2**63 or not alike:
            report.add(key, difference(found, expected))
        elif rows > count:
            if Snapshot.of(snapshot.storage).root.counts == counts:  # otherwise a later commit's
                report.add(
                    key,
                    f"has {rows:,} rows, where {count:,} are committed; restore that file, or {ROOT} if that is older",
                )
        else:
            report.add(
                key,
                f"has {rows:,} rows, as after an earlier commit, where {count:,} are committed: a writer was "
                "interrupted, and readers that skip the root see only these; opening the store to append repairs it",
                leftover=True,
            )


def _check_groups(snapshot: Snapshot, report: ProblemList) -> None:
    """Compare the own metadata of each group with the root; that of the tables counts retired sequences."""
    count = retired.count(snapshot.root.retired)
    for name in GROUPS:
        key, due = f"{name}/{ROOT}", group_document(count if name == TABLES else 0)
        found = _document(snapshot, report, key)
        if found is None or same(found, due):
            continue
        attributes = found.get("attributes")
        said = attributes.get("retired", 0) if isinstance(attributes, dict) else None
        if name != TABLES or type(said) is not int or abs(said) >= 2**63 or not same(found, group_document(said)):
            report.add(key, difference(found, due))
        elif said < count:
            report.add(
                key,
                f"has {said:,} retired sequences, as an earlier commit, where {count:,} are: a writer was interrupted; "
                "opening the store to append repairs it",
                leftover=True,
            )
        elif retired.count(Snapshot.of(snapshot.storage).root.retired) == count:  # otherwise a later commit's
            report.add(ROOT, f"retires {count:,} sequences, where {key} has {said:,}: it is an older copy; restore it")


def _document(snapshot: Snapshot, report: ProblemList, key: str) -> dict[str, Any] | None:
    try:
        data = snapshot.storage.get(key, 0, LARGEST_DOCUMENT + 1)
        return decode_document(bytes(data), str(snapshot.storage.path(key)))
    except MissingStoreError:
        report.add(key, "missing; readers that skip the root need it: opening the store to append repairs it")
    except DAMAGE as error:
        report.error(error)
    return None


def _listed(storage: Storage, folders: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield folders with the names in them; nothing if the server does not list them."""
    for folder in folders:
        try:
            yield folder, storage.list(folder)
        except StorageError:
            if storage.lists:
                raise
            return


def _strays(snapshot: Snapshot) -> dict[str, tuple[str, bool]]:
    """Return files that do not belong to the store, by name: what each is, and whether a writer left it."""
    schema, storage = snapshot.root.schema, snapshot.storage
    facts = {fact.name for fact in schema.arrays()}
    found = {}
    for folder, names in _listed(storage, ["", *schema.folders()]):
        for name in names:
            key = f"{folder}/{name}" if folder else name
            if name == ROOT or key in GROUPS or key in facts:
                continue  # read here, or when the store was opened
            number = chunk_number(schema, folder, name) if folder in facts else None
            if number is not None and number * schema.chunking(folder).shard < snapshot.root.committed(folder):
                continue  # committed, so it is read
            kind = storage.kind(key) if isinstance(storage, LocalStorage) else "file"  # other stores show no links
            if number is not None and kind == "file":
                continue  # not committed yet
            if kind == "link":
                found[key] = "a link; a store holds plain files and folders only: remove it", False
            elif kind == "file" and name.endswith(PARTIAL):
                found[key] = "half written by an interrupted writer; opening the store to append removes it", True
            elif kind == "file" and key.startswith(PROBE):
                found[key] = "left by a writer that tested the server; remove it", True
            else:
                found[key] = "belongs to nothing in this store; remove it", False
    return found
