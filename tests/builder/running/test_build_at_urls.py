"""Builds of stores at URLs: the same bytes as in a folder, updates, messages, and machines that share no path."""

import contextlib
import itertools
import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock
from urllib.parse import quote
from urllib.request import Request, urlopen

import numpy as np
import obstore
import pytest

import builder
import store_spec
from builder.maintenance.checks import verify_sources
from builder.sources.folder import Bucket, list_bucket
from builder.sources.source_list import discover
from builder.workers.row_blocks import SpillError
from store_spec import errors
from store_spec.disk.object_storage import object_store
from store_spec.schema import CONVENTION
from tests.builder.command import seqzarr
from tests.builder.source_files import write_files
from tests.campaigns.processes import ROOT, cluster
from tests.store.cloud_servers import azure_container, objects_at, s3_bucket
from tests.store.oracle import files
from tests.store.zarr_stores import bits

PACKING: dict[str, Any] = {"chunk": "1kB", "shard": "8kB"}
SERVERS = pytest.mark.parametrize(
    ("server", "workers"),
    [
        ("bucket", 0),
        pytest.param("bucket", 2, marks=pytest.mark.slow),
        pytest.param("container", 0, marks=pytest.mark.slow),
    ],
)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_bucket() as url:
        yield url


@pytest.fixture(scope="module")
def container() -> Iterator[str]:
    with azure_container() as url:
        yield url


def make_sources(folder: Path, start: int, stop: int) -> Path:
    """Write some arrays, whose values follow from their numbers."""
    folder.mkdir(exist_ok=True)
    for number in range(start, stop):
        np.save(folder / f"{number:03}.npy", np.random.default_rng(number).normal(size=(150 + number, 4)).astype("f4"))
    return folder


@SERVERS
def test_a_store_in_a_bucket_has_the_bytes_of_the_folder_after_each_build(request, server, tmp_path, workers):
    url, folder = f"{request.getfixturevalue(server)}/with-{workers}.zarr", tmp_path / "s.zarr"
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
    writer = store_spec.open_store(url, "a")
    store_spec.open_store(url, "a").close()
    writer.append(np.ones((9, 4), "f4"), np.ones((9, 4), "f4"), source="late")
    with pytest.raises(errors.ConflictError):
        writer.commit()
    writer.close()


def test_the_command_line_takes_the_url_of_a_store(bucket, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources, url = make_sources(tmp_path / "src", 0, 3), f"{bucket}/walks/cli.zarr"
    for flags, status, text in (
        (["--dry-run"], 0, "cli.zarr: would be made"),
        ([], 0, "cli.zarr: 3 sources added"),
        ([], 0, "cli.zarr: nothing new, 3 unchanged"),
    ):
        result = seqzarr("build", sources, url, *flags)
        assert (result.exit_code, text in result.output) == (status, True), result.output
    result = seqzarr("build", sources, url, "--json")
    assert json.loads(result.stdout)["store"] == url
    assert [path.name for path in tmp_path.iterdir()] == ["src"]  # no folder has the name of the URL


def test_invalid_urls_for_stores_are_refused(bucket, tmp_path):
    sources = make_sources(tmp_path / "src", 0, 2)
    with pytest.raises(errors.SchemaError, match="stores are written to folders, to s3://, gs://, az:// and memory://"):
        builder.build(sources, "https://127.0.0.1:9/s.zarr", workers=0)
    with pytest.raises(errors.SchemaError, match="give it as a str"):
        builder.build(sources, Path(f"{bucket}/s.zarr"), workers=0)
    assert "the URL of a store begins with s3://" in seqzarr("build", sources, "ftp://a/b.zarr", status=2).output


def upload(folder: Path, url: str) -> None:
    """Put all files of a folder below a URL, and delete the other objects there."""
    store = obstore.store.from_url(url)
    for key in objects_at(url):
        obstore.delete(store, key)
    for name, data in files(folder).items():
        obstore.put(store, name, data)


def make_tables(folder: Path) -> Path:
    """Write tables below two folders, with a column of labels, and files that are not sources."""
    for number in range(7):
        path = folder / f"site-{number % 2}" / f"patient {number}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{step},{step * number},{'yes' if step % 2 else 'no'}\n" for step in range(5 + number))
        path.write_text(f"a,b,label\n{rows}")
    write_files(folder, {"notes.md": "none", "_hidden.csv": "a\n1\n"})
    write_files(folder / "site-0" / "old.zarr", {"zarr.json": CONVENTION["uuid"], "c.csv": "a\n1\n"})
    return folder


