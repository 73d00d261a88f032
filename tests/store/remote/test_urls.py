"""Stores at a URL: the same bits as from the folder, few requests and many at once, faults of servers, and S3."""

import itertools
import pickle
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import obstore
import pytest
from click.testing import CliRunner

import builder
import store_spec
from builder.cli import main
from store_spec import errors
from store_spec.disk.object_storage import ObjectStorage
from store_spec.disk.storage import in_order
from store_spec.format.layout import chunk_key
from store_spec.schema import MOMENTS
from store_spec.windows import loading
from tests.store.cloud_servers import s3_bucket
from tests.store.damage import contents, index, replace_file
from tests.store.make_golden import GOLDEN, STORES
from tests.store.make_malformed import FULL_SHARD
from tests.store.object_server import ObjectServer, serving, walks
from tests.store.zarr_stores import bits, read, read_elsewhere

REQUESTS = 16
unlisted = pytest.mark.filterwarnings("ignore:.*does not list keys:UserWarning")


@pytest.fixture
def server(tmp_path) -> Iterator[ObjectServer]:
    """A server with copies of the golden stores."""
    shutil.copytree(GOLDEN, tmp_path / "served")
    with serving(tmp_path / "served") as running:
        yield running


def test_no_key_is_listed_and_the_last_shard_is_fetched_once(server):
    url, due = f"{server.url}/rivers.zarr", read(server.folder / "rivers.zarr")
    store = store_spec.open_store(url)
    assert str(store.path) == url
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(read_elsewhere, store, due) for _ in range(8)]:
            done.result()
    assert {method for method, _ in server.requests} == {"GET"}
    assert server.requests["GET", f"/rivers.zarr/{chunk_key(store.schema, 'inputs', 2)}"] == 1


@unlisted
def test_lost_and_damaged_files_are_found_as_in_the_folder(server):
    folder = server.folder / "rivers.zarr"
    (folder / "inputs" / "c.1.0").unlink()
    (folder / "sequences" / "part" / "c.0").unlink()
    damaged = folder / "inputs" / "c.0.0"
    damaged.write_bytes(damaged.read_bytes()[:-50] + bytes(50))
    found = [(problem.where, problem.what) for problem in store_spec.verify(f"{server.url}/rivers.zarr")]
    assert found == [(problem.where, problem.what) for problem in store_spec.verify(folder)]
    assert {where for where, _ in found} >= {"inputs/c.1.0", "sequences/part/c.0", "inputs/c.0.0"}
    with pytest.raises(errors.FormatError, match=r"/rivers\.zarr/inputs/c\.[01]\.0: "):
        list(store_spec.open_store(f"{server.url}/rivers.zarr").windows(2, target="sequence").batches(3))


@unlisted
@pytest.mark.parametrize("verify", [store_spec.verify, partial(builder.verify, workers=0)])
def test_parts_of_a_remote_store_are_checked_at_the_same_time(tmp_path, monkeypatch, verify):
    monkeypatch.setattr("store_spec.verification.parts.PART_BYTES", 2**16)
    folder = walks(tmp_path / "walks.zarr", sequences=30, chunk="2kB", shard="1MB")
    with serving(tmp_path) as server:
        server.delay = 0.01
        assert verify(f"{server.url}/walks.zarr") == verify(folder) == []
        assert server.most_at_once > 8
        (shard,) = (folder / "inputs").glob("c*0*0")
        shard.write_bytes(shard.read_bytes()[:1000] + b"?" + shard.read_bytes()[1001:])
        found = verify(f"{server.url}/walks.zarr")
    assert found
    assert [(one.where, one.what) for one in found] == [(one.where, one.what) for one in verify(folder)]


def test_the_command_line_takes_urls(server):
    url = f"{server.url}/rivers.zarr"
    for command in (["inspect", url], ["inspect", url, "--sequence", "river-0"], ["verify", url]):
        result = CliRunner().invoke(main, command)
        assert result.exit_code == 0, result.output
    assert "all well: 4 sequences" in result.output
    result = CliRunner().invoke(main, ["verify", f"{server.url}/other.zarr"])
    assert (result.exit_code, f"{server.url}/other.zarr: " in result.output) == (2, True)
    result = CliRunner().invoke(main, ["verify", url, "--sources", "somewhere", "--repair"])
    assert (result.exit_code, "for a store on a local disk" in result.output) == (2, True)


