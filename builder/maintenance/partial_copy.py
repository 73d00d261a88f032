"""The order of a copy, and the record that `compact` keeps in an unfinished copy, so that another call can continue it.

`provenance["compacted"]` exists only if the order or a dtype differs from the old store. It contains `order`, and if a
dtype differs also `identity`: that of the copied sequences in the old store, which cannot be computed from the copy.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.build_errors import UsageError
from builder.formats.table import DType
from builder.planning.packing import Packing
from builder.planning.provenance import earlier_conversions, select_provenance
from builder.processes.row_dtypes import ARRAYS, Conversions, conversions
from store_spec.building import EMPTY_IDENTITY, Ledger, Records

RECORD: Final = "compacted"
ORDERS: Final = ("store", "name", "length", "shuffle")
_SEED: Final = re.compile(r"[0-9]{1,18}")


def parse_order(text: str) -> str:
    """Return an order of sources in its normalised form.

    `store`: unchanged. `name`: as in a single build. `length`: by the steps of all parts, the shortest first.
    `shuffle:SEED`: by a hash of the name and the seed, by default 0, which does not depend on other sources.

    >>> parse_order("shuffle:7"), parse_order("shuffle")
    ('shuffle:7', 'shuffle:0')
    """
    word, colon, seed = text.strip().partition(":")
    if word == "shuffle" and (not colon or _SEED.fullmatch(seed)):
        return f"shuffle:{int(seed or 0)}"
    if word in ORDERS and not colon:
        return word
    raise UsageError(f"order={text!r:.80} is not one of {', '.join(ORDERS)}; a seed is a whole number: shuffle:7")


def sort_sequences(
    order: str, sources: Sequence[str], parts: NDArray[np.int64], lengths: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the indices (sequences,) of the sequences in an order, which keeps the parts of a source together.

    Args:
        order: `name`, `length` or `shuffle:SEED`.
        sources: The source of each sequence; there is at least one.
        parts: (sequences,) the number of each sequence within its source; a source begins at part 0.
        lengths: (sequences,) the steps of each sequence.

    >>> sort_sequences("length", ["a", "b", "b"], np.array([0, 0, 1]), np.array([9, 2, 3])).tolist()
    [1, 2, 0]
    """
    firsts = np.flatnonzero(parts == 0)  # the first sequence of each source
    source_of = np.searchsorted(firsts, np.arange(len(sources)), "right") - 1
    names = [sources[first] for first in firsts.tolist()]
    kind, _, seed = order.partition(":")
    keys: list[Any] = names
    if kind == "length":
        keys = np.add.reduceat(lengths, firsts).tolist()
    elif kind == "shuffle":
        keys = [hashlib.sha256(f"order {seed}:{name}".encode()).digest() for name in names]
    rank = np.empty(len(firsts), np.int64)  # of each source in the new order
    rank[sorted(range(len(keys)), key=keys.__getitem__)] = np.arange(len(firsts))
    return np.argsort(rank[source_of], kind="stable")


class OldRecords:
    """The table rows of the old store, in the order of the copy, and their identity. The tables are read once."""

    def __init__(self, old: store_spec.Store) -> None:
        self._old = old
        self._identity = (0, EMPTY_IDENTITY)  # the number of sequences, and their identity

    @cached_property
    def records(self) -> Records:
        """The table rows, without statistics."""
        return self._old.snapshot.records(self._old.selection, statistics=False)

    def identity(self, count: int) -> str:
        """Return the identity of a store with only the first `count` sequences; fast if `count` increases."""
        done, before = self._identity if self._identity[0] <= count else (0, EMPTY_IDENTITY)
        self._identity = count, self.records[done:count].identity(before, self._old.schema)
        return self._identity[1]


def _record(copy: store_spec.Store) -> dict[str, Any]:
    record = copy.provenance.get(RECORD)
    return record if isinstance(record, dict) else {}


def order_of(copy: store_spec.Store) -> str:
    """Return the order of a copy, which may be unfinished."""
    with suppress(UsageError):  # then `count_copied` finds that its identity differs
        return parse_order(str(_record(copy).get("order", "store")))
    return "store"


def count_copied(
    copy: store_spec.Store,
    old: store_spec.Store,
    old_records: OldRecords,
    *,
    packing: Packing,
    dtypes: Mapping[str, DType],
    order: str | None,
) -> int:
    """Return how many sequences were copied; refuse other stores, and copies with other options.

    Args:
        copy: The copy, which may be unfinished.
        old: The old store, in the order of the copy.
        old_records: Its table rows.
        packing: The packing options of this call.
        dtypes: The dtypes of this call.
        order: The order of this call; None: that of the copy.
    """
    done, before = copy.counts.sequences, order_of(copy)
    has_changed = bool(conversions(old.schema, copy.schema))
    identity = _record(copy).get("identity") if has_changed else copy.snapshot.root.identity
    if not (_has_same_rows(copy, old) and done == len(copy) <= len(old) and old_records.identity(done) == identity):
        raise UsageError(
            f"{copy.path}: is not a copy of the first sequences of {old.path}"
            f"{'' if before == 'store' else f' in the order {before}'}; give another path"
        )
    packing.check(copy.schema, copy.path)
    for name, dtype in dtypes.items():
        if copy.schema.rows(name).dtype != dtype:
            raise UsageError(
                f"{copy.path}: {name} are {copy.schema.rows(name).dtype} there, but the option is now {dtype}; "
                "leave it out, or give another path"
            )
    if order not in (None, before):
        raise UsageError(
            f"{copy.path}: was begun in the order {before}, but the option is now {order}; leave it out, or give "
            "another path"
        )
    return done


def _has_same_rows(copy: store_spec.Store, old: store_spec.Store) -> bool:
    """Return whether the schemas agree, except for dtypes and classes."""
    here, there = copy.schema, old.schema
    rows = (
        replace(here.rows(name), dtype=there.rows(name).dtype, classes=None) == replace(there.rows(name), classes=None)
        for name in ARRAYS
    )
    return all(rows) and all(
        getattr(here, name) == getattr(there, name) for name in ("columns", "time", "filled", "label_axis")
    )


def copy_provenance(old: store_spec.Store, order: str, changed: Conversions) -> dict[str, Any]:
    """Return the provenance of a new copy: the record of the old store's build, and that of the copy."""
    provenance = select_provenance(old.provenance, old.selection)
    provenance = {name: value for name, value in provenance.items() if name != RECORD}
    build = provenance.get("build")
    if changed and isinstance(build, dict):
        pairs = [list(pair) for pair in (*earlier_conversions(old), *changed)]
        provenance["build"] = build | {"converted": pairs}
    if changed or order != "store":
        provenance[RECORD] = {"order": order} | ({"identity": EMPTY_IDENTITY} if changed else {})
    return provenance


def note_copied(ledger: Ledger, old_records: OldRecords) -> None:
    """Make the next commit record the identity of its sequences in the old store, if the copy records it."""
    record = ledger.provenance.get(RECORD)
    if isinstance(record, dict) and "identity" in record:
        count = ledger.root.counts.sequences + ledger.ready()
        ledger.provenance[RECORD] = record | {"identity": old_records.identity(count)}
