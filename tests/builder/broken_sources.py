"""Source files with one fault or oddity each, and the expected outcome.

Each is either quarantined, with the message in `tests/data/broken-sources.txt`, or read to the rows given here. After
an intended change of a message, `python -m tests.builder.broken_sources` writes that file again; review the difference.
"""

import gzip
import io
import os
import pickle
import re
import struct
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import ipc

from builder import build, tabular
from builder.formats import files
from builder.processes.function_process import Process
from tests.builder.source_files import PACKERS

SNAPSHOT = Path(__file__).parents[1] / "data" / "broken-sources.txt"
GOOD = [[1.0, 2.0], [3.0, 4.0]]
zstd = PACKERS[".zst"]
# What bombs unpack to here; the limit for real files is much larger, which would take long to write and to read.
UNPACKED_FREELY = 2**20


@dataclass(frozen=True, slots=True)
class Source:
    """A file: its name, its bytes or a function that writes it, and its rows, or None if it is to be quarantined."""

    name: str
    content: bytes | Callable[[Path], object]
    rows: list[list[float]] | None = None


class Harmful:
    """Unpickling it would change the message."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (sys.exit, ("a pickle was loaded",))


def processes() -> dict[str, Process]:
    """Return the process function of each group of sources."""
    return {
        "as they are": tabular(),
        "semicolons": tabular(delimiter=";"),
        "without header": tabular(header=False),
        "whole numbers": tabular(dtype="int64"),
        "one column": tabular(inputs="a"),
        "lists": tabular(),
    }


def groups() -> dict[str, list[Source]]:
    """Return all sources; the first of each group is valid, and determines the schema of its store."""
    return {
        "as they are": [
            Source("0 good.csv", b"a,b\n1,2\n3,4\n", GOOD),
            *lines_of_text(),
            *values_in_text(),
            *letters_of_text(),
            *no_text(),
            *packed(),
            *blank(),
            *json_lines(),
            *parquet(),
            *arrow(),
            *npy(),
            *npz(),
            *places(),
            Source("~ good.npy", npy_bytes(np.array(GOOD)), GOOD),
        ],
        "semicolons": [
            Source("0 good.csv", b"a;b\n1;2\n3;4\n", GOOD),
            Source("decimal commas.csv", b"a;b\n1,5;2,5\n"),
            Source("thousands.csv", b"a;b\n1;2\n3;1,234.5\n"),
            Source("commas between columns.csv", b"a,b\n1,2\n"),
        ],
        "without header": [
            Source("0 good.csv", b"1,2\n3,4\n", GOOD),
            Source("byte-order mark.csv", b"\xef\xbb\xbf1,2\n3,4\n", GOOD),
            Source("names after all.csv", b"a,b\n1,2\n"),
            Source("utf-16 without mark.csv", "1,2\n3,4\n".encode("utf-16-le")),
        ],
        "whole numbers": [
            Source("0 good.csv", b"a,b\n1,2\n3,4\n", GOOD),
            Source("largest int64.csv", b"a,b\n9223372036854775807,-9223372036854775808\n", [[2**63 - 1, -(2**63)]]),
            Source("larger than int64.csv", b"a,b\n1,9223372036854775808\n"),
            Source("thousands of digits.csv", b"a,b\n1," + b"9" * 5000 + b"\n"),
            Source("half.csv", b"a,b\n1,2\n3,4.5\n"),
            Source("infinite.npy", npy_bytes(np.array([[1.0, np.inf]]))),
            Source("uint64.npy", npy_bytes(np.array([[1, 2**63]], np.uint64))),
        ],
        "one column": [
            Source("0 good.csv", b"a,note\n1,x\n3,y\n", [[1.0], [3.0]]),
            Source("inches.csv", b'a,note\n1,5" wide\n3,y\n', [[1.0], [3.0]]),
            Source("latin elsewhere.csv", b"a,note\n1,caf\xe9\n3,y\n", [[1.0], [3.0]]),
            Source("lines swallowed by a quote.csv", b'a,note\n1,"x\n2,y\n3,z\n'),
        ],
        "lists": [Source("0 good.parquet", lists([[2.0], [4.0]]), GOOD), *list_columns()],
    }


def lines_of_text() -> Iterator[Source]:
    """Yield text with odd lines, columns or quotes."""
    yield Source("empty.csv", b"")
    yield Source("line ends alone.csv", b"\n\r\n\n")
    yield Source("header alone.csv", b"a,b\n", [])
    yield Source("cut in a line.csv", b"a,b\n1,2\n3")
    yield Source("line too long.csv", b"a,b\n1,2\n3,4,5\n")
    yield Source("column lacking.csv", b"a\n1\n")
    yield Source("column more.csv", b"a,b,c\n1,2,3\n")
    yield Source("column twice.csv", b"a,b,a\n1,2,3\n")
    yield Source("columns the other way round.csv", b"b,a\n2,1\n4,3\n", GOOD)
    yield Source("comma at the end.csv", b"a,b\n1,2,\n3,4,\n")
    yield Source("no header.csv", b"1.5,2.5\n3,4\n")
    yield Source("semicolons.csv", b"a;b\n1;2\n")
    yield Source("tabs.csv", b"a\tb\n1\t2\n")
    yield Source("commas.tsv", b"a,b\n1,2\n")
    yield Source("quote open in a value.csv", b'a,b\n1,2\n3,"4\n5,6\n')
    yield Source("quote open at the end.csv", b'a,b\n1,2\n3,"4')
    yield Source("quote open in the header.csv", b'a,"b\n1,2\n3,4\n')
    yield Source("line end in quotes.csv", b'a,b\n1,"\n2"\n3,4\n', GOOD)
    yield Source("everything quoted.csv", b'"a","b"\r\n"1","2"\r\n"3","4"', GOOD)
    yield Source("line ends of three kinds.csv", b"a,b\r\n1,2\r3,4\n", GOOD)
    yield Source("comment line.csv", b"# of station 7\na,b\n1,2\n")
    yield Source("comment lines.csv", b"# station 7\n# daily\na,b\n1,2\n")
    yield Source("comment below the header.csv", b"a,b\n# mm per day\n1,2\n")
    yield Source("units below the header.csv", b"a,b\nm,s\n1,2\n")
    yield Source("end mark of dos.csv", b"a,b\n1,2\n\x1a")
    yield Source("field that never ends.csv", b"a,b\n1," + b"5" * (1 << 22) + b"\n")
    yield Source("line too short far down.csv", b"a,b\n" + b"1.5,2.5\n" * 400_000 + b"1\n")
    yield Source("line too long far down.csv", b"a,b\n" + b"1.5,2.5\n" * 200_000 + b"1," + b"5" * (1 << 22) + b"\n")
    yield Source("header again far down.csv", (b"a,b\n" + b"1.5,2.5\n" * 5000) * 80)
    yield Source("line that never ends.csv", b"7" * (1 << 17) + b"," + b"7" * (1 << 17))
    yield Source("in capitals.CSV", b"a,b\n1,2\n3,4\n", GOOD)


def values_in_text() -> Iterator[Source]:
    yield Source("text.csv", b"a,b\n1,x\n2,y\n")
    yield Source("text below a missing value.csv", b"a,b\n1,\n2,x\n")
    yield Source("bools and numbers.csv", b"a,b\n1,true\n3,4\n")
    yield Source("slip of the pen.csv", b"a,b\n1,2\n3,4..5\n")
    yield Source("time stamps.csv", b"a,b\n1,2024-01-31 12:00\n")
    yield Source("time stamps of iso 8601.csv", b"a,b\n1,2024-01-31T12:00\n")
    yield Source("time stamps without dashes.csv", b"a,b\n1,20240131T1200\n")
    yield Source("missing value.csv", b"a,b\n1,2\n3,\n")
    yield Source("missing word.csv", b"a,b\n1,2\nNA,4\n")
    yield Source("dash for missing.csv", b"a,b\n1,2\n3,-\n")
    yield Source("infinity.csv", b"a,b\n1,2\n3,-inf\n")
    yield Source("beyond float64.csv", b"a,b\n1,2\n3,1e999\n")
    yield Source("below float64.csv", b"a,b\n1,1e-999\n", [[1.0, 0.0]])
    yield Source("large whole number.csv", b"a,b\n1,9007199254740993\n")
    yield Source("hundreds of digits.csv", b"a,b\n1," + b"9" * 400 + b"\n")
    yield Source("decimal commas.csv", b"a;b\n1,5;2,5\n")
    yield Source("quoted decimal commas.csv", b'a,b\n"1,5",2\n')
    yield Source("hexadecimal.csv", b"a,b\n1,0x10\n")
    yield Source("minus sign of typesetters.csv", "a,b\n1,\u22122\n".encode())
    yield Source("arabic digits.csv", "a,b\n1,\u0663\n".encode())
    yield Source("no-break space.csv", "a,b\n1,\u00a02\n3,4\n".encode(), GOOD)
    yield Source("quote inside.csv", b'a,b\n1,2"3\n')


def letters_of_text() -> Iterator[Source]:
    """Yield text in odd encodings, and bytes that are not text."""
    yield Source("utf-8 mark.csv", b"\xef\xbb\xbfa,b\n1,2\n3,4\n", GOOD)
    yield Source("two utf-8 marks.csv", b"\xef\xbb\xbf\xef\xbb\xbfa,b\n1,2\n3,4\n", GOOD)
    yield Source("mark in the middle.csv", b"a,b\n1,2\n\xef\xbb\xbf3,4\n")
    yield Source("utf-16.csv", "a,b\n1,2\n".encode("utf-16"))
    yield Source("utf-16, big end first.csv", b"\xfe\xff" + "a,b\n1,2\n".encode("utf-16-be"))
    yield Source("utf-16 without mark.csv", "a,b\n1,2\n".encode("utf-16-le"))
    yield Source("utf-32.csv", "a,b\n1,2\n".encode("utf-32"))
    yield Source("latin-1 header.csv", b"a,\xe9\n1,2\n")
    yield Source("latin-1 value.csv", b"a,b\n1,2\n3,\xb5\n")
    yield Source("utf-8 cut in a letter.csv", b"a,b\n1,2\n3,\xc3\n")
    yield Source("nul in a value.csv", b"a,b\n1,2\0\n")
    yield Source("nul in the header.csv", b"a,b\0\n1,2\n")
    yield Source("nuls at the end.csv", b"a,b\n1,2\n" + b"\0" * 512)
    yield Source("binary.csv", bytes(range(256)) * 20)
    yield Source("binary after text.csv", b"a,b\n1,2\n" + bytes(range(128, 256)) + b"\n")


def no_text() -> Iterator[Source]:
    yield Source("web page.csv", b"<!DOCTYPE html>\n<html><body>404</body></html>\n")
    yield Source("large file not fetched.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n")
    yield Source("spreadsheet.csv", b"PK\x03\x04" + bytes(60))
    yield Source("packed after all.csv", gzip.compress(b"a,b\n1,2\n", mtime=0))


def packed() -> Iterator[Source]:
    whole = b"a,b\n" + b"1,2\n3,4\n" * 50
    member, frame = gzip.compress(whole, mtime=0), zstd(whole)
    yield Source("empty.csv.gz", b"")
    yield Source("of nothing.csv.gz", gzip.compress(b"", mtime=0))
    yield Source("cut.csv.gz", member[:-12])
    yield Source("cut by a byte.csv.gz", member[:-1])
    yield Source("wrong checksum.csv.gz", member[:-8] + b"\0" * 4 + member[-4:])
    yield Source("rubbish behind.csv.gz", member + b"rubbish")
    yield Source("two members.csv.gz", gzip.compress(b"a,b\n1,2\n", mtime=0) + gzip.compress(b"3,4\n", mtime=0), GOOD)
    yield Source("packed twice.csv.gz", gzip.compress(member, mtime=0))
    yield Source("not packed.csv.gz", b"a,b\n1,2\n")
    yield Source("bomb.csv.gz", gzip.compress(b"a,b\n" + b"0,0\n" * 2**19, mtime=0))
    yield Source("bomb of one line.csv.gz", gzip.compress(b"0" * 2**21, mtime=0))
    yield Source("cut.csv.zst", frame[:-5])
    yield Source("not packed.csv.zst", b"a,b\n1,2\n")
    yield Source("rubbish behind.csv.zst", frame + b"rubbish")
    yield Source("in two frames.csv.zst", zstd(b"a,b\n1,2\n") + zstd(b"3,4\n"), GOOD)
    yield Source("bomb.csv.zst", zstd(b"a,b\n" + b"0,0\n" * 2**19))
    yield Source("bomb of blanks.txt.zst", zstd(b"1 2\n" + b" " * 2**21))


def blank() -> Iterator[Source]:
    yield Source("any blanks.txt", b"\xef\xbb\xbf  1 \t 2\r\n\n3\t4  ", GOOD)
    yield Source("lines of two lengths.txt", b"1 2\n3\n")
    yield Source("with names.txt", b"a b\n1 2\n")
    yield Source("comment line.txt", b"# a b\n1 2\n")
    yield Source("comment lines.txt", b"# station 7\n# gauge 4 in Ulm\n1 2 3\n")
    yield Source("words.txt", b"1 2\n3 four\n")
    yield Source("binary.dat", np.arange(1.0, 99).tobytes())
    yield Source("commas.txt", b"1,2\n3,4\n")
    yield Source("line that never ends.txt", b"x" * (1 << 25))


def json_lines() -> Iterator[Source]:
    yield Source("good.jsonl", b'{"a": 1, "b": 2.0}\n\n{"b": 4, "a": 3}\n', GOOD)
    yield Source("cut.jsonl", b'{"a": 1, "b": 2}\n{"a": 3, "b"')
    yield Source("an array.jsonl", b"[[1, 2], [3, 4]]\n")
    yield Source("lines of commas.jsonl", b"a,b\n1,2\n")
    yield Source("text among numbers.jsonl", b'{"a": 1, "b": 2}\n{"a": 3, "b": "x"}\n')
    yield Source("missing.jsonl", b'{"a": 1, "b": 2}\n{"a": 3}\n')
    yield Source("large whole number.jsonl", b'{"a": 1, "b": 9007199254740993}\n')
    yield Source("not utf-8.jsonl", b'{"a": 1, "\xe9": 2}\n')
    yield Source("bomb.jsonl.gz", gzip.compress(b'{"a": 0, "b": 0}\n' * 2**17, mtime=0))


def parquet() -> Iterator[Source]:
    good = pa.table({"a": [1.0, 3.0], "b": [2.0, 4.0]})
    whole = parquet_bytes(good)
    yield Source("empty.parquet", b"")
    yield Source("cut.parquet", whole[:-9])
    yield Source("cut in front.parquet", whole[9:])
    yield Source("hole.parquet", whole[:4] + b"\0" * 60 + whole[64:])
    yield Source("encrypted.parquet", whole[:-4] + b"PARE")
    yield Source("text after all.parquet", b"a,b\n1,2\n")
    yield Source("arrow after all.parquet", arrow_bytes(good))
    yield Source("no rows.parquet", parquet_bytes(good.slice(0, 0)), [])
    yield Source("whole numbers.parquet", parquet_bytes(pa.table({"a": [1, 3], "b": [2, 4]})), GOOD)
    odd: dict[str, Any] = {
        "text": ["x", "y"],
        "missing value": [1.0, None],
        "missing whole number": [1, None],
        "not a number": [1.0, np.nan],
        "infinite": [1.0, np.inf],
        "large whole number": [1, 2**53 + 1],
        "structs": [{"x": 1}, {"x": 2}],
        "maps": pa.array([[("x", 1)], []], pa.map_(pa.string(), pa.int64())),
        "time stamps": pa.array([0, 1], pa.timestamp("ns", "UTC")),
        "bytes": [b"\xff", b"\0"],
        "categories": pa.array(["x", "y"]).dictionary_encode(),
        "nothing": pa.nulls(2),
    }
    for name, values in odd.items():
        yield Source(f"{name}.parquet", parquet_bytes(pa.table({"a": [1.0, 3.0], "b": values})))
    yield Source("column twice.parquet", parquet_bytes(pa.Table.from_arrays(good.columns, names=["a", "a"])))
    yield Source("decimals.parquet", parquet_bytes(pa.table({"a": [1.0, 3.0], "b": decimals([2, 4])})), GOOD)
    yield Source("bomb.parquet", parquet_bytes(pa.table({"a": np.zeros(2**18), "b": np.zeros(2**18)})))
    yield Source(
        "bomb of decimals.parquet", parquet_bytes(pa.table({"a": np.zeros(2**15), "b": decimals([0] * 2**15)}))
    )


def list_columns() -> Iterator[Source]:
    """Yield Parquet files whose second column has lists."""
    yield Source("of two lengths.parquet", lists([[1.0], [2.0, 3.0]]))
    yield Source("of other lengths.parquet", lists([[1.0, 2.0], [3.0, 4.0]]))
    yield Source("one is missing.parquet", lists([[1.0], None]))
    yield Source("of nothing.parquet", lists([[None], [None]]))
    yield Source("of lists.parquet", lists([[[1.0]], [[2.0]]]))
    yield Source("of structs.parquet", lists([[{"x": 1}], [{"x": 2}]]))
    yield Source("of text.parquet", lists([["x"], ["y"]]))
    yield Source("none at first.parquet", lists([None, [1.0]]))


def decimals(values: list[int]) -> Any:
    return pa.array(values, pa.decimal256(60, 2))


def lists(values: list[Any]) -> bytes:
    return parquet_bytes(pa.table({"a": [1.0, 3.0], "b": values}))


def arrow() -> Iterator[Source]:
    good = pa.table({"a": [1.0, 3.0], "b": [2.0, 4.0]})
    whole, stream = arrow_bytes(good), arrow_bytes(good, stream=True)
    yield Source("cut.arrow", whole[:-40])
    yield Source("cut.feather", whole[:-1])
    yield Source("cut.ipc", stream[:-60])
    yield Source("without end mark.ipc", stream[:-8])
    yield Source("promises long metadata.ipc", stream[:4] + struct.pack("<i", 2**31 - 1) + stream[8:])
    yield Source("rubbish.arrow", b"ARROW1\0\0 rubbish")
    yield Source("first version.feather", b"FEA1" + bytes(40) + b"FEA1")
    yield Source("column twice.arrow", arrow_bytes(pa.Table.from_arrays(good.columns, names=["a", "a"])))
    yield Source("no columns.arrow", arrow_bytes(pa.table({})))
    yield Source("views.arrow", arrow_bytes(pa.table({"a": [1.0], "b": pa.array([[1]], pa.list_view(pa.int64()))})))
    runs = pa.RunEndEncodedArray.from_arrays([2], [1.0])
    yield Source("runs.arrow", arrow_bytes(pa.table({"a": [1.0, 3.0], "b": runs})))
    zeros = pa.table({"a": np.zeros(2**18), "b": np.zeros(2**18)})
    yield Source("bomb.arrow", arrow_bytes(zeros, compression="zstd"))
    yield Source("bomb.ipc", arrow_bytes(zeros, compression="lz4", stream=True))
    yield Source("bomb of nothing.arrow", arrow_bytes(pa.table({"a": pa.nulls(2**23), "b": pa.nulls(2**23)})))
    yield Source("packed.arrow", arrow_bytes(good, compression="zstd"), GOOD)


def npy() -> Iterator[Source]:
    whole = npy_bytes(np.array(GOOD))
    yield Source("cut.npy", whole[:-8])
    yield Source("cut in the header.npy", whole[:40])
    yield Source("too long.npy", whole + whole)
    yield Source("text after all.npy", b"a,b\n1,2\n")
    yield Source("archive.npy", npz_bytes({"inputs": whole}))
    yield Source("harmful pickle.npy", npy_file(described("(1,)", "|O"), pickle.dumps(Harmful())))
    yield Source("objects.npy", npy_bytes(np.array([1, None], object)))
    yield Source("letters.npy", npy_bytes(np.array(["x"])))
    yield Source("complex.npy", npy_bytes(np.ones((2, 2), complex)))
    yield Source("records.npy", npy_bytes(np.zeros(2, [("a", "f4"), ("b", "i4")])))
    yield Source("times.npy", npy_bytes(np.array(["2020"], "M8[s]")))
    yield Source("one value.npy", npy_bytes(np.array(3.0)))
    yield Source("no columns.npy", npy_bytes(np.zeros((3, 0))))
    yield Source("three columns.npy", npy_bytes(np.zeros((2, 3))))
    yield Source("no steps.npy", npy_bytes(np.zeros((0, 2))), [])
    yield Source("infinite.npy", npy_bytes(np.array([[1.0, 2.0], [3.0, np.inf]])))
    yield Source("not a number.npy", npy_bytes(np.array([[1.0, 2.0], [np.nan, 4.0]])))
    yield Source("big end first.npy", npy_bytes(np.array(GOOD, ">f8")), GOOD)
    yield Source("columns first.npy", npy_bytes(np.array(GOOD, order="F")), GOOD)
    yield Source(
        "of python 2.npy", npy_file("{'shape': (2L, 2L), 'fortran_order': False, 'descr': '<f8'}", whole[-32:]), GOOD
    )
    yield Source("version 3.npy", b"\x93NUMPY\x03\x00" + whole[8:])
    yield Source("bools of 7.npy", npy_file(described("(2, 2)", "|b1"), b"\0\1\1\7"))
    yield Source("promises 2 to the 60.npy", npy_file(described("(1152921504606846976,)"), bytes(64)))
    yield Source(
        "promises 2 to the 120.npy", npy_file(described("(1152921504606846976, 1152921504606846976)"), bytes(64))
    )
    yield Source("promises columns without steps.npy", npy_file(described("(0, 1152921504606846976)")))
    yield Source("shape below zero.npy", npy_file(described("(-1, 2)"), bytes(64)))
    yield Source("too many dimensions.npy", npy_file(described("(" + "1," * 65 + ")"), bytes(8)))
    yield Source("brackets in brackets.npy", npy_file("(" * 5000))
    yield Source("minus minus.npy", npy_file("-" * 9000 + "1"))
    yield Source("header without end.npy", npy_file("{'descr': '" + "x" * 20_000))
    yield Source("code in the header.npy", npy_file(described("exit()"), bytes(8)))
    yield Source("unknown dtype.npy", npy_file(described("(1,)", "<q9"), bytes(8)))


def npz() -> Iterator[Source]:
    whole = npy_bytes(np.array(GOOD))
    good = npz_bytes({"inputs": whole, "labels": whole})
    yield Source("good.npz", good, GOOD)
    yield Source("cut.npz", good[:-30])
    yield Source("text after all.npz", b"a,b\n1,2\n")
    yield Source("single array.npz", whole)
    yield Source("other keys.npz", npz_bytes({"arr_0": whole, "arr_1": whole}))
    yield Source("no labels.npz", npz_bytes({"inputs": whole}))
    yield Source("nothing in it.npz", npz_bytes({}))
    yield Source("array cut.npz", npz_bytes({"inputs": whole[:-8], "labels": whole}))
    yield Source("bit flipped.npz", good.replace(whole[-8:], b"\1" * 8))
    yield Source("no arrays.npz", npz_bytes({"inputs": b"a,b\n1,2\n", "labels": whole}))
    yield Source("objects.npz", npz_bytes({"inputs": npy_bytes(np.array([1, None], object)), "labels": whole}))
    yield Source("rows of two lengths.npz", npz_bytes({"inputs": whole, "labels": npy_bytes(np.ones((1, 2)))}))
    yield Source("no steps.npz", npz_bytes(dict.fromkeys(("inputs", "labels"), npy_bytes(np.zeros((0, 2))))), [])
    yield Source("array twice.npz", good.replace(b"labels.npy", b"inputs.npy"))
    yield Source("packed.npz", npz_bytes({"inputs": whole, "labels": whole}, zipfile.ZIP_DEFLATED), GOOD)
    yield Source(
        "bomb.npz", npz_bytes({"inputs": npy_bytes(np.zeros((2**17, 2))), "labels": whole}, zipfile.ZIP_DEFLATED)
    )
    yield Source("promises more than it holds.npz", inflated(9_000))


def places() -> Iterator[Source]:
    """Yield files with odd names or places."""
    good = b"a,b\n1,2\n3,4\n"
    yield Source("line\nend.csv", good, GOOD)
    yield Source("tab\tand \x1b[31mred.csv", b"a,b\n1,x\n")
    yield Source(unicodedata.normalize("NFC", "caf\u00e9.csv"), good, GOOD)
    yield Source(unicodedata.normalize("NFD", "caf\u00e9.csv"), b"a,b\n5,6\n", [[5.0, 6.0]])
    yield Source("\U0001f9ea.csv", good, GOOD)
    yield Source(os.fsdecode(b"caf\xe9 in latin 1.csv"), good)
    yield Source(r"caf\xe9 in latin 1.csv", good, GOOD)
    yield Source(os.fsdecode(b"folder in latin 1 \xe9/cut \xe2\x82.csv"), good)
    yield Source("x" * 251 + ".csv", good, GOOD)
    yield Source("folder.csv/inside.csv", good, GOOD)
    yield Source("link.csv", linked_to("0 good.csv"), GOOD)
    yield Source("link to nothing.csv", linked_to("nowhere.csv"))
    yield Source("link to itself.csv", linked_to("link to itself.csv"))
    yield Source("links in a circle 1.csv", linked_to("links in a circle 2.csv"))
    yield Source("links in a circle 2.csv", linked_to("links in a circle 1.csv"))


def linked_to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def npy_bytes(array: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array)
    return stream.getvalue()


def described(shape: str, dtype: str = "<f8") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"


def npy_file(header: str, values: bytes = b"") -> bytes:
    """Return an NPY file with any header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header) + 1) + header.encode() + b"\n" + values