def test_a_bucket_that_may_not_be_listed_is_inspected_and_verified(server, monkeypatch):
    for name, value in (("AWS_ENDPOINT_URL", server.url), ("AWS_ALLOW_HTTP", "true"), ("AWS_SKIP_SIGNATURE", "true")):
        monkeypatch.setenv(name, value)
    shutil.copytree(server.folder / "rivers.zarr", server.folder / "bucket" / "rivers.zarr")
    url, folder = "s3://bucket/rivers.zarr", server.folder / "bucket" / "rivers.zarr"
    assert replace(builder.inspect(url), store=folder) == builder.inspect(folder)
    listed = [path for _, path in server.requests if "list-type=" in path]
    assert listed == []
    with pytest.warns(UserWarning, match=r"^s3://bucket/rivers\.zarr: this server does not list keys, so files that "):
        assert store_spec.verify(url) == []
    (folder / "inputs" / "c.1.0").unlink()
    (folder / "stray").write_text("")
    result = CliRunner().invoke(main, ["verify", url])
    assert (result.exit_code, "inputs/c.1.0: missing; " in result.output, "stray" in result.output) == (1, True, False)
    assert [line for line in result.stderr.splitlines() if "does not list keys" in line]
    with pytest.raises(errors.StorageError, match=r"listing failed: .*403 Forbidden"):
        store_spec.create_store("s3://bucket/new.zarr", inputs=("int8", ()), labels=("int8", ()))


def test_slow_answers_are_waited_for_together_and_small_reads_are_one_request(tmp_path):
    walks(tmp_path / "walks.zarr", chunk="4kB", shard="1MB")
    options: dict[str, Any] = {"batch_size": 64, "shuffle": True, "memory": "8MB"}
    with serving(tmp_path) as server:
        server.delay = 0.02
        remote, local = map(store_spec.open_store, (f"{server.url}/walks.zarr", tmp_path / "walks.zarr"))
        for epoch in range(2):
            windows = [store.windows(32, stride=8).batches(epoch=epoch, **options) for store in (remote, local)]
            assert [bits(batch) for batch in windows[0]] == [bits(batch) for batch in windows[1]]
        assert REQUESTS // 2 < server.most_at_once <= REQUESTS + 2
        server.most_at_once = 0
        assert list(remote.windows(32).batches(2, shuffle=True, memory="8MB"))  # they leave memory to requests
        assert REQUESTS + 2 < server.most_at_once <= 2 * REQUESTS
        server.requests.clear()
        server.most_at_once = 0
        padded = [store.padded(8, shuffle=True, memory="8MB") for store in (remote, local)]
        assert [bits(batch) for batch in padded[0]] == [bits(batch) for batch in padded[1]]
        assert REQUESTS // 2 < server.most_at_once <= REQUESTS
        chunks = local.counts.steps // local.schema.chunking("inputs").chunk
        of_inputs = sum(count for (_, path), count in server.requests.items() if "/inputs/" in path)
        assert of_inputs < chunks / 5


def test_all_tables_of_a_call_are_fetched_together_and_once(tmp_path, monkeypatch):
    folder = walks(tmp_path / "walks.zarr", sequences=5)
    with serving(tmp_path) as server:
        store = store_spec.open_store(f"{server.url}/walks.zarr")
        due = store_spec.open_store(folder).stats_by("source")
        assert len(store.lengths) == len(store.sources) == 5
        server.most_at_once, server.together = 0, 2 * len(MOMENTS)
        server.requests.clear()
        for _ in range(2):
            stats = store.stats_by("source")
            assert [bits(one.mean) for one in stats.values()] == [bits(one.mean) for one in due.values()]
        roots = server.requests.pop(("GET", "/walks.zarr/zarr.json"))
        assert roots < server.together  # not after each table
        assert {*server.requests.values()} == {1}
        assert server.most_at_once >= server.together
        monkeypatch.setattr("store_spec.disk.tables.KEPT_BYTES", 200)
        again = store_spec.open_store(f"{server.url}/walks.zarr").stats_by("source")
        assert [bits(one.std) for one in again.values()] == [bits(one.std) for one in due.values()]


def test_the_last_shards_of_all_arrays_are_fetched_together(tmp_path):
    walks(tmp_path / "walks.zarr", sequences=5)
    with serving(tmp_path) as server:
        store = store_spec.open_store(f"{server.url}/walks.zarr")
        assert len(store.lengths) == 5
        server.most_at_once, server.together = 0, 2
        store.snapshot.check_files()
        assert server.most_at_once == 2


