"""`seqzarr inspect --shuffle`: how well a shuffle mixes, as the command reports it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from builder import UsageError, inspect
from builder.cli.inspect_command import inspect as command
from builder.inspection import Shuffle
from store_spec import create_store, open_store
from store_spec.reading.splits import position
from store_spec.schema import LabelAxis
from store_spec.windows.mixing import measure
from tests.store.oracle import store_of


def run(*arguments: object) -> Result:
    return CliRunner().invoke(command, list(map(str, arguments)), env={"COLUMNS": "80"})


def made(path: Path, *, label_axis: LabelAxis = "step", sequences: int = 60) -> Path:
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    labels = {"step": rows, "sequence": rows[0], "own": rows[:3]}[label_axis]
    with create_store(
        path, inputs=("float32", (2,)), labels=("float32", (2,)), label_axis=label_axis, chunk=400, shard=4000
    ) as writer:
        for number in range(sequences):
            writer.append(rows, labels, source=f"s{number:02}")
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("shuffled") / "s.zarr")


def test_without_the_option_no_shuffle_is_shown(store: Path):
    assert inspect(store).shuffle is None
    assert "Shuffle" not in run(store).stdout
    assert json.loads(run(store, "--json").stdout)["shuffle"] is None


@pytest.mark.parametrize(
    ("arguments", "window", "mixed"),
    [
        pytest.param(
            "--shuffle 8 --stride 2 --batch 32 --memory 64kB --seed 5",
            {"stride": 2},
            {"memory": "64kB", "seed": 5},
            marks=pytest.mark.slow,
        ),
        (
            "--shuffle 60 --horizon 3 --lead 2 --sampling-rate 4 --target future --short pad --epoch 6 --batch 32",
            {"horizon": 3, "lead": 2, "sampling_rate": 4, "short": "pad"},
            {"epoch": 6},
        ),
        ("--shuffle 200 --target last --batch 32", {"target": "last"}, {}),
        ("--shuffle 8", {}, {"batch_size": 256}),
    ],
)
def test_the_command_shows_what_the_reader_measures(store: Path, arguments: str, window: Any, mixed: Any):
    result = run(store, *arguments.split(), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    found = json.loads(result.stdout)["shuffle"]
    windows = open_store(store).windows(found["shuffle"]["window"], **window)
    assert found["mixing"] == asdict(measure(windows, **({"batch_size": 32} | mixed)))
    if "memory" in mixed:
        assert found["mixing"]["pools"] > 2
        assert found["shuffle"] == asdict(Shuffle(window=8, stride=2, batch=32, memory="64kB", seed=5))
    if "short" in window:
        assert len(windows) == 60  # one of each: they are longer than their sequences
        title = "Shuffle (windows of 60, stride 1, horizon 3, lead 2, sampling rate 4, target future, short pad, epoch "
        assert title in " ".join(run(store, *arguments.split()).stdout.split())


@pytest.mark.slow
def test_the_text_fits_80_columns_and_has_words_for_figures(store: Path):
    result = run(store, "--shuffle", 8, "--batch", 32, "--memory", "64kB")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    begin = lines.index("Shuffle (windows of 8, stride 1, batches of 32, memory 64kB, seed 0)")
    mixing = measure(open_store(store).windows(8), 32, memory="64kB")
    text = " ".join(" ".join(lines[begin:]).split())
    assert f"{mixing.windows:,} windows; {mixing.pools:,} pools of" in text
    assert f"sequences in a batch {mixing.ours.sequences:.1f} {mixing.ideal.sequences:.1f}" in text
    assert f"A batch has {100 * mixing.sequences:.0f} % of the sequences that a global shuffle gives." in text
    assert f"make 1/{mixing.pools} of the epoch" in text


def test_a_shuffle_in_one_pool_is_reported_as_global(store: Path):
    text = " ".join(run(store, "--shuffle", 8, "--batch", 32).stdout.split())
    assert "1 pool of" in text
    assert "All windows fit into memory. A batch has" in text
    assert "More --memory" not in text


def test_a_store_with_one_label_for_a_sequence_is_shuffled_too(tmp_path: Path):
    path = made(tmp_path / "q.zarr", label_axis="sequence")
    found = inspect(path, shuffle=Shuffle(window=8, batch=32)).shuffle
    assert found is not None
    assert found.mixing == measure(open_store(path).windows(8, target="sequence"), 32)


def test_an_option_of_a_shuffle_without_one_is_wrong_usage(store: Path):
    for option in ("--stride", "--batch", "--memory", "--seed", "--sampling-rate", "--short", "--epoch"):
        result = run(store, option, "pad" if option == "--short" else "1")
        assert result.exit_code == 2
        assert f"{option} goes with --shuffle" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--shuffle", 201), "s.zarr: windows of 201 steps fit nowhere: the longest of 60 sequences has 200 steps"),
        (("--shuffle", 0), "window is 0; it must be a whole number of at least 1"),
        (("--shuffle", 8, "--stride", 0), "stride is 0; it must be a whole number of at least 1"),
        (("--shuffle", 8, "--batch", 0), "batch_size is 0; it must be a whole number of at least 1"),
        (("--shuffle", 8, "--seed", -1), "seed is -1; it must be a whole number of at least 0"),
        (("--shuffle", 8, "--memory", "1kB"), "s.zarr: memory=1,000 bytes is too little"),
        (("--shuffle", 8, "--memory", "much"), "'much' is not a size in bytes"),
        (("--shuffle", 8, "--horizon", 0), "horizon is 0; it must be a whole number of at least 1"),
        (("--shuffle", 8, "--target", "sequence"), "target="),
        (("--shuffle", 198, "--horizon", 3), "windows of 198 steps fit nowhere"),
        (("--shuffle", "eight"), "'eight' is not a valid integer"),
    ],
)
def test_an_impossible_shuffle_is_wrong_usage_and_shows_no_traceback(store: Path, arguments, message: str):
    result = run(store, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_labels_that_belong_to_no_step_have_no_windows(tmp_path: Path):
    with pytest.raises(UsageError, match="labels on the 'own' axis belong to no step"):
        inspect(made(tmp_path / "o.zarr", label_axis="own"), shuffle=Shuffle(window=8))


def test_an_empty_store_is_refused(tmp_path: Path):
    result = run(made(tmp_path / "e.zarr", sequences=0), "--shuffle", 8)
    assert result.exit_code == 2
    assert "0 windows" in result.stderr


@pytest.mark.filterwarnings("ignore:.*0 windows")
def test_windows_of_each_split_are_counted_also_if_there_are_none(tmp_path: Path):
    rows = np.arange(200, dtype=np.float32)[:, None]
    names = [f"s{number:02}" for number in range(60)]
    # Those of the test split are shorter.
    store = store_of(
        tmp_path / "s.zarr", [rows[: 8 if position(name, 0) >= 0.9 else 9] for name in names], sources=names
    )
    found = inspect(tmp_path / "s.zarr", shuffle=Shuffle(window=8))
    assert [split.windows for split in found.splits] == [len(store.split(one.name).windows(8)) for one in found.splits]
    assert found.splits[2].windows == 0
    text = run(tmp_path / "s.zarr", "--shuffle", 8).stdout
    assert "Look at this first\n  Windows of 8 steps fit into no sequence of test.\n" in text
    assert "Look at this first" not in run(tmp_path / "s.zarr", "--shuffle", 7).stdout
    assert all(split.windows is None for split in inspect(tmp_path / "s.zarr").splits)
