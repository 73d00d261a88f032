"""What TensorFlow makes of a store: datasets of windows and of padded sequences, from generators."""

import numpy as np
import pytest

import store_spec

pytestmark = pytest.mark.frameworks


@pytest.fixture
def store(tmp_path) -> store_spec.Store:
    rng = np.random.default_rng(0)
    rows = ("float32", (3,))
    with store_spec.create_store(tmp_path / "s.zarr", inputs=rows, labels=rows, chunk=96, shard=384) as writer:
        for number, length in enumerate((7, 0, 3, 12, 5, 30)):
            steps = rng.normal(size=(length, 3)).astype("float32")
            writer.append(steps, -steps, source=f"s{number}")
    return store_spec.open_store(tmp_path / "s.zarr")


def test_a_dataset_from_batches_of_windows_gives_them_in_every_epoch(store):
    import tensorflow as tf

    windows = store.windows(4, horizon=2)
    signature = (tf.TensorSpec((None, 4, 3), tf.float32), tf.TensorSpec((None, 2, 3), tf.float32))
    dataset = tf.data.Dataset.from_generator(lambda: windows.batches(5), output_signature=signature)
    for _ in range(2):
        found = list(dataset.as_numpy_iterator())
        for (x, y), (expected_x, expected_y) in zip(found, windows.batches(5), strict=True):
            np.testing.assert_array_equal(x, expected_x)
            np.testing.assert_array_equal(y, expected_y)


def test_a_dataset_that_shuffles_single_windows_gives_each_once(store):
    import tensorflow as tf

    windows = store.windows(4, horizon=2)
    signature = (tf.TensorSpec((4, 3), tf.float32), tf.TensorSpec((2, 3), tf.float32))
    dataset = tf.data.Dataset.from_generator(
        lambda: (windows[number] for number in range(len(windows))), output_signature=signature
    ).shuffle(8, seed=0)
    found = [(x.tobytes(), y.tobytes()) for x, y in dataset.as_numpy_iterator()]
    expected = [(x.tobytes(), y.tobytes()) for x, y in (windows[number] for number in range(len(windows)))]
    assert found != expected
    assert sorted(found) == sorted(expected)


def test_a_keras_lstm_with_the_mask_sees_no_padding(store):
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    lstm = keras.layers.LSTM(8)
    real = store.select(store.lengths > 0)
    found = [lstm(tf.constant(x), mask=tf.constant(mask)).numpy() for x, _, mask in real.padded(2)]
    alone = [lstm(tf.constant(x[None])).numpy() for x, _ in real]
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(alone), rtol=1e-5, atol=1e-6)
