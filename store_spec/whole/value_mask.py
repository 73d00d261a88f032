"""Which values of inputs are real, in batches of whole sequences and of streams: what `value_mask=True` gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from store_spec.reading.columns import Column
from store_spec.windows.missing_values import masks_of

if TYPE_CHECKING:
    from store_spec.store import Store


@dataclass(frozen=True, slots=True)
class ValueMask:
    """How it is told whether a value of inputs is real.

    Args:
        columns: What tells it of rows as they are stored. All of them have to say so.
    """

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, store: Store) -> ValueMask:
        """Return how this store tells it.

        Raises:
            WindowError: It does not.
        """
        return cls(tuple(masks_of(store, None, argument="value_mask").values()))

    @property
    def beside(self) -> tuple[str, ...]:
        """The arrays that are read for it, beside `inputs`."""
        return tuple(column.array for column in self.columns if column.array != "inputs")

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of the mask, and of what is read for it, which are there together."""
        return self.columns[0].nbytes * (1 + len(self.beside))

    def __call__(
        self, stored: Mapping[str, list[NDArray[Any]]], steps: list[NDArray[np.bool_]]
    ) -> list[NDArray[np.bool_]]:
        """Return for each batch which values are real: bool, of the shape of its inputs.

        Args:
            stored: Of `inputs` and the arrays `beside`, what each batch has of it, as it is stored: NaN that
                normalising makes of other values is none that was missing.
            steps: For each batch which of its steps are real; values of all others are not.
        """
        found = []
        for number, real in enumerate(steps):
            mask, *others = (column(stored[column.array][number]) for column in self.columns)
            for other in others:
                mask &= other
            mask[~real] = False
            found.append(mask)
        return found
