"""Codes of classes: names of a target get 0, 1, ... in the order in which they are added, here and nowhere else.

A worker gives codes to the names of its batch. When the batch is registered, the coordinator adds the names to those of
the store, and what differs is recoded. So the codes follow from the order of the sources alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.build_errors import UsageError
from builder.labels.text_classes import MOST_CLASSES, Texts, of_targets, parse_classes
from store_spec import Classes

Recoding = tuple[NDArray[np.int64] | None, ...]  # of each target the new code of each code; None: all stay


class ClassCodes:
    """The classes of each target.

    Args:
        classes: Those that have codes already; None: the first source tells which targets have classes.
        given: Classes as `parse_classes` reads them, for the first source.
    """

    def __init__(self, classes: Classes | None, given: Sequence[str] = ()) -> None:
        self.found: Mapping[str, Texts] = {}  # in the last source
        self._given = given
        self._codes: list[dict[str, int] | None] | None = None
        self._classes: Classes | None = None
        if classes is not None:
            self._begin(classes)

    @property
    def classes(self) -> Classes | None:
        """The names of the classes of each target, None of one with numbers; None: all have numbers."""
        if self._classes is None and self._codes is not None and any(names is not None for names in self._codes):
            self._classes = tuple(None if names is None else tuple(names) for names in self._codes)
        return self._classes

    def add(self, found: Mapping[str, Texts]) -> None:
        """Add the texts of a source, by target. Those of targets with numbers are left out.

        Raises:
            UsageError: There are too many, or classes are given for what is no target.
        """
        self.found = found
        if self._codes is None:
            self._begin(first_classes(found, self._given))
        for (target, texts), codes in zip(found.items(), self._codes or (), strict=False):
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
                    f"{next(reversed(codes))!r:.80}, and so many are no classes; choose another column (what was "
                    "committed stays)"
                )

    def marked(self) -> list[int]:
        """Return how many there are, to go back to."""
        return [len(codes or ()) for codes in self._codes or ()]

    def cut(self, mark: list[int]) -> None:
        """Forget those that were added since."""
        for codes, count in zip(self._codes or (), mark, strict=True):
            while codes is not None and len(codes) > count:
                codes.popitem()
                self._classes = None

    def recoding(self, classes: Classes, targets: Sequence[str]) -> Recoding | None:
        """Add the classes of a batch, and return what their codes become; None: all stay.

        Args:
            classes: Of each target, in the order of the codes that the batch has for them.
            targets: The names of the targets.

        Raises:
            UsageError: There are too many.
        """
        self.add(dict(zip(targets, classes, strict=True)))
        recoding = tuple(
            None if names is None or codes is None else np.array([codes[name] for name in names], np.int64)
            for names, codes in zip(classes, self._codes or (), strict=True)
        )
        stay = all(codes is None or np.array_equal(codes, np.arange(len(codes))) for codes in recoding)
        return None if stay else recoding

    def _begin(self, classes: Classes) -> None:
        self._codes = [None if names is None else {name: code for code, name in enumerate(names)} for names in classes]


def first_classes(found: Mapping[str, Texts], given: Sequence[str]) -> Classes:
    """Return the classes that labels begin with: those given, none yet of other text, and None of numbers.

    Args:
        found: The texts of each target in the first source that can be used.
        given: Classes as `parse_classes` reads them.

    Raises:
        UsageError: Classes are given for what is no target.
    """
    lists = of_targets(parse_classes(given), list(found)) if found else ()
    return tuple(names or (() if texts else None) for names, texts in zip(lists, found.values(), strict=True))


def recoded(labels: NDArray[Any], recoding: Recoding) -> NDArray[Any]:
    """Return labels (..., targets) with other codes.

    >>> recoded(np.array([[0, 7], [1, 7]]), (np.array([3, 0]), None)).tolist()
    [[3, 7], [0, 7]]
    """
    labels = labels.copy()
    for target, codes in enumerate(recoding):
        if codes is not None:
            labels[..., target] = codes[labels[..., target]]
    return labels
