"""Encode text labels of a process function as codes of the classes that `classes` (--classes) names.

The builder collects classes from tables, names and manifests, but not from process functions.
"""

from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from builder.build_errors import SourceError
from builder.formats.table import Array
from builder.labels.text_classes import CODES, ClassLists, classes_by_target, unseen_class
from builder.sequence import LongSequence, Sequence, map_sequence, sequences_of
from store_spec import SequenceError
from store_spec.building import refuse_masked_rows


@dataclass(slots=True)
class TextEncoder:
    """Replaces text in the labels of sequences by the codes of its classes.

    The user gives classes by the index of a target in the store; a sequence may name its targets in another order. If
    the targets of the store are None, the first sequence determines them.
    """

    classes: ClassLists
    targets: tuple[str, ...] | None = None  # of the store; () if they have no names

    def encode(self, result: Any, source: str) -> Iterator[Sequence | LongSequence]:
        """Yield the sequences in the result of a process function, with codes."""
        for sequence in sequences_of(result):
            yield map_sequence(sequence, partial(self._encode_one, source))

    def _encode_one(self, source: str, sequence: Sequence) -> Sequence:
        if sequence.labels is None:  # as in later pieces on the `sequence` axis; otherwise it is refused later
            return sequence
        names = tuple(sequence.targets or ())
        self.targets = names if self.targets is None else self.targets
        order = [str(self.targets.index(name)) for name in names] if {*self.targets} == {*names} else ()
        return replace(sequence, labels=encode_labels(sequence.labels, self.classes, source, order))


def encode_labels(labels: Any, classes: ClassLists, source: str, order: Collection[str] = ()) -> Array:
    """Return labels with codes of classes instead of text, int64, of the same shape.

    Labels are one text, or an array of any shape, with several targets on the last axis. Targets without classes must
    be whole numbers. `order` has the places of the targets in the store, if these differ.

    >>> encode_labels(["dog", "cat"], ((None, ("cat", "dog")),), "a.wav").tolist()
    [1, 0]
    """
    refuse_masked_rows("labels", labels, source)
    array = np.asarray(labels, object)
    if np.ma.is_masked(labels):
        array = array.copy()
        array[np.ma.getmaskarray(labels)] = None
    if len(classes) == 1 and classes[0][0] is None:
        return _codes(array, classes[0][1], "")
    targets = array.shape[-1] if array.ndim else 1
    places = [*order] if len(order) == targets else [str(at) for at in range(targets)]
    by_place = classes_by_target(classes, places)
    out = np.empty(array.shape, CODES)
    for at, names in enumerate(by_place):
        column, where = array[..., at], f", target {at:,}"
        out[..., at] = _whole_numbers(column, where) if names is None else _codes(column, names, where)
    return out


def _codes(texts: Array, names: tuple[str, ...], where: str) -> Array:
    code = {name: number for number, name in enumerate(names)}
    flat = texts.reshape(-1).tolist()
    codes = [code.get(text.strip()) if isinstance(text, str) else None for text in flat]
    if None in codes:
        first = codes.index(None)
        text, at = flat[first], _at(np.unravel_index(first, texts.shape) if texts.ndim else (), where)
        if isinstance(text, str):
            raise unseen_class(text, at, names, from_user=True)
        raise SourceError(f"{at}: {text!r:.80} is not text, but --classes names classes of text")
    return np.array(codes, CODES).reshape(texts.shape)


def _whole_numbers(numbers: Array, where: str) -> Array:
    out = np.zeros(numbers.shape, CODES)
    for place, number in np.ndenumerate(numbers):
        with suppress(TypeError, ValueError, OverflowError):
            out[place] = number
        if out[place] != number:
            raise SourceError(
                f"{_at(place, where)}: {number!r:.80} is not a whole number of 64 bits, as labels beside classes must "
                "be; or name the classes of this target too with --classes"
            )
    return out


def _at(place: tuple[Any, ...], where: str) -> str:
    return f"labels: row {place[0]:,}{where}" if place else f"labels{where}"


def refuse_text(labels: Any, origin: object) -> None:
    """Refuse text labels if the user named no classes."""
    row = labels
    while isinstance(row, list | tuple) and row and isinstance(row[0], list | tuple | np.ndarray):
        row = row[0]
    if isinstance(row, np.ndarray) and row.dtype.kind in "UOT" and row.size:
        row = row.reshape(-1, row.shape[-1] if row.ndim else 1)[0].tolist()  # some targets may be numbers
    texts = [one for one in (row if isinstance(row, list | tuple) else [row]) if isinstance(one, str)]
    if texts:
        raise SequenceError(
            f"{origin}: labels are text, such as {str(texts[0])!r:.80}, but no classes are named; name all of them "
            "with classes (--classes cat,dog)"
        )
