"""Read everything of a store in pieces, so that an error in one piece does not hide an error in another."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import store_spec
from store_spec import Store, StoreError

MOMENT = "1970-01-01T00:00:00.1"  # within some sequences of a specimen
END = object()

Pieces = dict[str, object]  # by name: a value that can be compared, or the error that was raised


def read_all(path: Path) -> Pieces:
    """Open a store and read everything."""
    store = _attempt(partial(store_spec.open_store, path))
    if not isinstance(store, Store):
        return {"store": store}
    found: Pieces = {}
    for name, values in _readers(store).items():
        for count in itertools.count():
            value = _attempt(partial(next, values, END))
            if value is END:
                found[f"number of {name}"] = count
                break
            found[f"{name} {count}"] = value
            if isinstance(value, Exception):
                break
    return found


def wrong(found: Pieces, expected: Pieces) -> list[str]:
    """Return the names of the pieces that were read without an error and differ from the expected ones."""
    values = found.items()
    return [name for name, value in values if not isinstance(value, Exception) and value != expected.get(name)]


def crashes(found: Pieces) -> list[str]:
    """Return the errors that are not a StoreError."""
    return [
        f"{name}: {type(value).__name__}: {value}"
        for name, value in found.items()
        if isinstance(value, Exception) and not isinstance(value, StoreError)
    ]


def has_error(found: Pieces) -> bool:
    return any(isinstance(value, StoreError) for value in found.values())


def _attempt(read: Callable[[], object]) -> object:
    try:
        return read()
    except Exception as error:  # noqa: BLE001
        return error


def _readers(store: Store) -> dict[str, Iterator[object]]:
    """Return iterators that read pieces, by the name of the piece."""
    arrays = ("lengths", "label_lengths", "starts", "label_starts", "parts")
    return {
        **{f"sequence {number}": _sequence(store, number) for number in range(len(store))},
        **{name: _once(lambda name: _frozen(getattr(store, name)), name) for name in arrays},
        "facts": _once(lambda: (len(store), store.counts, store.schema, store.identity, store.provenance)),
        "sources": _once(lambda: store.sources),
        "splits": _once(lambda: _frozen(store.split("train", allow_empty=True).selection)),
        "statistics": _statistics(store),
        **{
            f"column {column.name}": _once(lambda name: repr(store.sequences[name].tolist()), column.name)
            for column in store.schema.columns
        },
        "padded batches": _padded(store),
        "windows": _windows(store),
    }


def _once(read: Callable[..., object], *arguments: object) -> Iterator[object]:
    yield read(*arguments)


def _sequence(store: Store, number: int) -> Iterator[object]:
    yield _frozen(*store[number])
    yield _frozen(*store.read(number, int(store.lengths[number]) // 2))
    if store.schema.time is not None:
        yield _frozen(store.times(number))


def _statistics(store: Store) -> Iterator[object]:
    stats = store.stats()
    for moments in (stats.inputs, stats.labels):
        yield _frozen(*(getattr(moments, name) for name in ("count", "mean", "std", "min", "max")))


def _padded(store: Store) -> Iterator[object]:
    for value_mask in (False, True) if store.schema.filled else (False,):
        for batch in store.padded(5, value_mask=value_mask):
            yield _frozen(*batch)


def _windows(store: Store) -> Iterator[object]:
    """Yield batches of windows, and all windows by number."""
    axis = store.schema.label_axis
    if axis == "own":
        return
    windows = store.windows(2, target="future" if axis == "step" else "sequence")
    for batch in windows.batches(4, shuffle=True):
        yield _frozen(*batch)
    if store.schema.filled:
        for batch in store.windows(2, missing="skip", value_mask=True).batches(4):
            yield _frozen(*batch)
    if store.schema.time is not None:
        early, late = store.windows(2, before=MOMENT), store.windows(2, after=MOMENT)
        yield _frozen(early.index.first, late.index.first)
    for sample in windows.__getitems__(range(len(windows))):
        yield _frozen(*sample)


def _frozen(*arrays: Any) -> object:
    """Return arrays as a value that is equal only if all bits are."""
    found = [np.asarray(array) for array in arrays]
    return [(array.dtype.str, array.shape, array.tobytes()) for array in found]
