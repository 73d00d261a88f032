"""Parse the option `transforms`: scale, clip and difference columns, and take logarithms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

from builder.build_errors import UsageError
from builder.formats.column_choice import parse_columns, parse_number, quote

Kind = Literal["scale", "clip", "diff", "log"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_FORMS: Final[dict[Kind, str]] = {
    "scale": "COL=FACTOR, as flow=0.001",
    "clip": "COL=LOW:HIGH, as flow=0:100, where one of the limits may be left out",
    "diff": "COL",
    "log": "COL",
}


@dataclass(frozen=True, slots=True)
class Transform:
    """One change to some columns."""

    kind: Kind
    columns: tuple[str, ...]  # as `parse_columns` returns them
    numbers: tuple[float | None, ...] = ()  # the factor; or the lower and the upper limit, None for no limit

    def __str__(self) -> str:
        values = ":".join("" if value is None else repr(value) for value in self.numbers)
        return f"{self.kind} {','.join(map(quote, self.columns))}" + (f"={values}" if self.numbers else "")


Transforms = Sequence[tuple[Transform, Sequence[str]]]  # each with the columns that it changes


@lru_cache(maxsize=64)
def parse_transform(text: str) -> Transform:
    """Parse the text of a transform, the inverse of `str`.

    >>> parse_transform("scale a,c1:c3=0.5"), str(parse_transform("clip a=:1e3"))
    (Transform(kind='scale', columns=('a', 'c1:c3'), numbers=(0.5,)), 'clip a=:1000.0')
    """
    word, _, rest = text.strip().partition(" ")
    kind: Kind | None = next((kind for kind in KINDS if kind == word), None)
    if kind is None:
        raise UsageError(f"transform {text!r:.200} begins with none of {', '.join(KINDS)}; as in 'scale flow=0.001'")
    if kind in ("diff", "log"):
        return Transform(kind, _columns(kind, rest))
    columns, equals, values = rest.rpartition("=")
    if not equals:
        raise UsageError(f"{kind} {rest!r:.200} is not of the form {_FORMS[kind]}")
    if kind == "scale":
        factor = _number(kind, values, rest)
        if not factor:
            raise UsageError(f"scale {rest!r:.200}: a factor of 0 makes all values 0; leave the column out instead")
        return Transform(kind, _columns(kind, columns), (factor,))
    low_text, colon, high_text = values.partition(":")
    low, high = ((_number(kind, value, rest) if value.strip() else None) for value in (low_text, high_text))
    if not colon or (low is None and high is None):
        raise UsageError(f"{kind} {rest!r:.200} is not of the form {_FORMS[kind]}")
    if low is not None and high is not None and low > high:
        raise UsageError(f"clip {rest!r:.200}: {low} is above {high}; write LOW:HIGH")
    return Transform(kind, _columns(kind, columns), (low, high))


def _columns(kind: Kind, text: str) -> tuple[str, ...]:
    if not text.strip():
        raise UsageError(f"{kind} names no column; write {_FORMS[kind]}")
    return parse_columns(text, kind) or ()


def _number(kind: Kind, text: str, whole_text: str) -> float:
    """Parse a number as int or float."""
    value = parse_number(text)
    if value is None or not math.isfinite(value):
        raise UsageError(f"{kind} {whole_text!r:.200}: {text!r:.80} is not a number; write {_FORMS[kind]}")
    return value
