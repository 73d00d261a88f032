"""Read the table rows of stored sequences, to copy them to another store."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from store_spec.disk.snapshot import Snapshot
from store_spec.format.missing_runs import SequenceRuns, runs_of_sequences
from store_spec.format.records import SOURCES, Records, no_records, proved, recorded
from store_spec.schema import MISSING_RUNS


def stored_records(snapshot: Snapshot, numbers: NDArray[np.int64], *, statistics: bool = True) -> Records:
    """Return the table rows of some sequences, in this order.

    Without `statistics`, only the columns that identify the sequences, without moments and runs of missing values.
    """
    if not len(numbers):
        return no_records(snapshot.root.schema)
    schema, first, last = snapshot.root.schema, int(numbers.min()), int(numbers.max()) + 1
    places = {name: snapshot.bounds(name)[first : last + 1] for name in ("inputs", "labels")}
    starts = {name: bounds[:-1][numbers - first] for name, bounds in places.items()}
    lengths = {name: np.diff(bounds)[numbers - first] for name, bounds in places.items()}
    tables = recorded(schema) if statistics else proved(schema)
    columns = {name: snapshot.table(name, first, last)[numbers - first] for name in (SOURCES, *tables)}
    missing = {}
    for name, table in MISSING_RUNS.items() if statistics and schema.missing == "keep" else ():
        of, runs = runs_of_sequences(snapshot.missing(name), starts[name], starts[name] + lengths[name])
        missing[table] = SequenceRuns(np.bincount(of, minlength=len(numbers)), runs)
    own = lengths["labels"] if schema.label_axis == "own" else np.zeros_like(lengths["inputs"])
    return Records(tuple(map(str, columns.pop(SOURCES))), lengths["inputs"], own, columns, missing)