def test_a_table_that_was_wrong_is_read_again(tmp_path):
    path = walks(tmp_path / "walks.zarr", sequences=3)
    crcs = path / "sequences" / "inputs_crc32c" / "c.0"
    right, other = crcs.read_bytes(), walks(tmp_path / "other.zarr", sequences=3, seed=1)
    with serving(tmp_path) as server:
        store = store_spec.open_store(f"{server.url}/walks.zarr")
        replace_file(crcs, (other / "sequences" / "inputs_crc32c" / "c.0").read_bytes())
        with pytest.raises(errors.ChecksumError):
            store[0]
        replace_file(crcs, right)
        assert len(store[0][0]) == store.lengths[0]


def test_a_negative_size_of_a_cache_is_refused(server, tmp_path):
    with pytest.raises(errors.SchemaError, match=r"^cache_size is -1; it must be at least 0$"):
        store_spec.open_store(f"{server.url}/rivers.zarr", cache=tmp_path, cache_size=-1)


def test_a_chunk_of_an_impossible_size_is_not_fetched(tmp_path, spy):
    fetch = spy(ObjectStorage, "_fetch")
    path = shutil.copytree(GOLDEN / "steps.zarr", tmp_path / "steps.zarr")
    entries = np.frombuffer((path / FULL_SHARD).read_bytes()[-36:-4], "<u8").reshape(2, 2)  # offset and size
    end = int(entries.sum(axis=1).max())
    contents(FULL_SHARD, lambda data: data[:end] + bytes(2**20) + data[end:])(path)
    index(FULL_SHARD, 1, (int(entries[1, 0]), 2**20))(path)
    with serving(tmp_path) as server:
        batches = store_spec.open_store(f"{server.url}/steps.zarr").select([0]).windows(2).batches(4)
        with pytest.raises(
            errors.FormatError, match="a chunk of 1,048,576 stored bytes; one of 48 decoded bytes has 0 to 68"
        ):
            list(batches)
    ranges = [call.args[2:] for call in fetch.call_args_list]
    assert ranges
    assert not [key for key, _, length in ranges if key == FULL_SHARD and length is not None]


@pytest.mark.slow
def test_servers_that_fail_sometimes_give_the_same_batches(tmp_path):
    walks(tmp_path / "walks.zarr", sequences=20, chunk="4kB", shard="200kB")
    due = read(tmp_path / "walks.zarr")
    with serving(tmp_path) as server:
        server.faults = SimpleNamespace(get=lambda number: {5: "503", 8: "cut"}.get(number % 20))
        assert read(f"{server.url}/walks.zarr") == due
        assert server.count > 100


@pytest.mark.slow
def test_a_lost_server_is_an_error_that_names_the_key(server):
    store = store_spec.open_store(f"{server.url}/rivers.zarr")
    server.faults = SimpleNamespace(get=lambda _: "404")
    with pytest.raises(errors.FormatError, match=r"rivers\.zarr/offsets/c\.0: missing"):
        store[0]
    server.faults = SimpleNamespace(get=lambda _: "403")
    with pytest.raises(errors.StorageError, match="status code: 403 Forbidden"):
        store_spec.open_store(f"{server.url}/{'folder/' * 16}rivers.zarr")
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with pytest.raises(errors.StorageError, match=rf":{port}/a\.zarr/zarr\.json: reading failed: GenericError: "):
        store_spec.open_store(f"http://127.0.0.1:{port}/a.zarr")


@pytest.mark.parametrize("replaced", ["inputs/c.0.0", "inputs/c.1.0", "offsets/c.0", "sequences/inputs_crc32c/c.0"])
def test_an_object_that_is_replaced_meanwhile_is_an_error(replaced, tmp_path):
    path = walks(tmp_path / "walks.zarr", sequences=3, shard="100kB")
    other = walks(tmp_path / "other.zarr", sequences=3, shard="100kB", seed=1)
    with serving(tmp_path) as server:
        store = store_spec.open_store(f"{server.url}/walks.zarr")
        shutil.copy(other / replaced, path / replaced)
        with pytest.raises(errors.FormatError, match=f"^{server.url}/walks.zarr/"):
            list(store)


@pytest.mark.parametrize("obeys_conditions", [True, False])
@pytest.mark.parametrize("batches", ["windows", "padded"])
def test_a_shard_that_is_replaced_after_its_index_was_read_is_an_error(batches, obeys_conditions, tmp_path):
    """The other shard has chunks of the same sizes, with right checksums."""
    path, other = (
        walks(tmp_path / f"{seed}.zarr", sequences=6, shard="50kB", chunk="5kB", codec="none", seed=seed)
        for seed in (0, 1)
    )
    with serving(tmp_path) as server:
        server.obeys_conditions = obeys_conditions
        store = store_spec.open_store(f"{server.url}/0.zarr")
        store.snapshot.rows("inputs", 0, 1)
        replace_file(path / "inputs" / "c.0.0", (other / "inputs" / "c.0.0").read_bytes())
        with pytest.raises(errors.FormatError, match=r"inputs/c\.0\.0: replaced since its index was read"):
            list(store.windows(8, stride=8).batches(4) if batches == "windows" else store.padded(2))


