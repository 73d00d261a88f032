"""A loop over batches of any kind that is left, closed or ended by an error never looks complete; arrays have names."""

import pickle
import shutil
import subprocess
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import store_spec
from store_spec.errors import StoreError, WindowError
from store_spec.reading import named_batch
from store_spec.reading.named_batch import Batch
from tests.store.kinds import KINDS, assert_ended, begin, every_kind, threads
from tests.store.window_oracle import Written, all_same, keys

SECONDS = 60  # after which a thread that hangs fails a test


@every_kind
def test_a_second_loop_is_refused_and_says_how_to_get_the_next_epoch(by_step: Written, kind: str):
    """It would train on nothing. Loading a state starts it again, and the end is a state too."""
    batches = begin(by_step.store, kind)
    first = batches.state_dict()
    assert len(list(batches)) == len(batches) > 1
    name = "windows.batches" if kind == "windows" else f"store.{kind}"
    with pytest.raises(WindowError, match=rf"{len(batches)} taken.*all batches of this epoch were taken.*{name}\("):
        iter(batches)
    assert next(batches, None) is None  # like any iterator
    with pytest.raises(WindowError, match=rf"of {name} come one after another .*store_spec\.torch\.BatchDataset"):
        batches[0]
    end = batches.state_dict()
    batches.load_state_dict(first)
    assert len(list(batches)) == len(batches)
    batches.load_state_dict(end)
    assert list(batches) == []


@every_kind
@pytest.mark.parametrize("targets", ["labels", "inputs"])
def test_batches_share_no_memory(by_step: Written, kind: str, targets: str):
    """Changing a batch changes no other batch, and no two arrays of a batch share memory."""
    options: dict[str, Any] = {"targets": targets}
    if kind == "windows":
        options |= {"short": "pad", "target": "aligned", "memory": 9000, "batch_size": 5}
    wanted = [tuple(array.copy() for array in batch) for batch in begin(by_step.store, kind, **options)]
    assert all_same(list(begin(by_step.store, kind, **options)), wanted)
    changed: list[Any] = []
    for batch in begin(by_step.store, kind, **options):
        changed.append([])
        for array in batch:
            assert array.flags.c_contiguous
            changed[-1].append(array.copy())
            array[:] = 0
    assert all_same(changed, wanted)


@every_kind
def test_several_threads_take_batches_from_one_iterator(by_step: Written, kind: str):
    """Each batch goes to one thread, and none is lost; threads that come later get nothing."""
    batches = begin(by_step.store, kind, shuffle=True)
    taken: list[Any] = []

    def take() -> None:
        for batch in batches:
            taken.append(batch)  # noqa: PERF402

    first = [threading.Thread(target=take) for _ in range(3)]
    for thread in first:
        thread.start()
    for thread in first:
        thread.join(SECONDS)
    assert Counter(keys(taken)) == Counter(keys(list(begin(by_step.store, kind, shuffle=True))))
    numbers: set[int | None] = set()
    for _ in range(20):
        thread = threading.Thread(target=take)
        thread.start()
        thread.join(SECONDS)
        numbers.add(thread.ident)
    assert len(numbers) < 20  # the numbers of threads that ended were used again
    assert len(taken) == len(batches)


@pytest.mark.usefixtures("without_collector")  # dropping alone must end them
@every_kind
@pytest.mark.parametrize("end", ["exhausted", "closed", "dropped"])
def test_no_thread_outlives_the_iterator(by_step: Written, kind: str, end: str):
    """Threads start with the first batch, and end when the iterator is exhausted, closed, or dropped."""
    others, options = threads(), {"windows": {"batch_size": 2, "memory": 9000}}
    batches = begin(by_step.store, kind, shuffle=True, **options.get(kind, {}))
    assert threads() <= others
    next(batches)
    started = threads() - others
    assert started
    if end == "exhausted":
        for _ in range(len(batches) - 1):
            next(batches)  # `next` is not called after the last batch
    elif end == "closed":
        batches.close()
        assert list(batches) == []
    else:
        del batches
    if kind != "windows" or end != "exhausted":
        assert_ended(started)


