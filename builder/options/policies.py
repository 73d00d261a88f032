"""Parse the options `missing` and `na_values`: a policy for each column, and words for missing values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

from builder.build_errors import UsageError
from builder.formats.column_choice import parse_columns, quote

Fill = Literal["ffill", "interpolate"]
End = Literal["error", "drop", "keep", "split"]
FILLS: Final[tuple[Fill, ...]] = get_args(Fill)
ENDS: Final[tuple[End, ...]] = get_args(End)


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
                f"missing={whole_text!r:.200}: {word!r:.80} is none of {', '.join((*FILLS, *ENDS))}; these can be "
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


def format_policies(policies: Policies) -> tuple[str, ...]:
    """Return policies in a canonical form.

    >>> format_policies(parse_policies([" b = ffill + error", "keep"]))
    ('keep', 'b=ffill')
    """
    general = () if policies.general == Policy() else (str(policies.general),)
    return (*general, *(f"{','.join(map(quote, columns))}={policy}" for columns, policy in policies.columns))


def missing_words(na_values: str | Sequence[str] | None, decimal: str = ".") -> tuple[str, ...]:
    """Split "-999,?" into words; the items of a list are not split. Words with commas are in double quotes.

    A comma that may be a decimal mark or separate two words is a UsageError.

    >>> missing_words("-999,?"), missing_words('"-999,0", ?', ",")
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
