"""What a build is going to do, before it does it: which sources are new, their labels, and how they are dealt."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.batch import Batch
from builder.errors import UsageError
from builder.manifest import read_manifest
from builder.process import Portable, Process, describe_process, load_process
from builder.sources import SourceList, discover
from builder.tabular import Tabular, tabular
from store_spec.errors import MissingStoreError
from store_spec.lock import build_folder
from store_spec.schema import LABEL_AXES, LabelAxis, Schema

FILE_COST = 2**16  # bytes that opening a file counts as: reading that much takes about as long
LEAST_RATIO, LARGEST_RATIO = 0.05, 50.0  # decoded bytes a byte of a file; what lies outside is taken for chance


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestLabels:
    """Labels that stand in a table, a row a source.

    Args:
        path: CSV, TSV or Parquet.
        key: The column that names the source; None: `source`.
        columns: The columns that are the labels; None: the table only says which sources there are.
        only_listed: Leave out sources that have no row.
    """

    path: Path
    key: str | None = None
    columns: str | Sequence[str] | None = None
    only_listed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The sources of a build, compared with what the store holds."""

    sources: SourceList
    store: Path
    new: tuple[str, ...]  # in the order in which they are appended
    new_bytes: tuple[int, ...]  # of their files; 0 where there is none, which will be reported when it is read
    labels: NDArray[Any] | None  # (new sources, targets), where they come from a manifest
    label_names: tuple[str, ...] | None
    process: Process
    portable: Process  # the same, as it goes to the workers
    described: dict[str, Any]  # what the store records of all this
    label_axis: LabelAxis | None  # None: the first source's labels tell
    unchanged: int  # sources that the store holds
    held: store_spec.Store | None  # the store as it is; None: there is none yet
    search: tuple[str, ...]

    @property
    def exists(self) -> bool:
        """Whether there is a store to append to."""
        return self.held is not None

    def for_schema(self, schema: Schema) -> Plan:
        """Return the plan for a store whose features have names: columns are found by them in every source."""
        if not isinstance(self.process, Tabular):
            return self
        process = self.process.for_store(schema.inputs.names, schema.labels.names)
        return replace(self, process=process, portable=process)

    def batch(self, numbers: slice) -> Batch:
        """Return some of the new sources, as a worker takes them."""
        return Batch(
            root=self.sources.root.absolute(),
            names=self.new[numbers],
            labels=None if self.labels is None else self.labels[numbers],
            process=self.portable,
            search=self.search,
        )

    def batches(self, batch_bytes: int, ratio: float) -> Iterator[tuple[Batch, int]]:
        """Deal the new sources, in order, into batches of about that many decoded bytes; each with its estimate.

        Where one batch ends leaves no trace in the store.
        """
        start, size = 0, 0
        for number, file_bytes in enumerate(self.new_bytes):
            cost = round(file_bytes * ratio) + FILE_COST
            if number > start and size + cost > batch_bytes:
                yield self.batch(slice(start, number)), size
                start, size = number, 0
            size += cost
        if start < len(self.new):
            yield self.batch(slice(start, len(self.new))), size

    def is_small(self, batch_bytes: int) -> bool:
        """Tell whether reading takes less time than starting processes for it: a table, and two batches at most.

        A function of the user's own may take any time, and may crash: it is kept out of this process.
        """
        cost = self.bytes_to_read() + FILE_COST * len(self.new)
        return isinstance(self.process, Tabular) and cost <= 2 * batch_bytes

    def bytes_to_read(self) -> int:
        """Return the bytes of the new sources' files."""
        return sum(self.new_bytes)


