"""Disturb writers on an object store at every request: kills, faults, and other writers that commit first.

The object store is obstore's store in memory. `Requests` intercepts and numbers the requests.
"""

import contextlib
import random
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any
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
from tests.campaigns.rivals import RECIPE, append, find_losses, sequence
from tests.campaigns.scenarios import describe, visible_state
from tests.campaigns.trees import difference
from tests.store.oracle import files

COMMITS = (0, 3, 7, 12)  # the number of sequences before the first commit and after each
SEQUENCES = [sequence(f"walk/{number}") for number in range(COMMITS[-1])]

FAULTS = ("killed before", "killed after", "response lost", "response lost for good", "rejected")
CALLS = ("put", "get", "head", "list_with_delimiter", "delete")
WRITE, PUT = ObjectLedger._write, WritableObjects._put


class Killed(BaseException):
    """The process is dead and makes no further requests."""


class Requests:
    """Stands in for the functions of obstore, counts the requests, and disturbs some of them.

    `faults` has one of FAULTS, or a function to call before the request, by the number of a request.
    """

    def __init__(self, faults: Mapping[int, str | Callable[[], None]] | None = None) -> None:
        self.faults = dict(faults or {})
        self.count, self.is_dead = 0, False
        self._lock = threading.Lock()

    def installed(self) -> Any:
        """Return a context in which requests are intercepted."""
        calls: dict[str, Any] = {name: partial(self._call, name, getattr(obstore, name)) for name in CALLS}
        return mock.patch.multiple(obstore, **calls)

    def _call(self, name: str, real: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self._lock:
            fault, self.count = self.faults.get(self.count), self.count + 1
            if self.is_dead or fault in {"killed before", "killed after"}:
                if not self.is_dead and fault == "killed after":
                    real(*arguments, **options)
                self.is_dead = True
                raise Killed
        if fault == "rejected":
            raise GenericError("503 Slow Down, ten times")
        if callable(fault):
            fault()
        response = real(*arguments, **options)
        if name == "put" and fault == "response lost":
            return real(*arguments, **options)  # obstore repeats the request
        if name == "put" and fault == "response lost for good":
            raise GenericError("connection reset by peer")
        return response


def campaign(*, quick: bool) -> Outcome:
    """Disturb every request, or in the quick form a sample of them."""
    expected, count = write_undisturbed()
    outcome, rng = Outcome(Counter(requests=count)), random.Random(0)
    places = [range(number, count, 134 if quick else 1) for number in range(len(FAULTS))]
    for fault, some in zip(FAULTS, places, strict=True):
        for place in some:
            outcome.count(fault, f"{fault}, request {place}", write_with_fault(fault, place, expected))
    pairs = [(rng.randrange(count), rng.randrange(count + 100)) for _ in range(6 if quick else 300)]
    for overtaken in [*((place,) for place in places[0]), *pairs]:
        rejected, problem = write_with_rivals(*overtaken)
        outcome.figures["overtaken and rejected"] += rejected
        outcome.count("overtaken", f"overtaken at {overtaken}", problem)
    some = range(0, count, 29 if quick else 7)
    with mock.patch.object(ObjectLedger, "_write", _write_root_first):
        problems = (write_with_fault("killed before", place, expected) for place in some)
        outcome.control("writing the root last", problems)
    with mock.patch.object(WritableObjects, "check_claim", return_value=None):
        outcome.control("checks of the claim", (write_with_rivals(place)[1] for place in some))
    with mock.patch.object(WritableObjects, "_put", _put_unconditionally):
        outcome.control("conditional puts", (write_with_rivals(place)[1] for place in some))
    return outcome


def write_undisturbed() -> tuple[dict[str, bytes], int]:
    """Return the objects of the complete store, which equal the files of a local one, and the number of requests."""
    store, requests = ObjectStore(MemoryStore()), Requests()
    with requests.installed():
        write(store, [])
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "store.zarr")
        write(folder, [])
        expected = files(folder)
    assert objects(store) == expected
    return expected, requests.count


def write(store: Any, acknowledged: list[int]) -> None:
    """Write the missing sequences, opening the store again for each commit.

    The number of sequences that was found, and that after each commit, is appended to `acknowledged`.
    """
    with contextlib.suppress(MissingStoreError):
        acknowledged.append(len(store_spec.open_store(store)))
    found = acknowledged[-1] if acknowledged else 0
    for start, stop in pairwise(COMMITS):
        if stop <= found:
            continue
        with contextlib.closing(store_spec.open_store(store, "a") if acknowledged else RECIPE.create(store)) as writer:
            for one in SEQUENCES[max(start, found) : stop]:
                append(writer, one)
            writer.commit()
            acknowledged.append(stop)


def objects(store: ObjectStore[Any]) -> dict[str, bytes]:
    """Return the objects of a store by key, without those that test the server."""
    keys = [found["path"] for page in obstore.list(store.store) for found in page]
    return {key: bytes(obstore.get(store.store, key).bytes()) for key in keys if not key.startswith(PROBE)}


def write_with_fault(fault: str, place: int, expected: dict[str, bytes]) -> str:
    """Write a store with a fault at one request, and then complete it; return the violation, or ""."""
    store, acknowledged = ObjectStore(MemoryStore()), list[int]()
    with Requests({place: fault}).installed(), contextlib.suppress(Killed, StoreError):
        write(store, acknowledged)
    committed = acknowledged[-1] if acknowledged else 0
    allowed = {committed, *[count for count in COMMITS if count > committed][:1]}  # that in progress, too
    try:
        seen = (0, *COMMITS)[visible_state(store, [None, *(SEQUENCES[:count] for count in COMMITS)])]
        if seen not in allowed:
            return f"readers see {seen} sequences, not one of {sorted(allowed)}"
        write(store, [])
        store_spec.open_store(store, "a").close()
    except Exception as error:  # noqa: BLE001
        return describe(error)
    differs = difference(objects(store), expected)
    return differs and f"after the next writer, {differs}"


def write_with_rivals(*places: int) -> tuple[int, str]:
    """Write a store, while another writer opens it, commits and closes it before each of these requests.

    The requests of the other writers count too, so the second may start while the first is running. Return how many
    commits were rejected, and the violations.
    """
    store, own, rejected = ObjectStore(MemoryStore()), list[int](), 0
    acknowledged, tried = list[str](), [one.source for one in SEQUENCES]

    def commit_as_rival() -> None:
        nonlocal rejected
        tried.append(f"rival/{len(tried)}")
        new = sequence(tried[-1])
        try:
            with contextlib.closing(store_spec.open_store(ObjectStore(store.store), "a")) as writer:
                append(writer, new)
                writer.commit()
                acknowledged.append(new.source)
        except MissingStoreError:
            pass  # not created yet
        except ConflictError:
            rejected += 1

    problems = []
    with Requests(dict.fromkeys(places, commit_as_rival)).installed():
        try:
            write(store, own)
        except ConflictError:
            rejected += 1
        except StoreError as error:
            problems.append(f"the writer fails: {error}")
    acknowledged += tried[: own[-1] if own else 0]
    if acknowledged:
        problems += find_losses(store, acknowledged, set(tried))[1]
    return rejected, "; ".join(problems)


def _write_root_first(ledger: ObjectLedger, new: Any, root: Any, data: bytes) -> None:
    if ledger._committed is not None:
        ledger._storage.put_root(root.encode())
    WRITE(ledger, new, root, data)


def _put_unconditionally(storage: WritableObjects, key: str, data: bytes, seen: Any) -> Any:
    return PUT(storage, key, data, seen if key.startswith(PROBE) or key == ROOT else storage._version(key))
