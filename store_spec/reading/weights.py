"""The argument `weights`: draw samples with replacement, by the weights of their sequences."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from store_spec.errors import WindowError
from store_spec.format.moments import Floats

if TYPE_CHECKING:
    from store_spec.store import Store

Ints = NDArray[np.int64]


def checked_weights(weights: ArrayLike | None, counts: Ints, where: object) -> Floats | None:
    """Check weights (sequences,) of at least 0, not all of them 0, and return them as float64; None if there are none.

    `counts` is (sequences,), how many samples each sequence has.
    """
    if weights is None:
        return None
    try:
        values = np.array(weights, np.float64)
    except (TypeError, ValueError) as error:
        raise WindowError(f"{where}: weights are not numbers ({error}); give one for each sequence") from error
    if values.shape != counts.shape:
        raise WindowError(f"{where}: weights of shape {values.shape}; give one for each of {len(counts):,} sequences")
    wrong = ~((values >= 0) & np.isfinite(values))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise WindowError(f"{where}: weights[{at:,}] is {values[at]}; a weight is a number from 0 on")
    with np.errstate(over="ignore"):
        mass = float((values * counts).sum())
    if counts.any() and not 0 < mass < np.inf:
        raise WindowError(
            f"{where}: the weights of all {int(counts.sum()):,} samples make {mass}; nothing can be drawn by that"
        )
    return values


def weights_of_sequences(weights: ArrayLike | None, store: Store) -> Floats | None:
    """Return weights like `checked_weights`, where each sequence is one sample."""
    if weights is None:  # a root may claim more sequences than an array can have
        return None
    return checked_weights(weights, np.broadcast_to(np.int64(1), len(store)), store.path)  # takes no memory


def weights_then(weights: Floats | None, now: Store, then: Store) -> Floats | None:
    """Return the weights of the sequences that a store had when an epoch was started."""
    return None if weights is None else weights[now.selection <= then.selection.max(initial=-1)]


def digest_of(weights: Floats | None) -> str | None:
    """Return a hash of weights, for a state."""
    return None if weights is None else hashlib.sha256(weights.astype("<f8").tobytes()).hexdigest()[:16]
