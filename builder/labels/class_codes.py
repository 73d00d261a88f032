"""Codes of classes: the names of a target get 0, 1, ... in the order in which they are added.

A worker assigns codes to the names of its batch. When the batch is registered, the coordinator adds the names to those
of the store, and labels whose codes differ are recoded. So the codes depend only on the order of the sources.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import UsageError
from builder.labels.text_classes import MOST_CLASSES, Texts, classes_by_target, parse_classes
from store_spec import Classes

Recoding = tuple[NDArray[np.int64] | None, ...]  # the new codes, indexed by the old code, of each target; None: numbers


class ClassCodes:
    """The classes of each target.

    Args:
        classes: The classes that already have codes; None: the first source determines which targets have classes.
        class_lists: The option `classes`, for the first source.
    """

    def __init__(self, classes: Classes | None, class_lists: Sequence[str] = ()) -> None:
        self.last_texts: Mapping[str, Texts] = {}  # of the last source
        self._class_lists = class_lists
        self._codes: list[dict[str, int] | None] | None = None
        self._classes: Classes | None = None
        if classes is not None:
            self._set_classes(classes)

    @property
    def classes(self) -> Classes | None:
        """The names of the classes of each target, None for a target with numbers; None if all are numbers."""
        if self._classes is None and self._codes is not None and any(names is not None for names in self._codes):
            self._classes = tuple(None if names is None else tuple(names) for names in self._codes)
        return self._classes

    def add(self, texts_by_target: Mapping[str, Texts]) -> None:
        """Add the texts of a source, ignoring targets with numbers; UsageError if there are too many classes."""
        self.last_texts = texts_by_target
        if self._codes is None:
            self._set_classes(first_classes(texts_by_target, self._class_lists))
        for (target, texts), codes in zip(texts_by_target.items(), self._codes or (), strict=False):
            if codes is None or not texts:
                continue
            before = len(codes)
            for text in texts:
                codes.setdefault(text, len(codes))
            if len(codes) > before:
                self._classes = None
            if len(codes) > MOST_CLASSES:
                raise UsageError(
                    f"labels {target} have more than {MOST_CLASSES:,} different texts, {next(iter(codes))!r:.80} to "
                    f"{next(reversed(codes))!r:.80}, too many for classes; choose another column (what was committed "
                    "stays)"
                )

    def counts(self) -> list[int]:
        """Return the number of classes of each target, for `truncate`."""
        return [len(codes or ()) for codes in self._codes or ()]

    def truncate(self, counts: list[int]) -> None:
        """Remove the classes that were added since `counts`."""
        self._classes = None
        for codes, count in zip(self._codes or (), counts, strict=True):
            while codes is not None and len(codes) > count:
                codes.popitem()

    def recoding(self, classes: Classes, targets: Sequence[str]) -> Recoding | None:
        """Add the classes of each target of a batch, in the order of its codes; return their new codes.

        None: no code changes. Too many classes are a UsageError.
        """
        self.add(dict(zip(targets, classes, strict=True)))
        recoding = tuple(
            None if names is None or codes is None else np.array([codes[name] for name in names], np.int64)
            for names, codes in zip(classes, self._codes or (), strict=True)
        )
        is_same = all(codes is None or np.array_equal(codes, np.arange(len(codes))) for codes in recoding)
        return None if is_same else recoding

    def _set_classes(self, classes: Classes) -> None:
        self._codes = [None if names is None else {name: code for code, name in enumerate(names)} for names in classes]


def first_classes(texts_by_target: Mapping[str, Texts], class_lists: Sequence[str]) -> Classes:
    """Return the classes of a new store: those of the option `classes`, () for other text, and None for numbers.

    Args:
        texts_by_target: The texts of each target in the first usable source.
        class_lists: The option `classes`; an unknown target is a UsageError.
    """
    if not texts_by_target:
        return ()
    listed = classes_by_target(parse_classes(class_lists), list(texts_by_target))
    return tuple(
        names or (() if texts else None) for names, texts in zip(listed, texts_by_target.values(), strict=True)
    )


def recode_labels(labels: NDArray[Any], recoding: Recoding) -> NDArray[Any]:
    """Replace the codes in labels (..., targets).

    >>> recode_labels(np.array([[0, 7], [1, 7]]), (np.array([3, 0]), None)).tolist()
    [[3, 7], [0, 7]]
    """
    labels = labels.copy()
    for target, codes in enumerate(recoding):
        if codes is not None:
            labels[..., target] = codes[labels[..., target]]
    return labels
