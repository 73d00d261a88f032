"""All that the API gives of a store, piece by piece, so that an error in one piece hides nothing of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import store_spec
from store_spec import Store, StoreError

MOMENT = "1970-01-01T00:00:00.1"  # that lies in some sequences of a specimen

Pieces = dict[str, object]  # by name: what was read, in a form that can be compared, or the error that came instead


class Crash:
    """An error that is not one of ours."""

    def __init__(self, error: Exception) -> None:
        self.text = f"{type(error).__name__}: {error}"


def read_all(path: Path) -> Pieces:
    """Open a store and read everything that it gives."""
    try:
        store = store_spec.open_store(path)
    except StoreError as error:
        return {"store": error}
    except Exception as error:  # noqa: BLE001  # that is what the campaign looks for
        return {"store": Crash(error)}
    found: Pieces = {}
    for name, values in _pieces(store).items():
        count = 0
        try:
            for count, value in enumerate(values, 1):
                found[f"{name} {count - 1}"] = value
            found[f"number of {name}"] = count
        except StoreError as error:
            found[f"{name} {count}"] = error
        except Exception as error:  # noqa: BLE001
            found[f"{name} {count}"] = Crash(error)
    return found


def wrong(found: Pieces, expected: Pieces) -> list[str]:
    """Return the pieces that were read without an error, and are not what they should be."""
    return [
        name
        for name, value in found.items()
        if not isinstance(value, StoreError | Crash) and value != expected.get(name)
    ]


def crashes(found: Pieces) -> list[str]:
    """Return what came that was neither a value nor an error of ours."""
    return [f"{name}: {value.text}" for name, value in found.items() if isinstance(value, Crash)]


def refused(found: Pieces) -> bool:
    return any(isinstance(value, StoreError) for value in found.values())


def _pieces(store: Store) -> dict[str, Iterator[object]]:
    """Return by name what is read one after another until an error comes."""
    each = {f"sequence {number}": _sequence(store, number) for number in range(len(store))}
    columns = {name: _column(store, name) for name in ("lengths", "label_lengths", "starts", "label_starts", "parts")}
    whole = {"facts": _facts(store), "sources": _sources(store), "statistics": _statistics(store)}
    whole |= {f"column {column.name}": _kept(store, column.name) for column in store.schema.columns}
    batches = {"padded batches": _padded(store), "windows": _windows(store)}
    return each | columns | whole | batches


def _facts(store: Store) -> Iterator[object]:
    yield len(store)
    yield store.counts, store.schema, store.identity, store.provenance


def _column(store: Store, name: str) -> Iterator[object]:
    yield _frozen(getattr(store, name))


def _kept(store: Store, name: str) -> Iterator[object]:
    yield repr(store.sequences[name].tolist())


def _sources(store: Store) -> Iterator[object]:
    yield store.sources
    yield _frozen(store.split("train", allow_empty=True).selection)


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
    for batch in store.padded(5):
        yield _frozen(*batch)
    if store.schema.filled:
        for batch in store.padded(5, value_mask=True):
            yield _frozen(*batch)


def _windows(store: Store) -> Iterator[object]:
    """Yield batches of windows, then all by their numbers."""
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
    """Return arrays in a form that is equal only bit for bit."""
    found = [np.asarray(array) for array in arrays]
    return [(array.dtype.str, array.shape, array.tobytes()) for array in found]
