"""Columns of a manifest: labels, which can be text, and values that are kept with the sequences (`--keep`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import store_spec
from builder.build_errors import SourceError, UsageError
from builder.formats.arrow import describe_type, is_text, numbers_of
from builder.formats.arrow_modules import pa
from builder.formats.column_choice import list_names
from builder.formats.convert import convert
from builder.formats.table import array_of
from builder.formats.text_numbers import first_cast_failure, notation_advice
from builder.labels.text_classes import ClassLists, classes_by_target, distinct_texts, parse_classes, unseen_class
from store_spec import Classes, ColumnType, SchemaError, SequenceColumn

TextLabels: TypeAlias = tuple[str, ...] | None  # of a target: the text of each source; None: numbers


@dataclass(frozen=True, slots=True, eq=False)
class SourceLabels:
    """The labels of some sources."""

    numbers: NDArray[Any]  # (sources, targets), -1 for text
    targets: tuple[str, ...] = ()  # the label columns
    texts: tuple[TextLabels, ...] = ()  # of each target; empty: all targets are numbers

    def __getitem__(self, rows: NDArray[np.int64]) -> "SourceLabels":
        texts = tuple(one and tuple(one[row] for row in rows.tolist()) for one in self.texts)
        return replace(self, numbers=self.numbers[rows], texts=texts)

    def codes(self, classes: Classes) -> NDArray[Any]:
        """Return the labels (sources, targets) with the codes of texts; -1 for a text without a class."""
        labels = self.numbers.copy()
        for target, (texts, names) in enumerate(zip(self.texts, classes, strict=False)):
            if texts is not None and names is not None:
                code = {name: number for number, name in enumerate(names)}
                labels[:, target] = np.array([code.get(text, -1) for text in texts], np.int64)
        return labels


def columns_with_classes(parts: Sequence[str] | None, classes: ClassLists) -> tuple[str, ...]:
    """Return the label columns whose classes the user named."""
    return tuple(target or part for target, _ in classes for part in (parts or ())[: 1 if target is None else None])


def text_columns(
    parts: Sequence[str] | None, classes: ClassLists, old_store: store_spec.Store | None
) -> tuple[str, ...]:
    """Return the label columns to read as text: those with classes in the options, or in the store."""
    columns = list(columns_with_classes(parts, classes))
    if old_store is not None:
        rows = old_store.schema.labels
        columns += [name for name, one in zip(rows.names or (), rows.classes or (), strict=False) if one is not None]
    return tuple(dict.fromkeys(columns))


def check_texts(column: Any, name: str, path: Path) -> None:
    """Refuse numbers, and text like numbers, in a pyarrow column of a file without types."""
    try:
        distinct = distinct_texts(column, name, typed=False)
    except SourceError as error:  # its advice is also about options that a manifest does not have
        mixed = error.reason.partition(";")[0]
        advice = "correct it, or name all classes with --classes, so that all are text"
        raise UsageError(f"{path}: {mixed}; {advice}") from None
    texts = column.to_pylist()
    if distinct is None:  # it was read as text since the store has classes
        raise UsageError(
            f"{path}: column {name} holds numbers, such as {texts[0]!r:.80} in row 1, but the store has classes; give "
            "the labels as text, as before"
        )
    commas = [row for row, text in enumerate(texts) if notation_advice(text)]
    if commas:
        raise UsageError(
            f"{path}: row {commas[0] + 1:,}, column {name}: {texts[commas[0]]!r:.80} is not a number here "
            f"({len(commas):,} in all): numbers in a manifest have a point and no other marks, as 1234.5; or, if these "
            "are classes, name all of them with --classes"
        )


def check_kinds(old_store: store_spec.Store | None, labels: SourceLabels, path: Path) -> None:
    """Refuse text labels if the store has numbers, and numbers if it has classes."""
    if old_store is None:
        return
    numbers = (None,) * len(labels.targets)
    classes = old_store.schema.labels.classes or numbers
    for name, names, one in zip(labels.targets, classes, labels.texts or numbers, strict=False):
        if (names is None) != (one is None):
            holds, has = ("text", "numbers") if names is None else ("numbers", f"classes ({list_names(names)})")
            raise UsageError(
                f"{path}: column {name} holds {holds}, but {old_store.path} has {has}; give the same labels"
            )


def check_classes(labels: SourceLabels, classes: Sequence[str], sources: Sequence[str], new: Sequence[int]) -> None:
    """Refuse labels of `new` sources, by their indices, that are not among the classes that the user named."""
    listed = classes_by_target(parse_classes(classes), labels.targets)
    for target, names, column in zip(labels.targets, listed, labels.texts, strict=True):
        if names is None:
            continue
        if column is None:
            raise UsageError(
                f"classes are given for the manifest's column {target}, which holds numbers; leave them out"
            )
        for number in new:
            if column[number] not in names:
                where = f"column {target} of the manifest"
                error = unseen_class(column[number], where, names, from_user=True)
                raise UsageError(f"{sources[number]}: {error}")


@dataclass(frozen=True, slots=True, eq=False)
class KeptColumn:
    """A column of the manifest."""

    column: SequenceColumn  # its name and type in the store
    values: NDArray[Any]  # (sources,) as they will be stored

    def __getitem__(self, rows: NDArray[np.int64]) -> "KeptColumn":
        return KeptColumn(self.column, self.values[rows])


def keep_column(name: str, column: Any, known: SequenceColumn | None, where: str) -> KeptColumn:
    """Convert a column of a table to the values that a store keeps.

    Text, dates and times become `string` (missing: `""`), floats and decimals `float64` (missing: NaN), bools `bool`;
    whole numbers become `int64`, or `float64` if some are missing. If the store has the column already, it must have
    the type of that one, `known`. `where` names the table in errors.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    dtype = _type_of(column, where, name)
    if known is not None and dtype == "int64" and known.dtype == "float64":
        dtype = "float64"
    if known is not None and dtype != known.dtype:
        holds = f"{dtype} with missing values" if column.null_count else dtype
        if is_text(column.type) and known.dtype != "bool":  # it may be a single mistake
            row = first_cast_failure(column, pa.float64())
            holds += f" ({column[row].as_py()!r:.80} in row {row + 1:,})"
        raise UsageError(
            f"{where}: column {name} holds {holds}, but in the store it is {known.dtype}; change the column back, or "
            "build to another path"
        )
    try:
        kept = SequenceColumn(name, dtype)
    except SchemaError as error:
        raise UsageError(f"{where}: {error}") from None
    if dtype == "string":
        return KeptColumn(kept, column.cast(pa.string()).fill_null("").to_numpy())
    return KeptColumn(kept, _numbers(name, column, dtype, where))


