r"""Labels in the names of sources, found by a regular expression such as `spk(\d+)`."""

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from builder.build_errors import SourceError, UsageError
from builder.formats.convert import EXACT_IN_FLOAT64, convert
from builder.formats.table import Array, DType
from builder.formats.text_numbers import ROUNDED
from builder.labels.text_classes import CODES, Texts, classes_by_target, is_number, parse_classes, unseen_class
from builder.sources.patterns import check_expression, match_name
from store_spec import Classes

_WHOLE: Final = re.compile(r"[+-]?[0-9]+")


def check_pattern(pattern: str) -> str:
    """Return a pattern; refuse one that is not a regular expression, or has no group."""
    if not check_expression(pattern, "label_pattern").groups:
        raise UsageError(rf"label_pattern={pattern!r} has no group; put the number or class in brackets: spk(\d+)")
    return pattern


def target_names(pattern: str) -> tuple[str, ...] | None:
    """Return the names of the groups of a pattern; None unless all have names."""
    compiled = re.compile(pattern)
    return tuple(compiled.groupindex) if len(compiled.groupindex) == compiled.groups else None


def classes_in_name(source: str, pattern: str, class_lists: Sequence[str]) -> dict[str, Texts]:
    """Return the classes of each target in a source's name, from `class_lists` or its text; None for a number."""
    texts = match_name(pattern, source, "label_pattern").groups("")
    groups = target_names(pattern) or tuple(str(number + 1) for number in range(len(texts)))
    listed = classes_by_target(parse_classes(class_lists), groups)
    return {
        group: names or (None if is_number(text) else tuple(filter(None, [text])))
        for group, text, names in zip(groups, texts, listed, strict=True)
    }


def parse_name_labels(
    source: str, pattern: str, dtype: DType | None, classes: Classes | None = None, *, from_user: bool = False
) -> Array:
    r"""Return the labels (targets,) in a source's name: numbers, and the codes of classes.

    The pattern has a group for each target. With classes the dtype is int64.

    >>> parse_name_labels("a/spk3.csv", r"spk(\d)", None)
    array([3])
    """
    groups = list(match_name(pattern, source, "label_pattern").groups(""))
    if classes is not None:
        dtype = CODES
        for place, (text, known) in enumerate(zip(groups, classes, strict=True)):
            if known is None:
                continue
            where = f"label_pattern={pattern!r}, group {place + 1}"
            if not text:
                raise SourceError(f"{where} finds no text in its name, but needs a class; correct it")
            if text not in known:
                raise unseen_class(text, where, known, from_user=from_user)
            groups[place] = str(known.index(text))
    if not all(map(is_number, groups)):
        raise SourceError(f"label_pattern={pattern!r} finds {groups} in its name; each must be a number")
    whole = [int(text) for text in groups if _WHOLE.fullmatch(text)]
    is_whole = len(whole) == len(groups)
    numbers, limit = range(-(2**63), 2**63), "is beyond int64"
    if not is_whole and dtype is None:
        numbers, limit = range(-EXACT_IN_FLOAT64, EXACT_IN_FLOAT64 + 1), ROUNDED
    large = next((number for number in whole if number not in numbers), None)
    if large is not None:
        raise SourceError(
            f"label_pattern={pattern!r} finds {large} in its name, which {limit}; correct the pattern, or name all "
            "classes with --classes if it is one"
        )
    labels = np.array(whole if is_whole else [*map(float, groups)])
    names = [f"group {number + 1}" for number in range(len(groups))]
    row: Array = convert(labels[None], dtype or labels.dtype, names, rounds=True)[0]
    return row
