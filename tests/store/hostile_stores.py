"""Malicious stores: too large for any memory, full of links, or with content that other software would execute."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numcodecs import blosc

from store_spec.format.layout import Root
from store_spec.schema import Chunking, Rows
from tests.store.damage import (
    ROOT,
    Damage,
    Document,
    checksummed,
    compressed,
    contents,
    damage,
    encode_text,
    metadata,
    second_chunk,
    signed,
    values,
)
from tests.store.make_golden import GOLDEN
from tests.store.make_malformed import ZARR_2

STEPS = GOLDEN / "steps.zarr"


def copy_of_steps(path: Path, *damages: Damage) -> Path:
    all_of(*damages)(shutil.copytree(STEPS, path))
    return path


def lie(change: Callable[[Root], Root]) -> Damage:
    """Write a consistent root for another schema or other counts."""
    return contents(ROOT, lambda data: change(Root.decode(data, "a sound store")).encode())


def lie_of_counts(**counts: int) -> Damage:
    return lie(lambda root: replace(root, counts=replace(root.counts, **counts)))


def lie_of_schema(**members: Any) -> Damage:
    return lie(lambda root: replace(root, schema=replace(root.schema, **members)))


@damage
def all_of(store: Path, *damages: Damage) -> None:
    for each in damages:
        each(store)


def claims(size: int) -> Callable[[bytes], bytes]:
    """Change how many bytes the header of a chunk claims; its checksum stays valid."""
    return lambda chunk: checksummed(chunk[:4] + size.to_bytes(4, "little") + chunk[8:-4])


def text_put(name: str, before: bytes, text: Callable[[], bytes]) -> Damage:
    """Put a long text into a document; a root gets a new digest."""
    return contents(name, lambda data: signed(data.replace(before, before + text(), 1)))


def nested() -> bytes:
    return b'"x": ' + b"[" * 100_000 + b"]" * 100_000 + b","


def long_text() -> bytes:
    return b'"x": "' + b"x" * 10**8 + b'",'


@cache
def bomb() -> bytes:
    """Return a valid chunk of some 20 KB that decodes to 300 MB."""
    stored = checksummed(blosc.compress(np.zeros(300 * 2**20, np.uint8), b"zstd", 9, blosc.NOSHUFFLE, 0))
    assert len(stored) < 24_000
    return stored


OFFSETS, SHARD, TIMES, OWN = "offsets/c.0", "inputs/c.0.0", "time/c.0", f"offsets/{ROOT}"
SOURCE = "sequences/source/c.0"
PROVENANCE, DIMENSIONS = b'"provenance": {', b'"attributes": {'
# By name: the golden store, the damage, and a part of the error or of the first problem. `test_malformed` has more.
TOO_LARGE: dict[str, tuple[str, Damage, str]] = {
    "bomb in a table": ("steps", contents(OFFSETS, lambda _: bomb()), "a chunk of 314,572,800 bytes where"),
    "bomb in a shard": ("steps", second_chunk(SHARD, lambda _: bomb()), "one of 48 decoded bytes has 0 to 68"),
    "bomb of names": ("steps", contents(SOURCE, lambda _: bomb()), "at most 67,108,864 are read"),
    "header in a table": ("steps", contents(OFFSETS, claims(2**31 - 1)), "a chunk of 2,147,483,647 bytes where"),
    "header in a shard": ("steps", second_chunk(SHARD, claims(2**31 - 1)), "a chunk of 2,147,483,647 bytes where"),
    "header of names": ("steps", contents(SOURCE, claims(2**31 - 1)), "a chunk of 2,147,483,647 bytes; at most"),
    "bomb of a column": ("patients", contents("sequences/site/c.0", lambda _: bomb()), "at most 67,108,864 are read"),
    "bomb of times": ("rivers", second_chunk(TIMES, lambda _: bomb()), "stored bytes; one of"),
    "header of times": ("rivers", second_chunk(TIMES, claims(2**31 - 1)), "a chunk of 2,147,483,647 bytes where"),
    "steps with times": ("rivers", lie_of_counts(steps=2**62), "4,611,686,018,427,387,904 steps are committed"),
    "steps": ("steps", lie_of_counts(steps=2**62), "ends with 23, but 4,611,686,018,427,387,904 steps are committed"),
    "sequences": ("steps", lie_of_counts(sequences=2**62), "1 chunks where"),
    "sequences of an empty store": ("empty", lie_of_counts(sequences=2**62 - 1), "1 chunks where"),
    "label steps": ("own", lie_of_counts(label_steps=2**62), "but 4,611,686,018,427,387,904 steps are committed"),
    "nesting": ("steps", text_put(ROOT, PROVENANCE, nested), "recursion"),
    "nesting in an own document": ("steps", text_put(OWN, DIMENSIONS, nested), "recursion"),
    "attribute": ("steps", text_put(ROOT, PROVENANCE, long_text), "at most 67,108,864 are read"),
    "attribute of an own document": ("steps", text_put(OWN, DIMENSIONS, long_text), "at most 67,108,864 are read"),
    "chunks as large as may be": (
        "named", lie_of_schema(steps=Chunking(2**28, 2**29)), "c.0.0: has 8 rows, by its stamp, where 14 are committed"
    ),
    "shards of a step": (
        "steps",
        all_of(lie_of_schema(steps=Chunking(1, 1)), lie_of_counts(steps=10**12), values(OFFSETS, {7: 10**12}),
               values("row_size/c.0", {6: 10**12 - 19})),
        "its index has crc32c",
    ),
    "shards of 2^20 chunks": ("steps", lie_of_schema(steps=Chunking(2**10, 2**30)), "where its stamp and index alone"),
    "rows": (
        "named", lie_of_schema(inputs=Rows(np.dtype("uint8"), (2**27,))), "stored bytes; one of 536,870,912"
    ),
    "labels": (
        "named", lie_of_schema(labels=Rows(np.dtype("float64"), (2**27,))), "stored bytes; one of 1,073,741,824"
    ),
}  # fmt: skip


def members_twice() -> bytes:
    return b"".join(b'"%d": 0, ' % number for number in range(200_000)) + b'"7": 0,'


def names_twice(document: Document) -> None:
    document["attributes"]["seqzarr"][0]["inputs"] |= {
        "shape": [200_000], "names": [*map(str, range(199_999)), "199998"],
    }  # fmt: skip


def columns_twice(document: Document) -> None:
    names = [*map(str, range(200_000)), "199998"]
    document["attributes"]["seqzarr"][0]["columns"] = [{"name": name, "dtype": "bool"} for name in names]


def classes_twice(document: Document) -> None:
    document["attributes"]["seqzarr"][0]["labels"]["classes"] = [[*map(str, range(200_000)), "199998"]]


def secret_sources(store: Path) -> None:
    """Name sources outside of the folder."""
    names = ["../../secret", "/etc/passwd", "../secret", "~/.ssh/id_rsa", "file:///etc/passwd", "zarr.json", "\0"]
    text = np.frombuffer(encode_text(names, 8_192), np.uint8)
    (store / SOURCE).write_bytes(compressed(text))


ARRAY_CODECS = "inputs codecs 0 configuration"
PICKLE = {"name": "numcodecs.pickle", "configuration": {"protocol": 5}}
OTHERS = {"name": "other.software", "configuration": {"entry_point": "os:system"}, "must_understand": False}
FOREIGN: dict[str, Damage] = {
    "inputs: pickle": metadata("inputs codecs 0", PICKLE),
    "inputs: pickle in a shard": metadata(f"{ARRAY_CODECS} codecs 0", PICKLE),
    "inputs: zfpy": metadata(f"{ARRAY_CODECS} codecs 1", {"name": "numcodecs.zfpy", "configuration": {"mode": 4}}),
    "inputs: entry point": metadata(f"{ARRAY_CODECS} codecs 1", OTHERS),
    "inputs: blosc without configuration": metadata(f"{ARRAY_CODECS} codecs 1", {"name": "blosc"}),
    "inputs: index": metadata(f"{ARRAY_CODECS} index_codecs 0", PICKLE),
    "labels: no codecs": metadata("labels codecs", []),
    "offsets: pickle": metadata("offsets codecs 0", PICKLE),
    "sequences/source: objects": metadata("sequences/source codecs 0", {"name": "numcodecs.pickle"}),
    "sequences/source: vlen-bytes": metadata("sequences/source codecs 0", {"name": "vlen-bytes"}),
    "stats/inputs_m2: transformer": metadata("stats/inputs_m2 storage_transformers", [OTHERS]),
    "row_size: grid": metadata("row_size chunk_grid", OTHERS),
    "offsets: keys": metadata("offsets chunk_key_encoding", OTHERS),
    "labels: Zarr 2": metadata("labels", ZARR_2),
    "offsets: Zarr 2": metadata("offsets", ZARR_2),
    "inputs: object": metadata("inputs data_type", "object"),
    "labels: structured": metadata(
        "labels data_type", {"name": "structured", "configuration": {"fields": [["a", "O"]]}}
    ),
    "labels: bytes": metadata("labels data_type", "variable_length_bytes"),
    "sequences/source: fixed": metadata("sequences/source data_type", {"name": "fixed_length_utf32"}),
    "offsets: extension": metadata("offsets data_type", {"name": "numpy.datetime64", "configuration": {"unit": "s"}}),
}
LINKED = (
    *(ROOT, "inputs", "inputs/c.0.0", "inputs/c.2.0", "sequences", "sequences/part", SOURCE, "stats", OFFSETS),
    *("stats/labels_max/c.0.0", OWN, f"sequences/{ROOT}", f"stats/labels_max/{ROOT}"),
)
OWN_DOCUMENTS = [name for name in LINKED if name.endswith(f"/{ROOT}")]