@pytest.mark.parametrize(
    "pattern", ["", "/**/*.csv", "/site-1/*", "/*/patient [0-3].csv", "/site-0/patient 2.csv", "/_*", "/*/"]
)
def test_sources_in_a_bucket_are_those_of_the_folder(bucket, tmp_path, pattern):
    tables, url = make_tables(tmp_path / "tables"), f"{bucket}/listed"
    upload(tables, url)
    there, here = discover(f"{url}{pattern}"), discover(f"{tables}{pattern}")
    assert (there.names, set(there.ignored)) == (here.names, {name for name in here.ignored if not name.endswith("/")})
    assert str(there.folder) == f"{bucket}/listed{str(here.folder).removeprefix(str(tables))}"


@SERVERS
def test_a_build_from_a_bucket_has_the_bytes_of_one_from_a_folder(request, server, tmp_path, workers):
    bucket = request.getfixturevalue(server)
    tables, url = make_tables(tmp_path / "tables"), f"{bucket}/sources-{workers}"
    upload(tables, url)
    options: dict[str, Any] = {"process": builder.tabular(labels="label"), "workers": workers, **PACKING}
    made = f"{bucket}/stores/made-{workers}.zarr"
    places: list[tuple[Any, Any]] = [(url, made), (url, tmp_path / "of-bucket.zarr"), (tables, tmp_path / "s.zarr")]
    for sources, store in places:
        report = builder.build(sources, store, **options)
        assert (report.added, report.failures) == (7, ())
    assert objects_at(made) == files(tmp_path / "of-bucket.zarr") == files(tmp_path / "s.zarr")
    write_files(tables / "site-1", {"patient 3.csv": "a,b,label\n1,2,yes\n", "patient 9.csv": "broken"})
    upload(tables, url)
    for sources, store in places:
        report = builder.build(sources, store, update=True, workers=workers)
        assert (report.updated, report.unchanged) == (1, 6)
        assert [one.source for one in report.failures] == ["site-1/patient 9.csv"]
    assert objects_at(made) == files(tmp_path / "of-bucket.zarr") == files(tmp_path / "s.zarr")
    (tables / "site-1" / "patient 5.csv").write_text("a,b,label\n1,2,yes\n")
    upload(tables, url)
    found = [[problem.what for problem in verify_sources(store, url, workers=0)] for _, store in places]
    assert found[0] == found[1] == found[2]
    assert any("site-1/patient 5.csv" in what for what in found[0])
    assert "site-1/patient 5.csv" in seqzarr("verify", made, "--sources", url, "--workers", "0", status=1).output


def test_unchanged_objects_are_not_fetched_again(bucket, tmp_path):
    sources, url = make_sources(tmp_path / "src", 0, 4), f"{bucket}/known"
    upload(sources, url)
    store = tmp_path / "s.zarr"
    builder.build(url, store, workers=0)
    with mock.patch.object(Bucket, "_fetch", side_effect=AssertionError("fetched")):
        report = builder.build(url, store, workers=0)
    assert (report.unchanged, report.added) == (4, 0)


def test_an_object_that_is_replaced_or_deleted_after_the_listing_fails_alone(bucket, tmp_path):
    sources, url = make_sources(tmp_path / "src", 0, 4), f"{bucket}/moving"
    upload(sources, url)
    listing, objects = list_bucket, obstore.store.from_url(url)

    def late(place):
        found = listing(place)
        obstore.put(objects, "001.npy", b"other")
        obstore.delete(objects, "002.npy")
        return found

    with mock.patch("builder.sources.source_list.list_bucket", late):
        report = builder.build(url, tmp_path / "s.zarr", workers=0)
    assert report.added == 2
    reasons = {one.source: one.reason for one in report.failures}
    assert "it was replaced since it was listed" in reasons["001.npy"]
    assert "it was deleted since it was listed" in reasons["002.npy"]


def test_sources_that_cannot_be_listed_are_an_error(bucket, tmp_path):
    for url, text in (
        (f"{bucket}/nothing", "/nothing: there are no such objects"),
        ("s3://no-such-bucket/a", "cannot be listed"),
        ("ftp://a/b", "the URL of a store begins with"),
    ):
        with pytest.raises((builder.UsageError, errors.SchemaError), match=text):
            builder.build(url, tmp_path / "s.zarr", workers=0)


