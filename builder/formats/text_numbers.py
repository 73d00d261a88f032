"""Numbers out of text, one column at a time, and saying which value is none."""

import contextlib
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from builder.build_errors import SourceError
from builder.formats.column_choice import as_option
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.table import TIME_STAMPS, Array, DType, not_numbers, shortened

TRUE: Final = ["true", "True", "TRUE"]
FALSE: Final = ["false", "False", "FALSE"]
MISSING: Final = [
    *("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN"),
    *("null", "NULL", "Null", "None"),
]
# Beside those of MISSING what people and spreadsheets write, in small letters; and marks, as - and ? and **.
_OFTEN_MISSING: Final = frozenset({
    *("na", "n/a", "n.a.", "n. a.", "n.d.", "nd", "nan", "nil", "none", "null", "missing", "unknown", "undefined"),
    *("no data", "no_data", "nodata", "void", "blank", "empty", "#value!", "#div/0!", "#ref!", "#num!", "#name?"),
})  # fmt: skip
_LONGEST_MARK: Final = 8
# Around numbers; line ends, where quotes go around both. To Unicode control letters are blanks too; here, a fault.
_BLANKS = " \t\r\n\u00a0"
_TIME_STAMP = re.compile(r"\d{4}[-/]\d\d?[-/]\d\d?(?!\d)|\d{8}[T ]\d{4}|\d\d?:\d\d\b|\d\d?[./]\d\d?[./]\d{4}\b")
DECIMALS: Final = (".", ",")  # what may stand before decimals
# By what stands before decimals: those written with the other, and thousands set apart with it.
_OTHER_DECIMALS = {
    ".": re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?"),
    ",": re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?"),
}
_THOUSANDS = {
    ".": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?"),
    ",": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?"),
}
_NO_PART = "?"  # of any number
ROUNDED: Final = f"is beyond 2**53 = {EXACT_IN_FLOAT64:,}, so float64 would round it"
_DELIMITED = re.compile(r"[^;|\t]*([;|\t]).*", re.DOTALL)


def number_type(dtype: DType | None) -> Any:
    """Return the pyarrow type that numbers in text are parsed as, where these will be converted to a dtype."""
    import pyarrow as pa

    if dtype is None or dtype.kind not in "iu":
        return pa.float64()
    return pa.uint64() if dtype == np.uint64 else pa.int64()


def without_blanks(column: Any, missing: Sequence[str], blanks: str | None = None) -> Any:
    """Return a pyarrow column of text of any kind as strings, without blanks around them; what is missing is null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = column.cast(pa.string())
    trimmed = pc.utf8_trim_whitespace(texts) if blanks is None else pc.utf8_trim(texts, blanks)
    return pc.if_else(pc.is_in(trimmed, value_set=pa.array(["", *missing])), None, trimmed)


def numbers(  # noqa: PLR0917
    texts: Any, name: str, source: str, dtype: DType | None, na_values: Sequence[str] = (), decimal: str = "."
) -> Any:
    """Parse a pyarrow column of strings: as whole numbers if these are asked for and all are, else as float64.

    Args:
        texts: The column.
        name: Its name.
        source: For errors.
        dtype: What the numbers will be converted to. None: whole numbers that float64 does not hold are refused.
        na_values: What stands for missing values, beside what usually does.
        decimal: What stands before decimals.

    Raises:
        SourceError: With the row and the value that is not a number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    known = without_blanks(texts, [*MISSING, *na_values], _BLANKS)
    kind = number_type(dtype)
    is_word = pc.is_in(known, value_set=pa.array([*TRUE, *FALSE]))
    if known.null_count < len(known) == pc.sum(is_word).as_py() + known.null_count:
        words = pc.if_else(pc.is_valid(known), pc.is_in(known, value_set=pa.array(TRUE)), None)
        return words.cast(pa.uint8()).cast(kind)
    # pyarrow does not know the plus sign in whole numbers.
    plain = pc.replace_substring_regex(with_points(known, decimal), r"^\+([0-9.])", r"\1")
    if kind != pa.float64():
        with contextlib.suppress(pa.ArrowInvalid):  # written as floats, perhaps whole ones
            return plain.cast(kind)
    try:
        values = plain.cast(pa.float64())
    except pa.ArrowInvalid:
        raise _no_number(plain, known, name, source, decimal) from None
    if dtype is None or dtype.kind != "f":
        refuse_large(plain, values.to_numpy(), name, source, dtype)
    return values


def with_points(texts: Any, decimal: str) -> Any:
    """Return a pyarrow column of strings whose numbers have a decimal point, to be parsed: `with_point` of each.

    Args:
        texts: The column.
        decimal: What stands before decimals in it.
    """
    import pyarrow.compute as pc

    if decimal == ".":
        return texts
    return pc.replace_substring(pc.replace_substring(texts, ".", _NO_PART), decimal, ".")


def with_point(text: str, decimal: str) -> str:
    """Return a number with a decimal point; what has a point though decimals have another mark is no number any more.

    >>> with_point("1,5e-3", ","), with_point("1.5", ",")
    ('1.5e-3', '1?5')
    """
    return text if decimal == "." else text.replace(".", _NO_PART).replace(decimal, ".")


def refuse_large(texts: Any, values: Array, name: str, source: str, dtype: DType | None = None) -> None:
    """Refuse whole numbers beyond 2**53, which float64 rounds.

    Args:
        texts: A pyarrow column of strings.
        values: The same as float64, (rows,).
        name: The column's name.
        source: For errors.
        dtype: What was asked for.
    """
    found = first_large(texts, values)
    if found is None:
        return
    row, text = found
    what = ROUNDED if dtype is None else f"does not fit into {dtype}"
    holds = _whole_dtype(texts, values)
    keep = f"keep it with --dtype {holds}, or " if holds else ""
    raise SourceError(source, f"row {row + 1:,}, column {name}: {text} {what}; {keep}round it with --dtype float64")


