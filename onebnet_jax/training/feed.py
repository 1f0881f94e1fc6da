"""How images reach the devices: a small data set lies there as a whole, ImageNet is streamed."""

import collections
import itertools
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial, wraps
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from onebnet_jax.data import load, stream
from onebnet_jax.data.imagenet import reader
from onebnet_jax.data.load import Dataset
from onebnet_jax.runs.experiment import Data
from onebnet_jax.training import steps
from onebnet_jax.training.steps import Input, Sums

CALLS_AHEAD = 2  # on the devices, so that they need not wait for the host, nor hold the batches of many calls
RENEWING_BATCHES = 8  # to a call
EVALUATION_CALLS = 32  # at most, of a data set in memory: long ones for the devices, short ones for who wants to stop


def open_data(data: Data, seed: int = 0) -> "Feed":
    """Opens a data set, and holds `data.validation` of it out by the seed. Raises UserError where it is missing."""
    dataset = data.open()
    dataset = load.with_validation(dataset, data.validation, seed)
    return Streamed(dataset) if dataset.info.streamed else InMemory(dataset)


def _absent(dataset) -> list[str]:
    """The classes without any training image, where the labels are known beforehand."""
    if (labels := getattr(dataset, "train_labels", None)) is None:
        return []
    names = dataset.info.class_names
    return [name for name, count in zip(names, np.bincount(labels, minlength=len(names))) if not count]


def replicate(tree):
    """Copies a tree of arrays to every local device, with a new leading axis."""
    if not jax.tree.leaves(tree):  # newer pmaps of several processes need something to return
        return tree
    devices = jnp.arange(jax.local_device_count())
    return jax.pmap(lambda _, x: x, in_axes=(0, None))(devices, tree)


def pmap(run: Callable, in_axes: tuple, **options) -> Callable:
    """The program of all devices, whose results are the same on each.

    Several devices of a CPU share its threads, and queued calls can take those that an earlier one needs, at which XLA
    ends the process. So there a call waits for its results.
    """
    program = jax.pmap(run, steps.AXIS, in_axes=in_axes, out_axes=None, **options)
    if jax.default_backend() != "cpu" or jax.local_device_count() == 1:
        return program

    @wraps(program)
    def waiting(*arguments):
        return jax.block_until_ready(program(*arguments))

    waiting.lower = program.lower
    return waiting


