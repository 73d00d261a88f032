"""Label columns of text: read as the codes of their classes, and looked at for which classes they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from builder.build_errors import SourceError
from builder.formats.arrays import NpyTable
from builder.formats.arrow import ArrowTable, holds_nothing, is_numeric, is_text, what_it_holds
from builder.formats.column_choice import as_option
from builder.formats.convert import stack
from builder.formats.table import HIDDEN, Array, DType, Frame, OpenTable, Table, raw_columns
from builder.formats.text_numbers import nearly_number, without_blanks
from builder.frames.label_join import WithLabels
from builder.labels.text_classes import (
    CODES,
    MOST_CLASSES,
    MixedTextError,
    codes_of,
    distinct,
    of_targets,
    parse_classes,
)
from builder.options.policies import Policy
from builder.options.transform_syntax import Transform
from store_spec import Classes


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoricalTable:
    """An opened table of which some columns are classes: read as their codes, int64.

    Args:
        inner: The table.
        classes: The names of the classes of each such column.
        labels: All columns that are labels.
        source: For errors.
        na_values: What counts as missing, beside what is.
        given: Whether the user gave the classes.
        earlier: The pieces of the same file whose rows come before these.
    """

    inner: OpenTable
    classes: Mapping[str, tuple[str, ...]]
    labels: tuple[str, ...]
    source: str
    na_values: tuple[str, ...]
    given: bool
    earlier: tuple[OpenTable, ...] = ()

    @property
    def groups(self) -> Mapping[str, tuple[str, ...]]:
        """As the table has them."""
        return self.inner.groups

    @property
    def named(self) -> bool:
        """Whether the columns have names."""
        return self.inner.named

    @property
    def decimal(self) -> str:
        """As the table has it."""
        return self.inner.decimal

    @property
    def is_text(self) -> bool:
        """As the table has it."""
        return self.inner.is_text

    def pieces(self) -> Sequence[CategoricalTable]:
        """Return the pieces of the table, each with the same classes."""
        parts = self.inner.pieces()
        return tuple(replace(self, inner=part, earlier=tuple(parts[:number])) for number, part in enumerate(parts))

    @property
    def rows(self) -> int | None:
        """As the table has them."""
        return self.inner.rows

    def read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str] = ()) -> Frame:
        """Read columns, those of classes as codes."""
        import pyarrow as pa

        coded = [name for name in names if name in self.classes]
        numbers = [name for name in names if name not in self.classes]
        frame = self._read_inner(numbers, dtype, [*coded, *(name for name in raw if name not in coded)])
        columns = {name: self._codes(frame[HIDDEN + name], name) if name in coded else frame[name] for name in names}
        return pa.table(columns | {HIDDEN + name: frame[HIDDEN + name] for name in raw})

    def _codes(self, column: Any, name: str) -> Any:
        """Return the codes of a column of classes."""
        texts = _texts(self.inner, column, self.na_values)
        if texts is None:
            what = "--classes names" if self.given else "the store has"
            raise SourceError(
                self.source,
                f"column {name} holds {_holds(column.type)}, where {what} classes of text; leave --classes out "
                "of a first build, or write the column as text",
            )
        before = sum(piece.rows or 0 for piece in self.earlier)
        try:
            return codes_of(
                texts, self.classes[name], name, self.source, named=self.given, before=before, decimal=self.decimal
            )
        except SourceError:
            if not self.given:  # numbers among the texts say more than one that is unknown
                distinct(texts, name, self.source, typed=not self.is_text, decimal=self.decimal)
            raise

    def _read_inner(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Read columns, none of them as codes; a label that is text is no slip."""
        try:
            return self.inner.read(names, dtype, raw)
        except SourceError:
            for name in self.labels:
                if name in self.classes:
                    continue
                try:
                    texts = texts_in(self.inner, name, self.source, self.na_values)
                except MixedTextError:
                    raise  # classes of which some are numbers, as 1, 2 and R
                except SourceError:
                    continue
                if texts:
                    break
            else:
                raise
        raise SourceError(
            self.source,
            f"column {name} holds text, as {texts[0]!r:.80}, where labels are numbers; give "
            "numbers, or build to another path with --classes, whose names are text",
        )


def with_classes(
    opened: OpenTable,
    inputs: Sequence[str],
    labels: Sequence[str],
    classes: Classes | None,
    given: Sequence[str],
    *,
    source: str,
    na_values: tuple[str, ...],
) -> tuple[OpenTable | CategoricalTable, tuple[str, ...]]:
    """Return a table that gives the codes of the labels that are classes, and the names of these.

    Args:
        opened: The table.
        inputs: Its columns that are inputs.
        labels: Those that are labels.
        classes: Of each label; None: as given, or it has none.
        given: Classes as `parse_classes` reads them.
        source: For errors.
        na_values: What counts as missing, beside what is.

    Raises:
        SourceError: A column of classes is an input too.
        UsageError: Classes are given for what is no label.
    """
    if not labels:
        return opened, ()
    if isinstance(opened, WithLabels):  # none of them is a column of the source
        plain = opened.plain(labels)
        table, _ = with_classes(opened.labels, (), plain, classes, given, source=opened.label_file, na_values=na_values)
        coded = table.classes if isinstance(table, CategoricalTable) else ()
        return opened.with_table(table), tuple(one for one, name in zip(labels, plain, strict=True) if name in coded)
    if classes is None and given:
        classes = of_targets(parse_classes(given), labels)
    found = {name: names for name, names in zip(labels, classes or (), strict=False) if names is not None}
    for name in found:
        if name in inputs:
            raise SourceError(
                source,
                f"column {name} holds classes, and is an input too: the order of classes says nothing; leave it out of "
                "the inputs (--inputs)",
            )
    table = CategoricalTable(
        inner=opened, classes=found, labels=tuple(labels), source=source, na_values=na_values, given=bool(given)
    )
    return table, tuple(found)


