"""One of two ranks that train an LSTM together, or one process that trains it alone. test_torch_workers.py runs it:

    python -m tests.frameworks.two_ranks STORE [INIT_METHOD RANK]

It prints, as JSON, the windows of each epoch, and the parameters at the end; alone, also the loss of all windows before
and after.
"""

import json
import pickle
import sys
from typing import Any

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

import store_spec
from store_spec.torch import BatchDataset
from tests.frameworks.walks import WINDOW

EPOCHS, SIZE = 3, 8


class Forecast(torch.nn.Module):
    """An LSTM and a head for the next step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm, self.head = torch.nn.LSTM(3, 8, batch_first=True), torch.nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (size, 1, 3) for inputs (size, steps, 3)."""
        steps, _ = self.lstm(x)
        predicted: torch.Tensor = self.head(steps[:, -1:])
        return predicted


def train(model: torch.nn.Module, batches: BatchDataset) -> dict[str, Any]:
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    loader: Any = DataLoader(batches, batch_size=None)
    seen = []
    for epoch in range(EPOCHS):
        batches.set_epoch(epoch)
        numbers = []
        for x, y, index in loader:
            loss = torch.nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            numbers += index.tolist()
        seen.append(numbers)
    return {"seen": seen, "parameters": [each.tolist() for each in model.parameters()]}


def main(path: str, init: str, rank: int) -> None:
    torch.set_num_threads(1)
    windows = store_spec.open_store(path).windows(WINDOW)
    batches = BatchDataset(windows.batches, SIZE, shuffle=True, drop_last=True, index=True)
    batches = pickle.loads(pickle.dumps(batches))  # created and sent here before there are ranks
    distributed.init_process_group("gloo", init_method=init, rank=rank, world_size=2)
    try:
        found = train(DistributedDataParallel(Forecast()), batches)
        sent = pickle.dumps(batches)
    finally:
        distributed.destroy_process_group()
    # A worker that is not forked has no process group, but its copy of the dataset knows the rank.
    copy = pickle.loads(sent)
    copy.set_epoch(EPOCHS - 1)
    last = [number for _, _, index in copy for number in index.tolist()]
    print(json.dumps(found | {"last": last}))


def main_alone(path: str) -> None:
    """Train on batches twice as large."""
    torch.set_num_threads(1)
    windows, model = store_spec.open_store(path).windows(WINDOW), Forecast()
    ((x, y),) = BatchDataset(windows.batches, len(windows))
    with torch.no_grad():
        before = torch.nn.functional.mse_loss(model(x), y).item()
    found = train(model, BatchDataset(windows.batches, 2 * SIZE, shuffle=True, drop_last=True, index=True))
    with torch.no_grad():
        after = torch.nn.functional.mse_loss(model(x), y).item()
    print(json.dumps(found | {"loss": [before, after]}))


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main_alone(sys.argv[1])
    else:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
