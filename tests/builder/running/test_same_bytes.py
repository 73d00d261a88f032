"""Every file of a finished store has the same bytes, whatever happened to the builds that made it."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import builder
from tests.builder.any_order import JumpyClock, Shuffled, on_engine
from tests.builder.features import FEATURES, build_feature, write_feature
from tests.builder.made_sources import FAULTS, Made, read_made, write_made
from tests.builder.source_files import write_files
from tests.campaigns.operations import Interceptor, before_mutation
from tests.campaigns.trees import difference, read_tree, without_cache, write_tree
from tests.store.oracle import files

LENGTHS: list[tuple[int, ...]] = [(0,), (5,), (40, 0, 3), (900,), (1,), (2, 2, 2)]
GOOD = {
    f"{'wälk' if number % 2 else 'b'}/{number:02}.made": Made(lengths=LENGTHS[number % 6], seed=number)
    for number in range(24)
}
BAD = {
    "a.made": Made(fault="raises"),
    "b/07.made": Made(lengths=(3, 4), fault="raises midway"),
    "b/15.made": Made(fault="wrong shape"),
    "z.made": Made(fault="not finite"),
}


def build(sources: Path, store: Path, **options: Any) -> builder.Report:
    """Build with shards of two chunks, so that there are many shards and many chunks."""
    defaults: dict[str, Any] = {"process": read_made, "chunk": 600, "shard": 1200, "workers": 0}
    return builder.build(sources, store, **defaults | options)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Return two worker processes, which are started once for all features."""
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0)
    with cluster, Client(cluster) as client:
        yield client


@pytest.mark.slow
@pytest.mark.parametrize("feature", FEATURES)
def test_workers_and_sources_that_come_later_give_the_bytes_of_one_build(tmp_path, client, feature):
    source = write_feature(feature, tmp_path / "src")
    whole = files(build_feature(feature, source, tmp_path / "whole"))
    assert files(build_feature(feature, source, tmp_path / "workers", workers=2, scheduler=client, batch=1)) == whole
    assert files(build_feature(feature, source, tmp_path / "batches", batch=400)) == whole
    for count in (1, 3, None):
        growing = write_feature(feature, tmp_path / "growing", count)
        build_feature(feature, growing, tmp_path / "grown")
    assert files(tmp_path / "grown") == whole


class Killed(KeyboardInterrupt):
    """Ends a job at once: any other exception of a source is a failure of that source."""


def killed(folder: Path, job: Callable[[], object], at: int) -> None:
    """Run a job up to one operation that changes the disk, and leave what a killed process leaves."""
    left = None

    def stop() -> None:
        nonlocal left
        left = read_tree(folder)
        raise Killed

    try:
        with Interceptor(folder, before_mutation(at, stop)).installed():
            job()
    except BaseException:  # a build may handle what ends it like Ctrl-C, and fail: Ctrl-C is never raised there
        if left is None:
            raise
    if left is not None:  # otherwise the job was completed
        write_tree(left, folder)