def texts_in(opened: OpenTable, name: str, source: str, na_values: Sequence[str]) -> tuple[str, ...] | None:
    """Return the different texts of a column, in order; () where it has no value, None where it is no text.

    Raises:
        SourceError: It cannot be read; or some of it are numbers, and some text.
    """
    if isinstance(opened, WithLabels):
        (plain,) = opened.plain([name])
        return texts_in(opened.labels, plain, opened.label_file, na_values)
    if isinstance(opened, ArrowTable) and name in opened.schema.names:
        return _texts_of_typed(opened, name, source, na_values)
    if isinstance(opened, NpyTable):
        return None
    texts = _texts(opened, raw_columns(opened, [name])[name], na_values)
    if texts is None:
        return None
    if not opened.is_text:
        return distinct(texts, name, source, typed=True)
    found = distinct(texts, name, source, typed=False, decimal=opened.decimal)
    # What is nearly a number, as 1,5 or a time stamp, is a slip or no label at all: reading it says so.
    return None if any(nearly_number(text, opened.decimal) for text in found or ()) else found


def numbers_in(table: OpenTable | CategoricalTable, names: Sequence[str], dtype: DType | None) -> Table:
    """Read columns as arrays: those of an NPY file, which has them so, without a copy."""
    inner = table.inner if isinstance(table, CategoricalTable) and not table.classes else table
    if isinstance(inner, NpyTable):
        return Table.from_block(inner.block(names), names)
    return Table.of(table.read(names, dtype))


def refuse_policies(policies: Mapping[str, Policy], classes: Sequence[str], source: str) -> None:
    """Refuse policies that give values that are no class.

    Raises:
        SourceError: There is one for a column of classes.
    """
    for name in classes:
        if policies[name].gives_floats:
            raise SourceError(
                source,
                f"column {name} holds classes, and --missing {policies[name]} would give a value that is no class; say "
                f"--missing {as_option(name)}=drop, or another of error, split and ffill",
            )


def refuse_changes(
    transforms: Sequence[Transform],
    columns: Sequence[Sequence[str]],
    duplicates: str,
    classes: Sequence[str],
    source: str,
) -> None:
    """Refuse to compute with classes.

    Raises:
        SourceError: A transform changes a column of them, or rows of one time would become their mean.
    """
    for transform, names in zip(transforms, columns, strict=True):
        for name in names:
            if name in classes:
                raise SourceError(
                    source,
                    f"--{transform.kind} is for column {name}, which holds classes, not numbers; leave it out there",
                )
    if classes and duplicates == "mean":
        raise SourceError(
            source, f"--duplicates mean: column {classes[0]} holds classes, which have no mean; take the first or last"
        )


def stacked_labels(
    table: Table, labels: Sequence[str], classes: Sequence[str], *, dtype: DType | None, source: str
) -> Array:
    """Return label columns as `stack` does; int64 where some are classes.

    Raises:
        SourceError: As `stack`.
    """
    if not classes:
        return stack(table, labels, dtype=dtype, source=source)
    try:
        return stack(table, labels, dtype=CODES, source=source)
    except SourceError as error:
        reason = error.reason.partition(";")[0]
        raise SourceError(
            source, f"{reason}; labels beside classes ({classes[0]}) are whole numbers, so leave one of them out"
        ) from None


def _texts(table: OpenTable, column: Any, na_values: Sequence[str]) -> Any:
    """Return a column as text; None where it is none."""
    if table.is_text:
        return column
    return without_blanks(column, na_values) if is_text(column.type) or holds_nothing(column.type) else None


def _texts_of_typed(opened: ArrowTable, name: str, source: str, na_values: Sequence[str]) -> tuple[str, ...] | None:
    """Return the texts of a column whose type the file says, read piece by piece; None, unread, where it is of numbers.

    Raises:
        SourceError: As `texts_in`.
    """
    kind = opened.schema.field(name).type
    if holds_nothing(kind):
        return ()  # missing values, of whatever the others hold
    if is_numeric(kind):
        return None
    found: dict[str, None] = {}
    for piece in opened.pieces():
        texts = _texts(piece, raw_columns(piece, [name])[name], na_values)
        if texts is None:
            return None
        found |= dict.fromkeys(distinct(texts, name, source, typed=True) or ())
        if len(found) > MOST_CLASSES:
            break  # more than are taken, as who takes them says
    return tuple(found)[: MOST_CLASSES + 1]


def _holds(kind: Any) -> str:
    return "numbers" if is_numeric(kind) else what_it_holds(kind)
