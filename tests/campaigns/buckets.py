"""Buckets: writers on an object store are killed at every request, meet every fault, and are overtaken by others.

The object store is obstore's, in memory. Each request passes through `Requests`, which numbers and disturbs it.
"""

from __future__ import annotations

import contextlib
import random
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Literal
from unittest import mock

import obstore
from obstore.exceptions import GenericError
from obstore.store import MemoryStore
from zarr.storage import ObjectStore

import store_spec
from store_spec import StoreError
from store_spec.disk.object_ledger import ObjectLedger
from store_spec.disk.object_storage import WritableObjects
from store_spec.disk.storage import PROBE
from store_spec.errors import ConflictError, MissingStoreError
from store_spec.format.layout import ROOT
from tests.campaigns.outcome import Outcome
from tests.campaigns.rivals import RECIPE, sequence, what_is_lost
from tests.store.oracle import files, same

COMMITS = ((0, 3), (3, 7), (7, 12))  # the sequences of each commit; before the last one the store is opened again
SEQUENCES = [sequence(f"walk/{number}") for number in range(12)]

Fault = Literal["killed before", "killed after", "reply lost", "reply lost for good", "refused"]
FAULTS: tuple[Fault, ...] = ("killed before", "killed after", "reply lost", "reply lost for good", "refused")
CALLS = ("put", "get", "head", "list_with_delimiter", "delete")


class Killed(BaseException):
    """The process is dead: no request is made any more."""


class Requests:
    """Stands in for the functions of obstore: counts the requests, and disturbs some of them.

    Args:
        faults: What happens to requests, by their number from 0; a function is called before the request.
    """

    def __init__(self, faults: Mapping[int, Fault | Callable[[], None]] | None = None) -> None:
        self.faults = dict(faults or {})
        self.count, self.dead = 0, False
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def instead(self) -> Iterator[None]:
        """Let all requests of this process pass through here."""
        with ExitStack() as stack:
            for name in CALLS:
                call = partial(self._call, name, getattr(obstore, name))
                stack.enter_context(mock.patch.object(obstore, name, call))
            yield

    def _call(self, name: str, real: Callable[..., Any], *given: Any, **options: Any) -> Any:
        with self._lock:
            fault, self.count = self.faults.get(self.count), self.count + 1
            if self.dead or fault == "killed before":
                self.dead = True
                raise Killed
            if fault == "killed after":
                self.dead = True
                real(*given, **options)
                raise Killed
        if fault == "refused":
            raise GenericError("503 Slow Down, ten times")
        if callable(fault):
            fault()
        answer = real(*given, **options)
        if name == "put" and fault == "reply lost":
            return real(*given, **options)  # the client asks again, as obstore does
        if name == "put" and fault == "reply lost for good":
            raise GenericError("connection reset by peer")
        return answer


def campaign(*, quick: bool) -> Outcome:
    """Disturb every request, or in the quick form a sample of them; then let others overtake the writer."""
    due, count = undisturbed()
    figures = {"requests": count}
    broken: list[str] = []
    for fault in FAULTS:
        places = range(FAULTS.index(fault), count, 134 if quick else 1)
        for at in places:
            broken += disturbed(fault, at, due)
        figures[fault] = len(places)
    every = list(range(0, count, 134 if quick else 1))
    rng = random.Random(0)
    pairs = [(rng.randrange(count), rng.randrange(count + 100)) for _ in range(6 if quick else 300)]
    refused = 0
    for where in [*((place,) for place in every), *pairs]:
        found = overtaken(*where)
        refused, broken = refused + found[0], broken + found[1]
    figures |= {"overtaken": len(every) + len(pairs), "of these refused": refused}
    sample = range(0, count, 29 if quick else 7)
    controls = {
        "the root last": sum(bool(without_order(at, due)) for at in sample),
        "a look at the claim": overtaken_without("check_claim", _nothing, sample),
        "puts that depend on what is there": overtaken_without("_put", _put_over, sample),
    }
    return Outcome(
        figures=figures,
        violations=broken,
        controls=controls,
    )


def undisturbed() -> tuple[dict[str, bytes], int]:
    """Return the objects of the finished store, which are those of a folder, and how many requests made them."""
    store, requests = ObjectStore(MemoryStore()), Requests()
    with requests.instead():
        write(store, [])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "store.zarr")
        write(folder, [])
        found = files(folder)
    assert objects(store) == found
    return found, requests.count


def write(store: Any, acknowledged: list[int]) -> None:
    """Write all sequences in three commits, on top of those that are there; note how many were acknowledged."""
    there = 0
    with contextlib.suppress(MissingStoreError):
        there = len(store_spec.open_store(store))
        acknowledged.append(there)
        created = True
    if not acknowledged:
        created = False
    for start, stop in COMMITS:
        if stop <= there:
            continue
        opened = store_spec.open_store(store, "a") if created else RECIPE.create(store)
        created = True
        with contextlib.closing(opened) as writer:
            for one in SEQUENCES[max(start, there) : stop]:
                writer.append(one.inputs, one.labels, source=one.source)
            writer.commit()
            acknowledged.append(stop)