def first_large(texts: Any, values: Array) -> tuple[int, str] | None:
    """Return the row, from 0, and the text of the first whole number that float64 rounds; None: there is none.

    Args:
        texts: A pyarrow column of strings.
        values: The same as float64, (rows,).
    """
    for row in np.flatnonzero(np.abs(values) >= EXACT_IN_FLOAT64).tolist():
        text = texts[row].as_py().strip()
        digits = text.lstrip("+-").lstrip("0")
        # Python refuses to parse thousands of digits; more than 16 are beyond anyway.
        if re.fullmatch("[0-9]+", digits) and (len(digits) > 16 or int(digits) > EXACT_IN_FLOAT64):
            return row, shortened(text, 40)
    return None


def _whole_dtype(texts: Any, values: Array) -> str:
    """Return the dtype of whole numbers that holds all of a column; "" where none does."""
    import pyarrow as pa
    import pyarrow.compute as pc

    there = pc.if_else(pa.array(np.isnan(values)), None, texts)
    plain = pc.replace_substring_regex(pc.utf8_trim(there, _BLANKS), r"^\+", "")
    for kind in (pa.int64(), pa.uint64()):
        with contextlib.suppress(pa.ArrowInvalid):
            plain.cast(kind)
            return str(kind)
    return ""


def first_that_fails(column: Any, kind: Any) -> int:
    """Return the row, from 0, of the first value that is none of a type, by halving; there must be one.

    Args:
        column: A pyarrow column.
        kind: The pyarrow type.
    """
    import pyarrow as pa

    fine, wrong = 0, len(column)  # the first `fine` values are of the type; among the first `wrong` one is not
    while wrong - fine > 1:
        middle = (fine + wrong) // 2
        try:
            column.slice(fine, middle - fine).cast(kind)
        except pa.ArrowInvalid:
            wrong = middle
        else:
            fine = middle
    return fine


def nearly_number(text: str, decimal: str = ".") -> bool:
    """Whether text is a number written otherwise, as 1,5, a time stamp, or of a file that is damaged."""
    written = _TIME_STAMP.match(text) or otherwise_written(text, decimal)
    return bool(written) or "\0" in text or "\ufeff" in text


def otherwise_written(text: str, decimal: str = ".") -> str:
    """Say what to do about a number whose decimals or thousands have other marks than `decimal` says; "" where none."""
    if _OTHER_DECIMALS[decimal].fullmatch(text):
        if decimal == ".":
            return (
                "decimals are written with a point, as 1.5; say --decimal , if the comma stands before decimals, or "
                "--delimiter , if it stands between columns"
            )
        return (
            "with --decimal , decimals have a comma, as 1,5, and no number a point; write it so, or leave --decimal out"
        )
    if _THOUSANDS[decimal].fullmatch(text):
        mark, example = ("points", "1234,5") if decimal == "," else ("commas", "1234.5")
        return f"thousands are not set apart, as in {example}; write the file without {mark}"
    return ""


def _no_number(plain: Any, known: Any, name: str, source: str, decimal: str) -> SourceError:
    """Say which value is the first that is not a number, and what it may be."""
    import pyarrow as pa

    row = first_that_fails(plain, pa.float64())
    text = known[row].as_py()
    if _TIME_STAMP.match(text):
        return not_numbers(source, name, TIME_STAMPS, text, row + 1)
    hint = _hint(text, decimal)
    # The first value that is there tells a column of text from a slip of the pen.
    if not hint and known.slice(0, row).null_count == row:
        return not_numbers(source, name, "text", text, row + 1, if_missing(text))
    choices = [if_missing(text), f"correct it, or leave the column out with --exclude {as_option(name)}"]
    advice = hint or ", ".join(filter(None, choices))
    return SourceError(source, f"row {row + 1:,}, column {name}: {shortened(repr(text))} is not a number; {advice}")


def if_missing(text: str) -> str:
    """Say how text is taken for a missing value, if it looks like one of the usual ways to write that; "" where not.

    >>> if_missing("-"), if_missing("n.a."), if_missing("W")
    ('say --na-values - if it stands for a missing value', 'say --na-values n.a. if it stands for a missing value', '')
    """
    is_mark = len(text) <= _LONGEST_MARK and not any(letter.isalnum() for letter in text)
    if not is_mark and text.lower() not in _OFTEN_MISSING:
        return ""
    return f"say --na-values {as_option(text)} if it stands for a missing value"


def _hint(text: str, decimal: str) -> str:
    """Say what to do about text that is nearly a number; "" where it is not."""
    if advice := otherwise_written(text, decimal):
        return advice
    if other := _DELIMITED.fullmatch(text):
        return f"if {other[1]!r} stands between the columns, say --delimiter {other[1]!r}"
    if "\0" in text:
        return "it holds NUL bytes; the file is damaged, or is UTF-16 text, to be written as UTF-8"
    if '"' in text or "\n" in text or "\r" in text:
        return "quotes go around a whole field; close or remove them"
    if text.strip("\ufeff") != text:
        return "it holds a byte-order mark, as where files were put together; remove it"
    if any(letter.isdecimal() or letter == "\u2212" for letter in text if not letter.isascii()):
        return "digits and signs must be ASCII; write it with 0 to 9 and -"
    return ""
