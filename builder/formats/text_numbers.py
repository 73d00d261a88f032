"""Parse columns of numbers in text, and explain values that are not numbers."""

import contextlib
import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from builder.build_errors import SourceError
from builder.formats.arrow_modules import pa, pc
from builder.formats.column_choice import as_option
from builder.formats.convert import EXACT_IN_FLOAT64
from builder.formats.table import TIME_STAMPS, Array, DType, not_numbers, shorten

TRUE: Final = ["true", "True", "TRUE"]
FALSE: Final = ["false", "False", "FALSE"]
MISSING: Final = [
    *("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN"),
    *("null", "NULL", "Null", "None"),
]
# Further words for missing values, in lower case, for advice in errors.
_OFTEN_MISSING: Final = frozenset({
    *("na", "n/a", "n.a.", "n. a.", "n.d.", "nd", "nan", "nil", "none", "null", "missing", "unknown", "undefined"),
    *("no data", "no_data", "nodata", "void", "blank", "empty", "#value!", "#div/0!", "#ref!", "#num!", "#name?"),
})  # fmt: skip
_LONGEST_MARK: Final = 8  # characters, such as - or ? or **
# Characters to strip from numbers; line ends occur within quotes. Other white space of Unicode is an error.
_BLANKS = " \t\r\n\u00a0"
_TIME_STAMP = re.compile(r"\d{4}[-/]\d\d?[-/]\d\d?(?!\d)|\d{8}[T ]\d{4}|\d\d?:\d\d\b|\d\d?[./]\d\d?[./]\d{4}\b")
DECIMALS: Final = (".", ",")  # decimal marks
# By decimal mark: numbers that use the other mark for decimals, or as a thousands separator.
_OTHER_DECIMALS = {
    ".": re.compile(r"[+-]?\d*,\d+([eE][+-]?\d+)?"),
    ",": re.compile(r"[+-]?(\d+\.\d*|\.\d+)([eE][+-]?\d+)?"),
}
_THOUSANDS = {
    ".": re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?"),
    ",": re.compile(r"[+-]?\d{1,3}(\.\d{3})+(,\d*)?"),
}
_NO_PART = "?"  # a character that no number contains
ROUNDED: Final = f"is beyond 2**53 = {EXACT_IN_FLOAT64:,}, so float64 would round it"
_DELIMITED = re.compile(r"[^;|\t]*([;|\t]).*", re.DOTALL)


def number_type(dtype: DType | None) -> Any:
    """Return the pyarrow type for parsing numbers in text, before they are converted to a dtype."""
    if dtype is None or dtype.kind not in "iu":
        return pa.float64()
    return pa.uint64() if dtype == np.uint64 else pa.int64()


def strip_blanks(column: Any, missing: Sequence[str], blanks: str | None = None) -> Any:
    """Convert a pyarrow column of text to stripped strings; empty strings and those in `missing` become null."""
    texts = column.cast(pa.string())
    trimmed = pc.utf8_trim_whitespace(texts) if blanks is None else pc.utf8_trim(texts, blanks)
    return pc.if_else(pc.is_in(trimmed, value_set=pa.array(["", *missing])), None, trimmed)


def parse_numbers(texts: Any, name: str, dtype: DType | None, missing: Sequence[str], decimal: str) -> Any:
    """Parse a pyarrow column of strings: as integers if `dtype` is an integer type and all are, otherwise as float64.

    Integers that float64 would round are refused if `dtype` is None or an integer type.
    """
    known = strip_blanks(texts, missing, _BLANKS)
    kind = number_type(dtype)
    is_word = pc.is_in(known, value_set=pa.array([*TRUE, *FALSE]))
    if known.null_count < len(known) == pc.sum(is_word).as_py() + known.null_count:
        words = pc.if_else(pc.is_valid(known), pc.is_in(known, value_set=pa.array(TRUE)), None)
        return words.cast(pa.uint8()).cast(kind)
    # pyarrow does not parse the plus sign of integers.
    plain = pc.replace_substring_regex(use_points(known, decimal), r"^\+([0-9.])", r"\1")
    try:
        values = plain.cast(pa.float64())  # first, since pyarrow takes 0x10 for an integer
    except pa.ArrowInvalid:
        raise _not_a_number(plain, known, name, decimal) from None
    if kind != pa.float64():
        with contextlib.suppress(pa.ArrowInvalid):  # some are written like floats, perhaps 1.0
            return plain.cast(kind)
    if dtype is None or dtype.kind != "f":
        refuse_large(plain, values.to_numpy(), name, dtype)
    return values


def use_points(texts: Any, decimal: str) -> Any:
    """Apply `use_point` to each string of a pyarrow column."""
    if decimal == ".":
        return texts
    return pc.replace_substring(pc.replace_substring(texts, ".", _NO_PART), decimal, ".")


def use_point(text: str, decimal: str) -> str:
    """Replace the decimal mark of a number by a point; a point becomes "?", so that the text is refused.

    >>> use_point("1,5e-3", ","), use_point("1.5", ",")
    ('1.5e-3', '1?5')
    """
    return text if decimal == "." else text.replace(".", _NO_PART).replace(decimal, ".")


def may_be_rounded(values: Array) -> bool:
    """Return whether some float64 values are so large that they may be integers that were rounded."""
    sizes = np.abs(values)
    # A maximum of NaN fails the first comparison. fmax takes twice as long, pyarrow's min_max ten times.
    return not sizes.max(initial=0) < EXACT_IN_FLOAT64 and bool((sizes >= EXACT_IN_FLOAT64).any())


