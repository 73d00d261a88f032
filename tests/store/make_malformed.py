"""Write stores with one fault each: `python -m tests.store.make_malformed` in the root of the repository.

A folder below `tests/data/malformed/` holds the files in which a store differs from a golden one. `faults.json` has the
name of that store, the files that are removed, and the broken rule of SPEC.md, "What a reader refuses". Stores with
links or large sparse files are made when the tests run.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import store_spec
from store_spec.format.shard import ShardId
from store_spec.schema import ROW_ARRAYS
from tests.store.damage import (
    GONE,
    ROOT,
    Damage,
    attribute,
    checksummed,
    codec_twice,
    column,
    compressed,
    contents,
    flipped,
    garbled,
    huge_chunk,
    index,
    link,
    many_sequences,
    many_steps,
    member,
    metadata,
    removed,
    renamed,
    replaced,
    second_chunk,
    sparse,
    stamped,
    swapped,
    table,
    table_bytes,
    values,
    wrap_around,
)
from tests.store.make_golden import GOLDEN
from tests.store.oracle import files, same

MALFORMED = Path(__file__).parents[1] / "data" / "malformed"

CHECKSUM: Literal["ChecksumError"] = "ChecksumError"


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault, and its error."""

    name: str
    rule: int  # its number in SPEC.md
    text: str  # a part of the message, besides the path
    damage: Damage  # damages a copy of the golden store `base`
    error: Literal["FormatError", "ChecksumError", "VersionError", "MissingStoreError"] = "FormatError"
    base: str = "steps"
    committed: bool = True  # False: made when the tests run

    def make(self, path: Path) -> None:
        """Write the malformed store, from the golden one."""
        shutil.copytree(GOLDEN / f"{self.base}.zarr", path)
        self.damage(path)

    def assemble(self, path: Path) -> None:
        """Write the malformed store from committed files:

        the golden store, without the removed files, with the changed ones.
        """
        entry = json.loads((MALFORMED / "faults.json").read_text())[self.name]
        kept = {name: data for name, data in files(GOLDEN / entry["base"]).items() if name not in entry["removed"]}
        write_files(path, kept | files(MALFORMED / self.name))


def write_files(folder: Path, contents_by_name: dict[str, bytes]) -> None:
    """Write files below a folder."""
    for name, data in contents_by_name.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


FULL_SHARD, LAST_SHARD, SOURCE = "inputs/c.0.0", "inputs/c.2.0", "sequences/source/c.0"
FLAGS, SITES = "sequences/left handed/c.0", "sequences/site/c.0"
OFFSETS, LENGTHS = "offsets/c.0", "row_size/c.0"
CODECS = "inputs codecs 0 configuration codecs"
CHUNK = "inputs codecs 0 configuration chunk_shape"
SHARD, TIME_SHARD = (f"{name} chunk_grid configuration chunk_shape" for name in ("inputs", "time"))
INDEX_LOCATION = "labels codecs 0 configuration index_location"
DIGEST = rb"[0-9a-f]{64}(?=\"\n      }\n)"
ZARR_2 = {"zarr_format": 2, "shape": [7], "chunks": [7], "dtype": "|O", "filters": [{"id": "pickle"}]}
GZIP = {"name": "gzip", "configuration": {"level": 5}}
ABSENT = 2**64 - 1
NAMES = [f"class {number}" for number in range(129)]
TIME = {"unit": "s", "since": None, "zone": None}
NINE = np.ones(9, np.float32)


def classes(value: object) -> Damage:
    """Set the classes of the labels."""
    return attribute("labels classes", value)


