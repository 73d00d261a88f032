"""The mask of `value_mask=True`, in batches of whole sequences and of streams."""

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
    """How to find the real values of inputs.

    Args:
        columns: Convert stored rows to masks; a value is real if all of them are True.
    """

    columns: tuple[Column, ...]

    @classmethod
    def of(cls, store: Store) -> ValueMask:
        """Return the mask for a store.

        Raises:
            WindowError: The store does not record which values are real.
        """
        return cls(tuple(masks_of(store, None, argument="value_mask").values()))

    @property
    def beside(self) -> tuple[str, ...]:
        """The arrays to read in addition to `inputs`."""
        return tuple(column.array for column in self.columns if column.array != "inputs")

    @property
    def row_bytes(self) -> int:
        """Bytes of a row of the mask and of the arrays that are read for it."""
        return self.columns[0].nbytes * (1 + len(self.beside))

    def __call__(
        self, stored: Mapping[str, list[NDArray[Any]]], steps: list[NDArray[np.bool_]]
    ) -> list[NDArray[np.bool_]]:
        """Return the mask of each batch: bool, of the shape of its inputs.

        Args:
            stored: Rows of `inputs` and the arrays `beside` for each batch, as they are stored: normalisation may
                produce NaN from values that are not missing.
            steps: For each batch which of its steps are real; values of other steps are not.
        """
        masks = []
        for number, real in enumerate(steps):
            mask, *others = (column(stored[column.array][number]) for column in self.columns)
            for other in others:
                mask &= other
            mask[~real] = False
            masks.append(mask)
        return masks