@pytest.mark.parametrize("at_url", ["sources", "store"])
def test_a_url_without_obstore_says_what_to_install(at_url, tmp_path, monkeypatch):
    write_files(tmp_path / "sources", {"a.npy": np.ones((3, 2))})
    places = {"sources": str(tmp_path / "sources"), "store": str(tmp_path / "s.zarr")} | {at_url: "memory://place"}
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises((builder.UsageError, errors.SchemaError), match=r"pip install 'seqzarr\[remote\]'"):
        builder.build(**places, workers=0)


def test_a_bucket_is_listed_with_the_current_environment():
    for _ in range(2):  # each server has another address
        with s3_bucket() as url:
            obstore.put(object_store(url).store, "again/a.npy", b"1")
            listed, names, _ = list_bucket(f"{url}/again")
            assert (names, listed.content("a.npy")) == (["a.npy"], b"1")
            assert vars(pickle.loads(pickle.dumps(listed))).keys() == {"url", "objects"}


@pytest.mark.parametrize(("name", "url_name"), [("out.zarr", "out.zarr"), ("o%t.zarr", "o%25t.zarr")])
def test_an_unfinished_store_is_no_source_of_its_next_build(bucket, tmp_path, name, url_name):
    below = f"{bucket}/below{len(url_name)}"
    upload(make_sources(tmp_path / "src", 0, 3), below)
    url, put, place = f"{below}/{url_name}", obstore.put, 0

    def killed(*arguments, **options):
        nonlocal place
        place += 1
        if place > 10:
            raise KeyboardInterrupt
        return put(*arguments, **options)

    with mock.patch.multiple(obstore, put=killed, delete=mock.DEFAULT), pytest.raises(KeyboardInterrupt):
        builder.build(below, url, process=halves, workers=0)
    assert {key for key in objects_at(below) if key.startswith(f"{name}/")}
    report = builder.build(below, url, process=halves, workers=0)
    assert (report.added, report.failures) == (3, ())
    assert store_spec.open_store(url).sources == ("000.npy", "001.npy", "002.npy")


def test_a_new_store_with_another_schema_at_the_place_of_an_unfinished_one_is_refused(tmp_path):
    url = f"memory://{tmp_path}"
    obstore.put(object_store(url).store, "inputs/zarr.json", b"{}")
    with pytest.raises(errors.StoreExistsError, match=f"which may be unfinished; remove everything below {url}"):
        builder.build(make_sources(tmp_path / "src", 0, 1), url, workers=0)


def test_the_folder_beside_a_store_in_a_bucket_has_no_sources(bucket, tmp_path):
    url, sources = f"{bucket}/beside", make_sources(tmp_path / "src", 0, 3)
    builder.build(sources, sources / "old.zarr", workers=0)
    np.save(sources / "old.zarr.build.npy", np.ones((2, 1), "float32"))
    (sources / "old.zarr.build").mkdir()
    np.save(sources / "old.zarr.build" / "seen.npy", np.ones((2, 1), "float32"))
    upload(sources, url)
    due = ("000.npy", "001.npy", "002.npy", "old.zarr.build.npy")
    assert discover(url).names == discover(sources).names == due


def test_an_existing_object_takes_precedence_over_a_pattern(bucket, tmp_path):
    url, sources = f"{bucket}/precedence", tmp_path / "src"
    sources.mkdir()
    for name in ("run[1].npy", "run1.npy", "a b.npy", "day[1]/a.npy", "day[1]/b.npy", "day1/a.npy"):
        (sources / name).parent.mkdir(exist_ok=True)
        np.save(sources / name, np.ones((2, 1), "float32"))
    (sources / "day[1]" / "notes.md").touch()
    upload(sources, url)
    for name in ("run[1].npy", "a b.npy"):
        assert discover(f"{url}/{quote(name, safe='[]')}").names == discover(sources / name).names == (name,)
    assert discover(f"{url}/run[12].npy").names == discover(sources / "run[12].npy").names == ("run1.npy",)
    for name, names in (("day[1]", ("a.npy", "b.npy")), ("day[1]/", ("a.npy", "b.npy")), ("day[12]/", ("day1/a.npy",))):
        found = [discover(f"{place}/{name}") for place in (url, sources)]
        assert [(one.names, one.in_folders) for one in found] == [(names, name == "day[12]/")] * 2


