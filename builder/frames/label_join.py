"""Join a source with its label file, row by row or by key columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError, of_source
from builder.formats import format_of, open_table, split_name
from builder.formats.arrow import describe_type, is_text
from builder.formats.arrow_modules import pa, pc
from builder.formats.column_choice import in_order_of_store, select
from builder.formats.convert import require_values, stack
from builder.formats.table import HIDDEN, ROW, Array, DType, Frame, OpenTable, Table, column_of, hidden_columns
from builder.formats.text_numbers import use_points
from builder.frames.digits import DigitNotes
from builder.frames.iso_times import StampError, parse_iso
from builder.options.table_options import Join, TableOptions

_WHOLE: Final = r"^[+-]?[0-9]{1,20}$"
_LONG: Final = r"[0-9.]{19}"  # more digits than float64 can distinguish
PREFIX: Final = "labels:"  # for label columns that have the name of a column of the source


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTable(OpenTable):
    """A table of the columns of a source and of its label file."""

    inputs: OpenTable
    labels: OpenTable
    label_file: str
    join: Join  # `inner` drops rows of the source without labels; with `left` their labels are missing values
    on: tuple[str, ...]  # the key columns of the source; empty: rows are paired by position
    label_on: tuple[str, ...]  # the key columns of the label file
    names: Mapping[str, str]  # the name in the label file of each label column of this table
    joined: dict[str, Any] = field(default_factory=dict)  # results of `read`: `dropped` rows, `keys`, `label_rows`

    def source_columns(self, selection: Sequence[str]) -> tuple[str, ...]:
        """Return the items of a selection without the columns that exist only in the label file."""
        input_names = {*self.inputs.groups, *(name for names in self.inputs.groups.values() for name in names)}
        label_names = {*self.names.values()}
        return tuple(part for part in selection if part in input_names or part not in label_names)

    def targets(
        self, selection: Sequence[str] | None, of_store: tuple[str, ...] | None, exclude: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Return the selected label columns; by default all but the key columns."""
        groups = self.labels.groups
        without = {*exclude, *(self.label_on if selection is None else ())}
        with of_source(self.label_file):
            names = select(selection or [name for name in groups if name not in exclude], groups)
            names = tuple(name for name in names if name not in without)
            if not names:
                raise SourceError("no column is left for the labels, without those of --on and --exclude")
            if self.labels.named:
                names = in_order_of_store(names, of_store, "labels")
        renamed = {name: now for now, name in self.names.items()}
        return tuple(renamed[name] for name in names)

    def names_in_label_file(self, targets: Sequence[str]) -> tuple[str, ...]:
        """Return the names of these columns in the label file; numbers if they have no names."""
        return tuple(self.names[name] for name in targets)

    def own_labels(self, targets: Sequence[str], dtype: DType | None, digits: DigitNotes | None) -> Array:
        """Return all rows of the label file, (label steps, targets), for the label axis `own`."""
        names = self.names_in_label_file(targets)
        table = Table.of(self.labels.read(names, dtype))
        if digits is not None:
            digits.add(table)
        with of_source(self.label_file):
            require_values(table)
            return stack(table, names, dtype=dtype)

    def _read(self, names: Sequence[str], dtype: DType | None, raw: Sequence[str]) -> Frame:
        """Read columns of both files; see `OpenTable`."""
        inputs = [name for name in names if name not in self.names]
        targets = [name for name in names if name in self.names]
        frame = self.inputs.read(inputs, dtype, tuple(dict.fromkeys((*raw, *self.on))))
        frame = frame.append_column(ROW, column_of(np.arange(1, len(frame) + 1)))
        labels = self.labels.read(self.names_in_label_file(targets), dtype, self.label_on)
        if self.on:
            frame, labels = self._join_rows(frame, labels)
        elif targets and len(frame) != len(labels):
            raise SourceError(
                f"it has {len(frame):,} rows, and its labels {self.label_file} have {len(labels):,}; pair rows by a "
                "column of both with --on, or say --label-axis own if labels have their own length"
            )
        for name in targets:
            frame = frame.append_column(name, labels[self.names[name]])
        return frame.select([*names, *(HIDDEN + name for name in raw), ROW])

    def _join_rows(self, frame: Frame, labels: Frame) -> tuple[Frame, Frame]:
        """Return the remaining rows of the source, and the row of labels of each."""
        keys = hidden_columns(frame, self.on)
        decimals = self.inputs.decimal, self.labels.decimal
        matched = match_label_rows(keys, hidden_columns(labels, self.label_on), self.label_file, decimals)
        rows = np.arange(len(frame)) if self.join == "left" else np.flatnonzero(matched >= 0)
        self.joined.update(keys=keys, label_rows=matched, dropped=len(frame) - len(rows))
        label_rows = matched[rows]
        return frame.take(column_of(rows)), labels.take(column_of(label_rows, label_rows < 0))

    @property
    def dropped(self) -> int:
        """The number of rows of the source that the join dropped, after `read`."""
        return int(self.joined.get("dropped", 0))

    def why_missing(self, name: str, row: int) -> str:
        """Return why a label is missing, if the label file lacks the key of its row (from 1); otherwise ""."""
        if self.join == "inner" or name not in self.names or self.joined["label_rows"][row - 1] >= 0:
            return ""
        key = key_text(self.joined["keys"], row - 1)
        return f", since no row of its labels {self.label_file} has {','.join(self.label_on)} {key}"


