"""Columns of sequences from the named groups of `sequence_from`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from builder.build_errors import UsageError
from builder.manifest.kept_columns import KeptColumn, keep_column
from builder.sources.grouping import compiled_pattern
from builder.sources.source_list import SourceList
from store_spec import SequenceColumn

_INTEGER = re.compile(r"0|-?[1-9][0-9]{0,17}")  # only in canonical form: 007 is a name


def columns_of(
    pattern: str, listing: SourceList, names: Sequence[str], known: Mapping[str, SequenceColumn]
) -> tuple[KeptColumn, ...]:
    """Return the named groups of a pattern as columns of sequences, (names,) each.

    A column has whole numbers if all values are whole numbers in canonical form, otherwise text.

    Args:
        pattern: The pattern that formed the sources.
        listing: The sources, with their files.
        names: The sources to use.
        known: The columns of an old store, by name.
    """
    import pyarrow as pa

    compiled = compiled_pattern(pattern)
    if not compiled.groupindex:
        return ()
    matches = [compiled.search(listing.files[name][0]) for name in names]
    columns = []
    for group in compiled.groupindex:
        values = ["" if match is None else match[group] or "" for match in matches]
        before = known.get(group)
        column = pa.chunked_array([values], pa.string())
        if (before is None or before.dtype != "string") and all(map(_INTEGER.fullmatch, values)):
            column = column.cast(pa.int64())
        columns.append(keep_column(group, column, before, "sequence_from (--sequence-from)"))
    return tuple(columns)


def check_distinct(of_pattern: Collection[KeptColumn], of_manifest: Collection[KeptColumn]) -> None:
    """Refuse a column that comes from both the pattern and the manifest."""
    names = {one.column.name for one in of_manifest}
    for one in of_pattern:
        if one.column.name in names:
            raise UsageError(
                f"column {one.column.name} is a group of sequence_from (--sequence-from), and also a column of the "
                "manifest's keep (--keep); rename the group"
            )
