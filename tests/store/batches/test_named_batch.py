"""Batches as tuples whose arrays have names."""

import pickle

import numpy as np
import pytest

from store_spec.reading.named_batch import Batch

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


def test_copies_have_the_same_names():
    batch = Batch.of({"inputs": X, "labels": Y})
    assert pickle.loads(pickle.dumps(batch))._fields == ("inputs", "labels")
    assert type(batch)(*batch).inputs is X
    assert batch._replace(labels=INDEX).labels is INDEX
    assert batch._replace(labels=INDEX).inputs is X
    with pytest.raises(TypeError, match="1 arrays for the names inputs, labels"):
        type(batch)(X)
