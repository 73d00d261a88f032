"""Stores in TensorFlow and Keras: datasets with another epoch each time, ragged sequences, streams."""

import gc
import itertools
import time
import warnings
from functools import partial

import numpy as np
import pytest

from store_spec.errors import WindowError
from store_spec.schema import DTYPES
from tests.frameworks.walks import HORIZON, OPTIONS, WINDOW, make_walks, same
from tests.store.kinds import threads

pytestmark = pytest.mark.frameworks


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS)
def test_each_iteration_over_a_dataset_is_the_next_epoch(windows, options, dataset):
    found = dataset(windows.batches, 5, **options)
    first = options.get("epoch", 0)
    for epoch in range(first, first + 3):
        wanted = list(windows.batches(5, **options | {"epoch": epoch}))
        assert same(found.as_numpy_iterator(), wanted)
        assert len(found) == len(wanted)
    repeated = [windows.batches(5, **options | {"epoch": epoch}) for epoch in range(first + 3, first + 5)]
    assert same(found.repeat(2).as_numpy_iterator(), itertools.chain(*repeated))


def test_shapes_and_dtypes_are_known_beforehand(store, tf, dataset):
    spec = tf.TensorSpec
    windows = store.windows(WINDOW, horizon=HORIZON, short="pad", future=[1])
    wanted = [spec((None, 4, 3), "float32"), spec((None, 2, 3), "float32"), spec((None, 4), "bool")]
    wanted += [spec((None, 2, 1), "float32"), spec((None,), "int64")]
    assert dataset(windows.batches, 5, index=True).element_spec == tuple(wanted)
    assert same(dataset(windows.batches, 5, index=True).as_numpy_iterator(), windows.batches(5, index=True))
    whole = dataset(store.windows(WINDOW, target="last").batches, 5, drop_last=True).element_spec
    assert whole == (spec((5, 4, 3), "float32"), spec((5, 3), "float32"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_have_the_dtype_of_the_store(tmp_path, dtype, dataset):
    windows = make_walks(tmp_path / "dtype.zarr", dtype=dtype).windows(WINDOW)
    assert same(dataset(windows.batches, 8).as_numpy_iterator(), windows.batches(8))


def test_a_transform_may_return_another_structure(windows, tf, dataset):
    def halved(batch):
        return {"x": batch[0].astype("float64") / 2}, batch[1].mean(axis=(1, 2))

    found = dataset(windows.batches, 5, transform=halved)
    wanted = ({"x": tf.TensorSpec((None, 4, 3), tf.float64)}, tf.TensorSpec((None,), tf.float32))
    assert found.element_spec == wanted
    for (inputs, labels), (x, y) in zip(found.as_numpy_iterator(), windows.batches(5), strict=True):
        assert np.array_equal(inputs["x"], x.astype("float64") / 2)
        assert np.array_equal(labels, y.mean(axis=(1, 2)))


def test_with_a_random_phase_the_number_of_batches_is_unknown(store, tf, dataset):
    windows = store.windows(WINDOW, stride=3, phase="random")
    found = dataset(windows.batches, 1)
    assert found.cardinality() == tf.data.UNKNOWN_CARDINALITY
    for epoch in range(4):
        assert same(found.as_numpy_iterator(), windows.batches(1, epoch=epoch))


def test_mistakes_are_refused_when_the_dataset_is_made(store, windows, dataset):
    with pytest.raises(WindowError, match="batch_size is 0"):
        dataset(windows.batches, 0)
    with pytest.raises(WindowError, match="epoch 0 has 0 batches"), pytest.warns(UserWarning, match="0 windows"):
        dataset(store.windows(1000).batches, 5)
    with pytest.raises(WindowError, match="epoch 3 has 0 batches"):
        dataset(store.select([]).padded, 4, epoch=3)


@pytest.mark.slow
def test_an_abandoned_epoch_leaves_no_thread(store, windows, dataset):
    def slow(batch):  # so that the thread is still working during the check
        time.sleep(0.2)
        return batch

    for method in (windows.batches, store.padded):
        found = dataset(method, 1, shuffle=True, transform=slow)
        assert not threads()
        batches = iter(found)
        next(batches)
        assert threads()
        del batches
        gc.collect()
        assert not threads()


def test_padded_batches_and_streams_are_datasets_too(store, tf, dataset):
    spec = tf.TensorSpec
    steps = spec((None, None, 3), "float32")
    padded = partial(store.padded, 3, shuffle=True)
    streams = partial(store.streams, 3, 4, shuffle=True)
    lanes = spec((3, 4, 3), "float32")
    packed = partial(store.packed, 32, batch_size=2, shuffle=True)
    row, ids = spec((None, 32, 3), "float32"), spec((None, 32), "int32")
    for begin, shapes in (
        (padded, (steps, steps, spec((None, None), "bool"))),
        (streams, (lanes, lanes, spec((3, 4), "bool"))),
        (packed, (row, row, spec((None, 32), "bool"), spec((None,), "int32"), ids, ids)),
    ):
        found = dataset(begin, epoch=2)
        assert found.element_spec == shapes
        for epoch in (2, 3):
            assert same(found.as_numpy_iterator(), begin(epoch=epoch))
    assert len(dataset(padded)) == len(padded())


def test_epochs_may_have_different_numbers_of_batches(store, tf, dataset):
    begin = partial(store.padded, max_steps=45, shuffle=True)
    assert len({len(begin(epoch=epoch)) for epoch in range(8)}) > 1
    found = dataset(begin)
    assert found.cardinality() == tf.data.UNKNOWN_CARDINALITY
    for epoch in range(8):
        assert same(found.as_numpy_iterator(), begin(epoch=epoch))


def test_keras_sees_all_of_each_epoch_if_fit_is_called_once_for_each(store, keras, dataset):
    """In one call, later epochs get at most one batch more than the first one had."""
    begin, seen = partial(store.padded, max_steps=45, shuffle=True, index=True), list[list[int]]()

    def see(_, batch):
        seen[-1].extend(batch[-1].numpy().tolist())
        return {"loss": 0.0}

    model, batches = type("Seeing", (keras.Model,), {"train_step": see})(), dataset(begin)
    model.compile(run_eagerly=True)
    assert len({len(begin(epoch=epoch)) for epoch in range(8)}) > 1
    for epoch in range(8):
        seen.append([])
        with warnings.catch_warnings(action="ignore"):  # the input ran out of data
            model.fit(batches, initial_epoch=epoch, epochs=epoch + 1, shuffle=False, verbose=0)
    assert seen == [[one for *_, index in begin(epoch=epoch) for one in index] for epoch in range(8)]


@pytest.mark.parametrize("side", ["end", "start"])
def test_ragged_tensors_have_the_steps_of_each_sequence_and_no_padding(store, side, tf, dataset, ragged):
    found = dataset(store.padded, 3, side=side).map(lambda x, y, mask: (ragged(x, mask), ragged(y, mask)))
    spec = tf.RaggedTensorSpec((None, None, 3), tf.float32, ragged_rank=1, row_splits_dtype=tf.int64)
    assert found.element_spec == (spec, spec)
    rows = [(x.numpy(), y.numpy()) for xs, ys in found for x, y in zip(xs, ys, strict=True)]
    assert same(rows, store)
    for x, _, mask in store.padded(3, side=side):  # outside of a dataset it takes arrays
        assert ragged(x, mask).row_lengths().numpy().tolist() == mask.sum(axis=1).tolist()


def test_a_keras_lstm_fits_with_another_order_in_each_epoch(windows, keras, dataset):
    keras.utils.set_random_seed(0)
    seen = []

    def see(batch):
        seen.append(batch[2].tolist())
        return batch[0], batch[1][:, 0]

    train = dataset(windows.batches, 16, shuffle=True, index=True, transform=see)
    test = dataset(windows.batches, 16).map(lambda x, y: (x, y[:, 0]))
    model = keras.Sequential([keras.layers.LSTM(16), keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    before = model.evaluate(test, verbose=0)
    seen.clear()
    model.fit(train, validation_data=test, epochs=4, shuffle=False, verbose=0)
    assert model.evaluate(test, verbose=0) < before
    each = [
        index.tolist()
        for epoch in range(4)
        for _, _, index in windows.batches(16, shuffle=True, epoch=epoch, index=True)
    ]
    assert seen == each