def test_invalid_urls_are_refused(monkeypatch, server):
    for url, text in (
        (
            "ftp://a/b",
            "ftp://a/b: the URL of a store begins with s3://, gs://, az://, https://, http://, file://, memory://",
        ),
        ("s3://", "s3://: obstore does not take this URL"),
        ("https://name:secret@a/b", "https://a/b: this URL may have no user name"),
        ("https://a/b?signature=secret", "https://a/b: this URL may have no user name"),
        ("s3://a/b/../c", "s3://a/b/../c: has . or .. as a component"),
        ("s3://a/%2e/c", "s3://a/%2e/c: has . or .. as a component"),
    ):
        with pytest.raises(errors.SchemaError) as caught:
            store_spec.open_store(url)
        assert str(caught.value).startswith(text)
        assert "secret" not in str(caught.value)
    with pytest.raises(errors.MissingStoreError, match=r"/none\.zarr: .*no store"):
        store_spec.open_store(f"{server.url}/none.zarr")
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(errors.SchemaError, match=r"pip install 'seqzarr\[remote\]'"):
        store_spec.open_store(server.url)


def test_results_are_in_order_and_an_error_ends_all():
    remote: Any = SimpleNamespace(requests=REQUESTS)
    done: list[int] = []

    def slow(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        done.append(number)
        if number == 40:
            raise KeyError(number)
        return number

    assert list(in_order(remote, slow, range(39))) == list(range(39))
    results = in_order(remote, slow, itertools.count())
    assert [next(results) for _ in range(40)] == list(range(40))
    with pytest.raises(KeyError):
        next(results)
    done.clear()
    results = in_order(remote, slow, range(100, 200))
    assert next(results) == 100
    results.close()  # type: ignore[attr-defined]
    assert max(done) <= 100 + REQUESTS
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("seqzarr requests")]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket of a server with the protocol of S3, with the golden stores."""
    with s3_bucket() as url:
        store = obstore.store.S3Store("bucket")
        for file in filter(Path.is_file, GOLDEN.rglob("*")):
            obstore.put(store, f"golden/{file.relative_to(GOLDEN).as_posix()}", file.read_bytes())
        yield f"{url}/golden"


@pytest.mark.slow
@pytest.mark.parametrize("name", [golden.name for golden in STORES[::3]])
def test_a_store_in_a_bucket_has_the_bits_of_the_folder(name, bucket):
    url, folder = f"{bucket}/{name}.zarr", GOLDEN / f"{name}.zarr"
    assert read(url) == read(folder)
    assert replace(builder.inspect(url), store=folder) == builder.inspect(folder)
    assert store_spec.verify(url) == []


@pytest.mark.slow
def test_credentials_are_in_no_message(bucket, monkeypatch):
    store = store_spec.open_store(f"{bucket}/rivers.zarr")
    with pytest.raises(errors.MissingStoreError) as caught:
        store_spec.open_store("s3://bucket/nothing.zarr")
    texts = [str(caught.value), repr(store), repr(store.snapshot.storage), str(pickle.dumps(store))]
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(errors.StorageError) as failed:
        store_spec.open_store(f"{bucket}/rivers.zarr")
    assert not any("secret" in text for text in (*texts, str(failed.value)))


BATCHES: dict[str, Callable[..., Iterable[Any]]] = {
    "windows": lambda store, **options: store.windows(16, targets="inputs").batches(64, **options),
    "padded": lambda store, **options: store.padded(4, targets="inputs", **options),
    "packed": lambda store, **options: store.packed(2000, targets="inputs", **options),
    "streams": lambda store, **options: store.streams(4, 100, targets="inputs", **options),
}


@pytest.mark.parametrize("kind", BATCHES)
def test_chunks_that_are_close_together_are_one_request(kind, tmp_path):
    """Each of 16 requests may have 1/128 of the memory, 31 kB: 7 chunks."""
    walks(tmp_path / "walks.zarr", chunk="4kB", shard="1MB", codec="none")
    with serving(tmp_path) as server:
        remote, local = map(store_spec.open_store, (f"{server.url}/walks.zarr", tmp_path / "walks.zarr"))
        batches = BATCHES[kind](remote, shuffle=True, memory="4MB")
        server.count = server.body_bytes = 0
        due = BATCHES[kind](local, shuffle=True, memory="4MB")
        assert [bits(batch) for batch in batches] == [bits(batch) for batch in due]
        assert server.body_bytes / server.count > 20_000


@pytest.mark.parametrize("kind", BATCHES)
def test_requests_that_are_made_at_once_take_a_part_of_the_memory(kind, tmp_path):
    """Each takes at least a chunk of 16 kB, stored and decompressed: a quarter of 1 MB is enough for 7 of them."""
    walks(tmp_path / "walks.zarr", chunk=2**14, shard=2**18)
    with serving(tmp_path) as server:
        server.delay = 0.02
        batches = BATCHES[kind](store_spec.open_store(f"{server.url}/walks.zarr"), shuffle=True, memory="1MB")
        server.most_at_once = 0
        assert list(batches)
        assert 1 < server.most_at_once <= 8


def test_requests_of_the_next_pool_begin_before_all_of_this_one_are_answered(tmp_path, monkeypatch):
    """Not those of a local store, where threads that decompress would wait for each other."""
    walks(tmp_path / "walks.zarr", sequences=30, chunk="2kB", shard="1MB")
    begin, call, events = loading.Loader._begin, loading.Loader.__call__, list[tuple[str, int]]()

    def begun(self: loading.Loader, number: int) -> Any:
        events.append(("begun", number))
        return begin(self, number)

    def read(self: loading.Loader, number: int) -> Any:
        pool = call(self, number)
        events.append(("read", number))
        return pool

    monkeypatch.setattr(loading.Loader, "_begin", begun)
    monkeypatch.setattr(loading.Loader, "__call__", read)
    batches = []
    with serving(tmp_path) as server:
        for path in (tmp_path / "walks.zarr", f"{server.url}/walks.zarr"):
            events.clear()
            windows = store_spec.open_store(path).windows(16)
            batches.append([bits(batch) for batch in windows.batches(64, shuffle=True, memory="1MB")])
            last = max(number for _, number in events)
            early = [events.index(("begun", one + 1)) < events.index(("read", one)) for one in range(last)]
            assert last > 3
            assert any(early) == (path != tmp_path / "walks.zarr"), events
    assert batches[0] == batches[1]


def test_a_slow_request_does_not_delay_those_of_the_next_pool(tmp_path, monkeypatch):
    walks(tmp_path / "walks.zarr", sequences=30, chunk="2kB", shard="1MB")
    asked, answered, third = threading.Event(), threading.Event(), threading.Event()
    begin = loading.Loader._begin

    def begun(self: loading.Loader, number: int) -> Any:
        if number == 2:
            third.set()
        return begin(self, number)

    def answer_later(_: int) -> None:
        asked.set()
        answered.wait(10)

    monkeypatch.setattr(loading.Loader, "_begin", begun)
    with serving(tmp_path) as server, ThreadPoolExecutor(1) as threads:
        windows = store_spec.open_store(f"{server.url}/walks.zarr").windows(16)
        loader = loading.Loader(windows.batches(64, shuffle=True, memory="1MB")._plan, None, threading.Event())
        pools = [loader(0)]
        server.faults = SimpleNamespace(get=answer_later)
        later = threads.submit(loader, 1)
        assert asked.wait(10)
        time.sleep(0.1)
        assert not third.is_set()  # two pools are in memory
        pools.clear()
        try:
            assert third.wait(5)
        finally:
            answered.set()
        later.result()
        loader.close()


@pytest.mark.parametrize("url", ["s3://bucket/s.zarr", "gs://bucket/s.zarr", "file:///data/s.zarr"])
def test_a_url_makes_no_folder_of_its_name(tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    begins = (
        lambda: store_spec.create_store(Path(url), inputs=("float32", (2,)), labels=("int64", ())),
        lambda: store_spec.open_store(Path(url)),
        lambda: store_spec.open_store(Path(url), "a"),
    )
    for begin in begins:
        with pytest.raises(errors.SchemaError, match=r"(s3|gs|file):/.*: a URL was made into a Path.*; give it as a"):
            begin()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("https://site/s.zarr", "stores are written to folders, to s3://, gs://, az:// and memory://"),
        ("http://name:secret@site/s.zarr?key=secret", "http://site/s.zarr: this URL may have no user name"),
    ],
)
def test_nothing_is_written_to_a_web_server(url, message):
    with pytest.raises(errors.SchemaError, match=message):
        store_spec.create_store(url, inputs=("float32", (2,)), labels=("int64", ()))
    with pytest.raises(errors.SchemaError, match=message) as caught:
        store_spec.open_store(url, "a")
    assert "secret" not in str(caught.value)
