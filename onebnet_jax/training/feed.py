"""How images reach the devices: a small data set lies there as a whole, ImageNet is streamed."""

import collections
import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from onebnet_jax.data import load as data
from onebnet_jax.data.imagenet import reader as imagenet
from onebnet_jax.data.imagenet.sources import Share
from onebnet_jax.training import steps

CALLS_AHEAD = 2  # so many wait on the devices, each with its batch
EVALUATION_CALLS = 32  # at most, of a data set in memory: long ones for the devices, short ones for who wants to stop


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
    dataset = data.open(
        fields.name,
        fields.source,
        fields.dir,
        image_size=fields.image_size,
        lighting=fields.lighting,
        max_unreadable=fields.max_unreadable,
    )
    if not dataset.info.streamed:
        return Opened(dataset.train_size, dataset.source, functools.partial(InMemory, dataset))

    def feed(apply, train_step, batch, key):
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))  # the same in all processes, another one in each stage
        share = Share(batch.batch_size // jax.process_count(), jax.process_index(), jax.process_count())
        return Streamed(dataset, share, seed, apply, train_step, batch)

    return Opened(dataset.train_size, dataset.source, feed)


def replicate(tree):
    """Copies a tree of arrays to every local device, with a new leading axis."""
    if not jax.tree.leaves(tree):  # newer pmaps of several processes need something to return
        return tree
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
        self._steps_per_call = -(-self._test_steps // EVALUATION_CALLS)
        self._train_steps = jax.pmap(
            steps.make_train_steps(train_step, batch, key),
            steps.AXIS,
            in_axes=(None, 0, 0, 0, None, None),
            out_axes=None,
            donate_argnums=0,
        )
        self._eval_steps = jax.pmap(
            steps.make_eval_steps(apply, batch), steps.AXIS, in_axes=(None, None, 0, 0, None, None), out_axes=None
        )

    def train(self, state, constants, epoch, first, last):
        return self._train_steps(state, constants, *self._train_data, first, last)

    def evaluate(self, variables, stopping=lambda: False):
        sums = steps.Sums.zero()
        for first in range(0, self._test_steps, self._steps_per_call):
            if stopping():
                return None
            last = min(first + self._steps_per_call, self._test_steps)
            sums = jax.device_get(self._eval_steps(variables, sums, *self._test_data, first, last))
        return sums


class Streamed:
    """A `Feed` that takes batches from the host, one to a call.

    Calls are queued on the devices while a background thread waits for the next batch to be decoded, beyond the end of
    an epoch, so that the next one has begun when the evaluation is over.
    """

    def __init__(
        self,
        dataset: imagenet.Streamed,
        share: Share,
        seed: int,
        apply: Callable,
        train_step: Callable,
        batch: steps.Input,
    ):
        self._dataset, self._share, self._seed = dataset, share, seed
        self._steps_per_epoch = batch.steps(dataset.train_size)
        self._background = ThreadPoolExecutor(1)
        self._next, self._batches, self._ahead = -1, iter(()), None  # the number of the step whose batch is read ahead
        batch_step = steps.make_batch_step(train_step, batch)

        def step(*arguments):
            state = batch_step(*arguments)
            return state, state.step  # once more, as the state goes into the next call

        self._batch_step = jax.pmap(step, steps.AXIS, in_axes=(None, 0, 0, 0, 0), out_axes=None, donate_argnums=0)
        eval_batch = steps.make_eval_batch(apply, batch)
        self._eval_batch = jax.pmap(eval_batch, steps.AXIS, in_axes=(None, None, 0, 0, 0), out_axes=None)

    def train(self, state, constants, epoch, first, last):
        calls = _Calls()
        for step in range(first, last):
            arrays = _shared(self._take(epoch * self._steps_per_epoch + step))
            state, done = self._batch_step(state, constants, *arrays)
            calls.add(done)
        return state

    def evaluate(self, variables, stopping=lambda: False):
        calls, sums = _Calls(), steps.Sums.zero()
        for batch in self._dataset.test_batches(self._share):
            if stopping():
                return None
            sums = self._eval_batch(variables, sums, *_shared(batch))
            calls.add(sums)
        return jax.device_get(sums)

    def _take(self, step: int) -> imagenet.Batch:
        """The batch of a step, counted from the beginning of training; the next one is then read ahead."""
        if step != self._next:
            place = divmod(step, self._steps_per_epoch)
            self._next, self._batches = step, _batches_from(self._dataset, self._share, self._seed, *place)
            self._ahead = self._background.submit(next, self._batches)
        batch = self._ahead.result()
        self._next, self._ahead = step + 1, self._background.submit(next, self._batches)
        return batch


def _batches_from(
    dataset: imagenet.Streamed, share: Share, seed: int, epoch: int, first: int
) -> Iterator[imagenet.Batch]:
    """The batches from a step of an epoch on, without an end."""
    yield from dataset.train_batches(share, seed, epoch, first)
    for later in itertools.count(epoch + 1):
        yield from dataset.train_batches(share, seed, later)


class _Calls:
    """Keeps the host a few calls ahead of the devices: they need not wait for it, nor hold a batch for many calls."""

    def __init__(self):
        self._results = collections.deque()

    def add(self, result) -> None:
        """Takes note of a call by what it returns."""
        self._results.append(result)
        if len(self._results) > CALLS_AHEAD:
            jax.block_until_ready(self._results.popleft())


def _shared(batch: imagenet.Batch) -> Iterator[np.ndarray]:
    """Images, labels and mask of this process, with a leading axis for its devices.

    pmap begins to copy NumPy arrays when it is called, and does not wait for that on an accelerator: while a step runs
    there, the batch of the next one, which is queued, is on its way.
    """
    for name in ("images", "labels", "mask"):
        array = batch[name]
        yield array.reshape(jax.local_device_count(), -1, *array.shape[1:])
