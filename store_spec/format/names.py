"""Check texts: names of features, targets and classes, and the units and descriptions of features and targets."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from store_spec.errors import SchemaError, StoreError

Classes = tuple[tuple[str, ...] | None, ...]  # for each target; None for one without
LARGEST_CLASS_NAME = 2**12  # bytes of UTF-8
LARGEST_NOTE = 2**12  # bytes of UTF-8 of a unit or a description


def checked_names(names: Any, features: int) -> tuple[str, ...] | None:
    """Check the names of features, and return them as a tuple; None if there are none."""
    if names is None:
        return None
    texts = _texts(names, "names")
    if len(texts) != features:
        raise SchemaError(f"{len(texts)} names for {features} features; give one for each, or none")
    _check_distinct(texts, "name", "features")
    return texts


def checked_notes(notes: Iterable[str] | None, features: int, what: str) -> tuple[str, ...] | None:
    """Check units or descriptions, and return them as a tuple; None if all are empty."""
    texts = _texts(notes or (), what)
    for text in texts:
        check_text(text, f"{what}: {text!r:.80}", LARGEST_NOTE, SchemaError)
    if not any(texts):
        return None
    if len(texts) != features:
        raise SchemaError(f"{len(texts):,} {what} for {features:,} features; give a list with one for each, or none")
    return texts


def checked_classes(names_by_target: Any, dtype: np.dtype[Any], targets: int) -> Classes | None:
    """Check the names of classes, and return them as tuples; None if no target has any."""
    if names_by_target is None:
        return None
    classes = tuple(None if names is None else _checked_class_names(names, dtype) for names in names_by_target)
    if len(classes) != targets:
        raise SchemaError(
            f"classes of {len(classes):,} targets, where labels have {targets:,}; give a list for each, or None"
        )
    return None if all(names is None for names in classes) else classes


def _checked_class_names(value: Any, dtype: np.dtype[Any]) -> tuple[str, ...]:
    if dtype.kind not in "iu":
        raise SchemaError(f"classes of labels that are {dtype}; integers stand for classes, as int64")
    names = _texts(value, "classes")
    for name in names:
        if not name:
            raise SchemaError("the name of a class is empty; give each class a name")
        check_text(name, f"the class name {name!r:.80}", LARGEST_CLASS_NAME, SchemaError)
    _check_distinct(names, "class name", "the classes of a target")
    if len(names) > int(np.iinfo(dtype).max) + 1:
        raise SchemaError(
            f"{len(names):,} classes, where {dtype} has {int(np.iinfo(dtype).max) + 1:,} numbers from 0 on"
        )
    return names


def _texts(values: Any, what: str) -> tuple[str, ...]:
    """Return texts as a tuple; refuse a single text, and everything else that is not a list of texts."""
    if isinstance(values, str):
        raise SchemaError(f"{what}={values!r:.80} is one text; give a list of texts")
    texts = tuple(values)
    for text in texts:
        if not isinstance(text, str):
            raise SchemaError(f"{what}: {text!r:.80} is not text; give a list of texts")
    return texts


def _check_distinct(names: tuple[str, ...], what: str, of: str) -> None:
    if len(set(names)) < len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise SchemaError(f"the {what} {twice!r:.80} is given twice; names of {of} must differ")


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


def check_text(text: str, what: str, most: int, error: type[StoreError]) -> None:
    """Raise `error`, which begins with `what`, unless a text is valid Unicode of at most `most` bytes of UTF-8."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError as cause:
        raise error(f"{what} is not valid Unicode") from cause
    if size > most:
        raise error(f"{what} has {size:,} bytes; at most {most:,} are kept: shorten it")


def shown(name: str) -> str:
    r"""Return a name for use in a message: on one line, and without control characters.

    >>> shown("a.csv"), shown("a\nb")
    ('a.csv', "'a\\nb'")
    """
    return name if name.isprintable() else ascii(name)
