"""Names of classes: what each integer of a target stands for."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import SchemaError
from store_spec.format.text import check_text

Classes = tuple[tuple[str, ...] | None, ...]  # for each target; None for one without
LARGEST_CLASS_NAME = 2**12  # bytes of UTF-8


def checked_classes(names_by_target: Any, dtype: np.dtype[Any], targets: int) -> Classes | None:
    """Check the names of classes, and return them as tuples; None if no target has any."""
    if names_by_target is None:
        return None
    if isinstance(names_by_target, str):
        raise SchemaError(
            f"classes={names_by_target!r:.80} is text; give a list of names for each target, as [['cat', 'dog']]"
        )
    classes = tuple(None if names is None else _checked_names(names, dtype) for names in names_by_target)
    if len(classes) != targets:
        raise SchemaError(
            f"classes of {len(classes):,} targets, where labels have {targets:,}; give a list for each, or None"
        )
    return None if all(names is None for names in classes) else classes


def _checked_names(value: Any, dtype: np.dtype[Any]) -> tuple[str, ...]:
    if isinstance(value, str):
        raise SchemaError(f"classes: {value!r:.80} is text; give a list of names for each target, as [['cat', 'dog']]")
    if dtype.kind not in "iu":
        raise SchemaError(f"classes of labels that are {dtype}; integers stand for classes, as int64")
    names = tuple(value)
    for name in names:
        if not isinstance(name, str) or not name:
            raise SchemaError(f"the class name {name!r:.80} is not text, or empty; give each class a name")
        check_text(name, f"the class name {name!r:.80}", LARGEST_CLASS_NAME, SchemaError)
    if len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise SchemaError(f"the class name {twice!r:.80} is given twice; names of the classes of a target must differ")
    if len(names) > int(np.iinfo(dtype).max) + 1:
        raise SchemaError(
            f"{len(names):,} classes, where {dtype} has {int(np.iinfo(dtype).max) + 1:,} numbers from 0 on"
        )
    return names


def check_extended(old: Classes | None, new: Classes | None) -> None:
    """Check that each target has its old classes, with the same numbers, and perhaps others after them."""
    if old is None or new is None:
        if old is not new:
            raise SchemaError("labels have classes from the first commit on, or never; make another store")
        return
    for target, (before, now) in enumerate(zip(old, new, strict=True)):
        if (before is None) != (now is None):
            raise SchemaError(f"target {target:,} has classes from the first commit on, or never; make another store")
        if before is None or now is None:
            continue
        for code, name in enumerate(before):
            if code >= len(now) or now[code] != name:
                instead = repr(now[code])[:80] if code < len(now) else "nothing"
                raise SchemaError(
                    f"target {target:,}: class {code:,} is {name!r:.80}, and would be {instead}; add classes behind "
                    "the others, which keep their numbers"
                )


def wrong_code(classes: Classes, least: NDArray[Any], greatest: NDArray[Any]) -> tuple[int, Any, int] | None:
    """Find the first target that has a code without a class; return it, the code, and how many classes it has.

    `least` and `greatest` are the smallest and the largest code of each target, (targets,); NaN if it has no labels.
    """
    for target, names in enumerate(classes):
        for code in () if names is None else (least[target], greatest[target]):
            if code < 0 or (names is not None and code >= len(names)):
                return target, code, len(names or ())
    return None