def objects(store: ObjectStore[Any]) -> dict[str, bytes]:
    """Return the objects of a store by key, without those that tried out the server."""
    keys = [found["path"] for page in obstore.list(store.store) for found in page]
    return {key: bytes(obstore.get(store.store, key).bytes()) for key in keys if not key.startswith(PROBE)}


def disturbed(fault: Fault, at: int, due: dict[str, bytes]) -> list[str]:
    """Write a store, with one request disturbed; return what is wrong then, and after the next writer."""
    store, requests, acknowledged = ObjectStore(MemoryStore()), Requests({at: fault}), list[int]()
    with requests.instead(), contextlib.suppress(Killed, StoreError):
        write(store, acknowledged)
    where = f"{fault}, request {at}"
    broken = [f"{where}: {what}" for what in wrong(store, acknowledged)]
    try:
        write(store, [])
        store_spec.open_store(store, "a").close()
    except StoreError as error:
        return [*broken, f"{where}: the next writer is refused: {error}"]
    found = objects(store)
    if found != due:
        others = sorted(key for key in found.keys() | due.keys() if found.get(key) != due.get(key))
        broken.append(f"{where}: after the next writer these objects are others: {others[:5]}")
    return broken


def wrong(store: ObjectStore[Any], acknowledged: list[int]) -> list[str]:
    """Return what is wrong with what a reader sees after a writer died."""
    allowed = {acknowledged[-1] if acknowledged else 0}
    allowed |= {stop for _, stop in COMMITS if stop > max(allowed)} and {min(s for _, s in COMMITS if s > max(allowed))}
    try:
        seen = store_spec.open_store(store)
        if len(seen) not in allowed:
            return [f"{len(seen)} sequences are there, where {sorted(allowed)} are allowed"]
        for number, one in enumerate(SEQUENCES[: len(seen)]):
            inputs, labels = seen[number]
            if not (same(inputs, one.inputs) and same(labels, one.labels)):
                return [f"{one.source} has other rows"]
        return [str(problem) for problem in store_spec.verify(store) if not problem.leftover][:1]
    except MissingStoreError as error:
        return [] if not acknowledged else [f"the store is gone: {error}"]
    except StoreError as error:
        return [f"the store cannot be read: {error}"]


def without_order(at: int, due: dict[str, bytes]) -> list[str]:
    """Disturb a writer that puts the root before the tables."""
    real = ObjectLedger._write

    def root_first(ledger: ObjectLedger, new: Any, root: Any, data: bytes) -> None:
        if ledger._committed is not None:
            ledger._storage.put_root(root.encode())
        real(ledger, new, root, data)

    with mock.patch.object(ObjectLedger, "_write", root_first):
        return disturbed("killed before", at, due)


def overtaken(*places: int) -> tuple[int, list[str]]:
    """Write a store, while another writer opens it, commits and closes it before each of these requests.

    The requests of the other writers count too, so the second may come while the first is at work.

    Returns:
        How many commits were refused, and what is wrong afterwards.
    """
    store, acknowledged, refused = ObjectStore(MemoryStore()), list[int](), 0
    names, tried = list[str](), [one.source for one in SEQUENCES]

    def rival() -> None:
        nonlocal refused
        new = sequence(f"rival/{len(tried)}")
        tried.append(new.source)
        try:
            with contextlib.closing(store_spec.open_store(ObjectStore(store.store), "a")) as writer:
                writer.append(new.inputs, new.labels, source=new.source)
                writer.commit()
                names.append(new.source)
        except MissingStoreError:
            pass  # the first writer has not created it yet
        except ConflictError:
            refused += 1

    found = []
    with Requests(dict.fromkeys(places, rival)).instead():
        try:
            write(store, acknowledged)
        except ConflictError:
            refused += 1
        except StoreError as error:
            found.append(f"the writer is refused: {error}")
    names += [one.source for one in SEQUENCES[: acknowledged[-1] if acknowledged else 0]]
    if names:
        found += what_is_lost(store, names, set(tried))[1]
    return refused, [f"overtaken at {places}: {what}" for what in found]


def overtaken_without(name: str, other: Callable[..., Any], places: Iterable[int]) -> int:
    """Return in how many places a writer that is overtaken without a safeguard damages the store."""
    with mock.patch.object(WritableObjects, name, other):
        return sum(bool(overtaken(place)[1]) for place in places)


def _nothing(*_: Any) -> None: ...


def _put_over(storage: WritableObjects, key: str, data: bytes, seen: Any) -> Any:
    """Put an object in the place of any other one."""
    return _REAL_PUT(storage, key, data, seen if key.startswith(PROBE) or key == ROOT else storage._version(key))


_REAL_PUT = WritableObjects._put
