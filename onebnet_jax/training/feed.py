"""How images reach the devices: a small data set lies there as a whole, ImageNet is streamed."""

import collections
import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from onebnet_jax.data import load
from onebnet_jax.data.imagenet.reader import Batch, ImageNet
from onebnet_jax.runs.experiment import Data
from onebnet_jax.training import steps
from onebnet_jax.training.steps import Input, Sums

CALLS_AHEAD = 2  # so many wait on the devices, each with its batch
EVALUATION_CALLS = 32  # at most, of a data set in memory: long ones for the devices, short ones for who wants to stop


def open_data(data: Data) -> "Feed":
    """Finds, and where it is small reads, a data set. Raises UserError where it is missing."""
    if not data.info.streamed:
        return InMemory(load.load(data.name, data.source, data.dir))
    reader = ImageNet(
        data.source,
        data.dir,
        batch_size=1,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        image_size=data.info.shape[0],
        lighting=data.lighting,
        max_unreadable=data.max_unreadable,
    )
    return Streamed(reader)


def replicate(tree):
    """Copies a tree of arrays to every local device, with a new leading axis."""
    if not jax.tree.leaves(tree):  # newer pmaps of several processes need something to return
        return tree
    devices = jnp.arange(jax.local_device_count())
    return jax.pmap(lambda _, x: x, in_axes=(0, None))(devices, tree)


class InMemory:
    """A data set whose images stay on the devices, many steps to a call.

    Attributes:
      train_size: number of training images.
      source: what was read and from where, for the log.
    """

    def __init__(self, dataset: load.Dataset):
        self.train_size, self.source, self._dataset = len(dataset.train_labels), dataset.source, dataset

    @cached_property
    def _train_data(self):
        return replicate((self._dataset.train_images, self._dataset.train_labels))

    @cached_property
    def _test_data(self):
        return replicate((self._dataset.test_images, self._dataset.test_labels))

    def trainer(self, step, batch: Input, key: jax.Array, after=lambda state: state):
        """Returns train(state, constants, epoch, first, last) -> state, which takes those steps of an epoch.

        The arguments are those of `steps.many`. `constants` are replicated, and the memory of `state` is used again.
        """
        run = steps.many(step, batch, key, after)
        in_axes = (None, 0, 0, 0, None, None, None)
        run = jax.pmap(run, steps.AXIS, in_axes=in_axes, out_axes=None, donate_argnums=0)
        return lambda state, constants, *places: run(state, constants, *self._train_data, *places)

    def scorer(self, apply, batch: Input):
        """Returns score(variables, stopping) -> Sums over all test images, by a network's `apply`.

        It gives up and returns None if `stopping`, which it asks now and then, says so.
        """
        run = steps.many(steps.make_score_step(apply, batch), batch)
        run = jax.pmap(run, steps.AXIS, in_axes=(None, None, 0, 0, None, None, None), out_axes=None)
        count = batch.steps(len(self._dataset.test_labels))
        per_call = -(-count // EVALUATION_CALLS)

        def score(variables, stopping=lambda: False):
            sums = Sums.zero()
            for first in range(0, count, per_call):
                if stopping():
                    return None
                sums = run(sums, variables, *self._test_data, 0, first, min(first + per_call, count))
                sums = jax.device_get(sums)
            return sums

        return score


class Streamed:
    """A data set whose batches come from the host, one to a call; to be used as `InMemory`.

    Calls are queued on the devices while a background thread waits for the next batch to be decoded, beyond the end of
    an epoch, so that the next one has begun when the evaluation is over.
    """

    def __init__(self, reader: ImageNet):
        self.train_size, self.source, self._reader = reader.train_size, reader.source, reader

    def _batches(self, batch: Input, seed: int = 0) -> ImageNet:
        """The images in this process's part of each batch."""
        return self._reader.rebatched(batch.batch_size // jax.process_count(), seed)

    def trainer(self, step, batch, key, after=lambda state: state):
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))  # the same in all processes, another one in each stage
        ahead = _Ahead(self._batches(batch, seed), batch.steps(self.train_size))

        def run(state, *arguments):
            state = after(step(state, *arguments))
            return state, jax.tree.leaves(state)[0]  # one leaf once more, as the state goes into the next call

        run = jax.pmap(run, steps.AXIS, in_axes=(None, 0, 0, 0, 0), out_axes=None, donate_argnums=0)

        def train(state, constants, epoch, first, last):
            calls = _Calls()
            for index in range(first, last):
                state, done = run(state, constants, *_shared(ahead.take(epoch, index)))
                calls.add(done)
            return state

        return train

    def scorer(self, apply, batch):
        run = steps.make_score_step(apply, batch)
        run = jax.pmap(run, steps.AXIS, in_axes=(None, None, 0, 0, 0), out_axes=None)
        reader = self._batches(batch)

        def score(variables, stopping=lambda: False):
            calls, sums = _Calls(), Sums.zero()
            for images in reader.test_batches():
                if stopping():
                    return None
                sums = run(sums, variables, *_shared(images))
                calls.add(sums)
            return jax.device_get(sums)

        return score


Feed = InMemory | Streamed


class _Ahead:
    """The training batches of a reader in turn, of which the next one is read while the last one is in use."""

    def __init__(self, reader: ImageNet, steps_per_epoch: int):
        self._reader, self._steps_per_epoch = reader, steps_per_epoch
        self._background = ThreadPoolExecutor(1)
        self._next, self._batches, self._ahead = -1, iter(()), None  # the number of the step whose batch is read ahead

    def take(self, epoch: int, index: int) -> Batch:
        """The batch of a step of an epoch."""
        step = epoch * self._steps_per_epoch + index
        if step != self._next:
            self._batches = self._from(epoch, index)
            self._ahead = self._background.submit(next, self._batches)
        batch = self._ahead.result()
        self._next, self._ahead = step + 1, self._background.submit(next, self._batches)
        return batch

    def _from(self, epoch: int, first: int) -> Iterator[Batch]:
        yield from self._reader.train_batches(epoch, first)
        for later in itertools.count(epoch + 1):
            yield from self._reader.train_batches(later)


class _Calls:
    """Keeps the host a few calls ahead of the devices: they need not wait for it, nor hold a batch for many calls."""

    def __init__(self):
        self._results = collections.deque()

    def add(self, result) -> None:
        """Takes note of a call by what it returns."""
        self._results.append(result)
        if len(self._results) > CALLS_AHEAD:
            jax.block_until_ready(self._results.popleft())


def _shared(batch: Batch) -> Iterator[np.ndarray]:
    """Images, labels and mask of this process, with a leading axis for its devices.

    pmap begins to copy NumPy arrays when it is called, and does not wait for that on an accelerator: while a step runs
    there, the batch of the next one, which is queued, is on its way.
    """
    for name in ("images", "labels", "mask"):
        array = batch[name]
        yield array.reshape(jax.local_device_count(), -1, *array.shape[1:])
