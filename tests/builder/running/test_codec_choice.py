"""`codec="auto"` chooses by the sizes of the first rows, compared with compressing them by hand."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import builder
import store_spec
from builder.planning.packing import choose_by_sizes, compressed_sizes
from store_spec.format.codec import Codec
from store_spec.schema import Schema, rows_of
from tests.builder.command import seqzarr
from tests.builder.source_files import write_files
from tests.store.oracle import files

KINDS = {
    "none": np.random.default_rng(0).integers(0, 2**32, (20_000, 2)).astype("uint32"),
    "lz4": np.cumsum(np.random.default_rng(1).normal(size=(20_000, 2)), axis=0).astype("float32"),
    # Few different values in random order: entropy coding, which lz4 lacks, makes them small.
    "zstd": np.round(np.random.default_rng(2).normal(size=(20_000, 2)), 1).astype("float64"),
}


def sources(folder: Path, rows: NDArray[np.generic], count: int = 4) -> Path:
    return write_files(folder, {f"{number}.npy": part for number, part in enumerate(np.array_split(rows, count))})


@pytest.mark.parametrize("name", KINDS)
def test_the_store_has_the_codec_that_suits_its_rows(tmp_path: Path, name: str):
    report = builder.build(sources(tmp_path / "from", KINDS[name]), tmp_path / "store", codec="auto")
    assert store_spec.open_store(tmp_path / "store").schema.codec == Codec(name)
    assert report.codec is not None
    assert report.codec.startswith(f"codec {name}")
    assert builder.build(tmp_path / "from", tmp_path / "given", codec=name).codec is None
    assert files(tmp_path / "given") == files(tmp_path / "store")


def test_a_store_without_labels_has_the_codec_that_suits_its_inputs(tmp_path: Path):
    options: dict[str, Any] = {"process": builder.tabular(labels="none"), "codec": "auto"}
    builder.build(sources(tmp_path / "from", KINDS["zstd"]), tmp_path / "store", **options)
    assert store_spec.open_store(tmp_path / "store").schema.codec == Codec("zstd")


def test_sizes_are_those_of_chunks_of_the_store():
    rows = KINDS["lz4"]
    schema = Schema.plan(rows_of("int64", (2,)), rows_of("int64", (2,)), chunk_bytes=2**14)
    blocks = np.array_split(rows, 7)
    chunk = schema.steps.chunk
    sizes, nbytes = compressed_sizes({"inputs": blocks}, schema)
    assert nbytes == rows.nbytes
    with ThreadPoolExecutor(1) as pool:
        for codec in (Codec("none"), Codec("lz4"), Codec("zstd")):
            each = [pool.submit(codec.encode, rows[at : at + chunk]).result() for at in range(0, len(rows), chunk)]
            assert sizes[codec.name] == sum(map(len, each))


def test_codecs_are_chosen_only_by_size():
    for zstd, name in ((96, "none"), (80, "lz4"), (60, "zstd")):
        assert choose_by_sizes({"none": 100, "lz4": 97, "zstd": zstd}, 100)[0] == Codec(name)
    nothing = choose_by_sizes({"none": 0, "lz4": 0, "zstd": 0}, 0)
    assert nothing == (Codec("lz4"), "codec lz4:9: there are no rows to measure")


def test_a_later_build_keeps_the_codec_whatever_its_rows(tmp_path: Path):
    place = sources(tmp_path / "from", KINDS["none"])
    builder.build(place, tmp_path / "store", codec="auto")
    np.save(place / "more.npy", np.zeros((1000, 2), "uint32"))
    report = builder.build(place, tmp_path / "store", codec="auto")
    assert (report.added, report.codec) == (1, None)
    assert store_spec.open_store(tmp_path / "store").schema.codec == Codec("none")


def test_compact_chooses_by_the_first_rows(tmp_path: Path):
    builder.build(sources(tmp_path / "from", KINDS["zstd"]), tmp_path / "store", codec="none")
    assert builder.compact(tmp_path / "store", tmp_path / "new", codec="auto").codec is not None
    assert store_spec.open_store(tmp_path / "new").schema.codec == Codec("zstd")
    again = builder.compact(tmp_path / "store", tmp_path / "new", codec="auto")
    assert (again.copied, again.codec) == (0, None)


def test_the_command_says_what_it_chose_and_why(tmp_path: Path):
    place = sources(tmp_path / "from", KINDS["none"])
    options = [str(place), str(tmp_path / "store"), "--codec", "auto"]
    before = seqzarr("build", *options, "--dry-run")
    assert "compression saves less than 5%" in " ".join(before.output.split())
    made = seqzarr("build", *options, status=0)
    assert "codec none, as compression saves less than 5%: the first rows take 100% uncompressed" in made.output
    told = seqzarr("build", *options[:1], tmp_path / "other", "--codec", "auto", "--json")
    assert json.loads(told.output)["codec"] in made.output
    packed = seqzarr("compact", tmp_path / "store", tmp_path / "new", "--codec", "auto")
    assert "codec none, as compression saves less than 5%" in packed.output
