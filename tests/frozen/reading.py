"""Digests of everything that the reader returns for a store."""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from store_spec import Store, StoreError

SPAN = 64  # steps of a window at most
WINDOWS = 3_000  # about as many windows, if the store has more steps than this
BATCH = 32
Options = dict[str, Any]
SHUFFLED: Options = {"shuffle": True, "seed": 0}

# Arguments of `windows`, and of its batches. A function is called with the store.
WINDOWS_OF: Mapping[str, tuple[Options, Options]] = {
    "in order": ({}, {}),
    "seed 0": ({}, SHUFFLED),
    "seed 1": ({}, {"shuffle": True, "seed": 1}),
    "epoch 1": ({}, SHUFFLED | {"epoch": 1}),
    "rank 1 of 2": ({}, SHUFFLED | {"rank": 1, "world_size": 2}),
    "little memory": ({}, SHUFFLED | {"memory": "1MB", "drop_last": True}),
    "target future": ({"target": "future", "horizon": 2, "lead": 1}, SHUFFLED),
    "target last": ({"target": "last"}, SHUFFLED),
    "target aligned": ({"target": "aligned", "sampling_rate": 2}, SHUFFLED),
    "target sequence": ({"target": "sequence"}, SHUFFLED),
    "short ones padded": ({"short": "pad"}, SHUFFLED),
    "random phase": ({"phase": "random"}, SHUFFLED | {"epoch": 2}),
    "first 80 %": ({"steps": (0.0, 0.8)}, SHUFFLED),
    "one feature": ({"features": [0]}, SHUFFLED),
    "future inputs": ({"future": [0]}, SHUFFLED),
    "without missing values": ({"missing": "skip"}, SHUFFLED),
    "mask": ({"value_mask": True}, SHUFFLED),
    "normalized": ({"normalize": lambda store: store.stats()}, {"index": False}),
    "normalized from 0 to 1": ({"normalize": lambda store: store.stats().minmax()}, {"index": False}),
    "normalized by quantiles": ({"normalize": lambda store: store.stats().robust()}, {"index": False}),
    "normalized by window": ({"normalize": "window"}, {}),
    "normalized by sequence": ({"normalize": "sequence"}, {}),
}
PADDED_OF: Mapping[str, Options] = {
    "in order": {"lengths": True},
    "seed 0": SHUFFLED,
    "seed 1, in buckets": {"shuffle": True, "seed": 1, "bucket": True, "drop_last": True},
    "cut, at the start": SHUFFLED | {"side": "start", "truncate": 9, "truncate_side": "start"},
    "rank 1 of 2": SHUFFLED | {"rank": 1, "world_size": 2},
    "mask of values": {"value_mask": True},
    "normalized by sequence": {"normalize": "sequence"},
    "by steps": {"batch_size": None, "index": False, "max_steps": lambda store: 3 * int(store.lengths.max(initial=1))},
}
STREAMS_OF: Mapping[str, Options] = {
    "in order": {"mask": True},
    "seed 0": SHUFFLED | {"mask": True},
    "seed 1, aligned": {"shuffle": True, "seed": 1, "align": True, "mask": True},
    "rank 1 of 2": SHUFFLED | {"rank": 1, "world_size": 2},
    "mask of values": {"value_mask": True},
}


def readings(path: Path) -> dict[str, str]:
    """Return by name a digest of each kind of result, or the error that explains its absence."""
    store = store_spec.open_store(path)
    found = {name: digest_or_error(read, store) for name, read in FACTS.items()}
    span, stride = window_of(store)
    usual: Options = {"window": span, "stride": stride}
    if store.schema.label_axis != "step":
        usual["target"] = "sequence"
    for name, (shape, options) in WINDOWS_OF.items():
        found[f"windows, {name}"] = digest_or_error(epoch_of, store, usual | shape, {"index": True} | options)
    found["windows, resumed"] = digest_or_error(resumed, store, usual)
    for name, options in PADDED_OF.items():
        wanted = {"batch_size": 8, "index": True} | options
        found[f"padded, {name}"] = digest_or_error(partial(store.padded, **resolved(store, wanted)))
    for name, options in STREAMS_OF.items():
        found[f"streams, {name}"] = digest_or_error(partial(store.streams, 4, span, **options))
    return found


def window_of(store: Store) -> tuple[int, int]:
    """Return the length of windows, chosen so that most sequences have some, and their stride."""
    lengths = store.lengths
    span = min(max(int(np.median(lengths)) // 2, 1), SPAN) if len(lengths) else 1
    return span, max(span // 3, int(lengths.sum()) // WINDOWS, 1)


def resolved(store: Store, options: Options) -> Options:
    """Return options with the results of their functions."""
    return {name: value(store) if callable(value) else value for name, value in options.items()}


def epoch_of(store: Store, shape: Options, options: Options) -> Iterable[Any]:
    """Return the batches of windows."""
    return store.windows(**resolved(store, shape)).batches(BATCH, **options)


def resumed(store: Store, shape: Options) -> Iterable[Any]:
    """Return the batches after the first two, resumed from the state there."""
    windows = store.windows(**shape)
    first, rest = (windows.batches(BATCH, shuffle=True, seed=3) for _ in range(2))
    for _ in zip(range(2), first, strict=False):
        pass
    rest.load_state_dict(first.state_dict())
    return rest


FACTS: Mapping[str, Callable[[Store], Any]] = {
    "sequences": lambda store: (store[number] for number in range(len(store))),
    "columns": lambda store: dict(store.sequences),
    "times": lambda store: (store.times(number) for number in range(len(store))),
    "statistics": lambda store: (astuple(store.stats().inputs), astuple(store.stats().labels)),
    "quantiles": lambda store: astuple(store.quantiles([0.1, 0.5, 0.9])),
    "class names": lambda store: store.class_names(),
    "class counts": lambda store: [getattr(store.class_counts(0), name) for name in ("values", "rows")],
    "sequence weights": lambda store: store.sequence_weights(),
    "splits": lambda store: [store.split(name, allow_empty=True).selection for name in ("train", "val", "test")],
    "splits by columns": lambda store: {
        column: store.split("train", by=column, allow_empty=True).selection for column in [*store.sequences][3:]
    },
    "folds": lambda store: [one.selection for pair in store.folds(2) for one in pair],
    "problems": lambda store: sorted(problem.where for problem in store_spec.verify(store.path)),
}


def digest_or_error(read: Callable[..., Any], *arguments: Any) -> str:
    """Return the digest of what a function returns, or the name of the store's error that it raises."""
    try:
        return digest(read(*arguments))
    except StoreError as error:
        return type(error).__name__


def digest(value: Any) -> str:
    """Return the SHA-256 of arrays, with their dtypes and shapes, in tuples, lists, mappings and iterators of them."""
    total = hashlib.sha256()
    feed(total.update, value)
    return total.hexdigest()


def feed(update: Callable[[Any], None], value: Any) -> None:
    """Hash a value: its type, and its content."""
    if isinstance(value, Mapping):
        value = sorted(value.items())
    if isinstance(value, np.ndarray | np.generic):
        feed_array(update, np.asarray(value))
    elif value is None or isinstance(value, str | int | float):
        update(f"{type(value).__name__} {value!r}\n".encode())
    else:
        update(b"(\n")
        for each in value:
            feed(update, each)
        update(b")\n")


def feed_array(update: Callable[[Any], None], array: NDArray[Any]) -> None:
    """Hash an array."""
    update(f"{array.dtype.str} {array.shape}\n".encode())
    update(repr(array.tolist()).encode() if array.dtype.hasobject else np.ascontiguousarray(array).tobytes())
