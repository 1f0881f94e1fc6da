"""How images reach the devices: a small data set lies there as a whole, ImageNet is streamed."""

import collections
import itertools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np

from onebnet_jax.data.imagenet import reader
from onebnet_jax.data.imagenet.reader import Batch
from onebnet_jax.data.imagenet.sources import Share
from onebnet_jax.data.load import Dataset
from onebnet_jax.runs.experiment import Data
from onebnet_jax.training import steps
from onebnet_jax.training.steps import Input, Sums

CALLS_AHEAD = 2  # so many wait on the devices, each with its batch
EVALUATION_CALLS = 32  # at most, of a data set in memory: long ones for the devices, short ones for who wants to stop


def open_data(data: Data) -> "Feed":
    """Opens a data set. Raises UserError where it is missing."""
    dataset = data.open()
    return Streamed(dataset) if dataset.info.streamed else InMemory(dataset)


def replicate(tree):
    """Copies a tree of arrays to every local device, with a new leading axis."""
    if not jax.tree.leaves(tree):  # newer pmaps of several processes need something to return
        return tree
    devices = jnp.arange(jax.local_device_count())
    return jax.pmap(lambda _, x: x, in_axes=(0, None))(devices, tree)


def pmap(run: Callable, in_axes: tuple, **options) -> Callable:
    """The program of all devices, whose results are the same on each."""
    return jax.pmap(run, steps.AXIS, in_axes=in_axes, out_axes=None, **options)


class InMemory:
    """A data set whose images stay on the devices, many steps to a call."""

    def __init__(self, dataset: Dataset):
        self.train_size, self.source, self._dataset = dataset.train_size, dataset.source, dataset

    @cached_property
    def _train_data(self):
        return replicate((self._dataset.train_images, self._dataset.train_labels))

    @cached_property
    def _test_data(self):
        return replicate((self._dataset.test_images, self._dataset.test_labels))

    def trainer(self, step, batch: Input, key: jax.Array, after=lambda state: state):
        """Returns train(state, constants, epoch, first, last) -> state, see `steps.many`; takes the state's memory."""
        run = pmap(steps.many(step, batch, key, after), (None, 0, 0, 0, None, None, None), donate_argnums=0)
        return lambda state, constants, *places: run(state, constants, *self._train_data, *places)

    def scorer(self, apply, batch: Input):
        """Returns score(variables, stopping) -> Sums over all test images, or None once `stopping` says so."""
        run = pmap(steps.many(steps.make_score_step(apply, batch), batch), (None, None, 0, 0, None, None, None))
        count = batch.steps(self._dataset.test_size)
        per_call = -(-count // EVALUATION_CALLS)

        def score(variables, stopping=lambda: False):
            sums = Sums.zero()
            for first in range(0, count, per_call):
                if stopping():
                    return None
                places = 0, first, min(first + per_call, count)
                sums = jax.device_get(run(sums, variables, *self._test_data, *places))
            return sums

        return score


class Streamed:
    """A data set whose batches come from the host, one to a call; to be used as `InMemory`.

    While calls are queued on the devices, a background thread waits for the next batch, also beyond an epoch's end.
    """

    def __init__(self, dataset: reader.Streamed):
        self.train_size, self.source, self._dataset = dataset.train_size, dataset.source, dataset

    def trainer(self, step, batch, key, after=lambda state: state):
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))  # the same in all processes, another one in each stage
        share, dataset = _share(batch), self._dataset
        ahead = _Ahead(lambda *place: dataset.train_batches(share, seed, *place), batch.steps(self.train_size))

        def run(state, *arguments):
            state = after(step(state, *arguments))
            return state, jax.tree.leaves(state)[0]  # one leaf once more, as the state goes into the next call

        run = pmap(run, (None, 0, 0, 0, 0), donate_argnums=0)

        def train(state, constants, epoch, first, last):
            calls = collections.deque()
            for index in range(first, last):
                state, done = run(state, constants, *_shared(ahead.take(epoch, index)))
                _note(calls, done)
            return state

        return train

    def scorer(self, apply, batch):
        run = pmap(steps.make_score_step(apply, batch), (None, None, 0, 0, 0))

        def score(variables, stopping=lambda: False):
            calls, sums = collections.deque(), Sums.zero()
            for images in self._dataset.test_batches(_share(batch)):
                if stopping():
                    return None
                sums = run(sums, variables, *_shared(images))
                _note(calls, sums)
            return jax.device_get(sums)

        return score


Feed = InMemory | Streamed


class _Ahead:
    """Training batches in turn, of which the next one is read ahead; batches(epoch, first_step) gives an epoch's."""

    def __init__(self, batches: Callable[[int, int], Iterator[Batch]], steps_per_epoch: int):
        self._batches_of, self._steps_per_epoch = batches, steps_per_epoch
        self._background = ThreadPoolExecutor(1)
        self._next, self._batches, self._ahead = -1, iter(()), None  # the number of the step whose batch is read ahead

    def take(self, epoch: int, index: int) -> Batch:
        step = epoch * self._steps_per_epoch + index
        if step != self._next:
            epochs = (self._batches_of(each, index if each == epoch else 0) for each in itertools.count(epoch))
            self._batches = itertools.chain.from_iterable(epochs)
            self._ahead = self._background.submit(next, self._batches)
        batch = self._ahead.result()
        self._next, self._ahead = step + 1, self._background.submit(next, self._batches)
        return batch


def _share(batch: Input) -> Share:
    return Share(batch.batch_size // jax.process_count(), jax.process_index(), jax.process_count())


def _note(calls: collections.deque, result) -> None:
    """Keeps the host a few calls ahead of the devices: they need not wait for it, nor hold a batch for many calls."""
    calls.append(result)
    if len(calls) > CALLS_AHEAD:
        jax.block_until_ready(calls.popleft())


def _shared(batch: Batch) -> Iterator[np.ndarray]:
    """Images, labels and mask of this process, with a leading axis for its devices.

    In NumPy: pmap begins to copy them when it is called, so that the next batch is on its way while a step runs.
    """
    for name in ("images", "labels", "mask"):
        array = batch[name]
        yield array.reshape(jax.local_device_count(), -1, *array.shape[1:])
