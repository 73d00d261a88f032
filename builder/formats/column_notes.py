"""Units and descriptions of columns, from the metadata of Parquet and Arrow fields and of NetCDF variables."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

from builder.formats.arrow import ArrowTable
from builder.formats.joined import JoinedTable
from builder.formats.table import OpenTable
from store_spec import Rows

UNIT: Final = ("units", "unit")  # keys of metadata, in the order in which they are tried
DESCRIPTION: Final = ("long_name", "description", "comment", "standard_name")
_LONGEST: Final = 1_000  # characters; longer texts are cut
Metadata = Mapping[bytes, bytes] | None  # of a field of Arrow


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of features or targets; their units and descriptions, if any, by name."""

    names: tuple[str, ...] | None = None  # None: they have no names
    units: Mapping[str, str] = field(default_factory=dict)
    descriptions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, names: Iterable[str]) -> "Columns":
        """Return columns with these names, which may be columns already."""
        return names if isinstance(names, Columns) else cls(tuple(names))

    def noted(self, units: Mapping[str, str], descriptions: Mapping[str, str]) -> Self:
        """Return the columns with further units and descriptions."""
        return replace(self, units={**self.units, **units}, descriptions={**self.descriptions, **descriptions})

    @classmethod
    def with_metadata(
        cls, names: tuple[str, ...], metadata: Mapping[str, Metadata], changed: Collection[str] = ()
    ) -> Self:
        """Return columns with the units and descriptions in their metadata; those in `changed` lose their unit."""
        units = {name: _first(one, UNIT) for name, one in metadata.items() if name not in changed}
        return cls(names, units, {name: _first(one, DESCRIPTION) for name, one in metadata.items()})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names or ())

    def describe(self, rows: Rows) -> Rows:
        """Return rows with these names, units and descriptions, if they have as many features."""
        if self.names is None or len(self.names) != rows.features:
            return rows
        units, descriptions = (tuple(by.get(name, "") for name in self.names) for by in (self.units, self.descriptions))
        return replace(rows, names=self.names, units=units, descriptions=descriptions)


def columns_of(table: OpenTable, names: tuple[str, ...], changed: Collection[str] = ()) -> Columns:
    """Return columns of a table with their units and descriptions; those in `changed` lose their unit."""
    inner = table.tables[0] if isinstance(table, JoinedTable) else table
    if not isinstance(inner, ArrowTable):
        return Columns(names)
    metadata = {name: one.metadata for one in inner.schema for name in inner.groups[one.name]}
    return Columns.with_metadata(names, metadata, changed)


def _first(metadata: Metadata, keys: Collection[str]) -> str:
    """Return the text of the first key that has one."""
    for key in keys:
        text = (metadata or {}).get(key.encode(), b"").decode(errors="replace").strip()
        if text:
            return " ".join(text.split())[:_LONGEST]
    return ""


def metadata_of(attributes: Mapping[str, Any]) -> dict[str, str]:
    """Return the attributes of a NetCDF variable as metadata of a field."""
    return {key: text for key in (*UNIT, *DESCRIPTION) if isinstance(text := attributes.get(key), str)}
