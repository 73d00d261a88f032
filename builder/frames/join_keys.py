"""Match the rows of two tables by the values of some columns."""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import SourceError, of_source
from builder.formats.arrow import describe_type, is_text
from builder.formats.arrow_modules import pa, pc
from builder.formats.table import Frame
from builder.formats.text_numbers import use_points
from builder.frames.iso_times import StampError, parse_iso

_WHOLE: Final = r"^[+-]?[0-9]{1,20}$"
_LONG: Final = r"[0-9.]{19}"  # more digits than float64 can distinguish


def match_label_rows(
    left: Frame, right: Frame, label_file: str, decimals: tuple[str, str] = (".", ".")
) -> NDArray[np.int64]:
    """Return for each row of a source the index of its row of labels, or -1.

    Dates and time stamps are compared as times. Text is compared as exact numbers if all texts of both files are
    numbers, so that `07` equals `7`; as times if all are ISO 8601 or times of day, so that `6:00` equals `06:00:00`;
    otherwise as text. Keys that are missing, occur twice or cannot be compared are refused, as are files without any
    match.

    Args:
        left: Key columns of the source.
        right: Key columns of its labels, in the same order.
        label_file: The name of the label file.
        decimals: The decimal marks of numbers in text in the two files.
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
