"""The images that commands take of a network's data set."""

import types

import numpy as np
import workdirs

from onebnet_jax.commands import images
from onebnet_jax.runs import config, trained

NETWORK = types.SimpleNamespace(data=types.SimpleNamespace(validation=0.0), config={"seed": 0})


def test_training_images_are_drawn_from_all_though_they_lie_in_order():
    pixels = np.repeat(np.arange(10, dtype=np.uint8), 100).reshape(-1, 1, 1, 1)
    info = types.SimpleNamespace(streamed=False)
    found = types.SimpleNamespace(train_images=pixels, train_size=1000, info=info)
    sample = images.of_training(NETWORK, found, 200)
    assert len(sample) == 200 and len(np.unique(sample)) == 10
    np.testing.assert_array_equal(sample, images.of_training(NETWORK, found, 200))
    assert len(images.of_training(NETWORK, found, 5000)) == 1000


def test_training_images_leave_out_those_held_out():
    options = [*workdirs.SMALL, "--config.data.validation=0.5"]
    network = trained.untrained(config.load("configs/quickstart.py", options))
    stored = images.opened(network)
    assert len(images.of_training(network, stored, stored.train_size)) == stored.train_size / 2


def test_of_streamed_ones_those_that_can_be_decoded():
    def batches(share, **_):
        for first in range(0, 40, share.batch_size):
            numbers = np.arange(first, first + share.batch_size)
            yield {"images": numbers.astype(np.uint8).reshape(-1, 1, 1, 1), "labels": numbers, "mask": numbers % 2}

    streamed = dict(train_batches=batches, test_batches=batches, info=types.SimpleNamespace(streamed=True))
    found = types.SimpleNamespace(**streamed, train_size=40, test_size=40)
    np.testing.assert_array_equal(images.of_training(NETWORK, found, 10).ravel(), np.arange(1, 21, 2))
    count, parts = images.of_test(found, 3)
    assert count == 3 and [int(label) for _, labels in parts for label in labels] == [1, 3, 5]