def _type_of(column: Any, where: str, name: str) -> ColumnType:
    types, kind = pa.types, column.type
    if types.is_null(kind):
        raise UsageError(f"{where}: column {name} has no values, so there is nothing to keep; leave it out")
    if types.is_boolean(kind):
        return "bool"
    if types.is_integer(kind):
        return "float64" if column.null_count else "int64"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "float64"
    if types.is_temporal(kind) or is_text(kind):
        return "string"
    raise UsageError(f"{where}: column {name} holds {describe_type(kind)}; text, numbers and bools can be kept")


def _numbers(name: str, column: Any, dtype: ColumnType, where: str) -> NDArray[Any]:
    values, absent = array_of(numbers_of(column))
    if dtype == "bool" and absent is not None:
        raise UsageError(
            f"{where}: row {int(absent.argmax()) + 1:,}, column {name}: missing value ({int(absent.sum()):,} in all); "
            "bools have no missing value: fill it in, or write numbers"
        )
    advice = "keep the column as text, in CSV by writing a letter before each number"
    try:
        numbers = convert(values[:, None], np.dtype(dtype), (name,), rounds=False, advice=advice)[:, 0]
    except SourceError as error:
        raise UsageError(f"{where}: {error}") from None
    if dtype != "float64":
        return numbers
    if absent is not None:
        numbers[absent] = np.nan
    numbers = np.where(np.isnan(numbers), np.nan, numbers)  # the same bits for every NaN
    if np.isinf(numbers).any():
        row = int(np.isinf(numbers).argmax())
        raise UsageError(f"{where}: row {row + 1:,}, column {name}: infinite value; finite numbers can be kept")
    return numbers
