"""Units and descriptions of columns, from the metadata of Parquet and Arrow fields and of NetCDF variables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from builder.formats.arrow import ArrowTable
from builder.formats.joined import JoinedTable
from builder.formats.table import OpenTable
from store_spec import Rows

UNIT: Final = ("units", "unit")  # keys of metadata, in the order in which they are tried
DESCRIPTION: Final = ("long_name", "description", "comment", "standard_name")
_LONGEST: Final = 1_000  # characters; longer texts are cut


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of features or targets; their units and descriptions, if any, by name."""

    names: tuple[str, ...] | None = None  # None: they have no names
    units: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)

    def describe(self, rows: Rows) -> Rows:
        """Return rows with these names, units and descriptions, if they have as many features."""
        if self.names is None or len(self.names) != rows.features:
            return rows
        units, descriptions = (tuple(by.get(name, "") for name in self.names) for by in (self.units, self.descriptions))
        return replace(rows, names=self.names, units=units, descriptions=descriptions)


def columns_of(table: OpenTable, names: tuple[str, ...], changed: Collection[str] = ()) -> Columns:
    """Return columns of a table with their units and descriptions; those in `changed` lose their unit."""
    inner = table.tables[0][1] if isinstance(table, JoinedTable) else table
    if not isinstance(inner, ArrowTable):
        return Columns(names)
    units: dict[str, str] = {}
    descriptions: dict[str, str] = {}
    for one in inner.schema:
        for name in inner.groups[one.name]:
            units[name] = "" if name in changed else _first(one.metadata, UNIT)
            descriptions[name] = _first(one.metadata, DESCRIPTION)
    return Columns(names, units, descriptions)


def _first(metadata: Mapping[bytes, bytes] | None, keys: Collection[str]) -> str:
    """Return the text of the first key that has one."""
    for key in keys:
        text = (metadata or {}).get(key.encode(), b"").decode(errors="replace").strip()
        if text:
            return " ".join(text.split())[:_LONGEST]
    return ""


def metadata_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of a NetCDF variable as metadata of a field."""
    return {key: text for key in (*UNIT, *DESCRIPTION) if isinstance(text := attributes.get(key), str)}