def test_a_store_is_compacted_between_any_two_places(bucket, tmp_path):
    sources = make_sources(tmp_path / "src", 0, 8)
    places: list[Any] = [f"{bucket}/compact/from.zarr", tmp_path / "from.zarr"]
    for place in places:
        builder.build(sources, place, workers=0, **PACKING)
    (sources / "003.npy").unlink()
    for place in places:
        builder.build(sources, place, retire_missing=True, workers=0)
    due = None
    for number, (old, new) in enumerate(itertools.product(places, (f"{bucket}/compact", str(tmp_path)))):
        copy = f"{new}/{number}.zarr"
        result = seqzarr("compact", old, copy, "--order", "length", "--workers", "0")
        assert (result.exit_code, f"{number}.zarr: 7 sequences, 7 of them copied now" in result.output) == (0, True)
        made = objects_at(copy) if new.startswith("s3") else files(Path(copy))
        assert made == (due := due or made)
    with pytest.raises(builder.UsageError, match="STORE and NEW are the same"):
        builder.compact(places[0], f"{places[0]}/")


def test_a_copy_into_a_bucket_continues_after_a_refused_commit(bucket, tmp_path):
    builder.build(make_sources(tmp_path / "src", 0, 8), tmp_path / "from.zarr", workers=0, **PACKING)
    builder.compact(tmp_path / "from.zarr", tmp_path / "copy.zarr", workers=0)
    url, put, count = f"{bucket}/interrupted.zarr", obstore.put, 0

    def refused(store, key, data, mode):
        nonlocal count
        count += key == "zarr.json"
        if count == 2:
            raise OSError("the network is gone")
        return put(store, key, data, mode=mode)

    with mock.patch.object(obstore, "put", refused), pytest.raises(errors.StorageError, match="the network is gone"):
        builder.compact(tmp_path / "from.zarr", url, workers=0)
    builder.compact(tmp_path / "from.zarr", url, workers=0)
    store_spec.open_store(url, "a").close()
    assert objects_at(url) == files(tmp_path / "copy.zarr")


def halves(path: Path) -> tuple[Any, Any]:
    """Return the rows of an array, and half of them as labels."""
    assert path.is_file()
    rows = np.load(path)
    return rows, rows / 2


def test_names_that_no_folder_can_have_fail_alone_and_marks_of_folders_are_no_sources(bucket, tmp_path):
    objects = obstore.store.from_url(f"{bucket}/odd")
    rows = (make_sources(tmp_path / "src", 0, 1) / "000.npy").read_bytes()
    for name in ("a.npy", "d.npy", "d.npy/p.npy", f"{'n' * 300}.npy"):
        obstore.put(objects, name, rows)
    obstore.put(objects, "marked", b"")
    obstore.put(objects, "marked/e.npy", rows)
    marker = f"{os.environ['AWS_ENDPOINT_URL']}/{bucket.removeprefix('s3://')}/odd/d.npy/"  # obstore refuses the slash
    urlopen(Request(marker, b"", method="PUT")).close()  # noqa: S310
    report = builder.build(f"{bucket}/odd", tmp_path / "s.zarr", process=halves, workers=0)
    failed = {one.source for one in report.failures}
    assert f"{'n' * 300}.npy" in failed
    assert len(failed & {"d.npy", "d.npy/p.npy"}) == 1
    assert (report.added, report.sources) == (3, 5)


def test_a_source_whose_name_has_no_label_file_fails_alone(bucket, tmp_path):
    for number in range(3):
        for folder, text in (("in", f"a,b\n1,{number}\n"), ("out", "y\n1\n")):
            write_files(tmp_path / "src" / folder, {f"x_{number}.csv": text})
    (tmp_path / "src" / "in" / "zzz.csv").write_text("a,b\n1,2\n")
    upload(tmp_path / "src", f"{bucket}/labelled")
    process = builder.tabular(labels="y", labels_from=r"in/x_(\d+) -> out/x_{1}.csv")
    reports = [
        builder.build(sources, tmp_path / store, process=process, workers=0)
        for sources, store in ((f"{bucket}/labelled", "a.zarr"), (tmp_path / "src", "b.zarr"))
    ]
    assert [report.added for report in reports] == [3, 3]
    assert reports[0].failures == reports[1].failures
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")


