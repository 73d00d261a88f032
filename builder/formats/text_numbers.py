"""Numbers out of text, one column at a time, and saying which value is none."""

import re
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from builder.convert import EXACT_IN_FLOAT64
from builder.errors import SourceError
from builder.formats.arrow import column_values
from builder.formats.table import Array, DType, not_numbers, shortened

TRUE: Final = ["true", "True", "TRUE"]
FALSE: Final = ["false", "False", "FALSE"]
MISSING: Final = [
    *("", "NA", "N/A", "n/a", "#N/A", "#NA", "<NA>", "NaN", "nan", "NAN", "-nan", "-NaN"),
    *("null", "NULL", "Null", "None"),
]
_TIME_STAMP = re.compile(r"\d{4}[-/]\d\d?[-/]\d\d?\b|\d\d?:\d\d\b|\d\d?[./]\d\d?[./]\d{4}\b")


def numbers(texts: Any, name: str, source: str, dtype: DType | None) -> tuple[Array, NDArray[np.bool_] | None]:
    """Parse a pyarrow column of strings.

    Args:
        texts: The column.
        name: Its name.
        source: For errors.
        dtype: What the numbers will be converted to: whole numbers are parsed as such, if they are, others as
            float64. None: float64, and whole numbers that it does not hold are refused.

    Returns:
        The values (rows,), float64, int64, uint64 or bool; and where they are missing, unless as NaN.

    Raises:
        SourceError: With the row and the value that is not a number.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    trimmed = pc.utf8_trim_whitespace(texts)
    given = pc.if_else(pc.is_in(trimmed, value_set=pa.array(MISSING)), None, trimmed)
    is_word = pc.is_in(given, value_set=pa.array([*TRUE, *FALSE]))
    if given.null_count < len(given) == pc.sum(is_word).as_py() + given.null_count:
        words = pc.if_else(pc.is_valid(given), pc.is_in(given, value_set=pa.array(TRUE)), None)
        return column_values(words)
    # pyarrow does not know the plus sign in whole numbers.
    plain = pc.replace_substring_regex(given, r"^\+([0-9.])", r"\1")
    if dtype is not None and dtype.kind in "iu":
        try:
            return column_values(plain.cast(pa.uint64() if dtype == np.uint64 else pa.int64()))
        except pa.ArrowInvalid:
            pass  # written as floats, perhaps whole ones
    try:
        values, _ = column_values(plain.cast(pa.float64()))
    except pa.ArrowInvalid:
        raise _no_number(plain, given, name, source) from None
    if dtype is None or dtype.kind != "f":
        refuse_large(plain, values, name, source)
    return values, None


def refuse_large(texts: Any, values: Array, name: str, source: str) -> None:
    """Refuse whole numbers beyond 2**53, which float64 rounds.

    Args:
        texts: A pyarrow column of strings.
        values: The same as float64, (rows,).
        name: The column's name.
        source: For errors.
    """
    for row in np.flatnonzero(np.abs(values) >= EXACT_IN_FLOAT64):
        text = texts[int(row)].as_py().strip()
        digits = text.lstrip("+-").lstrip("0")
        # Python refuses to parse thousands of digits; more than 16 are beyond anyway.
        if re.fullmatch("[0-9]+", digits) and (len(digits) > 16 or int(digits) > EXACT_IN_FLOAT64):
            raise SourceError(
                source,
                f"row {row + 1:,}, column {name}: {text} is beyond 2**53 = {EXACT_IN_FLOAT64:,}, so float64 "
                "would round it; keep it with --dtype int64, or round it with --dtype float64",
            )


def _no_number(plain: Any, given: Any, name: str, source: str) -> SourceError:
    """Find the first value that is not a number, by halving."""
    import pyarrow as pa

    fine, wrong = (
        0,
        len(plain),
    )  # the first `fine` values are numbers; among the first `wrong` is one that is not
    while wrong - fine > 1:
        middle = (fine + wrong) // 2
        try:
            plain.slice(fine, middle - fine).cast(pa.float64())
        except pa.ArrowInvalid:
            wrong = middle
        else:
            fine = middle
    text = given[fine].as_py()
    if _TIME_STAMP.match(text):
        return not_numbers(source, name, "time stamps", text, wrong)
    # The first value that is there tells a column of text from a slip of the pen.
    if given.slice(0, fine).null_count == fine:
        return not_numbers(source, name, "text", text, wrong)
    return SourceError(
        source,
        f"row {wrong:,}, column {name}: {shortened(repr(text))} is not a number; correct it, or leave the "
        f"column out with --exclude {name}",
    )
