"""The two feeds: the same steps on the same batches, however the calls are cut, and every test image once."""

import dataclasses
import functools
import subprocess
import sys
import threading
import time
import unittest.mock

import image_files
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from image_files import needs_tensorflow
from small_runs import PROGRAM, ROOT, TINY, assert_same_run, environment, free_port, lines, train

from onebnet_jax import errors
from onebnet_jax.data import augment
from onebnet_jax.data import load as data
from onebnet_jax.data import load as load_lib
from onebnet_jax.data.imagenet.reader import Share
from onebnet_jax.errors import UserError
from onebnet_jax.networks.network import Network
from onebnet_jax.ops import losses
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import trained
from onebnet_jax.runs.experiment import Data
from onebnet_jax.training import feed, steps
from onebnet_jax.training.run import evaluate

pytestmark = pytest.mark.usefixtures("tiny")
TRAIN, TEST, BATCH = 50, 23, 16  # four steps an epoch; the last batches are of two and of seven images
STEPS = 4
KEY = jax.random.key(3)
INPUT = steps.Input(BATCH, 4, (0.2860,), (0.3530,))


@pytest.fixture(scope="module")
def dataset():
    whole = data.open("fashion_mnist_mini")
    return dataclasses.replace(
        whole,
        train_images=whole.train_images[:TRAIN],
        train_labels=whole.train_labels[:TRAIN],
        test_images=whole.test_images[:TEST],
        test_labels=whole.test_labels[:TEST],
    )


class Reader:
    """A `Streamed` of a small data set, in the order in which `feed.InMemory` takes it.

    Attributes:
      given: (epoch, step) of the training batches that it gave.
      changed: set whenever it gives one.
    """

    validates, files, photos = False, None, None

    def __init__(self, dataset, fails_at=None):
        self._dataset, self._fails_at = dataset, fails_at
        self.train_size, self.source = len(dataset.train_labels), dataset.source
        self.given, self.changed = [], threading.Condition()

    def train_batches(self, share, seed, epoch, first_step=0):
        order_key, _ = jax.random.split(KEY)
        order = np.asarray(jax.random.permutation(jax.random.fold_in(order_key, epoch), self.train_size))
        batches = list(self._batches(self._dataset.train_images[order], self._dataset.train_labels[order]))
        for step in range(first_step, len(batches)):
            if (epoch, step) == self._fails_at:
                raise UserError("The disk is gone.")
            with self.changed:
                self.given.append((epoch, step))
                self.changed.notify()
            yield batches[step]

    def test_batches(self, share, split="test"):
        yield from self._batches(self._dataset.test_images, self._dataset.test_labels)
        blank = np.zeros((BATCH, *self._dataset.info.shape), np.uint8)
        yield {"images": blank, "labels": np.zeros(BATCH, np.int32), "mask": np.zeros(BATCH, np.float32)}

    @staticmethod
    def _batches(images, labels):
        for start in range(0, len(labels), BATCH):
            part = slice(start, start + BATCH)
            lacking = BATCH - len(labels[part])
            yield {
                "images": np.pad(images[part], [(0, lacking), (0, 0), (0, 0), (0, 0)]),
                "labels": np.pad(labels[part], (0, lacking)),
                "mask": np.pad(np.ones(BATCH - lacking, np.float32), (0, lacking)),
            }

    def wait_for(self, place):
        """Waits until a batch is the latest given, and a little for one more that should not come."""
        with self.changed:
            assert self.changed.wait_for(lambda: place in self.given, timeout=60)
        time.sleep(0.05)
        assert self.given[-1] == place


OPTIMIZER = optax.adam(1e-2)
NETWORK = Network(TINY["onebnet"](), axis_name=steps.AXIS)


def loss(logits, labels, *_):
    return losses.cross_entropy(logits, labels, 0.1)


TRAIN_STEP = functools.partial(steps.train_step, NETWORK.apply, OPTIMIZER, loss, INPUT, 12)


def trainer(of):
    return of.trainer(TRAIN_STEP, INPUT, KEY, steps.check_finite)


def scorer(of):
    return of.scorer(NETWORK.apply, INPUT)


