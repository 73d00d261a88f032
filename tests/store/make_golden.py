"""Write the golden stores of format version 1: `python -m tests.store.make_golden` in the root of the repository.

They show that stores of old releases stay readable, so an existing one is never replaced.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from store_spec.format.sequence_columns import SequenceColumn
from store_spec.format.times import Time
from store_spec.schema import LabelAxis, Missing, Rows, rows_of
from tests.store.oracle import Sequence

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """A golden store: how it is created, its sequences by a formula, and the numbers of sequences at its commits.

    `classes` are those of the labels at each commit. `retire` has the sources to retire before each commit, and `gone`
    the numbers of their sequences.
    """

    name: str
    inputs: Rows
    labels: Rows
    sequences: Callable[[], list[Sequence]]
    commits: tuple[int, ...]
    label_axis: LabelAxis = "step"
    missing: Missing = "error"
    codec: str = "zstd"
    columns: tuple[SequenceColumn, ...] = ()
    time: Time | None = None
    classes: tuple[list[list[str] | None] | None, ...] = (None,)
    retire: tuple[tuple[str, ...], ...] = ()
    gone: tuple[int, ...] = ()
    filled: bool = False

    @property
    def path(self) -> Path:
        return GOLDEN / f"{self.name}.zarr"

    @property
    def live(self) -> list[Sequence]:
        """The sequences that are not retired."""
        return [one for number, one in enumerate(self.sequences()) if number not in self.gone]

    def write(self, path: Path) -> None:
        """Write the store with the current writer."""
        sequences, at = self.sequences(), 0
        with store_spec.create_store(
            path,
            inputs=self.inputs,
            labels=self.labels,
            label_axis=self.label_axis,
            missing=self.missing,
            codec=self.codec,
            columns={column.name: column.dtype for column in self.columns},
            time=self.time,
            classes=self.classes[0],
            filled=self.filled,
            chunk=4 * self.inputs.nbytes,
            shard=8 * self.inputs.nbytes,
            provenance={"made by": "tests/store/make_golden.py", "store": self.name},
        ) as writer:
            for commit, stop in enumerate(self.commits):
                if (classes := self.classes[min(commit, len(self.classes) - 1)]) is not None:
                    writer.extend_classes(classes)
                for source in self.retire[commit] if self.retire else ():
                    writer.retire(source)
                for one in sequences[at:stop]:
                    columns, time, filled = one.columns, one.time, one.filled
                    writer.append(one.inputs, one.labels, source=one.source, columns=columns, time=time, filled=filled)
                at = stop
                writer.commit()


def ramp(steps: int, row: Rows, first: int) -> NDArray[Any]:
    """Return rows that rise by 1 from step to step and by 1/4 along a row.

    Means and squared differences of such rows are exact in float64, so the bytes of `stats/` do not depend on the
    order in which a processor adds.
    """
    width = int(np.prod(row.shape))
    values = first + np.arange(steps)[:, None] + np.arange(width) / 4
    return values.reshape(steps, *row.shape).astype(row.dtype)


def _steps() -> list[Sequence]:
    """Full shards, some of which a later commit replaces, and a last, partial one."""
    lengths = {"a/walk-0.csv": [5], "a/walk-1.csv": [0], "b/größe 二.csv": [2, 11], "c.csv": [1, 0, 4]}
    return [
        Sequence(source, ramp(steps, STEPS.inputs, 8 * number), ramp(steps, STEPS.labels, number))
        for number, (source, parts) in enumerate(lengths.items())
        for steps in parts
    ]


def _named() -> list[Sequence]:
    return [
        Sequence(f"episode-{number}", ramp(steps, NAMED.inputs, -number), np.array(7 * number - 3))
        for number, steps in enumerate([4, 9, 0, 1])
    ]


def _own() -> list[Sequence]:
    return [
        Sequence(f"utterance-{number}", ramp(steps, OWN.inputs, number), ramp(label_steps, OWN.labels, -number))
        for number, (steps, label_steps) in enumerate([(6, 2), (0, 5), (13, 0), (2, 3)])
    ]


def _images() -> list[Sequence]:
    """Pixels count up within a frame and from frame to frame; the two labels alternate."""
    sequences = []
    for number, steps in enumerate([4, 0, 2]):
        frames = np.arange(48 * steps).reshape(steps, 4, 4, 3) + number
        sides = np.arange(steps)[:, None] % 2 == np.arange(2)
        sequences.append(Sequence(f"film-{number}", frames.astype(np.uint8), sides))
    return sequences


def _gaps() -> list[Sequence]:
    """NaN in the middle of one column, in all of another, and in a whole sequence."""
    one = ramp(5, GAPS.inputs, 0)
    one[2, 0] = one[:, 1] = np.nan
    two = np.full((3, 2), np.nan)
    return [Sequence("gap", one, ramp(5, GAPS.labels, 1)), Sequence("nothing", two, np.full(3, np.nan, np.float32))]


def _waves() -> list[Sequence]:
    sequences = []
    for number, steps in enumerate([3, 6]):
        real = ramp(steps, rows_of("float32", (2,)), number)
        inputs = (real - 1j * real).astype(np.complex64)
        sequences.append(Sequence(f"wave-{number}", inputs, np.array([number / 2, -1], np.float16)))
    return sequences


def _updated() -> list[Sequence]:
    """Two sources have a second version, one of them directly after the first; one is retired without a new version."""
    lengths = [("a", 3), ("a", 2), ("b", 4), ("c", 1), ("c", 6), ("c", 5), ("a", 2), ("d", 0)]
    return [
        Sequence(source, ramp(steps, UPDATED.inputs, number), np.array(number, np.int8))
        for number, (source, steps) in enumerate(lengths)
    ]


def _patients() -> list[Sequence]:
    """Values of columns of every type, with the smallest, the largest, and missing ones."""
    columns: list[dict[str, Any]] = [
        {"site": "Köln 二", "age": 41.5, "visits": -(2**63), "left handed": True},
        {"site": "", "age": math.nan, "visits": 2**63 - 1, "left handed": False},
        {"site": "A/1\n", "age": -0.0, "visits": 0, "left handed": True},
    ]
    return [
        Sequence(f"patient-{number}", ramp(steps, PATIENTS.inputs, number), ramp(steps, PATIENTS.labels, number), more)
        for number, (steps, more) in enumerate(zip([3, 5, 0], columns, strict=True))
    ]


def _rivers() -> list[Sequence]:
    """Times that rise, that stand still, and that go from the smallest to the largest."""
    every = np.arange(11) * 3600 - 7200
    times = [every[:6], every[:0], every // 7200 * 7200, np.array([-(2**63) + 1, 0, 2**63 - 1])]
    basins = ["Rhein", "Aare", "", "Reuß"]
    return [
        Sequence(f"river-{n}", ramp(len(time), RIVERS.inputs, n), np.array(n, np.int16), {"basin": basins[n]}, time)
        for n, time in enumerate(times)
    ]


def _races(*times: NDArray[np.int64] | None) -> list[Sequence]:
    return [
        Sequence(f"race-{n}", ramp(steps, RACES.inputs, n), ramp(steps, RACES.labels, n), time=time)
        for n, (steps, time) in enumerate(zip([9, 2], times, strict=True))
    ]


def _animals() -> list[Sequence]:
    """A later commit names the class of the second sequence."""
    return [
        Sequence(f"animal-{number}", ramp(steps, ANIMALS.inputs, number), np.array([code, -number], np.int8))
        for number, (steps, code) in enumerate([(3, 1), (2, 3), (5, 0)])
    ]


def _holes() -> list[Sequence]:
    """NaN at the ends of consecutive sequences, in one feature or all, and in labels; other values are filled."""
    sequences = []
    for number, (steps, rows) in enumerate([(7, 3), (0, 2), (4, 0), (12, 5)]):
        inputs, labels = ramp(steps, HOLES.inputs, number), ramp(rows, HOLES.labels, -number)
        inputs[:1, number % 3] = inputs[-2:] = np.nan
        inputs[5:6] = np.nan
        labels[1:3] = np.nan
        filled = np.arange(steps * 3).reshape(steps, 3) % 5 == 2
        sequences.append(Sequence(f"hole-{number}", inputs, labels, filled=filled))
    return sequences


STEPS = Golden(
    name="steps",
    inputs=rows_of("float32", (3,)),
    labels=rows_of("int64", ()),
    sequences=_steps,
    commits=(1, 2, 4, 7),
)
NAMED = Golden(
    name="named",
    inputs=rows_of("int16", (2,), ("speed", "größe")),
    labels=rows_of("int64", ()),
    sequences=_named,
    commits=(2, 4),
    label_axis="sequence",
    codec="lz4:5",
)
OWN = Golden(
    name="own",
    inputs=rows_of("float64", ()),
    labels=rows_of("int32", (2,), ("left", "right")),
    sequences=_own,
    commits=(1, 4),
    label_axis="own",
    codec="zstd:1",
)
IMAGES = Golden(
    name="images",
    inputs=rows_of("uint8", (4, 4, 3)),
    labels=rows_of("bool", (2,)),
    sequences=_images,
    commits=(3,),
    codec="none",
)
GAPS = Golden(
    name="gaps",
    inputs=rows_of("float64", (2,)),
    labels=rows_of("float32", ()),
    sequences=_gaps,
    commits=(2,),
    missing="keep",
)
WAVES = Golden(
    name="waves",
    inputs=rows_of("complex64", (2,)),
    labels=rows_of("float16", (2,)),
    sequences=_waves,
    commits=(2,),
    label_axis="sequence",
)
UPDATED = Golden(
    name="updated",
    inputs=rows_of("float32", (2,)),
    labels=rows_of("int8", ()),
    sequences=_updated,
    commits=(5, 8, 8),
    label_axis="sequence",
    retire=((), ("a", "c"), ("b",)),
    gone=(0, 1, 2, 3, 4),
)
PATIENTS = Golden(
    name="patients",
    inputs=rows_of("float32", (2,)),
    labels=rows_of("int8", ()),
    sequences=_patients,
    commits=(2, 3),
    columns=(
        SequenceColumn("site", "string"),
        SequenceColumn("age", "float64"),
        SequenceColumn("visits", "int64"),
        SequenceColumn("left handed", "bool"),
    ),
)
RIVERS = Golden(
    name="rivers",
    inputs=rows_of("float32", (2,)),
    labels=rows_of("int16", ()),
    sequences=_rivers,
    commits=(1, 4),
    label_axis="sequence",
    columns=(SequenceColumn("basin", "string"),),
    time=Time("s", zone="UTC"),
)
RACES = Golden(
    name="races",
    inputs=rows_of("float64", ()),
    labels=rows_of("int8", ()),
    sequences=lambda: _races(np.arange(9) * 20, np.array([5, 5])),
    commits=(2,),
    time=Time("ms", None),
    codec="lz4",
)
ANIMALS = Golden(
    name="animals",
    inputs=rows_of("float32", (2,)),
    labels=rows_of("int8", (2,), ("kind", "offset")),
    sequences=_animals,
    commits=(1, 3),
    label_axis="sequence",
    classes=([["cat", "dog"], None], [["cat", "dog", "größe 二", "fox"], None]),
)
GAUGES = Golden(
    name="gauges",
    inputs=Rows(np.dtype("float64"), (), ("level",), units=("m",), descriptions=("above the zero of the gauge",)),
    labels=Rows(np.dtype("int8"), (), units=("°C",)),
    sequences=lambda: _races(None, None),
    commits=(2,),
)
HOLES = Golden(
    name="holes",
    inputs=rows_of("float32", (3,)),
    labels=rows_of("float64", ()),
    sequences=_holes,
    commits=(1, 4),
    label_axis="own",
    missing="keep",
    filled=True,
)
EMPTY = Golden(
    name="empty",
    inputs=rows_of("uint64", (1,)),
    labels=rows_of("int8", (1,)),
    sequences=list,
    commits=(0,),
)
STORES = (STEPS, NAMED, OWN, IMAGES, GAPS, WAVES, UPDATED, PATIENTS, RIVERS, RACES, ANIMALS, GAUGES, HOLES, EMPTY)


def main() -> None:
    """Write the stores that do not exist."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for golden in STORES:
        if not golden.path.exists():
            golden.write(golden.path)
            print(golden.path)


if __name__ == "__main__":
    main()
