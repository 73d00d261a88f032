"""A build from one bucket into another, on a cluster whose machines share no path, while workers die and join."""

import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import builder
import store_spec
from tests.builder.running.test_build_at_urls import make_sources, upload
from tests.campaigns.processes import ROOT, cluster
from tests.store.cloud_servers import objects_at, s3_bucket
from tests.store.oracle import files

SOURCES = 40
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
@pytest.mark.timeout(300)
def test_machines_that_share_no_path_build_the_bytes_of_one_process(tmp_path):
    sources = make_sources(tmp_path / "src", 0, SOURCES)
    options: dict[str, Any] = {"process": slow_rows, "chunk": "1kB", "shard": "4kB", "batch": "4kB"}
    builder.build(sources, tmp_path / "alone.zarr", workers=0, **options)
    (tmp_path / "guard.py").write_text(GUARD)
    with s3_bucket() as bucket, cluster(tmp_path, {}, workers=0) as scheduler, ExitStack() as started:
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
        assert (report.added, report.failures, len(seen)) == (SOURCES, (), 1)
        assert seen[0] < SOURCES
        assert not list(tmp_path.glob("machines/*/trespassed"))
        assert objects_at(url) == files(tmp_path / "alone.zarr")
        assert store_spec.verify(url) == []