@pytest.mark.parametrize("server", ["bucket", pytest.param("container", marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("labels_from", "added"),
    [
        (r"(\d+).csv -> ../o %25#t/{1}.csv", 4),
        ("../{stem}_y.csv", 4),
        ("{parent}/../../out/{path}", 8),  # of 0.csv in ../../out, of x/0.csv in ../out
        (f"{'../' * 9}out/{{stem}}.csv", 0),  # there is no such folder
    ],
)
def test_label_files_outside_the_folder_of_the_sources_are_found(request, server, tmp_path, labels_from, added):
    url, top = f"{request.getfixturevalue(server)}/outside-{len(labels_from)}", tmp_path / "top"
    for number in range(5):
        for folder in ["", "x/"] if added == 8 else [""]:
            write_files(top / "deep/in", {f"{folder}{number}.csv": f"a,b\n1,{number}\n"})
        if number != 3:
            folders = ("../o %25#t", "../../out", "../out/x")
            names = [f"../out/{number}.csv", f"../{number}_y.csv", *(f"{folder}/{number}.csv" for folder in folders)]
            write_files(top / "deep/in", dict.fromkeys(names, f"y\n{number}\n"))
    process = builder.tabular(labels="y", labels_from=labels_from)
    for first in (True, False):
        upload(top, url)
        reports = [
            builder.build(sources, tmp_path / store, process=process, update=not first, workers=0, max_failures=10)
            for sources, store in ((f"{url}/deep/in", "a.zarr"), (top / "deep" / "in", "b.zarr"))
        ]
        assert [(report.added, report.updated) for report in reports] == [(added, 0) if first else (0, added // 4)] * 2
        assert reports[0].failures == reports[1].failures != ()
        if added:
            assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")
        for path in top.rglob("*1*.csv"):
            if path.read_text() == "y\n1\n":
                path.write_text("y\n7\n")


def test_a_manifest_in_the_working_folder_is_not_recorded_as_one_of_the_bucket(bucket, tmp_path, monkeypatch):
    sources = make_sources(tmp_path / "src", 0, 3)
    upload(sources, f"{bucket}/listed-in")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("labels.csv").write_text("file,y\n000.npy,1\n001.npy,2\n002.npy,3\n")
    options: dict[str, Any] = {"process": np.load, "workers": 0}
    options |= {"manifest": "labels.csv", "key": "file", "label_column": "y"}
    builder.build(f"{bucket}/listed-in", tmp_path / "a.zarr", **options)
    builder.build(sources, tmp_path / "b.zarr", **options)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "b.zarr")
    assert [int(labels[0]) for _, labels in store_spec.open_store(tmp_path / "b.zarr")] == [1, 2, 3]
    with pytest.raises(builder.UsageError, match="repeat the option manifest"):
        builder.build(f"{bucket}/listed-in", tmp_path / "a.zarr", process=np.load, workers=0)


def test_no_message_shows_a_password(bucket, tmp_path):
    sources = make_sources(tmp_path / "src", 0, 1)
    for source, store in (
        ("s3://name:secret@bucket/x", tmp_path / "s.zarr"),
        ("s3://name:secret@bucket/*.csv", tmp_path / "s.zarr"),
        (f"{bucket}/x?signature=secret", tmp_path / "s.zarr"),
        (sources, "s3://name:secret@bucket/s.zarr"),
        (sources, "https://name:secret@bucket/s.zarr"),
    ):
        with pytest.raises((builder.UsageError, errors.StoreError)) as caught:
            builder.build(source, store, workers=0)
        assert "secret" not in str(caught.value)


def test_a_full_temporary_folder_stops_the_build(bucket, tmp_path):
    upload(make_sources(tmp_path / "src", 0, 3), f"{bucket}/full")

    full = OSError(28, "No space left on device")
    with mock.patch.object(Bucket, "_fetch", side_effect=full), pytest.raises(SpillError, match="No space left"):
        builder.build(f"{bucket}/full", tmp_path / "s.zarr", workers=0)


GUARD = """
import os, sys

def guard(event, arguments):
    if event == "open" and isinstance(arguments[0], str):
        path = os.path.abspath(arguments[0])
        if path.startswith(os.environ["OTHERS"]) and not path.startswith(os.environ["TMPDIR"]):
            open(os.environ["TMPDIR"] + "/trespassed", "a").write(path)
            raise PermissionError(13, "on another machine", path)

def dask_setup(worker):
    sys.addaudithook(guard)
"""


def slow_rows(path: Path) -> tuple[Any, Any]:
    """Return the rows of an array after some time, and their sums as labels."""
    time.sleep(0.3)
    rows = np.load(path)
    return rows, rows.sum(axis=1)


@pytest.mark.slow
def test_machines_that_share_no_path_build_the_bytes_of_one_process(bucket, tmp_path):
    """One of them dies, and another joins."""
    sources = make_sources(tmp_path / "src", 0, 40)
    options: dict[str, Any] = {"process": slow_rows, "chunk": "1kB", "shard": "4kB", "batch": "4kB"}
    builder.build(sources, tmp_path / "alone.zarr", workers=0, **options)
    (tmp_path / "guard.py").write_text(GUARD)
    with cluster(tmp_path, {}, workers=0) as scheduler, contextlib.ExitStack() as started:
        upload(sources, f"{bucket}/src")

        def start(number: int) -> subprocess.Popen[bytes]:
            folder = tmp_path / "machines" / str(number)
            folder.mkdir(parents=True)
            environment = {"TMPDIR": str(folder), "OTHERS": f"{tmp_path}{os.sep}", "PYTHONPATH": str(ROOT)}
            flags = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--no-dashboard"]
            flags += ["--local-directory", str(folder), "--preload", str(tmp_path / "guard.py")]
            worker = subprocess.Popen(
                [sys.executable, "-m", "distributed.cli.dask_worker", scheduler.address, *flags],
                cwd=folder,
                env={**os.environ, **environment},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            started.callback(worker.wait)
            started.callback(worker.kill)
            return worker

        workers = [start(number) for number in range(4)]
        seen = list[int]()

        def disturb(tally: Any) -> None:
            if tally.done >= 5 and not seen:
                workers[0].kill()
                start(4)
                seen.append(tally.done)

        url = f"{bucket}/stores/made.zarr"
        report = builder.build(
            f"{bucket}/src", url, scheduler=scheduler.address, workers=4, on_progress=disturb, **options
        )
        assert (report.added, report.failures, len(seen)) == (40, (), 1)
        assert seen[0] < 40
        assert not list(tmp_path.glob("machines/*/trespassed"))
        assert objects_at(url) == files(tmp_path / "alone.zarr")
        assert store_spec.verify(url) == []


@pytest.mark.slow
def test_folders_that_the_workers_of_a_cluster_do_not_see_are_explained(tmp_path, monkeypatch):
    sources = make_sources(tmp_path / "src", 0, 4)
    monkeypatch.chdir(tmp_path)
    here = "/proc/self/cwd"  # another folder for each worker
    with cluster(tmp_path, {}) as scheduler:
        for batch in ("32MiB", "1kB"):  # rows are put into shards, and into files beside the store
            with pytest.raises(errors.StorageError, match=r"failed: No such file.*disk that all workers share"):
                builder.build(sources, f"{here}/s.zarr", scheduler=scheduler.address, batch=batch)
        with pytest.raises(builder.BuildError, match=r"000.npy: .*disk that the worker lacks; .*all workers share"):
            builder.build(f"{here}/src", tmp_path / "s.zarr", scheduler=scheduler.address)


def test_a_store_in_the_memory_of_this_process_is_refused_before_workers_start(tmp_path):
    sources, url = make_sources(tmp_path / "src", 0, 4), "memory://refused/s.zarr"
    builder.build(sources, "memory://made/s.zarr", workers=0)
    builder.build(sources, tmp_path / "s.zarr", workers=0)
    of_clusters: tuple[dict[str, Any], ...] = ({"workers": 1}, {"scheduler": "tcp://127.0.0.1:9"})
    for options in of_clusters:
        with mock.patch("builder.workers.engine.process_engine", side_effect=AssertionError("started")):
            for old, new in ((tmp_path / "s.zarr", url), ("memory://made/s.zarr", tmp_path / "t.zarr")):
                with pytest.raises(builder.UsageError, match=r"memory:.* is in the memory of this process.*workers=0"):
                    builder.compact(old, new, **options)
            with pytest.raises(builder.UsageError, match=r"memory:.* is in the memory of this process.*workers=0"):
                builder.build(sources, url, **options)
    with pytest.raises(errors.MissingStoreError):
        store_spec.open_store(url)
