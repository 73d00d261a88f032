"""What a copy that `compact` makes says of itself, so that a call that goes on knows what it was begun with.

In `provenance["compacted"]`, only where the order or a dtype is another: `order`, and `identity`, that which the
sequences copied so far have in the old store, in this order: with another dtype nothing in the copy itself proves it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import store_spec
from builder.build_errors import UsageError
from builder.formats.table import DType
from builder.maintenance.row_order import Order
from builder.planning.packing import Packing
from builder.planning.provenance import of_some
from builder.processes.row_dtypes import ARRAYS, Conversions, check_begun, conversions, conversions_recorded
from store_spec.building import EMPTY_IDENTITY, Ledger, Records, stored_records

RECORD: Final = "compacted"


class Ahead:
    """The tables that prove what sequences of a store are, read once: all of them, in the order of the copy."""

    def __init__(self, old: store_spec.Store) -> None:
        self._old = old
        self._identity = (0, EMPTY_IDENTITY)  # of so many sequences

    @cached_property
    def _records(self) -> Records:
        return stored_records(self._old.snapshot, self._old.selection, statistics=False)

    def records(self, first: int, last: int) -> Records:
        """Return the table rows of some sequences, without statistics."""
        return self._records[first:last]

    def identity(self, count: int) -> str:
        """Return the identity that a store of the first sequences alone has; cheap where `count` rises."""
        done, before = self._identity if self._identity[0] <= count else (0, EMPTY_IDENTITY)
        self._identity = count, self.records(done, count).identity(before, self._old.schema)
        return self._identity[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A copy, or a part of one.

    Args:
        store: It.
        order: Of its sequences.
        identity: Of what was copied; None: it is the copy's own.
    """

    store: store_spec.Store
    order: Order
    identity: str | None

    @classmethod
    def of(cls, store: store_spec.Store) -> Begun:
        """Read what it says of itself."""
        record = store.provenance.get(RECORD)
        record = record if isinstance(record, dict) else {}
        order, identity = Order(), record.get("identity")
        with suppress(UsageError):  # then it is no copy of ours, and its identity says so
            order = Order.parse(str(record.get("order", order)))
        return cls(store=store, order=order, identity=identity if isinstance(identity, str) else None)

    def done(
        self, old: store_spec.Store, ahead: Ahead, packing: Packing, asked: Mapping[str, DType], order: Order | None
    ) -> int:
        """Return how many sequences were copied.

        Args:
            old: The store of which it should be a copy, in the order of that.
            ahead: The tables of it.
            packing: What is asked for now.
            asked: The dtypes that are.
            order: The order that is; None: whichever it was begun with.

        Raises:
            UsageError: It is no copy of the first ones, or was begun with other options.
        """
        part, done = self.store, self.store.counts.sequences
        if not (self._alike(old) and done == len(part) <= len(old) and ahead.identity(done) == self._of_old(old)):
            raise UsageError(
                f"{part.path}: is another store, and no copy of the first sequences of {old.path}"
                f"{'' if self.order.kind == 'store' else f' in the order {self.order}'}; give another path"
            )
        packing.check(part.schema, part.path)
        check_begun(part.schema, asked, part.path)
        if order is not None and order != self.order:
            raise UsageError(
                f"{part.path}: was begun in the order {self.order}, and the option now gives {order}; leave it out, or "
                "give another path"
            )
        return done

    def _of_old(self, old: store_spec.Store) -> str | None:
        """Return the identity that the old store should have."""
        return self.identity if conversions(old.schema, self.store.schema) else self.store.snapshot.root.identity

    def _alike(self, old: store_spec.Store) -> bool:
        """Tell whether rows of both are the same but for their dtypes, and for classes that came later."""
        here, there = self.store.schema, old.schema
        rows = (
            replace(here.rows(name), dtype=there.rows(name).dtype, classes=None)
            == replace(there.rows(name), classes=None)
            for name in ARRAYS
        )
        return all(rows) and all(
            getattr(here, name) == getattr(there, name) for name in ("columns", "time", "filled", "label_axis")
        )


def already_converted(old: store_spec.Store) -> Conversions:
    """Return what earlier copies did to the rows of a store."""
    build = old.provenance.get("build")
    return (conversions_recorded(build.get("converted")) if isinstance(build, dict) else None) or ()


def described_copy(old: store_spec.Store, order: Order, changed: Conversions) -> dict[str, Any]:
    """Return what a copy records before anything was copied: what the old store does of its build, and of itself."""
    provenance = of_some(old.provenance, old.selection)
    provenance = {name: value for name, value in provenance.items() if name != RECORD}
    build = provenance.get("build")
    if changed and isinstance(build, dict):
        pairs = [list(pair) for pair in (*already_converted(old), *changed)]
        provenance["build"] = build | {"converted": pairs}
    if changed or order.kind != "store":
        provenance[RECORD] = {"order": str(order)} | ({"identity": EMPTY_IDENTITY} if changed else {})
    return provenance


def note_copied(ledger: Ledger, ahead: Ahead) -> None:
    """Have the next commit record what its sequences are in the old store, where that has to be."""
    record = ledger.provenance.get(RECORD)
    if isinstance(record, dict) and "identity" in record:
        count = ledger.root.counts.sequences + ledger.ready()
        ledger.provenance[RECORD] = record | {"identity": ahead.identity(count)}
