"""Two processes train one LSTM on their shares of the windows, as `DistributedDataParallel` does it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.frameworks

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120  # at most; it takes a few


def test_two_ranks_train_on_all_windows_between_them_as_one_process_does_on_batches_twice_as_large(store, tmp_path):
    from store_spec.torch import WindowBatches
    from tests.frameworks.two_ranks import EPOCHS, SIZE, Forecast, train

    init = f"file://{tmp_path / 'meeting'}"
    command = [sys.executable, "-m", "tests.frameworks.two_ranks", str(store.path), init]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    ranks = [
        subprocess.Popen([*command, str(rank)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for rank in (0, 1)
    ]
    try:
        first, second = [json.loads(each.communicate(timeout=SECONDS)[0].splitlines()[-1]) for each in ranks]
    finally:
        for each in ranks:
            each.kill()
            each.wait()

    windows = store.windows(4)
    batches = WindowBatches(windows, 2 * SIZE, shuffle=True, drop_last=True, index=True)
    alone = train(Forecast(), batches)
    for epoch in range(EPOCHS):
        both = [first["seen"][epoch], second["seen"][epoch]]
        assert np.ravel(both, order="F").tolist() == alone["seen"][epoch]  # the ranks take turns
    assert first["last"] == first["seen"][-1]
    assert second["last"] == second["seen"][-1]
    assert first["parameters"] == second["parameters"]
    # The mean of the two gradients is the gradient of the whole batch, but for rounding.
    for found, wanted in zip(first["parameters"], alone["parameters"], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    steps = len(alone["losses"]) // EPOCHS
    assert np.mean(alone["losses"][-steps:]) < np.mean(alone["losses"][:steps])
