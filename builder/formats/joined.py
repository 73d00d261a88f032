"""Join the tables of several files that form one source."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from builder.build_errors import SourceError, of_source
from builder.formats import open_table
from builder.formats.arrow_modules import pa
from builder.formats.column_choice import list_names
from builder.formats.table import HIDDEN, DType, Frame, OpenTable, reading
from builder.options.table_options import TableOptions

_OF_ROW: Final = re.compile(r"(^|; also | in )row ([0-9,]*[0-9])")


@dataclass(frozen=True, slots=True, kw_only=True)
class JoinedTable(OpenTable):
    """The rows of several tables, one after another. Rows are numbered across all files."""

    tables: Sequence[OpenTable]  # of its files; at least one

    def pieces(self) -> Sequence[OpenTable]:
        """Return the pieces of all files; the table itself unless all files have the same types of columns."""
        first, *others = (table.types for table in self.tables)
        if first is None or any(types != first for types in others):
            return (self,)
        return [piece for table in self.tables for piece in table.pieces()]

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Read columns of all files; see `OpenTable`. Types that differ are promoted to a common type."""
        columns = [*names, *(HIDDEN + name for name in raw)]
        shown = [table.read(names, dtype, raw).select(columns) for table in self.tables]
        with reading(advice="are its files alike?"):
            joined = pa.concat_tables(shown, promote_options="permissive")
        if any(pa.types.is_list(kind) for kind in joined.schema.types):  # arrays of one shape have a fixed size
            raise SourceError("its files have steps of different shapes")
        return joined

    def place(self, row: int) -> tuple[str | None, int]:
        """Return the file of a row of the source, and its number in the file; both numbers are from 1.

        Text is read again for this, since its number of rows is unknown.
        """
        for table in self.tables:
            rows = table.rows
            if rows is None:
                rows = len(table.read((), None, next(iter(table.groups.values()))[:1]))
            if row <= rows:
                return table.file, row
            row -= rows
        raise SourceError(f"has no row {row:,} more")


def join_files(root: Path | None, files: Sequence[str], options: TableOptions) -> JoinedTable:
    """Open the files of a source, whose names are relative to `root`, as one table.

    SourceError if they have different columns. Their order is that of the first.
    """
    tables = [open_table((root or Path()) / file, options, file=file) for file in files]
    first, *others = tables
    for table in others:
        if dict(table.groups) != dict(first.groups) and set(table.groups.items()) != set(first.groups.items()):
            raise SourceError(
                f"its files have different columns: {first.file} has {list_names(list(first.groups))}, and "
                f"{table.file} has {list_names(list(table.groups))}"
            )
    rows = [table.rows for table in tables]
    total = None if None in rows else sum(one or 0 for one in rows)
    text_numbers = all(table.text_numbers for table in tables)
    return JoinedTable(tables=tables, **first.properties(rows=total, text_numbers=text_numbers, file=None))


@contextmanager
def naming_file(source: str, open_source: Callable[[], JoinedTable]) -> Iterator[None]:
    """Name a source of several files in errors; in those about a row, name the file and the row in it.

    `open_source` is called if there is an error about a row.
    """
    with of_source(source):
        try:
            yield
        except SourceError as error:
            if error.source is not None or not _OF_ROW.search(error.reason):
                raise  # it names a file already, or no row
            try:
                table = open_source()
                places = [table.place(int(number.replace(",", ""))) for _, number in _OF_ROW.findall(error.reason)]
            except SourceError:  # a file changed, or rows of lists cannot be counted
                raise error from None
            rows = (f"row {row:,} of {file}" for file, row in places)
            raise SourceError(_OF_ROW.sub(lambda match: match[1] + next(rows), error.reason)) from error
