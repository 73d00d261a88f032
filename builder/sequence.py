"""What a process function gives of one sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """One sequence of a source. A plain pair `(inputs, labels)` says the same of one without columns and time.

    Args:
        inputs: (steps, *feature shape).
        labels: (rows, *target shape), or (*target shape) on the label axis `sequence`; None where the manifest has
            them.
        columns: What else is kept of the sequence, by name: text, a whole number, a float or a bool. The sequences of
            a build all have the same names, and the same types under each.
        time: (steps,) when each step was, never falling: datetime64, or timedelta64 since some beginning; None: no
            time is kept. One without a unit (int64) is of the unit that the store has.
        filled: Bool (steps, *feature shape), True where a value of inputs was filled in; None: nothing was. It is kept
            if the first source of a store gives it for its first sequence.
        zone: `"UTC"` where a datetime64 is that of a moment, None where it is a local time without a zone.
    """

    inputs: Any
    labels: Any = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    time: Any = None
    zone: Literal["UTC"] | None = None
    filled: Any = None


@dataclass(frozen=True, slots=True, eq=False)
class LongSequence:
    """One sequence that does not fit into memory: its rows come piece by piece.

    >>> def read(path):
    ...     rows = np.load(path, mmap_mode="r")
    ...     return LongSequence(Sequence(rows[at : at + 10_000, :-1], rows[at : at + 10_000, -1:])
    ...                         for at in range(0, len(rows), 10_000))

    Args:
        pieces: Sequences, or plain pairs, that follow one another, at least one; each is used before the next is asked
            for, so a generator may fill the same arrays again. Further columns, and labels on the axis `sequence`, are
            those of the first piece.
    """

    pieces: Iterable[Sequence | tuple[Any, Any]]

    def checked(self) -> Iterator[Sequence]:
        """Give its pieces, pairs among them as sequences.

        Raises:
            TypeError: One is neither.
        """
        if not isinstance(self.pieces, Iterable):
            raise TypeError(f"a LongSequence takes an iterable of {_PIECES}; it was given {_kind(self.pieces)}")
        for number, piece in enumerate(self.pieces):
            one = _sequence_of(piece)
            if one is None:
                raise TypeError(f"a LongSequence takes an iterable of {_PIECES}; piece {number:,} is {_kind(piece)}")
            yield one

    def each(self, change: Callable[[Sequence], Sequence]) -> LongSequence:
        """Return the same with a change to each piece, made when it comes."""
        return LongSequence(map(change, self.checked()))

    def whole(self, *, labels_once: bool) -> Sequence:
        """Return it as it is without pieces, in memory; `labels_once`: labels are on the axis `sequence`.

        It is for pieces that are alike, as those of tables are: of any others, a store's schema tells what they become.
        """
        # Copied: the next piece may come in the same arrays.
        pieces = [(piece, {name: _copied(getattr(piece, name)) for name in _ROWS}) for piece in self.checked()]
        if not pieces:
            raise ValueError("a sequence that comes in pieces has at least one; give an empty one")

        def joined(name: str) -> Any:
            every = [rows[name] for _, rows in pieces]
            return every[0] if every[0] is None or (labels_once and name == "labels") else np.concatenate(every)

        return replace(pieces[0][0], **{name: joined(name) for name in _ROWS})


class Parts:
    """The sequences of a source, made one after another.

    Args:
        sequences: They.
        beside: Bytes of the source's rows that are in memory beside each; None: all rows are.
    """

    def __init__(self, sequences: Iterator[Sequence | LongSequence], beside: int | None) -> None:
        self._sequences, self.beside = sequences, beside

    def __iter__(self) -> Iterator[Sequence | LongSequence]:
        return self

    def __next__(self) -> Sequence | LongSequence:
        return next(self._sequences)


def sequences_of(result: Any) -> Iterator[Sequence | LongSequence]:
    """Give the sequences in what a process function returned.

    Raises:
        TypeError: It is neither a pair nor a sequence, and no iterable of these.
    """
    for one in (result,) if isinstance(result, tuple | Sequence | LongSequence) else _iterated(result):
        if isinstance(one, LongSequence):
            yield one
            continue
        sequence = _sequence_of(one)
        if sequence is None:
            raise TypeError(f"a process function returns (inputs, labels), or yields such pairs; it gave {_kind(one)}")
        yield sequence


def rows_beside(result: Any) -> int | None:
    """Return the bytes of a source that are in memory beside each of its sequences, as what a function returned tells.

    Returns:
        0 of a generator, which makes them one after another; None of a list, and all else that has them already.
    """
    if isinstance(result, Parts):
        return result.beside
    return 0 if isinstance(result, Iterator) else None


def changed(given: Sequence | LongSequence, change: Callable[[Sequence], Sequence]) -> Sequence | LongSequence:
    """Return a sequence with a change; of one in pieces each is changed when it comes."""
    return given.each(change) if isinstance(given, LongSequence) else change(given)


_ROWS = ("inputs", "labels", "time", "filled")
_PIECES = "pairs (inputs, labels), or of Sequences"


def _sequence_of(one: Any) -> Sequence | None:
    """Return a sequence as it is, or made of a pair; None: it is neither."""
    if isinstance(one, Sequence):
        return one
    return Sequence(one[0], one[1]) if isinstance(one, tuple) and len(one) == 2 else None


def _kind(one: Any) -> str:
    return f"a tuple of {len(one)}" if isinstance(one, tuple) else f"a {type(one).__name__}"


def _copied(rows: Any) -> Any:
    return None if rows is None else np.array(rows)


def _iterated(result: Any) -> Iterator[Any]:
    # An array would be iterated row by row, and each row called wrong: say what it is instead.
    if hasattr(result, "__array__") or not isinstance(result, Iterable):
        raise TypeError(
            f"a process function returns (inputs, labels), or yields such pairs; it gave a {type(result).__name__}"
        )
    return iter(result)
