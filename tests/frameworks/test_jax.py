"""Stores in JAX: batches on a device, and windows as the source of a Grain pipeline.

Each check runs in a new process, as JAX warns of every fork in a process that has loaded it.
"""

import itertools
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from tests.frameworks.walks import same
from tests.store.window_oracle import listed

pytestmark = pytest.mark.frameworks

SECONDS = 120  # at most; each takes a few


def batches_are_put_on_the_device_by_the_thread_that_reads_ahead(windows):
    import jax

    found = list(windows.batches(5, shuffle=True, transform=jax.device_put))
    assert all(isinstance(each, jax.Array) for batch in found for each in batch)
    assert same(found, windows.batches(5, shuffle=True))


def grain_takes_windows_as_a_source(windows):
    import grain

    wanted = listed([*windows.store], windows.shape)
    in_order = grain.MapDataset.source(windows).batch(8)
    stacked = [
        [np.stack(part) for part in zip(*wanted[start : start + 8], strict=True)] for start in range(0, len(wanted), 8)
    ]
    assert same(in_order, stacked)
    shuffled = grain.MapDataset.source(windows).shuffle(seed=3)
    found = list(
        itertools.chain.from_iterable(zip(*batch, strict=True) for batch in shuffled.batch(8).to_iter_dataset())
    )
    order = grain.MapDataset.range(len(windows)).shuffle(seed=3)
    assert same(found, [wanted[number] for number in order])
    assert list(order) != list(range(len(windows)))


def a_loader_of_grain_gives_each_window_once(windows, workers):
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()  # Grain's workers need it; a script calls absl.app.run
    sampler = grain.samplers.IndexSampler(
        num_records=len(windows), num_epochs=1, shard_options=grain.sharding.NoSharding(), shuffle=True, seed=0
    )
    loader = grain.DataLoader(
        data_source=windows,
        sampler=sampler,
        worker_count=workers,
        operations=[grain.transforms.Batch(8, drop_remainder=False)],
    )
    found = [(x.tobytes(), y.tobytes()) for xs, ys in loader for x, y in zip(xs, ys, strict=True)]
    wanted = [(x.tobytes(), y.tobytes()) for x, y in listed([*windows.store], windows.shape)]
    assert found != wanted
    assert sorted(found) == sorted(wanted)


def test_a_process_ends_normally_with_an_unfinished_iterator(store):
    """JAX aborts if Python, when it ends, kills a thread in its code."""
    code = f"""
import jax, store_spec
windows = store_spec.open_store({str(store.path)!r}).windows(3)
batches = [windows.batches(2, shuffle=True, seed=seed, transform=jax.device_put) for seed in range(8)]
for each in batches:
    next(each)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=SECONDS)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("check", "arguments"),
    [
        (batches_are_put_on_the_device_by_the_thread_that_reads_ahead, ()),
        (grain_takes_windows_as_a_source, ()),
        pytest.param(a_loader_of_grain_gives_each_window_once, (0,), marks=pytest.mark.slow),
        pytest.param(a_loader_of_grain_gives_each_window_once, (2,), marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_in_a_new_process(windows, check, arguments):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        process.submit(check, windows, *arguments).result(SECONDS)
