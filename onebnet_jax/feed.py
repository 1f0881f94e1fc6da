"""How images reach the devices: a small data set lies there as a whole, ImageNet is streamed."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from onebnet_jax import config as config_lib
from onebnet_jax import data, imagenet, steps
from onebnet_jax.errors import UserError


class Feed(Protocol):
    """Runs steps on a data set; epochs and steps count from 0."""

    def train(self, state: steps.TrainState, constants, epoch: int, first: int, last: int) -> steps.TrainState:
        """Takes the steps first, ..., last - 1 of an epoch."""

    def evaluate(self, variables: dict, stopping: Callable[[], bool] = lambda: False) -> steps.Sums | None:
        """Scores all test images; or gives up and returns None, if `stopping`, asked now and then, says so."""


@dataclasses.dataclass(frozen=True)
class Opened:
    """A data set that is there.

    Attributes:
      train_size: number of training images.
      source: what was read and from where, for the log.
      feed: makes the `Feed` of a network: feed(apply, train_step, batch, key), see `steps`.
    """

    train_size: int
    source: str
    feed: Callable[..., Feed]


def open_data(config: ConfigDict) -> Opened:
    """Finds, and where it is small reads, the data set of a config. Raises UserError where it is missing."""
    fields = config.data
    if not data.DATASETS[fields.name].streamed:
        dataset = data.load(fields.name, fields.source, fields.dir)
        return Opened(len(dataset.train_labels), dataset.source, functools.partial(InMemory, dataset))
    if fields.crop_padding or not fields.flip:
        raise UserError(
            f"data.name={fields.name!r} has its own crops and flips: set data.crop_padding=0, data.flip=True."
        )

    def reader(batch_size: int) -> imagenet.ImageNet:
        return imagenet.ImageNet(
            fields.source,
            fields.dir,
            batch_size=batch_size,
            seed=config.seed,
            image_size=config_lib.input_shape(config)[0],
            lighting=fields.lighting,
            max_unreadable=fields.max_unreadable,
        )

    def feed(apply, train_step, batch, key):
        del key  # the stream has its own, from the seed
        return Streamed(reader(batch.batch_size), apply, train_step, batch)

    found = reader(1)
    return Opened(found.train_size, found.source, feed)


def replicate(tree):
    """Copies a tree of arrays to every local device, with a new leading axis."""
    devices = jnp.arange(jax.local_device_count())
    return jax.pmap(lambda _, x: x, in_axes=(0, None))(devices, tree)


class InMemory:
    """A `Feed` whose images stay on the devices, many steps to a call."""

    def __init__(
        self, dataset: data.Dataset, apply: Callable, train_step: Callable, batch: steps.Input, key: jax.Array
    ):
        self._train_data = replicate((dataset.train_images, dataset.train_labels))
        self._test_data = replicate((dataset.test_images, dataset.test_labels))
        self._test_steps = batch.steps(len(dataset.test_labels))
        self._train_steps = jax.pmap(
            steps.make_train_steps(train_step, batch, key),
            steps.AXIS,
            in_axes=(None, 0, 0, 0, None, None),
            out_axes=None,
            donate_argnums=0,
        )
        self._eval_steps = jax.pmap(
            steps.make_eval_steps(apply, batch), steps.AXIS, in_axes=(None, 0, 0, None, None), out_axes=None
        )

    def train(self, state, constants, epoch, first, last):
        return self._train_steps(state, constants, *self._train_data, first, last)

    def evaluate(self, variables, stopping=lambda: False):
        return jax.device_get(self._eval_steps(variables, *self._test_data, 0, self._test_steps))


class Streamed:
    """A `Feed` that takes batches from the host, one to a call; calls are queued while the next batch is decoded."""

    def __init__(self, reader: imagenet.ImageNet, apply: Callable, train_step: Callable, batch: steps.Input):
        self._reader, self._devices = reader, batch.devices
        self._position, self._batches = (-1, -1), iter(())
        self._batch_step = jax.pmap(
            steps.make_batch_step(train_step, batch),
            steps.AXIS,
            in_axes=(None, 0, 0, 0, 0),
            out_axes=None,
            donate_argnums=0,
        )
        self._eval_batch = jax.pmap(steps.make_eval_batch(apply, batch), steps.AXIS, in_axes=(None, 0, 0, 0))

    def train(self, state, constants, epoch, first, last):
        if self._position != (epoch, first):
            self._batches = self._reader.train_batches(epoch, first)
        for _ in range(first, last):
            state = self._batch_step(state, constants, *self._share(next(self._batches)))
        self._position = epoch, last
        return state

    def evaluate(self, variables):
        sums = steps.Sums.zero()
        for batch in self._reader.test_batches():
            found = jax.device_get(self._eval_batch(variables, *self._share(batch)))
            sums = jax.tree.map(lambda total, x: total + x.sum(), sums, found)
        return sums

    def _share(self, batch: imagenet.Batch) -> Iterator[np.ndarray]:
        """images, labels and mask with a leading axis of devices."""
        for name in ("images", "labels", "mask"):
            array = batch[name]
            yield array.reshape(self._devices, -1, *array.shape[1:])