ROOT_BYTES = (
    Fault("root-missing", 1, "a folder without zarr.json", removed(ROOT), error="MissingStoreError"),
    Fault("root-is-folder", 1, "not a plain file", replaced(ROOT, "inside")),
    Fault("root-link", 1, "a link", link(ROOT), committed=False),
    Fault("root-empty", 2, "not JSON", contents(ROOT, lambda _: b"")),
    Fault("root-truncated", 2, "not JSON", contents(ROOT, lambda data: data[: len(data) // 2])),
    Fault("root-not-utf8", 2, "not JSON", swapped(ROOT, b"steps", b"\xff")),
    Fault("root-list", 2, "a JSON list where an object is due", contents(ROOT, lambda data: b"[" + data + b"]")),
    Fault("root-nested", 2, "not JSON", contents(ROOT, lambda _: b'{"a":' * 100_000), committed=False),
    Fault("root-huge", 2, "at most 67,108,864 are read", sparse(ROOT, 2**40), committed=False),
    Fault("member-twice", 2, "two members 'missing'", swapped(ROOT, b'"missing"', b'"missing": "keep", "missing"')),
    Fault("count-nan", 2, "NaN is not a JSON number", attribute("counts steps", float("nan"))),
    Fault("count-infinity", 2, "Infinity is not a JSON number", attribute("counts steps", float("inf"))),
)
ROOT_MEMBERS = (
    Fault("root-of-zarr-2", 3, "zarr_format 2", member("zarr_format", 2)),
    Fault("root-is-array", 3, "node_type 'array'", member("node_type", "array")),
    Fault("attribute-missing", 3, "this is not a seqzarr store", swapped(ROOT, rb'"seqzarr": \[', b'"other": [')),
    Fault("version-number", 4, "format version 1.0 is not of the form", attribute("version", 1.0)),
    Fault("version-odd", 4, "format version '1.0rc1' is not of the form", attribute("version", "1.0rc1")),
    Fault("version-digits", 4, "is not of the form", attribute("version", "\u0661.0")),
    Fault("version-2", 5, "format version 2.0", attribute("version", "2.0"), error="VersionError"),
    Fault("version-0", 5, "format version 0.9", attribute("version", "0.9"), error="VersionError"),
    Fault("digest-missing", 6, "digest None is not 64 hex", swapped(ROOT, b'"digest"', b'"digestion"')),
    Fault("digest-wrong", 6, "have the digest", swapped(ROOT, DIGEST, b"5" * 64), error=CHECKSUM),
    Fault("retired-missing", 10, "retired is None, not a list", attribute("retired", GONE)),
    Fault("retired-numbers", 10, "retired holds 2, which is not a pair", attribute("retired", [2, 4])),
    Fault("retired-floats", 10, "which is not a pair of whole numbers", attribute("retired", [[0, 2.0]])),
    Fault("retired-empty", 10, "the range 2 to 2 is empty", attribute("retired", [[2, 2]])),
    Fault("retired-falls", 10, "does not follow the one before", attribute("retired", [[4, 5], [0, 2]])),
    Fault("retired-touches", 10, "with a gap", attribute("retired", [[0, 2], [2, 3]])),
    Fault("retired-beyond", 10, "the range 5 to 8 is empty", attribute("retired", [[5, 8]])),
    Fault("retired-negative", 10, "the range -1 to 2", attribute("retired", [[-1, 2]])),
    Fault("root-edited", 6, "have the digest", swapped(ROOT, b'"steps": 23', b'"steps": 22'), error=CHECKSUM),
    Fault("count-missing", 7, "counts: steps is None", attribute("counts steps", GONE)),
    Fault("count-negative", 7, "counts: sequences is -1", attribute("counts sequences", -1)),
    Fault("count-float", 7, "counts: steps is 23.0", attribute("counts steps", 23.0)),
    Fault("count-bool", 7, "counts: sequences is True", attribute("counts sequences", True)),
    Fault("count-too-large", 7, "counts: steps is 9223372036854775808", attribute("counts steps", 2**63)),
    Fault("label-steps", 7, "label_steps is 4 on label axis 'step'", attribute("counts label_steps", 4)),
    Fault("dtype-object", 8, "dtype 'object' is not one of", attribute("inputs dtype", "object")),
    Fault("row-empty", 8, "a row of shape (0,) holds nothing", attribute("inputs shape", [0])),
    Fault("row-dimensions", 8, "not a list of at most 63 sizes", attribute("inputs shape", [1] * 64)),
    Fault("row-shape-text", 8, "shape '3' is not a list", attribute("inputs shape", "3")),
    Fault("names-too-few", 8, "2 names for 3 features", attribute("inputs names", ["a", "b"])),
    Fault("names-twice", 8, "the name 'a' is given twice", attribute("inputs names", ["a", "b", "a"])),
    Fault("units-too-few", 8, "1 units for 3 features", attribute("inputs units", ["m"])),
    Fault("units-of-nothing", 8, "units ['', '', ''] are not a list of strings", attribute("inputs units", [""] * 3)),
    Fault("descriptions-of-numbers", 8, "descriptions: 1 is not text", attribute("inputs descriptions", [1, "b", "c"])),
    Fault("classes-missing", 8, "KeyError: 'classes'", classes(GONE)),
    Fault("classes-text", 8, "classes 'cat' are not null", classes("cat")),
    Fault("classes-of-text", 8, "classes ['cat'] are not null", classes(["cat"])),
    Fault("classes-of-numbers", 8, "classes: 1 is not text", classes([["a", 1]])),
    Fault("classes-empty", 8, "the name of a class is empty", classes([[""]])),
    Fault("classes-twice", 8, "the class name 'a' is given twice", classes([["a", "b", "a"]])),
    Fault("classes-too-few", 8, "classes of 1 targets", classes([["a"]]), base="animals"),
    Fault("classes-of-floats", 8, "of labels that are float32", classes([["a"]]), base="gaps"),
    Fault("classes-too-many", 8, "129 classes, where int8", classes([NAMES, None]), base="animals"),
    Fault("axis-unknown", 9, "label axis 'window' is not one of", attribute("labels axis", "window")),
    Fault("axis-missing", 9, "KeyError: 'axis'", attribute("labels axis", GONE)),
    Fault("missing-unknown", 9, "missing='ffill' is not one of", attribute("missing", "ffill")),
    Fault("time-missing", 9, "KeyError: 'time'", attribute("time", GONE)),
    Fault("time-text", 9, "time 'ns' is not null, and no unit", attribute("time", "ns")),
    Fault("time-without-zone", 9, "no unit, since and zone", attribute("time zone", GONE), base="rivers"),
    Fault("time-unit", 9, "time in 'h'; take one of s, ms, us, ns", attribute("time unit", "h"), base="rivers"),
    Fault("time-unit-list", 9, "time in ['s']", attribute("time unit", ["s"]), base="rivers"),
    Fault("time-since", 9, "time since '1900-01-01'", attribute("time since", "1900-01-01"), base="rivers"),
    Fault("time-zone", 9, "time of the zone 'CET'", attribute("time zone", "CET"), base="rivers"),
    Fault("time-zone-of-none", 9, "time of the zone 'UTC'", attribute("time zone", "UTC"), base="races"),
    Fault("identity-short", 10, "identity 'abc' is not 64 hexadecimal digits", attribute("identity", "abc")),
    Fault("columns-missing", 10, "columns None are not a list", attribute("columns", GONE)),
    Fault("columns-text", 10, "columns 'site' are not a list", attribute("columns", "site")),
    Fault("column-without-type", 10, "are not a list of names and dtypes", attribute("columns", [{"name": "a"}])),
    Fault("column-of-objects", 10, "is of 'object'; take one of", column("a", "object")),
    Fault("column-outside", 10, "cannot be that of an array", column("../../outside")),
    Fault("column-dots", 10, "cannot be that of an array", column("..")),
    Fault("column-control", 10, "cannot be that of an array", column("a\x1b[2J")),
    Fault("column-empty", 10, "an empty name", column("")),
    Fault("column-long", 10, "has 129 bytes; at most 128", column("a" * 129)),
    Fault("column-of-ours", 10, "is one of the format's own", column("Source")),
    Fault("column-half-written", 10, "is one of the format's own", column("a.partial")),
    Fault("columns-alike", 10, "columns 'site' and 'SITE' have the same name", column("SITE"), base="patients"),
    Fault("provenance-list", 10, "'provenance' is [] where an object is due", attribute("provenance", [])),
)
ARRAY_METADATA = (
    Fault("array-not-listed", 11, "row_size: this array is missing from the", metadata("row_size", GONE)),
    Fault("array-of-zarr-2", 11, "sequences/part: zarr_format is 2", metadata("sequences/part", ZARR_2)),
    Fault("array-is-group", 11, "offsets: node_type is 'group'", metadata("offsets node_type", "group")),
    Fault("shape-disagrees", 11, "labels: shape[0] is 24, where version 1 has 23", metadata("labels shape", [24])),
    Fault("shape-float", 11, "offsets: shape[0] is 8.0", metadata("offsets shape", [8.0])),
    Fault("data-type-object", 11, "data_type is 'object'", metadata("sequences/source data_type", "object")),
    Fault("codec-pickle", 11, "numcodecs.pickle", metadata("sequences/source codecs 0 name", "numcodecs.pickle")),
    Fault("codec-unknown", 11, "are not those of version 1", metadata(f"{CODECS} 1 configuration cname", "blosclz")),
    Fault("codec-gzip", 11, "are not those of version 1", metadata(f"{CODECS} 1", GZIP)),
    Fault("codec-twice", 11, "are not those of version 1", codec_twice),
    Fault("checksum-left-out", 11, "are not those of version 1", metadata(f"{CODECS} 2", GONE)),
    Fault("big-endian", 11, "endian is 'big'", metadata(f"{CODECS} 0 configuration endian", "big")),
    Fault("not-sharded", 11, "are not one sharding_indexed codec", metadata("inputs codecs", [{"name": "bytes"}])),
    Fault("index-at-start", 11, "index_location is 'start'", metadata(INDEX_LOCATION, "start")),
    Fault("key-encoding", 11, "separator is '/'", metadata("inputs chunk_key_encoding configuration separator", "/")),
    Fault("fill-value", 11, "inputs_mean: fill_value is 'NaN'", metadata("stats/inputs_mean fill_value", "NaN")),
    Fault("table-chunk", 11, "chunk_shape[0] is 8", metadata("row_size chunk_grid configuration chunk_shape", [8])),
    Fault("dimension-names", 11, "dimension_names[0] is 'time'", metadata("labels dimension_names", ["time"])),
    Fault("sample-dimension", 11, "sample_dimension is None", metadata("row_size attributes", {})),
    Fault("transformer", 11, "storage_transformers is", metadata("offsets storage_transformers", [GZIP])),
    Fault("time-not-listed", 11, "time: this array is missing", metadata("time", GONE), base="rivers"),
    Fault("time-of-none", 11, "time: this array is missing", attribute("time", TIME)),
    Fault("time-units", 11, "units is 'days'", metadata("time attributes units", "days"), base="rivers"),
    Fault("time-shape", 11, "shape[0] is 21", metadata("time shape", [21]), base="rivers"),
    Fault("time-chunk", 11, "grid: configuration: chunk_shape[0] is 16", metadata(TIME_SHARD, [16]), base="rivers"),
    Fault("column-not-listed", 11, "this array is missing", metadata("sequences/age", GONE), base="patients"),
    Fault("column-not-there", 11, "sequences/site: this array is missing", column("site")),
    Fault("column-of-bytes", 11, "type is 'bytes'", metadata("sequences/site data_type", "bytes"), base="patients"),
    Fault("shard-cuts-chunk", 12, "a shard of 9 steps cuts a chunk of 4", metadata(SHARD, [9, 3])),
    Fault("chunk-of-no-steps", 12, "both must be at least 1", metadata(CHUNK, [0, 3])),
    Fault("chunk-too-large", 12, "Blosc compresses 2,147,483,631 at most", huge_chunk),
    Fault("shard-of-many-chunks", 12, "at most 1,048,576", metadata(SHARD, [2**23, 3])),
    Fault("label-too-wide", 12, "2,147,483,631 at most", attribute("labels shape", [2**40]), base="named"),
)
FILES = (
    Fault("array-folder-missing", 13, "stats/inputs_m2: missing", removed("stats/inputs_m2")),
    Fault("group-folder-missing", 13, "sequences: missing", removed("sequences")),
    Fault("column-folder-missing", 13, "sequences/age: missing", removed("sequences/age"), base="patients"),
    Fault("column-folder-link", 13, "sequences/age: a link", link("sequences/age"), base="patients", committed=False),
    Fault("time-folder-missing", 13, "time: missing", removed("time"), base="rivers"),
    Fault("array-folder-is-file", 13, "offsets: not a folder", replaced("offsets", None)),
    Fault("array-folder-link", 13, "inputs: a link", link("inputs"), committed=False),
    Fault("group-folder-link", 13, "stats: a link", link("stats"), committed=False),
    Fault("table-chunk-missing", 14, "0 chunks where 1 are committed", removed("stats/labels_max/c.0.0")),
    Fault("column-chunk-missing", 14, "0 chunks where 1", removed("sequences/site/c.0"), base="patients"),
    Fault("time-shard-missing", 14, "time/c.0: missing", removed("time/c.0"), base="rivers"),
    Fault("time-first-missing", 14, "0 chunks where 1", removed("sequences/time_first/c.0"), base="rivers"),
    Fault("table-chunk-renamed", 14, "c.0: missing", renamed(LENGTHS, "row_size/c.1")),
    Fault("table-chunk-link", 14, "c.0: a link", link(OFFSETS), committed=False),
    Fault("table-chunk-is-folder", 14, "c.0: not a plain file", replaced(OFFSETS, "inside")),
    Fault("full-shard-missing", 14, "c.0.0: missing", removed(FULL_SHARD)),
    Fault("last-shard-missing", 14, "c.2.0: missing", removed(LAST_SHARD)),
    Fault("shard-link", 14, "c.0.0: a link", link(FULL_SHARD), committed=False),
    Fault("steps-nowhere", 17, "has 7 rows, by its stamp, where 8 are committed", many_steps),
    Fault("sequences-nowhere", 14, "1 chunks where", many_sequences),
    Fault("labels-nowhere", 14, "1 chunks where", many_sequences, base="named"),
    Fault("table-chunk-huge", 15, "larger than the 262,164 bytes", sparse(OFFSETS, 2**40), committed=False),
    Fault("source-chunk-huge", 15, "larger than the 67,108,884 bytes", sparse(SOURCE, 2**40), committed=False),
    Fault("last-shard-huge", 15, "larger than the 208 bytes", sparse(LAST_SHARD, 2**40), committed=False),
    Fault("stored-chunk-huge", 15, "one of 48 decoded bytes has 0 to 68", index(FULL_SHARD, 1, (57, 2**40))),
)
BYTES = (
    Fault("table-bit", 16, "its bytes have crc32c", flipped(OFFSETS, 20), error=CHECKSUM),
    Fault("table-checksum-bit", 16, "its bytes have crc32c", flipped(OFFSETS, -1), error=CHECKSUM),
    Fault("table-chunk-empty", 16, "0 bytes, too few for a checksum", contents(OFFSETS, lambda _: b""), error=CHECKSUM),
    Fault("full-shard-bit", 16, "chunk 0: its bytes have crc32c", flipped(FULL_SHARD, 20), error=CHECKSUM),
    Fault("last-shard-bit", 16, "chunk 0: its bytes have crc32c", flipped(LAST_SHARD, 20), error=CHECKSUM),
    Fault("index-bit", 16, "its index has crc32c", flipped(FULL_SHARD, -30), error=CHECKSUM),
    Fault("index-checksum-bit", 16, "its index has crc32c", flipped(LAST_SHARD, -1), error=CHECKSUM),
    Fault("time-bit", 16, "time/c.0: chunk 0: its bytes", flipped("time/c.0", 20), error=CHECKSUM, base="rivers"),
    Fault("shard-truncated", 16, "its index has", contents(FULL_SHARD, lambda data: data[:-9]), error=CHECKSUM),
    Fault("shard-short", 17, "where its stamp and index alone have 72", contents(LAST_SHARD, lambda data: data[-20:])),
    Fault("chunk-not-in-index", 17, "chunk 1 is missing", index(FULL_SHARD, 1, (ABSENT, ABSENT))),
    Fault("index-beyond-file", 17, "are due", index(FULL_SHARD, 1, (2**40, 57))),
    Fault("index-beyond-last-file", 17, "chunk 1 ends at byte", index(LAST_SHARD, 1, (2**40, 57))),
    Fault("index-overflow", 17, "chunk 1 ends at byte", index(FULL_SHARD, 1, (2**64 - 2, 57))),
    Fault("chunk-over-index", 17, "chunk 1 ends at byte", index(LAST_SHARD, 1, (100, 68))),
    Fault("stamp-bit", 17, "its stamp has crc32c", flipped(FULL_SHARD, -50), error=CHECKSUM),
    Fault("shard-of-another-number", 17, "stamp of shard 1 of 'inputs'", stamped(FULL_SHARD, ShardId("inputs", 1), 8)),
    Fault("shard-of-another-array", 17, "stamp of shard 0 of 'labels'", stamped(FULL_SHARD, ShardId("labels", 0), 8)),
    Fault("full-shard-older", 17, "has 7 rows, by its stamp", stamped(FULL_SHARD, ShardId("inputs", 0), 7)),
    Fault("last-shard-older", 17, "has 0 rows, by its stamp", stamped(LAST_SHARD, ShardId("inputs", 2), 0)),
    Fault("table-chunk-short", 18, "a chunk of 64 bytes where", table(OFFSETS, lambda rows: rows[:8])),
    Fault("table-chunk-long", 18, "a chunk of 524,288 bytes", table(OFFSETS, lambda rows: rows.repeat(2))),
    Fault("shard-chunk-short", 18, "a chunk of 36 bytes", second_chunk(FULL_SHARD, lambda _: compressed(NINE))),
    Fault("blosc-header", 18, "too few for a Blosc buffer", second_chunk(FULL_SHARD, lambda _: checksummed(b"\2\1"))),
    Fault("blosc-length", 18, "says that it has", second_chunk(FULL_SHARD, lambda chunk: checksummed(chunk[:-5]))),
    Fault("blosc-body", 18, "Blosc cannot decompress it", contents(OFFSETS, garbled)),
    Fault("text-count", 19, "8,191 strings where", table_bytes(SOURCE, slice(4), (8191).to_bytes(4, "little"))),
    Fault("text-overrun", 19, "its strings end beyond its", table_bytes(SOURCE, slice(-4, None), b"\0\0\0\x80")),
    Fault("text-rest", 19, "its strings end at byte", table_bytes(SOURCE, slice(-1, None), b"\0more")),
    Fault("column-not-utf8", 19, "is not UTF-8", table_bytes(SITES, slice(8, 9), b"\xff"), base="patients"),
    Fault("text-not-utf8", 19, "one of its strings is not UTF-8", table_bytes(SOURCE, slice(8, 9), b"\xff")),
)
VALUES = (
    Fault("offsets-begin", 20, "begins with 1, not with 0", values(OFFSETS, {0: 1})),
    Fault("offsets-decrease", 20, "sequence 1 ends at 4, before its start 5", values(OFFSETS, {2: 4})),
    Fault("offsets-end", 20, "ends with 22, but 23 steps are committed", values(OFFSETS, {7: 22})),
    Fault("offsets-wrap-around", 20, "sequence 1 ends at -", wrap_around),
    Fault("label-offsets-decrease", 20, "sequence 1 ends at 1", values("label_offsets/c.0", {2: 1}), base="own"),
    Fault("row-size-differs", 21, "sequence 0 has 6 steps, but 5 by offsets", values(LENGTHS, {0: 6})),
    Fault("label-row-size-differs", 21, "4 steps, but 5 by label_", values("label_row_size/c.0", {1: 4}), base="own"),
)
GAPS = (
    Fault("count-of-runs-missing", 7, "missing_inputs is None", attribute("counts missing_inputs", GONE), base="gaps"),
    Fault("count-of-runs", 7, "missing_labels is -1", attribute("counts missing_labels", -1), base="gaps"),
    Fault("runs-not-listed", 11, "missing_inputs: this array is", metadata("missing_inputs", GONE), base="gaps"),
    Fault("runs-not-kept", 7, "counts: missing_inputs is None", attribute("missing", "keep")),
    Fault("runs-lost", 14, "some were lost", removed("missing_labels/c.0.0"), base="gaps"),
    Fault("run-empty", 23, "the run 5 to 5 is empty", values("missing_inputs/c.0.0", {3: 5}), base="gaps"),
    Fault("run-falls", 23, "the run 0 to 6 ends after row 5", values("missing_inputs/c.0.0", {1: 6}), base="gaps"),
    Fault("run-beyond", 23, "the run 5 to 9 ends after row 8", values("missing_inputs/c.0.0", {3: 9}), base="gaps"),
    Fault("run-across", 23, "ends after row", values("missing_labels/c.0.0", {0: 4}), base="gaps"),
    Fault("filled-false", 9, "filled is False, where it is true", attribute("filled", False)),
    Fault("filled-null", 9, "filled is None, where it is true", attribute("filled", None)),
    Fault("filled-of-none", 11, "filled: this array is missing", attribute("filled", True)),
    Fault("filled-not-listed", 11, "filled: this array is missing", metadata("filled", GONE), base="holes"),
    Fault("filled-of-bytes", 11, "data_type is 'uint8'", metadata("filled data_type", "uint8"), base="holes"),
    Fault("filled-shape", 11, "shape[1] is 4", metadata("filled shape", [23, 4]), base="holes"),
    Fault("filled-lost", 14, "it was lost", removed("filled/c.1.0"), base="holes"),
    Fault("filled-bit", 16, "have crc32c", flipped("filled/c.0.0", 20), base="holes", error=CHECKSUM),
)
BOOLS = (
    Fault("bool-of-two", 22, "a bool of 2, where 0 or 1 is due", table_bytes(FLAGS, slice(1), b"\2"), base="patients"),
)
FAULTS = (*ROOT_BYTES, *ROOT_MEMBERS, *ARRAY_METADATA, *FILES, *BYTES, *VALUES, *GAPS, *BOOLS)


def main() -> None:
    """Write the files in which each malformed store differs from the golden one."""
    shutil.rmtree(MALFORMED, ignore_errors=True)
    entries = {}
    for fault in FAULTS:
        if not fault.committed:
            continue
        base = GOLDEN / f"{fault.base}.zarr"
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "made.zarr"
            fault.make(made)
            before, after = files(base), files(made)
        write_files(MALFORMED / fault.name, {name: data for name, data in after.items() if before.get(name) != data})
        entries[fault.name] = {"base": base.name, "rule": fault.rule, "removed": sorted(before.keys() - after.keys())}
    (MALFORMED / "faults.json").write_text(json.dumps(entries, indent=2) + "\n")
    print(f"{len(entries)} malformed stores below {MALFORMED}")


def read_everything(path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Open a store; read its offsets and tables, then yield each sequence."""
    store = store_spec.open_store(path)
    label_lengths, lengths = store.label_lengths, store.lengths
    assert len(lengths) == len(label_lengths) == len(store.sources) == len(store.parts)
    for fact in store.schema.arrays():
        if fact.name not in ROW_ARRAYS:
            store.snapshot.table(fact.name)
    for name in ("inputs", "labels"):
        store.snapshot.missing(name)
    if store.schema.filled:
        store.snapshot.rows("filled", 0, store.counts.steps)
    if store.schema.time is not None:
        for number in range(len(store)):
            store.times(number)
    yield from store


def read_and_compare(path, golden) -> None:
    """Read everything; the sequences before the error must be those of the valid store."""
    for one, (inputs, labels) in zip(golden.live, read_everything(path), strict=True):
        assert same(inputs, one.inputs)
        assert same(labels, one.labels)


if __name__ == "__main__":
    main()
