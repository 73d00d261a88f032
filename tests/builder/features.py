"""Sources and options of small builds, one for each feature that other jobs have to preserve."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

import builder
from builder import tabular
from tests.builder.formats.test_dtype_of_text import FEW, MANY
from tests.builder.functions import test_times_of_functions as times
from tests.builder.labels import test_labels_in_names as names
from tests.builder.source_files import write_files

KINDS = ("rain", "sun", "fog", "snow")
ORDER = (3, 1, 1, 0, 2, 3, 0, 1, 2, 2)


def table(header: str, rows: Iterable[Iterable[object]]) -> str:
    return f"{header}\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)


def with_gaps(seed: int) -> str:
    rng = np.random.default_rng(seed)
    cells = rng.normal(size=(19 + seed % 3, 3)).round(3).astype(str)
    cells[rng.random(cells.shape) < 0.15] = ""
    return table("a,b,y", cells.tolist())


GAPS = {f"{letter}.csv": with_gaps(ord(letter)) for letter in "abcdefgh"}
OF_KINDS = {
    f"{number}-{KINDS[kind]}.csv": table("x,kind", ((row, KINDS[(kind + row) % 4]) for row in range(number % 3 + 1)))
    for number, kind in enumerate(ORDER)
}
ABOUT = ("A,,9007199254740993,True", "B/二,0.1,0,False", ",41.5,-1,True", *(f"s,{n / 7},{n},{n > 3}" for n in range(7)))
MANIFEST = "file,kind,site,age,visits,left\n" + "".join(
    f"{name},{name[2:-4]},{about}\n" for name, about in zip(OF_KINDS, ABOUT, strict=True)
)
LISTED: dict[str, Any] = {"manifest": "manifest.csv", "key": "file"}

# The text of each source by name; names that begin with m are not sources. Then the options of the build.
FEATURES: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "steps cleaned": (
        {
            f"{number:02}.csv": table("a,b", ((i, "" if i % (number + 2) == 1 else i * number) for i in range(30)))
            for number in range(20)
        },
        {
            "process": tabular(
                missing=["split", "b=interpolate+split"], transforms=["diff a", "scale b=2"], na_values="5"
            )
        },
    ),
    "groups, elapsed times": (
        {
            f"{number:02}.csv": table("k,t,x", ((i % 3, f"{i * 0.02:.2f}", number + i) for i in range(30)))
            for number in range(12)
        },
        {"process": tabular(group_by="k", time="t", time_unit="s", elapsed=True, every="60ms")},
    ),
    **{
        f"times, labels of {axis}": (
            {f"{name}.txt": name for name in times.LENGTHS},
            {"process": times.read, "arguments": {"axis": axis}, "label_axis": axis},
        )
        for axis in times.AXES
    },
    "missing values kept": (GAPS, {"process": tabular(inputs="a,b", labels="y", missing="keep", dtype="float32")}),
    "a mask of filled values": (
        GAPS,
        {"process": tabular(inputs="a,b", labels="a", missing="ffill+drop", mask=True, dtype="float32")},
    ),
    **{
        f"{digits} digits at first": (
            {"a.csv": table("x,y", first.tolist())}
            | {f"b{number}.csv": table("x,y", (MANY + number).tolist()) for number in range(6)},
            {},
        )
        for digits, first in (("few", FEW), ("many", MANY))
    },
    "labels in names": (
        {f"{number}_{names.KINDS[number * 2 % 3]}.json": str([number, *range(number % 4)]) for number in range(7)},
        {"process": names.read, "arguments": {"twice": True}, "label_pattern": r"_([a-z]+)"},
    ),
    "classes of a column": (OF_KINDS, {"process": tabular(inputs="x", labels="kind")}),
    "classes in names": (OF_KINDS, {"process": tabular(inputs="x", label_pattern="-([a-z]+)")}),
    "classes of a manifest": (
        OF_KINDS | {"manifest.csv": MANIFEST},
        {"process": tabular(inputs="x", labels_in_manifest=True), "label_column": "kind", **LISTED},
    ),
    "columns of a manifest": (
        OF_KINDS | {"manifest.csv": MANIFEST},
        {"process": tabular(inputs="x"), "keep": "site,age,visits,left", **LISTED},
    ),
}


def write_feature(feature: str, folder: Path, count: int | None = None) -> Path:
    """Write this number of its sources, or all, and its manifest if it has one."""
    texts, _ = FEATURES[feature]
    chosen = [name for name in sorted(texts) if name != "manifest.csv"][:count]
    return write_files(folder, {name: text for name, text in texts.items() if name in (*chosen, "manifest.csv")})


def build_feature(feature: str, folder: Path, store: Path, **options: Any) -> Path:
    """Build it, with shards of some rows, and return the store."""
    given = {"workers": 0, "chunk": 64, "shard": 128} | FEATURES[feature][1] | options
    if "manifest" in given:
        given["manifest"] = folder / given["manifest"]
    assert not builder.build(folder, store, **given).failures
    return store