def make_plan(
    sources: str | Path,
    store: Path,
    *,
    process: Process | str | None = None,
    manifest: ManifestLabels | None = None,
    label_axis: LabelAxis | None = None,
) -> Plan:
    """Find the sources, match the manifest, and leave out what the store holds already.

    Raises:
        UsageError: A folder, file, column or function that is not there, or options that clash.
        StoreError: There is something else than a store at `store`.
    """
    if label_axis is not None and label_axis not in LABEL_AXES:
        raise UsageError(f"label_axis={label_axis!r} is not one of {', '.join(LABEL_AXES)}")
    function = load_process(process) if process is not None else _default_tabular(manifest)
    if manifest is not None and manifest.columns is not None and _has_labels(function):
        raise UsageError("labels come from the process function and from the manifest's label_column; choose one")
    is_tabular = isinstance(function, Tabular)
    found = discover(
        sources,
        format=function.read.format if isinstance(function, Tabular) else None,
        any_suffix=not is_tabular,
        exclude=[store, build_folder(store), *([manifest.path] if manifest is not None else [])],
    )
    if isinstance(function, Tabular):
        function = function.under(found.root.absolute())
    names, labels, label_names = list(found.names), None, None
    if manifest is not None:
        table = read_manifest(manifest.path, **({} if manifest.key is None else {"key": manifest.key}))
        matched = table.match(found.names, only_listed=manifest.only_listed)
        names = list(matched.rows)
        if manifest.columns is not None:
            labels = table.labels(manifest.columns)[list(matched.rows.values())]
            label_names = _label_names(manifest.columns, labels.shape[1])
    described = {
        "process": describe_process(function),
        "label_axis": label_axis,
        "manifest_labels": None if label_names is None else list(label_names),
    }
    known: set[str] = set()
    held = _opened(store)
    if held is not None:
        _check_same(held.provenance.get("build"), described, store)
        known = set(held.sources)
    new = [number for number, name in enumerate(names) if name not in known]
    if held is not None:
        _check_root(held, found, [names[number] for number in new])
    return Plan(
        sources=found,
        store=store,
        new=tuple(names[number] for number in new),
        new_bytes=tuple(_file_bytes(os.path.join(found.root, names[number])) for number in new),
        labels=None if labels is None else labels[np.array(new, np.int64)],
        label_names=label_names,
        process=function,
        portable=function if is_tabular else Portable(function),
        described=described,
        label_axis=label_axis or _label_axis(function, labels),
        unchanged=len(names) - len(new),
        held=held,
        search=() if is_tabular else (str(Path.cwd()),),
    )


def _file_bytes(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def _default_tabular(manifest: ManifestLabels | None) -> Tabular:
    return tabular(labels_in_manifest=manifest is not None and manifest.columns is not None)


def _has_labels(process: Process) -> bool:
    return isinstance(process, Tabular) and process.label_source in ("columns", "pattern")


def _check_root(held: store_spec.Store, found: SourceList, new: Sequence[str]) -> None:
    """Refuse to append files again that are in the store under the name that they have below another root."""
    known: dict[str, list[int]] = {}
    for number, source in enumerate(held.sources):
        known.setdefault(source.rpartition("/")[2], []).append(number)
    sizes = held.snapshot.table("sequences/source_size")
    for name in new:
        for number in known.get(name.rpartition("/")[2], ()):
            source = held.sources[number]
            same_end = source.endswith(f"/{name}") or name.endswith(f"/{source}")
            path = found.path(name)
            if not same_end or not path.is_file() or path.stat().st_size != sizes[number]:
                continue
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").digest()
            if digest == held.snapshot.table("sequences/source_sha256", number, number + 1).tobytes():
                raise UsageError(
                    f"{held.path}: {name} is in the store already, as {source}: names are relative to the folder or to "
                    f"the fixed part of the glob, here {found.root}; give the sources as in the first build"
                )


def _opened(path: Path) -> store_spec.Store | None:
    if not path.exists() and not path.is_symlink():
        return None
    try:
        return store_spec.open_store(path)
    except MissingStoreError as error:
        what = "a folder, but no store" if path.is_dir() else "a link to nothing" if path.is_symlink() else "a file"
        raise UsageError(f"{path}: is {what}; give another path for the store, or remove what is there") from error


def _label_axis(process: Process, labels: NDArray[Any] | None) -> LabelAxis | None:
    """Return the label axis where the options tell: a first source of as many steps as targets would mislead."""
    if labels is not None or (isinstance(process, Tabular) and process.label_source == "pattern"):
        return "sequence"
    return "step" if isinstance(process, Tabular) and process.label_source == "columns" else None


def _label_names(columns: str | Sequence[str], count: int) -> tuple[str, ...] | None:
    names = tuple(part.strip() for part in columns.split(",")) if isinstance(columns, str) else tuple(columns)
    return names if len(names) == count else None


def _check_same(recorded: Any, described: dict[str, Any], store: Path) -> None:
    """Refuse to mix sequences that were made in two ways."""
    if not isinstance(recorded, dict):
        raise UsageError(f"{store}: no build made this store, so none can bring it up to date; build to another path")
    for key, asked in described.items():
        before, now = _comparable(recorded.get(key)), _comparable(asked)
        if before != now:
            difference = _difference(key, before, now)
            raise UsageError(
                f"{store}: was built with {difference[0]}, and now {difference[1]} is asked for; "
                "use the same options, or build to another path"
            )


def _comparable(value: Any) -> Any:
    """Leave out what may change between two builds: the code of a process function."""
    return {key: one for key, one in value.items() if key != "code_sha256"} if isinstance(value, dict) else value


def _difference(key: str, before: Any, now: Any) -> tuple[str, str]:
    """Return both values of the first option that differs."""
    if isinstance(before, dict) and isinstance(now, dict):
        for one in sorted({*before, *now}):
            if before.get(one) != now.get(one):
                return _difference(one, before.get(one), now.get(one))
    return f"{key} {_said(before)}", f"{key} {_said(now)}"


def _said(value: Any) -> str:
    """Write a recorded option as its user would."""
    if value is None or value == []:
        return "not given"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
