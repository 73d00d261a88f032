"""Names, units and descriptions of features and targets, one for each position on the last axis of a row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from store_spec.errors import SchemaError
from store_spec.format.text import check_text

LARGEST_NOTE = 2**12  # bytes of UTF-8 of a unit or a description


def checked_names(names: Any, features: int) -> tuple[str, ...] | None:
    """Check the names of features, and return them as a tuple; None if there are none."""
    if names is None:
        return None
    if isinstance(names, str):
        raise SchemaError(f"names={names!r:.80} is one text; give a list of names, one for each feature")
    names = tuple(names)
    for name in names:
        if not isinstance(name, str):
            raise SchemaError(f"the name {name!r:.80} is not text; names are strings, or None for all of them")
    if len(names) != features:
        raise SchemaError(f"{len(names)} names for {features} features; give one for each, or none")
    if len(set(names)) != len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise SchemaError(f"the name {twice!r:.80} is given twice; names of features must differ")
    return names  # type: ignore[no-any-return]


def checked_notes(notes: Iterable[str] | None, features: int, what: str) -> tuple[str, ...] | None:
    """Check units or descriptions, and return them as a tuple; None if all are empty."""
    texts = (notes,) if isinstance(notes, str) else tuple(notes or ())
    for text in texts:
        if not isinstance(text, str):
            raise SchemaError(f"{what}: {text!r:.80} is not text; give a text for each feature, empty for none")
        check_text(text, f"{what}: {text!r:.80}", LARGEST_NOTE, SchemaError)
    if not any(texts):
        return None
    if isinstance(notes, str) or len(texts) != features:
        raise SchemaError(f"{len(texts):,} {what} for {features:,} features; give a list with one for each, or none")
    return texts
