"""The record that `compact` keeps in an unfinished copy, so that another call can continue it.

`provenance["compacted"]` exists only if the order or a dtype differs from the old store. It contains `order`, and if a
dtype differs also `identity`: that of the copied sequences in the old store, which cannot be computed from the copy.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final, Self

import store_spec
from builder.build_errors import UsageError
from builder.formats.table import DType
from builder.maintenance.row_order import Order
from builder.planning.packing import Packing
from builder.planning.provenance import select_provenance
from builder.processes.row_dtypes import ARRAYS, Conversions, conversions, parse_conversions
from store_spec.building import EMPTY_IDENTITY, Ledger, Records, stored_records

RECORD: Final = "compacted"


class OldRecords:
    """The table rows of the old store, in the order of the copy, and their identity. The tables are read once."""

    def __init__(self, old: store_spec.Store) -> None:
        self._old = old
        self._identity = (0, EMPTY_IDENTITY)  # the number of sequences, and their identity

    @cached_property
    def _records(self) -> Records:
        return stored_records(self._old.snapshot, self._old.selection, statistics=False)

    def records(self, first: int, last: int) -> Records:
        """Return the table rows of some sequences, without statistics."""
        return self._records[first:last]

    def identity(self, count: int) -> str:
        """Return the identity of a store with only the first `count` sequences; fast if `count` increases."""
        done, before = self._identity if self._identity[0] <= count else (0, EMPTY_IDENTITY)
        self._identity = count, self.records(done, count).identity(before, self._old.schema)
        return self._identity[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialCopy:
    """A copy, which may be unfinished."""

    store: store_spec.Store
    order: Order
    identity: str | None  # of the copied sequences in the old store; None: it is that of the copy

    @classmethod
    def of(cls, store: store_spec.Store) -> Self:
        """Read the record of a copy."""
        record = store.provenance.get(RECORD)
        record = record if isinstance(record, dict) else {}
        order, identity = Order(), record.get("identity")
        with suppress(UsageError):  # then `count_copied` finds that its identity differs
            order = Order.parse(str(record.get("order", order)))
        return cls(store=store, order=order, identity=identity if isinstance(identity, str) else None)

    def count_copied(
        self,
        old: store_spec.Store,
        old_records: OldRecords,
        packing: Packing,
        dtypes: Mapping[str, DType],
        order: Order | None,
    ) -> int:
        """Return how many sequences were copied; refuse other stores, and copies with other options.

        Args:
            old: The old store, in the order of the copy.
            old_records: Its table rows.
            packing: The packing options of this call.
            dtypes: The dtypes of this call.
            order: The order of this call; None: that of the copy.
        """
        copy, done = self.store, self.store.counts.sequences
        identity = self.identity if conversions(old.schema, copy.schema) else copy.snapshot.root.identity
        if not (self._has_same_rows(old) and done == len(copy) <= len(old) and old_records.identity(done) == identity):
            raise UsageError(
                f"{copy.path}: is not a copy of the first sequences of {old.path}"
                f"{'' if self.order.kind == 'store' else f' in the order {self.order}'}; give another path"
            )
        packing.check(copy.schema, copy.path)
        for name, dtype in dtypes.items():
            if copy.schema.rows(name).dtype != dtype:
                raise UsageError(
                    f"{copy.path}: {name} are {copy.schema.rows(name).dtype} there, but the option is now {dtype}; "
                    "leave it out, or give another path"
                )
        if order is not None and order != self.order:
            raise UsageError(
                f"{copy.path}: was begun in the order {self.order}, but the option is now {order}; leave it out, or "
                "give another path"
            )
        return done

    def _has_same_rows(self, old: store_spec.Store) -> bool:
        """Return whether the schemas agree, except for dtypes and classes."""
        here, there = self.store.schema, old.schema
        rows = (
            replace(here.rows(name), dtype=there.rows(name).dtype, classes=None)
            == replace(there.rows(name), classes=None)
            for name in ARRAYS
        )
        return all(rows) and all(
            getattr(here, name) == getattr(there, name) for name in ("columns", "time", "filled", "label_axis")
        )


def earlier_conversions(old: store_spec.Store) -> Conversions:
    """Return the conversions by earlier copies of the rows of a store."""
    build = old.provenance.get("build")
    return (parse_conversions(build.get("converted")) if isinstance(build, dict) else None) or ()


def copy_provenance(old: store_spec.Store, order: Order, changed: Conversions) -> dict[str, Any]:
    """Return the provenance of a new copy: the record of the old store's build, and that of the copy."""
    provenance = select_provenance(old.provenance, old.selection)
    provenance = {name: value for name, value in provenance.items() if name != RECORD}
    build = provenance.get("build")
    if changed and isinstance(build, dict):
        pairs = [list(pair) for pair in (*earlier_conversions(old), *changed)]
        provenance["build"] = build | {"converted": pairs}
    if changed or order.kind != "store":
        provenance[RECORD] = {"order": str(order)} | ({"identity": EMPTY_IDENTITY} if changed else {})
    return provenance


def note_copied(ledger: Ledger, old_records: OldRecords) -> None:
    """Make the next commit record the identity of its sequences in the old store, if the copy records it."""
    record = ledger.provenance.get(RECORD)
    if isinstance(record, dict) and "identity" in record:
        count = ledger.root.counts.sequences + ledger.ready()
        ledger.provenance[RECORD] = record | {"identity": old_records.identity(count)}
