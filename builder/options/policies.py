"""What the options `missing` and `na_values` say: the policy of each column, and the words for missing values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, get_args

from builder.build_errors import UsageError
from builder.formats.column_choice import parse_columns, quoted

Fill = Literal["ffill", "interpolate"]
End = Literal["error", "drop", "keep", "split"]
FILLS: Final[tuple[Fill, ...]] = get_args(Fill)
ENDS: Final[tuple[End, ...]] = get_args(End)


@dataclass(frozen=True, slots=True)
class Policy:
    """What becomes of the missing values of a column.

    Args:
        fills: How they are filled, one way after another.
        end: What becomes of those that are left: nothing comes before a leading gap, nothing after the last one, and a
            limit may end a filling.
    """

    fills: tuple[Fill, ...] = ()
    end: End = "error"

    def __str__(self) -> str:
        shown = self.fills if self.fills and self.end == "error" else (*self.fills, self.end)
        return "+".join(shown)

    @property
    def gives_floats(self) -> bool:
        """Whether columns of whole numbers become float64, with gaps or without."""
        return self.end == "keep" or "interpolate" in self.fills


@dataclass(frozen=True, slots=True)
class Policies:
    """The policy of every column.

    Args:
        general: Of all columns but these.
        columns: Choices of columns, as `parse_columns` gives them, each with a policy of its own.
    """

    general: Policy
    columns: tuple[tuple[tuple[str, ...], Policy], ...] = ()

    @property
    def every(self) -> tuple[Policy, ...]:
        """All of them, the general one first."""
        return (self.general, *(policy for _, policy in self.columns))


def parse_policies(missing: Sequence[str]) -> Policies:
    """Read policies, each `POLICY` for all columns or `COLS=POLICY` for some.

    Raises:
        UsageError: One is none, or two are for the same.

    >>> policies = parse_policies(["drop", "a,c1:c3=ffill+keep"])
    >>> str(policies.general), [(columns, str(policy)) for columns, policy in policies.columns]
    ('drop', [(('a', 'c1:c3'), 'ffill+keep')])
    """
    return _parsed(tuple(missing))


@lru_cache(maxsize=64)
def _parsed(missing: tuple[str, ...]) -> Policies:
    general: Policy | None = None
    columns: dict[tuple[str, ...], Policy] = {}
    for text in missing:
        names, equals, word = text.rpartition("=")
        policy = _policy(word, text)
        if not equals:
            if general is not None:
                raise UsageError(f"missing is given twice, as {general} and as {policy}; one policy is for all columns")
            general = policy
            continue
        chosen = parse_columns(names, "missing") or ()
        if chosen in columns:
            raise UsageError(f"missing is given twice for {names.strip()}; one policy is for a column")
        columns[chosen] = policy
    return Policies(general or Policy(), tuple(columns.items()))


def _policy(text: str, whole_text: str) -> Policy:
    words = [word.strip() for word in text.split("+")]
    for word in words:
        if word not in (*FILLS, *ENDS):
            raise UsageError(
                f"missing={whole_text!r:.200}: {word!r:.80} is none of {', '.join((*FILLS, *ENDS))}; ffill and "
                "interpolate may say what follows, as ffill+drop"
            )
    fills = tuple(fill for word in words for fill in FILLS if word == fill)
    ends = tuple(end for word in words for end in ENDS if word == end)
    if len(set(fills)) < len(fills) or len(ends) > 1 or words != [*fills, *ends]:
        raise UsageError(
            f"missing={whole_text!r:.200}: ffill and interpolate come first, each once, and then at most one of "
            f"{', '.join(ENDS)}, for what they leave"
        )
    return Policy(fills, ends[0] if ends else "error")


def policies_text(policies: Policies) -> tuple[str, ...]:
    """Return policies in one form for all ways to write the same.

    >>> policies_text(parse_policies([" b = ffill + error", "keep"]))
    ('keep', 'b=ffill')
    """
    general = () if policies.general == Policy() else (str(policies.general),)
    return (*general, *(f"{','.join(map(quoted, columns))}={policy}" for columns, policy in policies.columns))


def missing_words(na_values: str | Sequence[str] | None, decimal: str = ".") -> tuple[str, ...]:
    """Take apart "-999,?"; in a list, each item is one word, commas and all.

    A word with a comma stands in double quotes.

    Raises:
        UsageError: One is empty or given twice, or a comma is either before decimals or between two words.

    >>> missing_words("-999,?"), missing_words('"-999,0", ?', ",")
    (('-999', '?'), ('-999,0', '?'))
    """
    plain = re.sub(r'"[^"]*"', '""', na_values) if isinstance(na_values, str) and decimal == "," else ""
    if found := re.search(r"\S*\d,\d\S*", plain):
        text = found[0]
        raise UsageError(
            f"na_values={na_values!r:.80} (--na-values): with --decimal , nobody can tell whether {text!r:.40} is one "
            f"number; write '\"{text:.40}\"' if it is, or '{text.replace(',', ', '):.40}' if it is several words"
        )
    return parse_columns(na_values, "na_values") or ()