@pytest.fixture(scope="module")
def start():
    """The first state, in NumPy: no call takes its memory."""
    variables = jax.jit(NETWORK.init)(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
    return jax.device_get(steps.TrainState.first(variables, OPTIMIZER))


def run(train, state, places):
    """The state after calls for (epoch, first, last)."""
    for place in places:
        state = train(state, {}, *place)
    return jax.device_get(state)


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


EPOCHS = [(epoch, 0, STEPS) for epoch in range(3)]


@pytest.fixture(scope="module")
def streamed(dataset):
    """(train, score) of one streamed feed."""
    a_feed = feed.Streamed(Reader(dataset))
    return trainer(a_feed), scorer(a_feed)


@pytest.fixture(scope="module")
def whole(streamed, start):
    """The state after three epochs, a call each."""
    return run(streamed[0], start, EPOCHS)


def test_no_two_calls_wait_for_one_another_on_devices_of_a_cpu():
    """Queued calls can take threads that the first needs, at which XLA ends the process: each is done at its return."""

    def slow(x, same):
        return jax.lax.psum(jax.lax.fori_loop(0, 200, lambda _, y: jnp.tanh(y @ y), x), steps.AXIS) * same

    run = feed.pmap(slow, (None, 0))
    x, same = jnp.eye(300), jnp.ones(jax.local_device_count())
    assert all([run(x, same).is_ready() for _ in range(3)])


@pytest.mark.slow
def test_streamed_trains_and_scores_as_in_memory_does(dataset, start, streamed, whole):
    in_memory = feed.InMemory(dataset)
    state = run(trainer(in_memory), start, EPOCHS)
    assert int(whole.step) == int(state.step) == 3 * STEPS
    assert int(whole.sums.count) == int(state.sums.count) == 3 * TRAIN
    # The two are different programs, so that rounding may differ.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, state)
    expected, found = scorer(in_memory)(whole.variables), streamed[1](whole.variables)
    for name in ("count", "top1", "top5"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5) and 0 < found.top1 < found.top5 < TEST


def test_how_calls_are_cut_and_where_a_run_resumes_does_not_matter(dataset, start, streamed, whole):
    cut = [(0, 0, 1), (0, 1, 3), (0, 3, 4), (1, 0, 3), (1, 3, 4), (2, 0, 4)]
    assert_equal(run(streamed[0], start, cut), whole)
    for stop in (2, 4):
        state, reader = run(streamed[0], start, cut[:stop]), Reader(dataset)
        assert_equal(run(trainer(feed.Streamed(reader)), state, cut[stop:]), whole)
        assert reader.given[0] == cut[stop][:2]


def test_an_evaluation_between_changes_nothing(start, streamed, whole):
    (train, score), state = streamed, start
    for place in EPOCHS:
        state = train(state, {}, *place)
        score(state.variables)
    assert_equal(jax.device_get(state), whole)


def test_one_batch_is_read_ahead_into_the_next_epoch(dataset, start):
    reader = Reader(dataset)
    train = trainer(feed.Streamed(reader))
    state = train(start, {}, 0, 0, 2)
    reader.wait_for((0, 2))
    train(state, {}, 0, 2, STEPS)
    reader.wait_for((1, 0))
    assert reader.given == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]


def test_a_batch_that_cannot_be_read_ends_the_run_where_it_is_needed(dataset, start):
    train = trainer(feed.Streamed(Reader(dataset, fails_at=(1, 1))))
    state = run(train, start, [(0, 0, STEPS), (1, 0, 1)])
    assert int(state.step) == STEPS + 1
    with pytest.raises(UserError, match="The disk is gone"):
        train(state, {}, 1, 1, 2)


def test_each_test_image_counts_once_on_four_devices(dataset, start, streamed):
    sums = streamed[1](start.variables)
    logits = np.asarray(
        NETWORK.apply(start.variables, augment.normalize(jnp.asarray(dataset.test_images), INPUT.mean, INPUT.std))
    )
    best = np.argsort(-logits, axis=1)
    assert sums.count == TEST
    assert sums.top1 == np.sum(best[:, 0] == dataset.test_labels)
    assert sums.top5 == np.sum(best[:, :5] == dataset.test_labels[:, None])
    expected = float(jnp.sum(losses.cross_entropy(jnp.asarray(logits), jnp.asarray(dataset.test_labels))))
    assert sums.loss == pytest.approx(expected, rel=1e-5)


def assert_asks(score, variables, questions):
    """An evaluation asks so many times whether to stop, each time before a call, and stops when told so."""
    asked = iter([False] * questions)
    sums = score(variables, lambda: next(asked))
    assert sums.count == TEST and list(asked) == []
    for before in range(questions):
        asked = iter([False] * before + [True])
        assert score(variables, lambda asked=asked: next(asked)) is None
        assert list(asked) == []
    return sums


def test_in_memory_an_evaluation_is_cut_into_so_many_calls_at_most(dataset, start, monkeypatch):
    """Six batches of four; how they are cut changes no bit of the sums."""
    batch, sums = dataclasses.replace(INPUT, batch_size=4), []
    for calls, questions in [(1, 1), (2, 2), (4, 3), (32, 6)]:
        monkeypatch.setattr(feed, "EVALUATION_CALLS", calls)
        score = feed.InMemory(dataset).scorer(NETWORK.apply, batch)
        sums.append(assert_asks(score, start.variables, questions))
    assert sums == sums[:1] * 4


