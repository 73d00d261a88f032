"""Parse options of tables: durations, policies for missing values, words for missing values, and transforms."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal, get_args

from builder.build_errors import UsageError
from builder.formats.column_choice import parse_columns, parse_number, quote

Fill = Literal["ffill", "interpolate"]
End = Literal["error", "drop", "keep", "split"]
FILLS: Final[tuple[Fill, ...]] = get_args(Fill)
ENDS: Final[tuple[End, ...]] = get_args(End)
NANOSECONDS: Final = {
    "ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3_600 * 10**9, "d": 86_400 * 10**9,
    "w": 7 * 86_400 * 10**9,
}  # fmt: skip
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]+)")
Kind = Literal["scale", "clip", "diff", "log"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

_FORMS: Final[dict[Kind, str]] = {
    "scale": "COL=FACTOR, as flow=0.001",
    "clip": "COL=LOW:HIGH, as flow=0:100, where one of the limits may be left out",
    "diff": "COL",
    "log": "COL",
}


def normalize_duration(text: str, option: str) -> str:
    """Return a duration in a normalised form.

    >>> [normalize_duration(text, "every") for text in ("1.50 h", "3600s", "1500ms", "24H", "7D")]
    ['90min', '1h', '1500ms', '1d', '1w']
    """
    length = nanoseconds(text, option)
    unit = [unit for unit, size in NANOSECONDS.items() if not length % size][-1]
    return f"{length // NANOSECONDS[unit]}{unit}"


def nanoseconds(text: str, option: str) -> int:
    """Return a duration in nanoseconds, a whole number above 0.

    >>> nanoseconds("1.5h", "max_gap") == 5400 * 10**9
    True
    """
    match = _DURATION.fullmatch(text.strip())
    value = Decimal(0)
    if match:
        number, unit = match.groups()
        if unit in ("m", "M"):
            raise UsageError(
                f"{option}={text!r:.80} may mean months or minutes; write {number}min for minutes; months differ in "
                "length, so give days, as 31d"
            )
        # Pandas writes D and H; its MS is the start of a month.
        value = Decimal(number) * NANOSECONDS.get(unit.lower() if len(unit) == 1 else unit, 0)
    if not value or value != value.to_integral_value():
        raise UsageError(
            f"{option}={text!r:.80} is not a duration; write a number and one of {', '.join(NANOSECONDS)}, as 2h"
        )
    return int(value)


@dataclass(frozen=True, slots=True)
class Policy:
    """The treatment of missing values in a column."""

    fills: tuple[Fill, ...] = ()  # the ways to fill them, in this order
    end: End = "error"  # the treatment of values that cannot be filled: at the start or the end, or beyond a limit

    def __str__(self) -> str:
        shown = self.fills if self.fills and self.end == "error" else (*self.fills, self.end)
        return "+".join(shown)

    @property
    def gives_floats(self) -> bool:
        """Whether columns of whole numbers become float64, even without missing values."""
        return self.end == "keep" or "interpolate" in self.fills


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy of every column."""

    general: Policy  # for all columns but those in `columns`
    columns: tuple[tuple[tuple[str, ...], Policy], ...] = ()  # selections as `parse_columns` returns them, and policies

    @property
    def every(self) -> tuple[Policy, ...]:
        """All policies, the general one first."""
        return (self.general, *(policy for _, policy in self.columns))


def parse_policies(missing: Sequence[str]) -> Policies:
    """Parse policies, each `POLICY` for all columns or `COLS=POLICY` for some.

    >>> policies = parse_policies(["drop", "a,c1:c3=ffill+keep"])
    >>> str(policies.general), [(columns, str(policy)) for columns, policy in policies.columns]
    ('drop', [(('a', 'c1:c3'), 'ffill+keep')])
    """
    general: Policy | None = None
    columns: dict[tuple[str, ...], Policy] = {}
    for text in missing:
        names, equals, word = text.rpartition("=")
        policy = _policy(word, text)
        if not equals:
            if general is not None:
                raise UsageError(f"missing is given twice, {general} and {policy}; give one policy for all columns")
            general = policy
            continue
        selection = parse_columns(names, "missing") or ()
        if selection in columns:
            raise UsageError(f"missing is given twice for {names.strip()}; give one policy for a column")
        columns[selection] = policy
    return Policies(general or Policy(), tuple(columns.items()))


def _policy(text: str, whole_text: str) -> Policy:
    words = [word.strip() for word in text.split("+")]
    for word in words:
        if word not in (*FILLS, *ENDS):
            raise UsageError(
                f"missing={whole_text!r:.200}: {word!r:.80} is not one of {', '.join((*FILLS, *ENDS))}; these can be "
                "combined, as in ffill+drop"
            )
    fills = tuple(fill for word in words for fill in FILLS if word == fill)
    ends = tuple(end for word in words for end in ENDS if word == end)
    if len(set(fills)) < len(fills) or len(ends) > 1 or words != [*fills, *ends]:
        raise UsageError(
            f"missing={whole_text!r:.200}: ffill and interpolate come first, each once, and then at most one of "
            f"{', '.join(ENDS)} for the remaining values"
        )
    return Policy(fills, ends[0] if ends else "error")


def normalize_policies(missing: Sequence[str]) -> tuple[str, ...]:
    """Return policies in a normalised form.

    >>> normalize_policies([" b = ffill + error", "keep"])
    ('keep', 'b=ffill')
    """
    policies = parse_policies(missing)
    general = () if policies.general == Policy() else (str(policies.general),)
    return (*general, *(f"{','.join(map(quote, columns))}={policy}" for columns, policy in policies.columns))


def parse_missing_words(na_values: str | Sequence[str] | None, decimal: str = ".") -> tuple[str, ...]:
    """Split "-999,?" into words; the items of a list are not split. Words with commas are in double quotes.

    A comma that may be a decimal mark or separate two words is a UsageError.

    >>> parse_missing_words("-999,?"), parse_missing_words('"-999,0", ?', ",")
    (('-999', '?'), ('-999,0', '?'))
    """
    if not isinstance(na_values, str) and not na_values:
        return ()
    plain = re.sub(r'"[^"]*"', '""', na_values) if isinstance(na_values, str) and decimal == "," else ""
    if match := re.search(r"\S*\d,\d\S*", plain):
        text = match[0]
        raise UsageError(
            f"na_values={na_values!r:.80} (--na-values): with --decimal , it is unclear whether {text!r:.40} is one "
            f"number; write '\"{text:.40}\"' if it is, or '{text.replace(',', ', '):.40}' if it is several words"
        )
    return parse_columns(na_values, "na_values") or ()


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
    value = parse_number(text)
    if value is None or not math.isfinite(value):
        raise UsageError(f"{kind} {whole_text!r:.200}: {text!r:.80} is not a number; write {_FORMS[kind]}")
    return value
