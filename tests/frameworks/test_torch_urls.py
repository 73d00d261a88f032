"""Workers of torch read a store at a URL; forked ones refuse it."""

import time

import pytest

import store_spec
from tests.frameworks.walks import same
from tests.store.object_server import serving, walks

pytestmark = [
    pytest.mark.frameworks,
    pytest.mark.slow,
    # It is about speed, and there may be fewer processors than workers.
    pytest.mark.filterwarnings("ignore:This DataLoader will create"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return walks(tmp_path_factory.mktemp("walks") / "walks.zarr", sequences=20, shard="200kB")


def test_spawned_workers_read_a_url_and_forked_ones_refuse(folder, data_loader, batch_dataset):
    due = store_spec.open_store(folder).windows(16, stride=4).batches(32, shuffle=True, seed=1)
    with serving(folder.parent) as server:
        windows = store_spec.open_store(f"{server.url}/walks.zarr").windows(16, stride=4)
        dataset = batch_dataset(windows.batches, 32, shuffle=True, seed=1)
        loader = data_loader(dataset, batch_size=None, num_workers=2, multiprocessing_context="spawn")
        assert same(loader, due)
        forked = data_loader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
        begin = time.monotonic()
        with pytest.raises(
            Exception, match="obstore cannot be used in a forked process after its parent; start it by spawn"
        ):
            next(iter(forked))
        assert time.monotonic() - begin < 30
