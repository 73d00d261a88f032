"""Label columns of text: find their classes, and read them as codes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

from builder.build_errors import SourceError, of_source
from builder.formats.arrays import NpyTable
from builder.formats.arrow import ArrowTable, describe_type, is_all_null, is_numeric, is_text
from builder.formats.arrow_modules import pa, pc
from builder.formats.table import HIDDEN, DType, Frame, OpenTable, Table, read_raw
from builder.formats.text_numbers import is_nearly_number, strip_blanks
from builder.frames.label_join import LabelledTable
from builder.labels.text_classes import (
    MOST_CLASSES,
    MixedTextError,
    classes_by_target,
    distinct_texts,
    parse_classes,
    unseen_class,
)
from builder.options.table_options import TableOptions
from store_spec import Classes


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoricalTable(OpenTable):
    """A table whose columns of classes are read as codes, int64."""

    inner: OpenTable
    classes: Mapping[str, tuple[str, ...]]  # the names of the classes of each such column
    labels: tuple[str, ...]  # all label columns
    from_user: bool  # whether the user listed the classes
    before: int = 0  # rows of the file before this piece

    def pieces(self) -> Sequence["CategoricalTable"]:
        """Return the pieces of the table, each with the same classes."""
        parts = self.inner.pieces()
        ends = accumulate(part.rows or 0 for part in parts)
        return tuple(
            replace(self, inner=part, rows=part.rows, before=end - (part.rows or 0))
            for part, end in zip(parts, ends, strict=True)
        )

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Read columns; classes become codes."""
        class_columns = [name for name in names if name in self.classes]
        if not class_columns:
            return self._read_inner(names, dtype, raw)
        numbers = [name for name in names if name not in self.classes]
        frame = self._read_inner(numbers, dtype, [*class_columns, *(name for name in raw if name not in class_columns)])
        columns = {
            name: self._encode(frame[HIDDEN + name], name) if name in class_columns else frame[name] for name in names
        }
        return pa.table(columns | {HIDDEN + name: frame[HIDDEN + name] for name in raw})

    def _encode(self, column: Any, name: str) -> Any:
        """Encode a column of classes."""
        texts = _as_text(self.inner, column)
        if texts is None:
            what = "--classes names" if self.from_user else "the store has"
            content = "numbers" if is_numeric(column.type) else describe_type(column.type)
            raise SourceError(
                f"column {name} holds {content}, but {what} classes of text; leave --classes out "
                "of a first build, or write the column as text"
            )
        classes = self.classes[name]
        codes = pc.index_in(texts, value_set=pa.array(classes, pa.string()))
        if codes.null_count > texts.null_count:
            if not self.from_user:  # an error about mixed numbers and text explains more than one about a class
                distinct_texts(texts, name, typed=not self.is_text, decimal=self.decimal)
            row = pc.index(pc.and_(codes.is_null(), texts.is_valid()), True).as_py()
            where, text = f"row {self.before + row + 1:,}, column {name}", texts[row].as_py()
            raise unseen_class(text, where, classes, from_user=self.from_user, decimal=self.decimal)
        return codes.cast(pa.int64())

    def _read_inner(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Read columns without encoding; if that fails because a label is text, the error says so."""
        try:
            return self.inner.read(names, dtype, raw)
        except SourceError:
            for name in (one for one in self.labels if one not in self.classes):
                try:
                    texts = read_texts(self.inner, name)
                except MixedTextError:
                    raise  # perhaps classes such as 1, 2 and R
                except SourceError:
                    continue
                if texts:
                    raise SourceError(
                        f"column {name} holds text, such as {texts[0]!r:.80}, but labels are numbers; give numbers, or "
                        "build to another path with --classes"
                    ) from None
            raise


def encode_labels(
    opened: OpenTable,
    inputs: Sequence[str],
    labels: Sequence[str],
    classes: Classes | None,
    options: TableOptions,
) -> tuple[OpenTable, tuple[str, ...]]:
    """Return a table that reads labels of classes as codes, and the names of these labels.

    `classes` are those of each label in the store; None: there is no store yet.

    Raises:
        SourceError: A column of classes is also an input.
        UsageError: The option `classes` names a column that is not a label.
    """
    if not labels:
        return opened, ()
    if isinstance(opened, LabelledTable):  # the labels are columns of another file
        names_in_file = opened.names_in_label_file(labels)
        with of_source(opened.label_file):
            table, encoded = encode_labels(opened.labels, (), names_in_file, classes, options)
        return replace(opened, labels=table), tuple(labels[names_in_file.index(name)] for name in encoded)
    if classes is None and options.classes:
        classes = classes_by_target(parse_classes(options.classes), labels)
    names_of = {name: names for name, names in zip(labels, classes or (), strict=False) if names is not None}
    for name in names_of:
        if name in inputs:
            raise SourceError(
                f"column {name} holds classes, and is also an input: the order of classes has no meaning; leave it out "
                "of the inputs (--inputs)"
            )
    if isinstance(opened, NpyTable) and not names_of:
        return opened, ()  # it has no text
    table = CategoricalTable(
        **opened.properties(),
        inner=opened,
        classes=names_of,
        labels=tuple(labels),
        from_user=bool(options.classes),
    )
    return table, tuple(names_of)


def read_texts(opened: OpenTable, name: str) -> tuple[str, ...] | None:
    """Return the distinct texts of a column in order of appearance; () if all are missing, None for numbers.

    A column that mixes numbers and text is refused.
    """
    if isinstance(opened, LabelledTable):
        (name_in_file,) = opened.names_in_label_file([name])
        with of_source(opened.label_file):
            return read_texts(opened.labels, name_in_file)
    if isinstance(opened, NpyTable):
        return None
    # Numbers of a file with types need not be read.
    if isinstance(opened, ArrowTable) and name in opened.schema.names and is_numeric(opened.schema.field(name).type):
        return () if is_all_null(opened.schema.field(name).type) else None
    classes: dict[str, None] = {}
    for piece in opened.pieces():
        texts = _as_text(opened, read_raw(piece, [name])[name])
        if texts is None:
            return None
        found = distinct_texts(texts, name, typed=not opened.is_text, decimal=opened.decimal)
        # A text such as 1,5 or a time stamp is a mistake rather than a class; reading it as a number explains it.
        if found is None or (opened.is_text and any(is_nearly_number(text, opened.decimal) for text in found)):
            return None
        classes |= dict.fromkeys(found)
        if len(classes) > MOST_CLASSES:
            break  # the caller refuses so many
    return tuple(classes)[: MOST_CLASSES + 1]


def read_numbers(table: OpenTable, names: Sequence[str], dtype: DType | None) -> Table:
    """Read columns as arrays; columns of an NPY file are not copied."""
    if isinstance(table, NpyTable):
        return Table.from_block(table.block(names), names)
    return Table.of(table.read(names, dtype))


def _as_text(table: OpenTable, column: Any) -> Any:
    """Return a column as text; None if it is not text."""
    if table.is_text:
        return column
    return strip_blanks(column, ()) if is_text(column.type) or is_all_null(column.type) else None
