r"""Labels that are numbers or classes in a source's name, as `spk(\d+)` finds them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

import numpy as np

from builder.build_errors import SourceError, UsageError
from builder.formats.convert import convert
from builder.formats.table import Array, DType
from builder.labels.text_classes import CODES, Texts, is_number, of_targets, parse_classes, unseen_class
from store_spec import Classes

_WHOLE: Final = re.compile(r"[+-]?[0-9]+")


def check_pattern(pattern: str) -> None:
    """Refuse what is no regular expression, or has no group.

    Raises:
        UsageError: It is such.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise UsageError(f"label_pattern={pattern!r} is no regular expression: {error}") from None
    if not groups:
        raise UsageError(rf"label_pattern={pattern!r} has no group; put the number or class in brackets, as spk(\d+)")


def target_names(pattern: str) -> tuple[str, ...] | None:
    """Return the names of a pattern's groups; None if one has none."""
    compiled = re.compile(pattern)
    return tuple(compiled.groupindex) if len(compiled.groupindex) == compiled.groups else None


def texts_in_name(source: str, pattern: str) -> tuple[str, ...]:
    """Return what the groups of a pattern find in a source's name; "" where one finds nothing.

    Raises:
        SourceError: The pattern finds nothing.
    """
    found = re.search(pattern, source)
    if found is None:
        raise SourceError(
            source,
            f"its name does not match '{pattern}' of label_pattern (--label-pattern); correct one of the two, or leave "
            "the file out of the sources",
        )
    return tuple(text or "" for text in found.groups())


def classes_in_name(source: str, pattern: str, given: Sequence[str]) -> dict[str, Texts]:
    """Return the classes of each target in a source's name: those given, else its text; None: it is a number.

    Raises:
        SourceError: The pattern finds nothing.
        UsageError: Classes are given for what is no group.
    """
    texts = texts_in_name(source, pattern)
    groups = target_names(pattern) or tuple(str(place + 1) for place in range(len(texts)))
    lists = of_targets(parse_classes(given), groups)
    return {
        group: names or (None if is_number(text) else (text,) if text else ())
        for group, text, names in zip(groups, texts, lists, strict=True)
    }


def labels_in(
    source: str, pattern: str, dtype: DType | None, classes: Classes | None = None, *, given: bool = False
) -> Array:
    r"""Return the numbers (targets,) that a pattern finds in a source's name, and the codes of classes.

    Args:
        source: The name.
        pattern: A regular expression, with a group for each target.
        dtype: Of the labels; of codes it is int64.
        classes: Of each target; None: all are numbers.
        given: Whether the user gave the classes.

    Raises:
        SourceError: It finds nothing, or what is neither a number nor a class, or does not fit into the dtype.

    >>> labels_in("a/spk3.csv", r"spk(\d)", None)
    array([3])
    """
    groups = list(texts_in_name(source, pattern))
    if classes is not None:
        dtype = CODES
        for place, (text, known) in enumerate(zip(groups, classes, strict=True)):
            if known is None:
                continue
            where = f"label_pattern={pattern!r}, group {place + 1}"
            if not text:
                raise SourceError(source, f"{where} finds no text in its name; each needs a class: correct it")
            if text not in known:
                raise unseen_class(text, where, known, source, named=given)
            groups[place] = str(known.index(text))
    try:
        if all(map(_WHOLE.fullmatch, groups)):
            labels = np.array([int(text) for text in groups], np.int64)
        else:
            labels = np.array([float(text) for text in groups], np.float64)
    except OverflowError:
        large = next(text for text in groups if not -(2**63) <= int(text) < 2**63)
        raise SourceError(
            source,
            f"label_pattern={pattern!r} finds {large} in its name, which is beyond int64; correct the pattern, or name "
            "all classes with --classes if it is one",
        ) from None
    except ValueError:
        raise SourceError(
            source, f"label_pattern={pattern!r} finds {groups} in its name; each must be a number"
        ) from None
    names = [f"group {number + 1}" for number in range(len(groups))]
    row: Array = convert(labels[None], dtype or labels.dtype, names, rounds=True, source=source)[0]
    return row
