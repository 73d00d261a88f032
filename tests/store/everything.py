"""Read everything of a store in pieces, so that an error in one piece does not hide an error in another."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

import store_spec
from store_spec import Store, StoreError, StoreLocation
from store_spec.errors import MissingStoreError
from store_spec.windows.shape import Target

MOST = 40  # values of each kind are read, because a damaged store may claim any number
WINDOW = 2
MOMENT = "1970-01-01T00:00:00.1"  # within some sequences of the stores of `rot`
ARRAYS = ("lengths", "label_lengths", "starts", "label_starts", "parts")

Pieces = dict[str, Any]  # by name: a value that can be compared, or the error that was raised


def read_all(location: StoreLocation) -> Pieces:
    """Open a store and read everything."""
    try:
        store = store_spec.open_store(location)
    except Exception as error:  # noqa: BLE001
        return {"store": error}
    found: Pieces = {}
    for name, values in _readers(store).items():
        count = 0
        try:
            for value in islice(values, MOST):
                found[f"{name} {count}"] = value
                count += 1
            found[f"number of {name}"] = count
        except Exception as error:  # noqa: BLE001
            found[f"{name} {count}"] = error
    return found


def errors_in(found: Pieces) -> list[StoreError]:
    return [value for value in found.values() if isinstance(value, StoreError)]


def crashes_in(found: Pieces) -> list[Exception]:
    """Return the errors that are not a StoreError."""
    return [value for value in found.values() if isinstance(value, Exception) and not isinstance(value, StoreError)]


def wrong_in(found: Pieces, expected: Pieces) -> list[str]:
    """Return the names of the pieces that were read without an error and differ from the expected ones."""
    values = found.items()
    return [name for name, value in values if not isinstance(value, Exception) and value != expected.get(name)]


def problems_in(location: StoreLocation, *, leftovers: bool = True) -> list[str]:
    """Return what `verify` reports, also or not what an interrupted writer left."""
    try:
        return [str(problem) for problem in store_spec.verify(location) if leftovers or not problem.leftover]
    except MissingStoreError as error:
        return [str(error)]


def _readers(store: Store) -> dict[str, Iterator[Any]]:
    """Return iterators that read pieces, by the name of the piece."""
    axis = store.schema.label_axis
    return {
        **{f"sequence {number}": _sequence(store, number) for number in range(min(len(store), MOST))},
        "slice": _slice(store),
        "padded batches": _batches(store, partial(store.padded, 5)),
        "streams": _batches(store, partial(store.streams, 2, 3, targets="inputs" if axis == "own" else None)),
        "statistics": _statistics(store),
        "sources": _once(lambda: store.sources),
        **{name: _once(lambda name: _frozen(getattr(store, name)), name) for name in ARRAYS},
        **{f"column {name}": _once(_column, store, name) for name in list(store.sequences)[:MOST]},
        "facts": _once(lambda: (len(store), store.counts, store.schema, store.identity, store.provenance)),
        "text": _once(lambda: bool(repr(store))),
        "selection": _once(lambda: list(store.selection)),
        "splits": _once(lambda: list(store.split("train", allow_empty=True).selection)),
        **_windows(store),
    }


def _once(read: Callable[..., Any], *arguments: Any) -> Iterator[Any]:
    yield read(*arguments)


def _slice(store: Store) -> Iterator[Any]:
    for pair in store[:2]:
        yield _frozen(*pair)


def _sequence(store: Store, number: int) -> Iterator[Any]:
    yield _frozen(*store[number])
    yield _frozen(*store.read(number, int(store.lengths[number]) // 2))
    if store.schema.time is not None:
        yield _frozen(store.times(number))


def _batches(store: Store, start: Callable[..., Any]) -> Iterator[Any]:
    """Yield batches of sequences, and once more with masks of values, where some may be missing."""
    for value_mask in {False, may_miss_values(store)}:
        yield from (_frozen(*batch) for batch in start(value_mask=value_mask))


def may_miss_values(store: Store) -> bool:
    return store.schema.filled or store.schema.missing == "keep"


def _statistics(store: Store) -> Iterator[Any]:
    stats = store.stats()
    for moments in (stats.inputs, stats.labels):
        yield _frozen(*(getattr(moments, name) for name in ("count", "mean", "std", "min", "max")))


def _column(store: Store, name: str) -> tuple[str, bytes]:
    found = store.sequences[name]
    return repr(found.tolist()), b"" if found.dtype == object else found.tobytes()


def _windows(store: Store) -> dict[str, Iterator[Any]]:
    """Return readers of windows; `windows` and `windows in batches` come with their sequences and starts."""
    targets: dict[str, Target] = {"step": "future", "sequence": "sequence"}
    target = targets.get(store.schema.label_axis)
    if target is None:
        return {}

    def in_batches() -> Iterator[Any]:
        windows = store.windows(WINDOW, target=target)
        for *rows, numbers in windows.batches(4, shuffle=True, index=True):
            for place, number in enumerate(numbers.tolist()):
                yield windows.index.locate(number), _frozen(*(each[place] for each in rows))

    def by_number() -> Iterator[Any]:
        windows = store.windows(WINDOW, target=target)
        count, half = len(windows), MOST // 2
        numbers = sorted({*range(min(half, count)), *range(max(0, count - half), count)})
        for number, rows in zip(numbers, windows.__getitems__(numbers), strict=True):
            yield windows.index.locate(number), _frozen(*rows)

    def without_missing() -> Iterator[Any]:
        windows = store.windows(WINDOW, target=target, missing="skip", value_mask=may_miss_values(store))
        for batch in windows.batches(4, shuffle=True):
            yield _frozen(*batch)

    def by_time() -> Iterator[Any]:
        if store.schema.time is not None:
            moment = 0 if store.schema.time.since is None else MOMENT
            early = store.windows(WINDOW, target=target, before=moment)
            late = store.windows(WINDOW, target=target, after=moment)
            yield _frozen(early.index.first, late.index.first)

    return {
        "windows in batches": in_batches(),
        "windows": by_number(),
        "complete windows": without_missing(),
        "times of windows": by_time(),
    }


def _frozen(*arrays: Any) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Return arrays as a value that is equal only if all bits are."""
    found = [np.asarray(array) for array in arrays]
    return [(array.dtype.str, array.shape, array.tobytes()) for array in found]