@pytest.mark.usefixtures("without_collector")
@every_kind
@pytest.mark.parametrize("wrong", ["lost", "damaged"])
def test_readable_batches_precede_an_error_that_is_repeated(by_step: Written, tmp_path: Path, kind: str, wrong: str):
    """So code that catches the error does not take the rest for the whole epoch; all threads end with the iterator."""
    path, others = Path(shutil.copytree(by_step.store.path, tmp_path / "s.zarr")), threads()
    options = {"windows": {"memory": 6000, "batch_size": 4}, "padded": {"batch_size": 1}, "streams": {"batch_size": 1}}
    whole = list(begin(by_step.store, kind, **options.get(kind, {})))
    batches, found = begin(store_spec.open_store(path), kind, **options.get(kind, {})), list[Any]()
    shard = path / "inputs" / "c.4.0"  # rows 160 to 200 of 308
    if wrong == "lost":
        shard.unlink()
    else:
        shard.write_bytes(bytes(shard.stat().st_size - 40) + shard.read_bytes()[-40:])
    for _ in range(2):
        with pytest.raises(StoreError, match=r"inputs/c\.4\.0"):
            found.extend(iter(batches.__next__, None))
    assert all_same(found, whole[: len(found)])
    assert len(found) > (0 if kind == "packed" else 4)
    gone = weakref.ref(batches)
    del batches
    assert gone() is None
    assert_ended(threads() - others)


@every_kind
def test_a_transform_that_stops_an_iteration_is_an_error(by_step: Written, kind: str):
    """Its StopIteration must not end the epoch like that of an exhausted iterator."""
    numbers = iter(range(3))

    def transform(batch: Any) -> Any:
        next(numbers)
        return batch

    with pytest.raises(RuntimeError, match="StopIteration"):
        list(begin(by_step.store, kind, transform=transform))


@every_kind
def test_a_transform_is_called_with_each_batch_in_the_background(by_step: Written, kind: str):
    where: set[threading.Thread] = set()

    def transform(batch: Any) -> Any:
        where.add(threading.current_thread())
        return {"x": batch.inputs * 2, "y": batch.labels}

    plain = list(begin(by_step.store, kind, shuffle=True))
    found: Any = list(begin(by_step.store, kind, shuffle=True, transform=transform))
    assert all_same([tuple(batch.values()) for batch in found], [(one.inputs * 2, one.labels) for one in plain])
    assert threading.current_thread() not in where
    if kind == "windows":
        assert {thread.name for thread in where} == {"seqzarr transform"}


def test_an_error_of_a_transform_is_raised_by_next(by_step: Written):
    def transform(batch: Any) -> Any:
        if len(batch[0]) < 16:
            raise ZeroDivisionError("mine")
        return batch

    batches = by_step.store.windows(4).batches(16, transform=transform)
    for _ in range(len(batches) - 1):
        next(batches)
    for _ in range(2):  # otherwise it would look like the end of the epoch
        with pytest.raises(ZeroDivisionError, match="mine"):
            next(batches)


def test_python_ends_silently_with_unfinished_iterators(by_step: Written):
    """JAX, for example, keeps iterators until the names of our modules are gone."""
    code = f"""
import builtins, store_spec
from tests.store.kinds import begin
store = store_spec.open_store({str(by_step.store.path)!r})
builtins.left = [begin(store, kind) for kind in {KINDS!r}]
for each in builtins.left:
    next(each)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


X, Y, INDEX = np.ones((2, 3)), np.zeros(2), np.arange(2)


def test_arrays_are_assigned_by_position_and_by_name():
    batch = Batch.of({"index": INDEX, "labels": Y, "inputs": X, "mask": None})
    x, y, index = batch
    assert (x is batch.inputs, y is batch.labels, index is batch.index) == (True, True, True)
    assert list(batch._asdict()) == ["inputs", "labels", "index"]
    assert isinstance(batch, tuple)
    assert repr(batch) == "Batch(inputs=float64(2, 3), labels=float64(2,), index=int64(2,))"


def test_a_name_of_an_absent_array_is_an_error():
    batch = Batch.of({"inputs": X, "labels": Y})
    for name in ("index", "mask"):  # the first is a method of other tuples
        with pytest.raises(AttributeError, match=f"this batch has no {name}, only inputs, labels"):
            getattr(batch, name)


def test_threads_that_make_the_first_batches_of_a_kind_make_the_same_class(monkeypatch):
    both = threading.Barrier(2, timeout=SECONDS)

    class Kinds(dict[Any, Any]):
        def __contains__(self, names: object) -> bool:
            found = super().__contains__(names)
            both.wait()  # until the other thread has looked too
            return found

    monkeypatch.setattr(named_batch, "_KINDS", Kinds())
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: Batch.of({"inputs": X, "labels": Y}), range(2))
    assert type(first) is type(second)


def test_copies_have_the_same_names():
    batch = Batch.of({"inputs": X, "labels": Y})
    assert pickle.loads(pickle.dumps(batch))._fields == ("inputs", "labels")
    assert type(batch)(*batch).inputs is X
    assert batch._replace(labels=INDEX).labels is INDEX
    assert batch._replace(labels=INDEX).inputs is X
    with pytest.raises(TypeError, match="1 arrays for the names inputs, labels"):
        type(batch)(X)