def _split_pair(part: str, groups: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    """Split `time=date` into the names of a key column in the source and in the label file."""
    left, equals, right = part.partition("=")
    return (part, part) if not equals or part in groups else (left.strip(), right.strip())


def open_with_labels(table: OpenTable, path: Path, root: Path, label_file: str, options: TableOptions) -> LabelledTable:
    """Open the label file of a source, whose name is relative to `root`, and join the two.

    A label file with another suffix than the source is read with the defaults of its format.
    """
    label_path = root / label_file
    label_format = format_of(label_path.name)
    has_same_suffix = split_name(label_path.name)[1] == split_name(path.name)[1]
    if label_format is None and not has_same_suffix and options.format is None:
        raise SourceError(
            f"{label_file}: no format has the suffix {label_path.suffix!r} of this label file; --format is for it and "
            "for all sources: if they differ, rename the label files to .csv or .txt (blanks between fields), or read "
            "both with --process"
        )
    # The option `format` is for the sources, and for label files whose suffix is unknown.
    label_options = _options_of_labels(
        options, like_sources=has_same_suffix or label_format is None, format=label_format
    )
    labels = open_table(label_path, label_options, file=label_file)
    sides = [_split_pair(part, table.groups) for part in options.on]
    input_names = {*table.groups, *(name for names in table.groups.values() for name in names)}
    every = dict.fromkeys(name for group, names in labels.groups.items() for name in (group, *names))
    renamed = {name: f"{PREFIX}{name}" if name in input_names else name for name in every}
    groups = {renamed[group]: tuple(renamed[name] for name in names) for group, names in labels.groups.items()}
    text_numbers = table.text_numbers and labels.text_numbers
    with of_source(label_file):
        label_on = select([right for _, right in sides], labels.groups)
    return LabelledTable(
        **table.properties(groups={**table.groups, **groups}, rows=None, text_numbers=text_numbers),
        inputs=table,
        labels=labels,
        label_file=label_file,
        join=options.join,
        on=select([left for left, _ in sides], table.groups),
        label_on=label_on,
        names={now: name for name, now in renamed.items()},
    )


@lru_cache(maxsize=8)
def _options_of_labels(options: TableOptions, *, like_sources: bool, format: str | None) -> TableOptions:  # noqa: A002
    """Return the options for reading label files."""
    if like_sources:
        return replace(options, column_names=(), skip_lines=0, skip_after_header=0)
    return TableOptions(
        na_values=options.na_values,
        # In CSV the comma separates fields, so it cannot be the decimal mark.
        decimal="." if format == "csv" else options.decimal,
        encoding=options.encoding,
        comment=options.comment,
    )


def match_label_rows(
    left: Frame, right: Frame, label_file: str, decimals: tuple[str, str] = (".", ".")
) -> NDArray[np.int64]:
    """Return for each row of a source the index of its row of labels, or -1.

    Dates and time stamps are compared as times. Text is compared as exact numbers if all texts of both files are
    numbers, so that `07` equals `7`; as times if all are ISO 8601 or times of day, so that `6:00` equals `06:00:00`;
    otherwise as text. Keys that are missing, occur twice or cannot be compared are refused, as are files without any
    match.

    `left` and `right` have the key columns in the same order. `decimals` are the decimal marks of the two files.
    """
    codes = np.zeros(len(left) + len(right), np.int64)
    for names in zip(left.column_names, right.column_names, strict=True):
        column = _encode_keys((left[names[0]], right[names[1]]), names, label_file, decimals)
        codes = codes * (int(column.max(initial=0)) + 1) + column
        _, codes = np.unique(codes, return_inverse=True)  # so that the product of many columns cannot exceed int64
    left_codes, right_codes = codes[: len(left)], codes[len(left) :]
    _refuse_duplicates(left, left_codes)
    with of_source(label_file):
        _refuse_duplicates(right, right_codes)
    row_of_code = np.full(int(codes.max(initial=-1)) + 1, -1, np.int64)
    row_of_code[right_codes] = np.arange(len(right_codes))
    rows = row_of_code[left_codes]
    if len(left) and not (rows >= 0).any():
        shown = [key_text(table, 0) if len(table) else "nothing" for table in (left, right)]
        raise SourceError(
            f"none of its {len(left):,} rows has the same {','.join(left.column_names)} as one of the "
            f"{len(right):,} rows of its labels {label_file}; the first are "
            f"{shown[0]} and {shown[1]}: are they written alike?"
        )
    return rows


def _refuse_duplicates(table: Frame, codes: NDArray[np.int64]) -> None:
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    if (counts > 1).any():
        code = codes[first[counts > 1].min()]
        before, again = np.flatnonzero(codes == code)[:2].tolist()
        raise SourceError(
            f"row {again + 1:,}, column {','.join(table.column_names)}: {key_text(table, again)} is also in row "
            f"{before + 1:,}, so that the pairing of rows by --on is ambiguous; leave one out"
        )


def _refuse_missing(column: Any, name: str) -> None:
    if column.null_count:
        row = int(column.is_null().to_numpy().argmax()) + 1
        raise SourceError(
            f"row {row:,}, column {name}: missing value, but rows are paired by this column (--on); fill it in, or "
            "remove the row from the file"
        )


def _encode_keys(
    columns: tuple[Any, Any], names: tuple[str, str], label_file: str, decimals: tuple[str, str]
) -> NDArray[np.int64]:
    """Return codes of the values of two columns, concatenated; equal values have equal codes."""
    sides = list(columns)
    name, other = names
    _refuse_missing(columns[0], name)
    with of_source(label_file):
        _refuse_missing(columns[1], other)
    kinds = [_kind(column.type) for column in sides]
    if (
        None in kinds
        or (len(set(kinds)) > 1 and "text" not in kinds)
        or _has_zone(sides[0].type) != _has_zone(sides[1].type)
    ):
        raise SourceError(
            f"column {name} holds {describe_type(sides[0].type)}, and column {other} of its labels {label_file} "
            f"{describe_type(sides[1].type)}, which cannot be paired by --on"
        )
    parsed = [
        use_points(side, decimal) if kind == "text" else side
        for side, kind, decimal in zip(sides, kinds, decimals, strict=True)
    ]
    # Use the first type that can represent all values of both columns.
    for type_ in _comparable_types(kinds, sides):
        floating = pa.types.is_floating(type_)
        if floating and _has_long_numbers(kinds, sides):
            continue
        columns_to_cast = parsed if floating or pa.types.is_decimal(type_) else sides
        try:
            chunks = [chunk for side in columns_to_cast for chunk in _cast(side, type_).chunks]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, StampError):
            continue
        values = pa.concat_arrays(chunks or [pa.nulls(0)])
        values = pc.add(values, 0.0) if floating else values  # -0.0 equals 0.0
        return np.asarray(values.dictionary_encode().indices).astype(np.int64)
    texts = [_short(side[0].as_py()) if len(side) else "nothing" for side in sides]
    raise SourceError(
        f"column {name} and column {other} of its labels {label_file} cannot be compared (--on): the first values are "
        f"{texts[0]} and {texts[1]}"
    )


