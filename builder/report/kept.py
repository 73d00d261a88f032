"""What a store keeps of each sequence beside its rows: further columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.labels.beside import LABELS_SHA256
from builder.report.features import Distribution, distribute
from builder.sequence_values import ColumnValues
from store_spec import Store
from store_spec.reading.sequence_table import OWN

SHOWN_COLUMNS = 50
# The page has them in other places; the last one is for the next build alone.
ELSEWHERE = frozenset({*OWN, "dropped", "filled", LABELS_SHA256})


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptColumn:
    """One column of sequences: what `inspect` finds of it, and of numbers more."""

    found: ColumnValues
    mean: float | None
    distribution: Distribution | None


def kept_columns(store: Store, found: tuple[ColumnValues, ...]) -> tuple[KeptColumn, ...]:
    """Describe the further columns of a store's sequences, of which `inspect` has found what it says of them."""
    kept = [one for one in found if one.name not in ELSEWHERE][:SHOWN_COLUMNS]
    return tuple(describe_column(one, store.sequences[one.name]) for one in kept)


def describe_column(found: ColumnValues, values: NDArray[Any]) -> KeptColumn:
    """Describe one column (sequences,): text as object, or numbers."""
    text = values.dtype == object
    mean = None
    if not text and found.min is not None:
        numbers = values.astype(np.float64)
        mean = float(numbers[~np.isnan(numbers)].mean())
    return KeptColumn(found=found, mean=mean, distribution=None if text else distribute(values))
