"""Write the golden stores of format version 1: `python -m tests.store.make_golden` from the repository's root.

They are kept for ever, to show that stores of old releases go on being read; one that is there is never replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import store_spec
from store_spec.schema import LabelAxis, Missing, Rows

GOLDEN = Path(__file__).parents[1] / "data" / "golden" / "v1"

Sequence = tuple[str, NDArray[Any], NDArray[Any]]  # source, inputs, labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """One golden store: how it is created, its sequences by a formula, and after which of them it was committed.

    `retire` has the sources that are retired before what each commit appends, and `gone` the numbers that these had.
    """

    name: str
    inputs: Rows
    labels: Rows
    sequences: Callable[[], list[Sequence]]
    commits: tuple[int, ...]
    label_axis: LabelAxis = "step"
    missing: Missing = "error"
    codec: str = "zstd"
    retire: tuple[tuple[str, ...], ...] = ()
    gone: tuple[int, ...] = ()

    @property
    def live(self) -> list[Sequence]:
        """The sequences that are not retired."""
        return [one for number, one in enumerate(self.sequences()) if number not in self.gone]

    def write(self, path: Path) -> None:
        """Write the store with today's writer."""
        sequences, at = self.sequences(), 0
        with store_spec.create_store(
            path,
            inputs=self.inputs,
            labels=self.labels,
            label_axis=self.label_axis,
            missing=self.missing,
            codec=self.codec,
            chunk=4 * self.inputs.nbytes,
            shard=8 * self.inputs.nbytes,
            provenance={"made by": "tests/store/make_golden.py", "store": self.name},
        ) as writer:
            for commit, stop in enumerate(self.commits):
                for source in self.retire[commit] if self.retire else ():
                    writer.retire(source)
                for source, inputs, labels in sequences[at:stop]:
                    writer.append(inputs, labels, source=source)
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


def _rows(dtype: str, shape: tuple[int, ...], names: tuple[str, ...] | None = None) -> Rows:
    return Rows(np.dtype(dtype), shape, names)


def _steps() -> list[Sequence]:
    """Full shards, some that a later commit replaced by a superset, and a last, partial one."""
    lengths = {"a/walk-0.csv": [5], "a/walk-1.csv": [0], "b/größe 二.csv": [2, 11], "c.csv": [1, 0, 4]}
    return [
        (source, ramp(steps, STEPS.inputs, 8 * number), ramp(steps, STEPS.labels, number))
        for number, (source, parts) in enumerate(lengths.items())
        for steps in parts
    ]


def _named() -> list[Sequence]:
    return [
        (f"episode-{number}", ramp(steps, NAMED.inputs, -number), np.array(7 * number - 3))
        for number, steps in enumerate([4, 9, 0, 1])
    ]


def _own() -> list[Sequence]:
    return [
        (f"utterance-{number}", ramp(steps, OWN.inputs, number), ramp(label_steps, OWN.labels, -number))
        for number, (steps, label_steps) in enumerate([(6, 2), (0, 5), (13, 0), (2, 3)])
    ]


def _images() -> list[Sequence]:
    """Pixels count up within a frame and from frame to frame; the two labels take turns."""
    sequences = []
    for number, steps in enumerate([4, 0, 2]):
        frames = np.arange(48 * steps).reshape(steps, 4, 4, 3) + number
        sides = np.arange(steps)[:, None] % 2 == np.arange(2)
        sequences.append((f"film-{number}", frames.astype(np.uint8), sides))
    return sequences


def _gaps() -> list[Sequence]:
    """NaN stands in the middle of one column, in all of another, and in a whole sequence."""
    one = ramp(5, GAPS.inputs, 0)
    one[2, 0] = one[:, 1] = np.nan
    two = np.full((3, 2), np.nan)
    return [("gap", one, ramp(5, GAPS.labels, 1)), ("nothing", two, np.full(3, np.nan, np.float32))]


def _waves() -> list[Sequence]:
    sequences = []
    for number, steps in enumerate([3, 6]):
        real = ramp(steps, _rows("float32", (2,)), number)
        sequences.append(
            (f"wave-{number}", (real - 1j * real).astype(np.complex64), np.array([number / 2, -1], np.float16))
        )
    return sequences


def _updated() -> list[Sequence]:
    """Two sources have a second version, one of them at once behind the first; one is no more, without another."""
    lengths = [("a", 3), ("a", 2), ("b", 4), ("c", 1), ("c", 6), ("c", 5), ("a", 2), ("d", 0)]
    return [
        (source, ramp(steps, UPDATED.inputs, number), np.array(number, np.int8))
        for number, (source, steps) in enumerate(lengths)
    ]


STEPS = Golden(
    name="steps",
    inputs=_rows("float32", (3,)),
    labels=_rows("int64", ()),
    sequences=_steps,
    commits=(1, 2, 4, 7),
)
NAMED = Golden(
    name="named",
    inputs=_rows("int16", (2,), ("speed", "größe")),
    labels=_rows("int64", ()),
    sequences=_named,
    commits=(2, 4),
    label_axis="sequence",
    codec="lz4:5",
)
OWN = Golden(
    name="own",
    inputs=_rows("float64", ()),
    labels=_rows("int32", (2,), ("left", "right")),
    sequences=_own,
    commits=(1, 4),
    label_axis="own",
    codec="zstd:1",
)
IMAGES = Golden(
    name="images",
    inputs=_rows("uint8", (4, 4, 3)),
    labels=_rows("bool", (2,)),
    sequences=_images,
    commits=(3,),
    codec="none",
)
GAPS = Golden(
    name="gaps",
    inputs=_rows("float64", (2,)),
    labels=_rows("float32", ()),
    sequences=_gaps,
    commits=(2,),
    missing="keep",
)
WAVES = Golden(
    name="waves",
    inputs=_rows("complex64", (2,)),
    labels=_rows("float16", (2,)),
    sequences=_waves,
    commits=(2,),
    label_axis="sequence",
)
UPDATED = Golden(
    name="updated",
    inputs=_rows("float32", (2,)),
    labels=_rows("int8", ()),
    sequences=_updated,
    commits=(5, 8, 8),
    label_axis="sequence",
    retire=((), ("a", "c"), ("b",)),
    gone=(0, 1, 2, 3, 4),
)
EMPTY = Golden(
    name="empty",
    inputs=_rows("uint64", (1,)),
    labels=_rows("int8", (1,)),
    sequences=list,
    commits=(0,),
)
STORES = (STEPS, NAMED, OWN, IMAGES, GAPS, WAVES, UPDATED, EMPTY)


def main() -> None:
    """Write the stores that are not there yet."""
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for golden in STORES:
        path = GOLDEN / f"{golden.name}.zarr"
        if not path.exists():
            golden.write(path)
            print(path)


if __name__ == "__main__":
    main()