@pytest.mark.slow
@settings(max_examples=6, phases=[Phase.reuse, Phase.generate])  # a shorter history takes minutes to find
@given(data=st.data(), axis=st.sampled_from(["step", "sequence", "own"]))
def test_any_tasks_kills_and_appends_in_order_give_the_bytes_of_one_build(data, axis):
    """Builds of more and more sources, some killed several times; each runs its tasks in another order."""
    sources = {f"{number:02}.made": Made(lengths=LENGTHS[number % 3], seed=number, axis=axis) for number in range(15)}
    sources |= {f"{2 * number:02}a.made": Made(fault=fault, axis=axis) for number, fault in enumerate(FAULTS[1:], 1)}
    names = sorted(sources)
    options = {"label_axis": axis, "chunk": 120, "shard": 240}
    with tempfile.TemporaryDirectory() as temporary, pytest.MonkeyPatch.context() as patch:
        place = Path(temporary).resolve()
        once, live = place / "once", place / "live"
        for folder in (once, live):
            folder.mkdir()
        write_made(place / "all", sources)
        build(place / "all", once / "store", **options)

        ends = data.draw(st.lists(st.integers(1, len(names)), max_size=3).map(sorted), label="sources at first")
        for end in [*ends, len(names)]:
            write_made(place / "some", {name: sources[name] for name in names[:end]})
            patch.setattr("builder.execution.run.COMMIT_SECONDS", data.draw(st.sampled_from([-1.0, 1e9])))
            # Memory for more workers lets more batches be in flight.
            several = {name: data.draw(st.sampled_from([1, 9, 400]), label=name) for name in ("batch", "workers")}

            def job(several: dict[str, int] = several) -> object:
                seed = data.draw(st.integers(0, 2**32), label="seed")
                for module in ("builder.execution.run", "builder.workers.batch"):
                    patch.setattr(f"{module}.time", JumpyClock(seed))
                with on_engine(Shuffled(seed)):
                    return build(place / "some", live / "store", max_failures=99, **several, **options)

            for at in data.draw(st.lists(st.integers(0, 400), max_size=3), label="killed at"):
                killed(live, job, at)
            job()
        assert not difference(without_cache(read_tree(live)), without_cache(read_tree(once)))


def test_the_bytes_do_not_depend_on_the_places_of_sources_and_store(tmp_path, monkeypatch):
    """Also a folder that moves between two builds, and a path relative to the working folder."""
    sources = GOOD | BAD
    first = dict(sorted(sources.items())[:15])
    for name, some in (("m.csv", sources), ("first.csv", first)):
        (tmp_path / name).write_text("source,x\n" + "".join(f"{source},{len(source)}\n" for source in some))
    options: dict[str, Any] = {"process": lambda path: next(iter(read_made(path)))[0], "label_column": "x"}
    write_made(tmp_path / "hither", sources)
    build(tmp_path / "hither", tmp_path / "one", manifest=tmp_path / "m.csv", **options)
    one = files(tmp_path / "one")
    assert not [name for name, data in one.items() if str(tmp_path).encode() in data or b"hither" in data]

    write_made(tmp_path / "thither", first)
    build(tmp_path / "thither", tmp_path / "two", manifest=tmp_path / "first.csv", **options)
    shutil.move(tmp_path / "thither", tmp_path / "elsewhere")
    write_made(tmp_path / "elsewhere", sources)
    build(tmp_path / "elsewhere", tmp_path / "two", manifest=tmp_path / "m.csv", **options)
    assert files(tmp_path / "two") == one

    monkeypatch.chdir(tmp_path / "hither")
    build(Path(), Path("../three"), manifest="../m.csv", **options)
    assert files(tmp_path / "three") == one


# Of the store of the test below, with zarr 3.1.6 and numcodecs 0.16.6, and also with zarr 3.4.2 and numcodecs 0.17.1.
DIGEST = "2d280e8d096d638b5c1e543f3f4ae424b1da57220e6b22269470c52a71ee9683"


def test_every_supported_release_of_zarr_and_numcodecs_gives_the_same_bytes(tmp_path):
    """All bytes come from this project, apart from compressed chunks and checksums.

    If a new release of numcodecs compresses differently, only the chunks differ, and their rows are the same. Then say
    so here, and compare the rows.
    """
    rows = [(np.arange(number * 7 * 3) ** 2 % 1_009).astype("f4").reshape(-1, 3) for number in range(40)]
    write_files(tmp_path / "src", {f"{at:02}.npy": each for at, each in enumerate(rows)} | {"bad.npy": b"no array"})
    stores = {codec: tmp_path / codec for codec in ("zstd", "lz4", "none")}
    for codec, store in stores.items():
        build(tmp_path / "src", store, process=None, codec=codec)
    found = {codec: files(store) for codec, store in stores.items()}
    assert hashlib.sha256(repr(found).encode()).hexdigest() == DIGEST
