"""Convert data frames of pandas, polars or pyarrow to arrays with names, and with the units that pyarrow has.

Pandas and polars are not imported: a data frame has `columns`, and exports itself by the Arrow PyCapsule interface.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from builder.build_errors import SourceError
from builder.formats.arrow import describe_type, is_numeric, is_text, numbers_of
from builder.formats.column_notes import Columns
from builder.formats.convert import stack
from builder.formats.table import Array, Table, array_of


def is_data_frame(value: Any) -> bool:
    """Return whether a value is a data frame, and not an array or a single column."""
    return hasattr(value, "__arrow_c_stream__") and hasattr(value, "columns")


def read_data_frame(value: Any, what: str) -> tuple[Array, Columns | None]:
    """Return the columns of a data frame as one array (rows, columns), and their names, units and descriptions.

    Missing numbers become NaN. If a column is text, the array has dtype object. The names are None if they are not
    text, such as the numbers that pandas gives by default. `what` is `inputs` or `labels`, for errors.
    """
    import pyarrow as pa

    names = list(value.column_names if isinstance(value, pa.Table) else value.columns)
    if not all(isinstance(name, str) for name in names):
        return np.asarray(value), None
    frame = pa.table(value).select(names)  # pandas may export its index as a column
    for name, kind in zip(names, frame.schema.types, strict=True):
        if not is_numeric(kind) and not is_text(kind):
            raise SourceError(
                f"column {name} of its {what}",
                f"holds {describe_type(kind)}, not numbers; leave it out, or give it to time= of Sequence if it tells "
                "when each step was",
            )
    notes = Columns.with_metadata(tuple(names), {one.name: one.metadata for one in frame.schema})
    if not all(map(is_numeric, frame.schema.types)):
        rows = np.empty((len(frame), len(names)), object)
        for place, name in enumerate(names):
            rows[:, place] = frame[name].to_pylist()
        return rows, notes
    columns = {}
    for name in names:
        values, absent = array_of(numbers_of(frame[name]))
        columns[name] = values if absent is None else np.where(absent, np.nan, values.astype(np.float64))
    return stack(Table(columns=columns), names, dtype=None, source=f"its {what}"), notes
