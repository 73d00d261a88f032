"""Two processes train one LSTM on their shares of the windows, as with `DistributedDataParallel`."""

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


@pytest.mark.slow
def test_two_ranks_train_like_one_process_with_batches_twice_as_large(store, tmp_path):
    from tests.frameworks.two_ranks import EPOCHS

    init = f"file://{tmp_path / 'meeting'}"
    # None of them trains in the process of the tests: an optimizer loads Triton, which aborts a process that has loaded
    # TensorFlow, as both contain LLVM.
    command = [sys.executable, "-m", "tests.frameworks.two_ranks", str(store.path)]
    environment = os.environ | {"GLOO_SOCKET_IFNAME": "lo", "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen([*command, *more], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        for more in ((init, "0"), (init, "1"), ())
    ]
    try:
        first, second, alone = [json.loads(each.communicate(timeout=SECONDS)[0].splitlines()[-1]) for each in started]
    finally:
        for each in started:
            each.kill()
            each.communicate()

    for epoch in range(EPOCHS):
        both = [first["seen"][epoch], second["seen"][epoch]]
        assert np.ravel(both, order="F").tolist() == alone["seen"][epoch]  # the ranks alternate
    assert first["last"] == first["seen"][-1]
    assert second["last"] == second["seen"][-1]
    assert first["parameters"] == second["parameters"]
    # The mean of the two gradients is the gradient of the whole batch, apart from rounding.
    for found, wanted in zip(first["parameters"], alone["parameters"], strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)
    before, after = alone["loss"]
    assert after < before
