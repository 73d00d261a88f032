"""Whether the order of our batches affects training: an LSTM, compared with a global shuffle of windows in memory."""

from __future__ import annotations

import csv
import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

import store_spec
from store_spec.reading.argument_checks import parse_bytes
from store_spec.windows.mixing import measure
from store_spec.windows.windows import Windows
from tests.benchmarks.results import print_table

if TYPE_CHECKING:
    import torch

VOWELS = Path(__file__).parents[1] / "data" / "japanese-vowels"
SPLITS = {"train": 0.7, "test": 0.3}
HIDDEN = 24
LEAST_POOLS = 8
# Two-sided, 5 %, by degrees of freedom: chance exceeds this paired t once in twenty runs.
CRITICAL = {1: 12.71, 9: 2.26}
HEADS = ("set", "windows", "pools", "sequences", "ours", "global", "difference", "t", "minutes")

Sequences = Iterator[tuple[str, NDArray[np.float32], Any]]
Epoch = Callable[..., Iterator[tuple[NDArray[Any], ...]]]  # the batches of `epoch=`


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A data set, what is learnt from it, and so little memory that only a part of the set is in a pool."""

    read: Callable[[Path], Sequences]
    target: Literal["last", "sequence"]
    window: int
    stride: int
    classes: int  # 0: a number is predicted
    batch: int
    memory: str
    epochs: int


def read_vowels(folder: Path) -> Sequences:
    """Read utterances, and which of nine speakers spoke them."""
    with (folder / "labels.csv").open() as table:
        for row in csv.DictReader(table):
            rows = np.loadtxt(folder / "train" / row["file"], np.float32, delimiter=",", skiprows=1)
            yield row["file"], rows, np.int64(int(row["speaker"]) - 1)


def read_engines(folder: Path) -> Sequences:
    """Read runs of engines to their end, and how many cycles remain, up to 125."""
    for path in sorted((folder / "split").glob("train_*/*.txt")):
        rows = np.loadtxt(path, np.float32)[:, 2:]
        remaining = np.minimum(np.arange(len(rows))[::-1], 125).astype(np.float32)
        yield f"{path.parent.name}/{path.name}", rows, remaining[:, None]


TASKS = {
    # By a file or folder that only this set has.
    "train/utt_001_spk1.csv": Task(
        read=read_vowels, target="sequence", window=6, stride=1, classes=9, batch=16,
        memory="88kB", epochs=12,
    ),
    "RUL_FD001.txt": Task(
        read=read_engines, target="last", window=30, stride=2, classes=0, batch=16,
        memory="700kB", epochs=4,
    ),
}  # fmt: skip


def benchmark_training(folder: Path, *, sets: Sequence[Path] | None, seeds: int) -> None:
    """Train on each set `seeds` times, with the same initial weights for both orders."""
    print("\n## Training: an LSTM, our batches beside a global shuffle of windows in RAM\n")
    if importlib.util.find_spec("torch") is None:
        print("Left out: torch is not installed.")
        return
    rows = []
    for number, data in enumerate(sets or [VOWELS]):
        task = next((task for mark, task in TASKS.items() if (data / mark).exists()), None)
        if task is None:
            raise SystemExit(f"{data}: none of {', '.join(TASKS)} is there, by which a set is known")
        rows.append(_row(folder / f"{number}.zarr", data, task, seeds))
    print_table(HEADS, rows)
    print(
        "\nThe loss on test sequences after the last epoch (cross entropy, or mean square in standard units), mean ± "
        f"standard deviation over {seeds} seeds. `difference` is ours less global, and t that of the paired test: by "
        f"chance beyond {CRITICAL[seeds - 1]} once in twenty. `sequences`: in a batch, of those of a global shuffle."
    )


def _row(path: Path, data: Path, task: Task, seeds: int) -> list[str]:
    start = time.perf_counter()
    store = _write(path, data, task)
    train, test = (store.split(name, SPLITS) for name in SPLITS)
    stats = train.stats()
    windows, others = (
        part.windows(task.window, stride=task.stride, target=task.target, normalize=stats) for part in (train, test)
    )
    mixing = measure(windows, task.batch, memory=task.memory)
    assert mixing.pools >= LEAST_POOLS, f"{data.name}: {mixing.pools} pools; the order of fewer is a global one"
    losses = []
    for seed in range(seeds):
        ours = partial(windows.batches, task.batch, shuffle=True, seed=seed, memory=task.memory)
        shuffled = partial(_shuffled, *_all(windows), task.batch, seed)
        losses.append([_train(task, seed, len(windows), epoch, *_all(others)) for epoch in (ours, shuffled)])
    pairs = np.array(losses)
    difference = pairs[:, 0] - pairs[:, 1]
    deviation = float(difference.std(ddof=1)) / math.sqrt(seeds)
    return [
        data.name,
        f"{len(windows):,}",
        f"{mixing.pools:,}",
        f"{mixing.sequences:.2f}",
        *(f"{mean:.4f} ± {std:.4f}" for mean, std in zip(pairs.mean(axis=0), pairs.std(axis=0, ddof=1), strict=True)),
        f"{difference.mean():+.4f}",
        f"{difference.mean() / deviation:+.2f}",
        f"{(time.perf_counter() - start) / 60:.1f}",
    ]


def _write(path: Path, data: Path, task: Task) -> store_spec.Store:
    """Write the set, in chunks so small that a pool holds many of them."""
    sequences = list(task.read(data))
    _, rows, label = sequences[0]
    of_sequences = task.target == "sequence"
    with store_spec.create_store(
        path,
        inputs=(rows.dtype, rows.shape[1:]),
        labels=(label.dtype, label.shape if of_sequences else label.shape[1:]),
        label_axis="sequence" if of_sequences else "step",
        chunk=parse_bytes(task.memory) // 64,
    ) as writer:
        for source, inputs, labels in sequences:
            writer.append(inputs, labels, source=source)
    return store_spec.open_store(path)


def _all(windows: Windows) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return all windows, in memory."""
    inputs, labels = zip(*windows.batches(1024), strict=True)
    return np.concatenate(inputs), np.concatenate(labels)


def _shuffled(
    inputs: NDArray[Any], labels: NDArray[Any], batch: int, seed: int, *, epoch: int
) -> Iterator[tuple[NDArray[Any], ...]]:
    numbers = np.random.default_rng((seed, epoch)).permutation(len(inputs))
    for first in range(0, len(inputs), batch):
        some = numbers[first : first + batch]
        yield inputs[some], labels[some]


def _train(task: Task, seed: int, windows: int, epoch: Epoch, *test: NDArray[Any]) -> float:
    """Train on this number of windows per epoch, and return the loss on the windows of the test.

    The seed determines initial weights.
    """
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(seed)
    inputs, labels = map(torch.from_numpy, test)
    lstm = nn.LSTM(inputs.shape[-1], HIDDEN, batch_first=True)
    head = nn.Linear(HIDDEN, task.classes or labels[0].numel())
    parameters = [*lstm.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        outputs = head(lstm(x)[0][:, -1])
        if task.classes:
            return nn.functional.cross_entropy(outputs, y)
        return nn.functional.mse_loss(outputs, y.reshape(len(y), -1))

    # To zero at the end, as is usual: otherwise the loss also depends on the last few batches.
    steps = task.epochs * -(-windows // task.batch)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for number in range(task.epochs):
        for batch in epoch(epoch=number):
            optimizer.zero_grad()
            loss_of(*map(torch.from_numpy, batch)).backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return float(loss_of(inputs, labels))
