"""Compare a store with the script of its set: as plain zarr reads it, as our reader does, in windows and splits.

Everything is compared bit for bit. Differences are sentences.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import zarr

import store_spec
from store_spec import StoreError
from store_spec.windows.shape import WindowShape
from tests.real_data.plain import Expected, Plain
from tests.store.oracle import assert_holds, same
from tests.store.window_oracle import Listed, list_windows, sample_of

DEFAULT_SHARES = (("train", 0, 80), ("val", 80, 90), ("test", 90, 100))  # hundredths of the range of a hash
HASHES = 2**53
BATCH = 512
ROWS = ("inputs", "labels", "time", "filled")


def differences(path: Path, expected: Expected) -> Iterator[str]:
    """Yield the differences between a store and the expected one."""
    yield from (f"{path.name}, by zarr: {what}" for what in as_zarr_reads(path, expected))
    store = store_spec.open_store(path)
    for part in (as_our_reader_reads, windows_of_an_epoch, splits):
        yield from (f"{path.name}, {part.__name__}: {what}" for what in part(store, expected))


def as_zarr_reads(path: Path, expected: Expected) -> Iterator[str]:
    """Compare what any Zarr library reads."""
    group = zarr.open_group(path, mode="r")
    attributes: Any = group.attrs
    described = attributes["seqzarr"][0]
    if described["labels"]["classes"] != expected.classes:
        yield f"classes {described['labels']['classes']}, and not {expected.classes}"
    unit = None if described["time"] is None else (described["time"]["unit"], described["time"]["since"])
    if unit != expected.unit:
        yield f"time {unit}, and not {expected.unit}"
    members: dict[str, Any] = dict(group.members(max_depth=None))
    found = {
        name: array[:]
        for name, array in members.items()
        if name.startswith((*ROWS, "offsets", "row_size", "sequences/"))
        and not name.endswith(("_crc32c", "time_first", "time_last"))
    }
    wanted = arrays_of(expected)
    for name in sorted(found.keys() | wanted.keys()):
        if name not in found or name not in wanted:
            yield f"{name} {'is' if name in found else 'is not'} there"
        elif name.startswith("sequences/"):
            if found[name].tolist() != wanted[name]:
                yield f"{name} differs"
        else:
            committed = slice(len(wanted[name]) if name in ROWS else None)
            yield from unlike(name, found[name][committed], wanted[name])


def arrays_of(expected: Expected) -> dict[str, Any]:
    """Return the arrays of a store, and its tables as lists."""
    sequences = expected.sequences
    lengths = [len(one.inputs) for one in sequences]
    files = {one.file: one.file.read_bytes() for one in sequences}
    arrays: dict[str, Any] = {
        "offsets": np.cumsum([0, *lengths]),
        "row_size": np.array(lengths),
        "sequences/source": [one.source for one in sequences],
        "sequences/part": [one.part for one in sequences],
        "sequences/source_size": [len(files[one.file]) for one in sequences],
    }
    digests = {file: list(hashlib.sha256(data).digest()) for file, data in files.items()}
    arrays["sequences/source_sha256"] = [digests[one.file] for one in sequences]
    for name in sequences[0].columns:
        arrays[f"sequences/{name}"] = [one.columns[name] for one in sequences]
    for name in ROWS:
        rows: list[Any] = [getattr(one, name) for one in sequences]
        if rows[0] is not None:
            of_sequences = name == "labels" and expected.target == "sequence"
            arrays[name] = np.stack(rows) if of_sequences else np.concatenate(rows)
    return arrays


def as_our_reader_reads(store: store_spec.Store, expected: Expected) -> Iterator[str]:
    """Compare what `store[i]` returns, times, and columns."""
    try:
        assert_holds(store, [*expected.sequences])
    except (AssertionError, KeyError, StoreError) as error:  # a column or the times are missing
        yield str(error)
    yield from (f"verify: {problem}" for problem in store_spec.verify(store.path))


def windows_of_an_epoch(store: store_spec.Store, expected: Expected) -> Iterator[str]:
    """Compare each window of a shuffled epoch with one that a loop cuts; each has to occur once."""
    shape, cut = shape_of(expected), [*windows_by_loop(expected)]
    options: dict[str, Any] = {"missing": "skip"} if expected.skip else {}
    windows = store.windows(
        expected.window, stride=expected.stride, target=expected.target, value_mask=expected.mask, **options
    )
    if len(windows) != len(cut):
        yield f"{len(windows):,} windows, and not {len(cut):,}"
        return
    seen = []
    for inputs, labels, *mask, index in windows.batches(BATCH, shuffle=True, index=True):
        seen.append(index)
        for place, number in enumerate(index.tolist()):
            one, window = cut[number]
            rows = one.inputs[window.rows]
            filled = False if one.filled is None else one.filled[window.rows]
            found = inputs[place], labels[place], *(each[place] for each in mask)
            wanted = *sample_of(one.inputs, one.labels, window, shape), ~(filled | np.isnan(rows))
            for name, here, there in zip(("inputs", "labels", "mask"), found, wanted, strict=False):
                yield from unlike(f"window {number:,} ({one.source}, step {window.start:,}), {name}", here, there)
    if not np.array_equal(np.sort(np.concatenate(seen)), np.arange(len(cut))):
        yield "windows that come twice, or never"


def windows_by_loop(expected: Expected) -> Iterator[tuple[Plain, Listed]]:
    """Yield each window with its sequence."""
    shape = shape_of(expected)
    for window in list_windows([len(one.inputs) for one in expected.sequences], shape):
        one = expected.sequences[window.sequence]
        sample = sample_of(one.inputs, one.labels, window, shape)
        if not (expected.skip and any(np.isnan(rows).any() for rows in sample)):
            yield one, window


def shape_of(expected: Expected) -> WindowShape:
    return WindowShape(window=expected.window, stride=expected.stride, target=expected.target)


def splits(store: store_spec.Store, expected: Expected) -> Iterator[str]:
    """Compare the sequences of each split: by a hash of the source, or of another column."""
    groups = [one.source if expected.by is None else str(one.columns[expected.by]) for one in expected.sequences]
    for name, low, high in DEFAULT_SHARES:
        wanted = [number for number, group in enumerate(groups) if low * HASHES <= 100 * hashed(group) < high * HASHES]
        found = store.split(name, by=expected.by, allow_empty=True).selection.tolist()
        if found != wanted:
            yield f"{name} has {len(found):,} sequences, and not these {len(wanted):,}"


def hashed(group: str) -> int:
    """Return the first 53 bits of the SHA-256 of the seed 0, a colon, and the name of a group."""
    return int(hashlib.sha256(f"0:{group}".encode()).hexdigest()[:16], 16) >> 11


def unlike(what: str, found: Any, wanted: Any) -> Iterator[str]:
    """Return where two arrays differ."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    if same(found, wanted):
        return
    if (found.dtype, found.shape) != (wanted.dtype, wanted.shape):
        yield f"{what}: {found.dtype} {found.shape}, and not {wanted.dtype} {wanted.shape}"
        return
    as_bytes = [np.frombuffer(np.ascontiguousarray(one).tobytes(), f"V{one.itemsize}") for one in (found, wanted)]
    place = int(np.flatnonzero(as_bytes[0] != as_bytes[1])[0])
    yield f"{what}: value {place:,} is {found.flat[place]!r}, and not {wanted.flat[place]!r}"