def test_an_evaluation_stops_before_any_batch_when_asked(start, streamed):
    assert_asks(streamed[1], start.variables, 3)  # two batches of images, and one of none


# ImageNet, through `open_data`.


def load(folder, *overrides):
    fields = [f"data.dir={folder}", "data.image_size=32", "train.batch_size=8", "train.label_smoothing=0.0"]
    path = "configs/imagenet_typeII_scratch.py"
    return config_lib.load(path, [*(f"--config.{field}" for field in fields), *overrides])


def test_each_process_reads_its_part_of_a_batch(tmp_path, monkeypatch):
    """As the second of two processes; the order follows from the key, which is the same in both."""
    dataset = unittest.mock.Mock(train_size=100, train_labels=None, files=None)
    dataset.train_batches.side_effect = UserError
    opening = unittest.mock.Mock(return_value=dataset)
    monkeypatch.setattr(load_lib, "open", opening)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    opened = feed.open_data(Data("imagenet2012", "files", str(tmp_path), image_size=32, lighting=0.1))
    assert opening.call_args.args == ("imagenet2012", "files", str(tmp_path))
    assert opening.call_args.kwargs == {"image_size": 32, "lighting": 0.1, "max_unreadable": 10}
    for key in (KEY, KEY, jax.random.key(4)):
        with pytest.raises(UserError):
            opened.trainer(TRAIN_STEP, dataclasses.replace(INPUT, batch_size=24), key)(None, {}, 3, 4, 5)
    shares, seeds, *places = zip(*(call.args for call in dataset.train_batches.call_args_list))
    assert opening.call_count == 1 and shares == 3 * (Share(12, 1, 2),) and places == [(3, 3, 3), (4, 4, 4)]
    assert seeds[0] == seeds[1] != seeds[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """23 training images and 11 for validation, of three classes."""
    root = tmp_path_factory.mktemp("imagenet")
    image_files.write_folders(root, (9, 7, 7), (3, 4, 4))
    return root


@pytest.mark.slow
@needs_tensorflow
def test_a_run_on_jpegs_learns_and_resumes_in_the_middle(folders, tmp_path, capsys):
    """Each class has a blue of its own."""
    config = load(folders, "--config.train.epochs=4", "--config.train.learning_rate=0.1")
    expected = train(config, tmp_path / "uncut")
    assert expected["top1"] > 80 and "23 training and 11 test images" in capsys.readouterr().out
    scored = evaluate(trained.load(tmp_path / "uncut", "last"))
    assert scored | {"epoch": 4} == expected | {"loss": pytest.approx(expected["loss"], rel=1e-6)}
    stops = []
    for questions in (1, 3, 4):  # in an epoch, in an evaluation, and in a later epoch
        asked = iter(range(questions))
        with pytest.raises(errors.Interrupted) as stop:
            train(config, tmp_path / "cut", stopping=lambda asked=asked: next(asked, None) is None)
        stops.append(str(stop.value).partition(" of ")[0])
    assert stops == [f"stage train at step {step}" for step in (1, 3, 4)]
    assert train(config, tmp_path / "cut") == expected
    assert_same_run(tmp_path / "cut", tmp_path / "uncut")


def start_process(folders, workdir, devices, *arguments):
    """Starts the command on JPEGs with a number of fake devices."""
    fields = {"data.dir": folders, "data.image_size": 32, "train.batch_size": 8, "train.epochs": 3}
    options = [f"--config.{field}={value}" for field, value in fields.items()]
    command = [sys.executable, "-c", PROGRAM, "--config=configs/imagenet_typeII_scratch.py", f"--workdir={workdir}"]
    return subprocess.Popen(
        [*command, *options, *arguments],
        cwd=ROOT,
        env=environment(devices),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@needs_tensorflow
@pytest.mark.slow
def test_two_processes_train_on_jpegs_as_one_does(folders, tmp_path):
    """Global batches of folders do not depend on the processes; sums are taken in another order."""
    two = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
    processes = [start_process(folders, tmp_path / "two", 2, *two, f"--process={index}") for index in range(2)]
    processes.append(start_process(folders, tmp_path / "one", 4))
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    mine, its = (lines(tmp_path / name / "train") for name in ("two", "one"))
    assert len(mine) == len(its) == 6
    for line, other in zip(mine, its):
        assert {**line, "loss": 0} == {**other, "loss": 0}
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