class InMemory:
    """A data set whose images stay on the devices, many steps to a call."""

    def __init__(self, dataset: Dataset):
        self.train_size, self.source, self._dataset = dataset.train_size, dataset.source, dataset
        self.validates, self.absent = dataset.validates, _absent(dataset)
        self.photos, self.files = dataset.photos, dataset.files
        self._on_devices = cache(lambda *names: replicate(tuple(getattr(dataset, name) for name in names)))

    @property
    def _train_data(self):
        return self._on_devices("train_images", "train_labels")

    def trainer(self, step, batch: Input, key: jax.Array, after=lambda state: state):
        """Returns train(state, constants, epoch, first, last) -> state, see `steps.many`; takes the state's memory."""
        run = pmap(steps.many(step, batch, key, after), (None, 0, 0, 0, None, None, None), donate_argnums=0)
        return lambda state, constants, *places: run(state, constants, *self._train_data, *places)

    def scorer(self, apply, batch: Input, split: str = "test"):
        """Returns score(variables, stopping) -> Sums over all images of a split, or None once `stopping` says so."""
        step = partial(steps.score_step, apply, batch)
        run = pmap(steps.many(step, batch), (None, None, 0, 0, None, None, None))
        names = f"{split}_images", f"{split}_labels"
        count = batch.steps(len(getattr(self._dataset, names[1])))
        cuts = [*range(0, count, -(-count // EVALUATION_CALLS)), count]
        pairs = partial(itertools.pairwise, cuts)
        return partial(_score, run, lambda: ((*self._on_devices(*names), 0, *places) for places in pairs()))

    def test_batches(self, batch: Input) -> Iterator[reader.Batch]:
        """This process's parts of all batches of test images, as they are stored; a mask of 0 fills up the last."""
        share, images, labels = _share(batch), self._dataset.test_images, self._dataset.test_labels
        size = len(labels)
        for step in range(share.steps(size)):
            places = share.begin(step) + np.arange(share.batch_size)
            chosen, mask = places.clip(max=size - 1), (places < size).astype(np.float32)
            yield {"images": images[chosen], "labels": labels[chosen], "mask": mask}

    def some(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """The first test images, at most `count`, and their labels: always the same."""
        return self._dataset.test_images[:count], self._dataset.test_labels[:count]


class Streamed:
    """A data set whose batches come from the host, one to a call; to be used as `InMemory`.

    While calls are queued on the devices, a background thread waits for the next batch, also beyond an epoch's end.
    """

    def __init__(self, dataset: reader.Streamed | stream.Streamed):
        self.train_size, self.source, self._dataset = dataset.train_size, dataset.source, dataset
        self.validates, self.absent = dataset.validates, _absent(dataset)
        self.photos, self.files = dataset.photos, dataset.files

    def trainer(self, step, batch, key, after=lambda state: state):
        seed = int(jax.random.randint(key, (), 0, 2**31 - 1))  # the same in all processes, another one in each stage
        open_epoch, length = partial(self._dataset.train_batches, _share(batch), seed), batch.steps(self.train_size)
        background, batches, following = ThreadPoolExecutor(1), iter(()), None

        def run(state, *arguments):
            state = after(step(state, *arguments))
            return state, jax.tree.leaves(state)[0]  # one leaf once more, as the state goes into the next call

        run = pmap(run, (None, 0, 0, 0, 0), donate_argnums=0)

        def train(state, constants, epoch, first, last):
            nonlocal batches, following
            if (epoch, first) != following:
                epochs = (open_epoch(each, first if each == epoch else 0) for each in itertools.count(epoch))
                batches = _read_ahead(background, itertools.chain.from_iterable(epochs))
            calls = collections.deque(CALLS_AHEAD * [None])
            for images in itertools.islice(batches, last - first):
                state, done = run(state, constants, *_shared(images))
                calls.append(done)
                jax.block_until_ready(calls.popleft())
            following = divmod(epoch * length + last, length)
            return state

        return train

    def scorer(self, apply, batch, split="test"):
        run = pmap(partial(steps.score_step, apply, batch), (None, None, 0, 0, 0))
        open_split = partial(self._dataset.test_batches, _share(batch), split)
        return partial(_score, run, lambda: map(_shared, open_split()))

    def test_batches(self, batch: Input) -> Iterator[reader.Batch]:
        return self._dataset.test_batches(_share(batch))

    def some(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        batch = next(iter(self._dataset.test_batches(reader.Share(count))))
        whole = batch["mask"] > 0
        return batch["images"][whole], batch["labels"][whole]


Feed = InMemory | Streamed


class Answers(NamedTuple):
    """What a network says of the test images that could be read."""

    places: np.ndarray  # of the images in their stored order, [N]
    labels: np.ndarray  # the classes that they are of, by number, [N]
    named: np.ndarray  # the classes that the network names, [N]
    probabilities: np.ndarray  # that it gives these, [N]
    paths: np.ndarray | None  # of the files of a folder, [N]


def answers(data: Feed, apply, batch: Input, variables: dict) -> tuple[Sums, Answers]:
    """Scores all test images once, and keeps each answer."""
    run = pmap(partial(steps.answer_step, apply, batch), (None, None, 0, 0, 0))
    sums, parts = Sums(), []
    for each in data.test_batches(batch):
        sums, answered = run(sums, variables, *_shared(each))
        parts.append(answered)
        jax.block_until_ready(parts[-1 - CALLS_AHEAD :][0])
    labels, named, probabilities, mask = map(np.concatenate, zip(*jax.device_get(parts)))
    places = np.flatnonzero(mask)
    found = (x[places] for x in (labels, named, probabilities))
    return jax.device_get(sums), Answers(places, *found, data.files and data.files["test"][0][places])


def renewer(data: Feed, apply, batch: Input, key: jax.Array, batches: int):
    """Returns renew(variables, stopping) -> the same with BN's statistics over so many batches, or None to stop.

    They are the mean over training images, where the running ones follow the last few batches alone. Of no batches:
    the variables as they are.
    """
    if not batches:
        return lambda variables, stopping=None: variables
    train = data.trainer(partial(steps.statistics_step, apply, batch), batch, key)

    def renew(variables: dict, stopping=lambda: False) -> dict | None:
        params, state = replicate(variables["params"]), steps.Statistics(jax.device_get(variables["batch_stats"]))
        for first in range(0, batches, RENEWING_BATCHES):
            if stopping():
                return None
            state = train(state, params, 0, first, min(first + RENEWING_BATCHES, batches))
        return variables | {"batch_stats": state.batch_stats}

    return renew


def _score(run: Callable, parts: Callable[[], Iterable], variables: dict, stopping=lambda: False) -> Sums | None:
    calls, sums = collections.deque(CALLS_AHEAD * [None]), Sums()
    for part in parts():
        if stopping():
            return None
        sums = run(sums, variables, *part)
        calls.append(sums)
        jax.block_until_ready(calls.popleft())
    return jax.device_get(sums)


def _read_ahead(background: ThreadPoolExecutor, batches: Iterator[reader.Batch]) -> Iterator[reader.Batch]:
    ahead = background.submit(next, batches)
    while True:
        batch, ahead = ahead.result(), background.submit(next, batches)
        yield batch


def _share(batch: Input) -> reader.Share:
    return reader.Share(batch.batch_size // jax.process_count(), jax.process_index(), jax.process_count())


def _shared(batch: reader.Batch) -> Iterator[np.ndarray]:
    """Images, labels and mask of this process, with a leading axis for its devices.

    In NumPy: pmap begins to copy them when it is called, so that the next batch is on its way while a step runs.
    """
    for name in ("images", "labels", "mask"):
        array = batch[name]
        yield array.reshape(jax.local_device_count(), -1, *array.shape[1:])