def _comparable_types(kinds: list[str | None], sides: list[Any]) -> tuple[Any, ...]:
    """Return the types to which two columns can be converted for comparison, the most exact first."""
    if "moment" in kinds:
        return (pa.timestamp("ns", "UTC") if _has_zone(sides[0].type) else pa.timestamp("ns"),)
    exact = pa.decimal256(76, 38)
    if "number" in kinds:
        if any(pa.types.is_floating(side.type) for side in sides):
            return pa.int64(), pa.uint64(), pa.float64()
        return pa.int64(), pa.uint64(), exact
    whole = all(pc.all(pc.match_substring_regex(side, _WHOLE)).as_py() for side in sides)
    if whole:
        return pa.int64(), pa.uint64(), exact, pa.large_string()
    return exact, pa.float64(), pa.timestamp("ns"), pa.timestamp("ns", "UTC"), pa.large_string()


def _cast(column: Any, type_: Any) -> Any:
    """Convert a column to a type; as times, text may have any form of ISO 8601, or be times of day."""
    if not (is_text(column.type) and pa.types.is_timestamp(type_)):
        return column.cast(type_)
    if len(column) > 1:
        _cast(column[:1], type_)  # most text that is no time fails here, without a search in all rows
    text = pc.replace_substring_regex(column.combine_chunks(), r"(^|[T ])(\d:\d\d)", r"\10\2")
    text = pc.replace_substring_regex(text, r"^(\d{4}-\d\d-\d\d[T ]\d\d)$", r"\1:00")
    values, zone = parse_iso(pc.replace_substring_regex(text, r"^(\d\d:)", r"1970-01-01 \1"), "ns")
    if zone != type_.tz:
        raise pa.ArrowInvalid("times with a zone are not those without one")
    return pa.chunked_array([pa.array(values, type_)])


def _has_long_numbers(kinds: list[str | None], sides: list[Any]) -> bool:
    """Return whether text has more digits than float64 can distinguish."""
    texts = (side for side, kind in zip(sides, kinds, strict=True) if kind == "text")
    return any(pc.any(pc.match_substring_regex(side, _LONG)).as_py() for side in texts)


def _kind(type_: Any) -> str | None:
    types = pa.types
    if types.is_integer(type_) or types.is_floating(type_):
        return "number"
    if types.is_timestamp(type_) or types.is_date(type_):
        return "moment"
    return "text" if is_text(type_) else None


def _has_zone(type_: Any) -> bool:
    return bool(getattr(type_, "tz", None))


def key_text(table: Frame, row: int) -> str:
    """Return the key of a row as text."""
    return " ".join(_short(table[name][row].as_py()) for name in table.column_names)


def _short(value: Any) -> str:
    return str(value)[:80]
