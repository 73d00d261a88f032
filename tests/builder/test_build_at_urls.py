"""Builds of stores at URLs: the bytes of a build in a folder, updates, and messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import builder
import store_spec
from builder.cli import main
from store_spec import errors
from tests.store.s3_server import objects_at, s3_bucket
from tests.store.test_zarr_stores import bits

PACKING: dict[str, Any] = {"chunk": "1kB", "shard": "8kB"}


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket."""
    with s3_bucket() as url:
        yield url


def make_sources(folder: Path, start: int, stop: int) -> Path:
    """Write some arrays, which follow from their numbers."""
    folder.mkdir(exist_ok=True)
    for number in range(start, stop):
        np.save(folder / f"{number:03}.npy", np.random.default_rng(number).normal(size=(150 + number, 4)).astype("f4"))
    return folder


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files of a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_store_in_a_bucket_has_the_bytes_of_the_folder_after_each_build(bucket, tmp_path, workers):
    url, folder = f"{bucket}/with-{workers}.zarr", tmp_path / "s.zarr"
    for start, stop in ((0, 6), (6, 9), (9, 9)):
        sources = make_sources(tmp_path / "src", start, stop)
        reports = [builder.build(sources, place, workers=workers, **PACKING) for place in (url, folder)]
        assert objects_at(url) == files(folder)
        assert [report.added for report in reports] == [stop - start] * 2
    make_sources(tmp_path / "src", 0, 1)
    np.save(tmp_path / "src" / "003.npy", np.ones((40, 4), "f4"))
    (tmp_path / "src" / "005.npy").unlink()
    for place in (url, folder):
        report = builder.build(tmp_path / "src", place, update=True, retire_missing=True, workers=workers)
        assert (report.updated, report.retired, report.failures) == (1, 1, ())
    assert objects_at(url) == files(folder)
    assert builder.verify(url, workers=0) == []
    batches = [store_spec.open_store(place).windows(8).batches(64, shuffle=True) for place in (url, folder)]
    assert [bits(batch) for batch in batches[0]] == [bits(batch) for batch in batches[1]]


def test_the_command_line_takes_the_url_of_a_store(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources, url = make_sources(tmp_path / "src", 0, 3), f"{bucket}/walks/cli.zarr"
    for flags, status, text in (
        (["--dry-run"], 0, "cli.zarr: would be made"),
        ([], 0, "cli.zarr: 3 sources added"),
        ([], 0, "cli.zarr: nothing new, 3 unchanged"),
    ):
        result = CliRunner().invoke(main, ["build", str(sources), url, *flags])
        assert (result.exit_code, text in result.output) == (status, True), result.output
    result = CliRunner().invoke(main, ["build", str(sources), url, "--json"])
    assert json.loads(result.stdout)["store"] == url
    assert [path.name for path in tmp_path.iterdir()] == ["src"]  # no folder has the name of the URL


def test_a_build_without_a_usable_source_makes_no_store(bucket, tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.npy").write_bytes(b"broken")
    url = f"{bucket}/none.zarr"
    with pytest.raises(builder.BuildError, match=r"a\.npy"):
        builder.build(tmp_path / "src", url, workers=0)
    assert objects_at(url) == {}


def test_what_cannot_be_written_to_is_refused(bucket, tmp_path):
    sources = make_sources(tmp_path / "src", 0, 2)
    with pytest.raises(errors.SchemaError, match="stores are written to folders, to s3://, gs:// and az://"):
        builder.build(sources, "https://127.0.0.1:9/s.zarr", workers=0)
    with pytest.raises(errors.SchemaError, match="give it as a str"):
        builder.build(sources, Path(f"{bucket}/s.zarr"), workers=0)
    result = CliRunner().invoke(main, ["build", str(sources), "ftp://a/b.zarr"])
    assert (result.exit_code, "stores are written to folders" in result.output) == (2, True)