def npz_bytes(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), data, compression)
    return sink.getvalue()


def inflated(steps: int) -> bytes:
    """Return an archive that claims to have arrays (steps, 2), but holds only their first values."""
    start = npy_file(described(f"({steps}, 2)"), bytes(2000))
    archive = npz_bytes({"inputs": start, "labels": start}, zipfile.ZIP_DEFLATED)
    return archive.replace(struct.pack("<I", len(start)), struct.pack("<I", len(start) - 2000 + 16 * steps))


def parquet_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def arrow_bytes(table: pa.Table, *, stream: bool = False, compression: str | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    new = ipc.new_stream if stream else ipc.new_file
    with new(sink, table.schema, options=ipc.IpcWriteOptions(compression=compression)) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def write(folder: Path, sources: list[Source]) -> Path:
    for source in sources:
        path = folder / source.name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(source.content, bytes):
            path.write_bytes(source.content)
        else:
            source.content(path)
    return folder


def messages(failures: dict[str, dict[str, str]]) -> str:
    """Return the reasons why sources were quarantined, by group and name, as the snapshot has them.

    Messages of libraries are left out, since they differ between releases.
    """
    parts = ["# Why sources are quarantined. Made by `python -m tests.builder.broken_sources`."]
    for group, reasons in failures.items():
        parts += [f"\n== {group}"]
        for name, reason in reasons.items():
            said = re.sub(r'the reader says "[^"]*"', 'the reader says "..."', reason)
            parts += [f"\n{escaped(name)}\n    {escaped(said)}"]
    return "\n".join(parts) + "\n"


def escaped(text: str) -> str:
    """Return text on one line, without invisible characters."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def main() -> None:
    files.UNPACKED_FREELY = UNPACKED_FREELY  # type: ignore[misc]
    failures = {}
    with tempfile.TemporaryDirectory() as folder:
        for group, sources in groups().items():
            path = write(Path(folder, group), sources)
            report = build(path, Path(folder, f"{group}.zarr"), process=processes()[group], workers=0)
            failures[group] = {failure.source: failure.reason for failure in report.failures}
    SNAPSHOT.write_text(messages(failures), encoding="utf-8")
    print(f"{SNAPSHOT}: {sum(map(len, failures.values()))} messages")


if __name__ == "__main__":
    main()