def refuse_large(texts: Any, values: Array, name: str, dtype: DType | None = None) -> None:
    """Refuse integers beyond 2**53, which float64 rounds; `values` (rows,) are the numbers in a column of texts."""
    large = first_large(texts, values)
    if large is None:
        return
    row, text = large
    what, advice, most = ROUNDED, "round them with --dtype float64", f"which ends at {2**64 - 1:,}"
    if dtype is None:
        advice = f"keep whole numbers with --dtype int64 or uint64, or {advice}"
    elif dtype == np.uint64 or text.startswith("-"):
        what = f"does not fit into {dtype}" + (f", {most}" if dtype == np.uint64 else "")
    else:
        what, advice = f"does not fit into {dtype}", f"keep whole numbers with --dtype uint64, {most}, or {advice}"
    raise SourceError(f"row {row + 1:,}, column {name}: {text} {what}; {advice}")


def first_large(texts: Any, values: Array) -> tuple[int, str] | None:
    """Return the row, from 0, and the text of the first integer that float64 rounds, or None; see `refuse_large`."""
    for row in np.flatnonzero(np.abs(values) >= EXACT_IN_FLOAT64).tolist():
        text = texts[row].as_py().strip()
        digits = text.lstrip("+-").lstrip("0")
        # Python does not parse thousands of digits; integers of more than 16 digits exceed 2**53 anyway.
        if re.fullmatch("[0-9]+", digits) and (len(digits) > 16 or int(digits) > EXACT_IN_FLOAT64):
            return row, shorten(text, 40)
    return None


def first_cast_failure(column: Any, kind: Any) -> int:
    """Return the row, from 0, of the first value of a pyarrow column that cannot be cast to a type; it must exist."""
    start, stop = 0, len(column)  # bisection
    while stop - start > 1:
        middle = (start + stop) // 2
        try:
            column.slice(start, middle - start).cast(kind)
        except pa.ArrowInvalid:
            stop = middle
        else:
            start = middle
    return start


def is_nearly_number(text: str, decimal: str = ".") -> bool:
    """Return whether text is a number in another notation (1,5), a time stamp, or damaged."""
    is_notation = _TIME_STAMP.match(text) or notation_advice(text, decimal)
    return bool(is_notation) or "\0" in text or "\ufeff" in text


def notation_advice(text: str, decimal: str = ".") -> str:
    """Return advice on a number with another decimal mark or a thousands separator; "" for any other text."""
    if _OTHER_DECIMALS[decimal].fullmatch(text):
        if decimal == ".":
            return (
                "decimals are written with a point, as 1.5; say --decimal , if the comma is the decimal mark, or "
                "--delimiter , if it separates columns"
            )
        return (
            "with --decimal , decimals have a comma, as 1,5, and no number has a point; correct it, or leave --decimal "
            "out"
        )
    if _THOUSANDS[decimal].fullmatch(text):
        mark, example = ("points", "1234,5") if decimal == "," else ("commas", "1234.5")
        return f"thousands have no separators, as in {example}; write the file without {mark}"
    return ""


def _not_a_number(plain: Any, known: Any, name: str, decimal: str) -> SourceError:
    """Return the error for the first value that is not a number, with advice."""
    row = first_cast_failure(plain, pa.float64())
    text = known[row].as_py()
    if _TIME_STAMP.match(text):
        return not_numbers(name, TIME_STAMPS, text, row + 1)
    hint = _hint(text, decimal)
    # If the first value that is not missing is not a number, the whole column is text; otherwise it is one mistake.
    if not hint and known.slice(0, row).null_count == row:
        return not_numbers(name, "text", text, row + 1, missing_advice(text))
    choices = [missing_advice(text), f"correct it, or leave the column out with --exclude {as_option(name)}"]
    advice = hint or ", ".join(filter(None, choices))
    return SourceError(f"row {row + 1:,}, column {name}: {shorten(repr(text))} is not a number; {advice}")


def missing_advice(text: str) -> str:
    """Return the advice to declare a text as a missing value if it looks like one, otherwise "".

    >>> missing_advice("-"), missing_advice("n.a."), missing_advice("W")
    ('say --na-values - if it means a missing value', 'say --na-values n.a. if it means a missing value', '')
    """
    is_mark = len(text) <= _LONGEST_MARK and not any(letter.isalnum() for letter in text)
    if not is_mark and text.lower() not in _OFTEN_MISSING:
        return ""
    return f"say --na-values {as_option(text)} if it means a missing value"


def _hint(text: str, decimal: str) -> str:
    """Return advice on a text that is nearly a number; otherwise ""."""
    if advice := notation_advice(text, decimal):
        return advice
    if other := _DELIMITED.fullmatch(text):
        return f"if {other[1]!r} separates columns, say --delimiter {other[1]!r}"
    if "\0" in text:
        return "it holds NUL bytes; the file is damaged, or is UTF-16 text, to be written as UTF-8"
    if '"' in text or "\n" in text or "\r" in text:
        return "quotes go around a whole field; close or remove them"
    if text.strip("\ufeff") != text:
        return "it holds a byte-order mark, as in concatenated files; remove it"
    if any(letter.isdecimal() or letter == "\u2212" for letter in text if not letter.isascii()):
        return "digits and signs must be ASCII; write it with 0 to 9 and -"
    return ""
