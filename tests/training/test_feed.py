"""The two feeds: the same steps on the same batches, however the calls are cut, and every test image once."""

import dataclasses
import os
import pathlib
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
from small_runs import Tiny, assert_same_run, cached_compilation, free_port, lines

from onebnet_jax import errors
from onebnet_jax.data import augment
from onebnet_jax.data import load as data
from onebnet_jax.data.imagenet.sources import Share
from onebnet_jax.errors import UserError
from onebnet_jax.runs import checkpoint
from onebnet_jax.runs import config as config_lib
from onebnet_jax.training import feed, losses, stage, steps
from onebnet_jax.training import run as train

ROOT = pathlib.Path(__file__).parents[2]
TRAIN, TEST, BATCH = 50, 23, 16  # four steps an epoch; the last batches are of two and of seven images
STEPS = 4
KEY = jax.random.key(3)
INPUT = steps.Input(BATCH, 4, (0.2860,), (0.3530,))


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with cached_compilation(tmp_path_factory.mktemp("compiled")):
        yield


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

    def __init__(self, dataset, fails_at=None):
        self._dataset, self._fails_at = dataset, fails_at
        self.train_size = len(dataset.train_labels)
        self.given, self.changed = [], threading.Condition()

    def train_batches(self, share, seed, epoch, first_step=0):
        order_key, _ = jax.random.split(KEY)
        order = np.asarray(augment.epoch_order(jax.random.fold_in(order_key, epoch), self.train_size))
        batches = list(self._batches(self._dataset.train_images[order], self._dataset.train_labels[order]))
        for step in range(first_step, len(batches)):
            if (epoch, step) == self._fails_at:
                raise UserError("The disk is gone.")
            with self.changed:
                self.given.append((epoch, step))
                self.changed.notify()
            yield batches[step]

    def test_batches(self, share):
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
TRAIN_STEP = steps.make_train_step(
    Tiny().apply, OPTIMIZER, lambda logits, labels, images, constants: losses.cross_entropy(logits, labels, 0.1)
)


def streamed(reader):
    return feed.Streamed(reader, Share(BATCH), 0, Tiny().apply, TRAIN_STEP, INPUT)


def initial_state(shape=(28, 28, 1)):
    return jax.device_get(stage.initial_state(Tiny(), OPTIMIZER, shape, jax.random.key(0)))


CONSTANTS = {}


def run(a_feed, state, places):
    """The state after calls for (epoch, first, last)."""
    for place in places:
        state = a_feed.train(state, CONSTANTS, *place)
    return jax.device_get(state)


def assert_equal(tree, other):
    jax.tree.map(np.testing.assert_array_equal, tree, other)


EPOCHS = [(epoch, 0, STEPS) for epoch in range(3)]


@pytest.fixture(scope="module")
def whole(dataset):
    """The state after three epochs, a call each."""
    return run(streamed(Reader(dataset)), initial_state(), EPOCHS)


def test_streamed_trains_and_scores_as_in_memory_does(dataset, whole):
    in_memory = feed.InMemory(dataset, Tiny().apply, TRAIN_STEP, INPUT, KEY)
    state = run(in_memory, initial_state(), EPOCHS)
    assert int(whole.step) == int(state.step) == 3 * STEPS
    assert int(whole.sums.count) == int(state.sums.count) == 3 * TRAIN
    # The two are different programs, so that rounding may differ.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), whole, state)
    variables = stage.variables_of(whole)
    expected, found = (a_feed.evaluate(variables) for a_feed in (in_memory, streamed(Reader(dataset))))
    for name in ("count", "top1", "top5"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.loss == pytest.approx(expected.loss, rel=1e-5) and 0 < found.top1 < found.top5 < TEST


def test_how_calls_are_cut_and_where_a_run_resumes_does_not_matter(dataset, whole):
    cut = [(0, 0, 1), (0, 1, 3), (0, 3, 4), (1, 0, 3), (1, 3, 4), (2, 0, 4)]
    assert_equal(run(streamed(Reader(dataset)), initial_state(), cut), whole)
    for stop in (1, 2, 4, 5):
        state = run(streamed(Reader(dataset)), initial_state(), cut[:stop])
        reader = Reader(dataset)
        assert_equal(run(streamed(reader), state, cut[stop:]), whole)
        assert reader.given[0] == cut[stop][:2]


def test_an_evaluation_between_changes_nothing(dataset, whole):
    a_feed, state = streamed(Reader(dataset)), initial_state()
    for place in EPOCHS:
        state = a_feed.train(state, CONSTANTS, *place)
        a_feed.evaluate(stage.variables_of(state))
    assert_equal(jax.device_get(state), whole)


def test_one_batch_is_read_ahead_into_the_next_epoch(dataset):
    reader = Reader(dataset)
    a_feed = streamed(reader)
    state = a_feed.train(initial_state(), CONSTANTS, 0, 0, 2)
    reader.wait_for((0, 2))
    a_feed.train(state, CONSTANTS, 0, 2, STEPS)
    reader.wait_for((1, 0))
    assert reader.given == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]


def test_a_batch_that_cannot_be_read_ends_the_run_where_it_is_needed(dataset):
    a_feed = streamed(Reader(dataset, fails_at=(1, 1)))
    state = run(a_feed, initial_state(), [(0, 0, STEPS), (1, 0, 1)])
    assert int(state.step) == STEPS + 1
    with pytest.raises(UserError, match="The disk is gone"):
        a_feed.train(state, CONSTANTS, 1, 1, 2)


def test_each_test_image_counts_once_on_four_devices(dataset):
    variables = stage.variables_of(initial_state())
    sums = streamed(Reader(dataset)).evaluate(variables)
    images = augment.normalize(jnp.asarray(dataset.test_images), INPUT.mean, INPUT.std, jnp.float32)
    logits = np.asarray(Tiny().apply(variables, images))
    best = np.argsort(-logits, axis=1)
    assert sums.count == TEST
    assert sums.top1 == np.sum(best[:, 0] == dataset.test_labels)
    assert sums.top5 == np.sum(best[:, :5] == dataset.test_labels[:, None])
    expected = float(jnp.sum(losses.cross_entropy(jnp.asarray(logits), jnp.asarray(dataset.test_labels))))
    assert sums.loss == pytest.approx(expected, rel=1e-5)


def assert_stops(a_feed, variables, questions):
    """Before any call of so many, an evaluation asks whether to stop, and stops."""
    for before in range(questions):
        asked = iter([False] * before + [True])
        assert a_feed.evaluate(variables, lambda asked=asked: next(asked)) is None
        assert list(asked) == []


@pytest.mark.parametrize(("calls", "questions"), [(1, 1), (2, 2), (4, 3), (5, 3), (6, 6), (32, 6)])
def test_in_memory_an_evaluation_is_cut_into_so_many_calls_at_most(dataset, monkeypatch, calls, questions):
    """Six batches of four; how they are cut changes no bit of the sums."""
    batch, variables = dataclasses.replace(INPUT, batch_size=4), stage.variables_of(initial_state())
    monkeypatch.setattr(feed, "EVALUATION_CALLS", 1)
    expected = feed.InMemory(dataset, Tiny().apply, TRAIN_STEP, batch, KEY).evaluate(variables)
    monkeypatch.setattr(feed, "EVALUATION_CALLS", calls)
    a_feed = feed.InMemory(dataset, Tiny().apply, TRAIN_STEP, batch, KEY)
    asked = iter([False] * questions)
    assert a_feed.evaluate(variables, lambda: next(asked)) == expected and list(asked) == []
    assert expected.count == TEST
    assert_stops(a_feed, variables, questions)


def test_an_evaluation_stops_before_any_batch_when_asked(dataset):
    a_feed, variables = streamed(Reader(dataset)), stage.variables_of(initial_state())
    assert_stops(a_feed, variables, 3)
    asked = iter([False] * 3)  # two batches of images, and one of none
    assert a_feed.evaluate(variables, lambda: next(asked)).count == TEST and list(asked) == []


# ImageNet, through `open_data`.


def load(folder, *overrides, config="imagenet_typeIII", batch_size=8):
    path = f"configs/{config}.py"
    fields = [f"{stage}.batch_size={batch_size}" for stage in config_lib.load(path).stages]
    fields += [f"data.dir={folder}", "data.image_size=32", "model.width_multiplier=0.125"]
    return config_lib.load(path, [*(f"--config.{field}" for field in fields), *overrides])


def test_each_process_reads_its_part_of_a_batch(tmp_path, monkeypatch):
    """As the second of two processes; the order follows from the key, which is the same in both."""
    dataset = unittest.mock.Mock(train_size=100)
    dataset.train_batches.side_effect = lambda *_: iter(["a batch"])
    opening = unittest.mock.Mock(return_value=dataset)
    monkeypatch.setattr(data, "open", opening)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    opened = feed.open_data(load(tmp_path, "--config.data.lighting=0.1", "--config.data.source=files"))
    assert opening.call_args.args == ("imagenet2012", "files", str(tmp_path))
    assert opening.call_args.kwargs == {"image_size": 32, "lighting": 0.1, "max_unreadable": 10}
    for key in (KEY, KEY, jax.random.key(4)):
        a_feed = opened.feed(Tiny().apply, TRAIN_STEP, dataclasses.replace(INPUT, batch_size=24), key)
        assert a_feed._take(2) == "a batch"
    begun = [call.args for call in dataset.train_batches.call_args_list if call.args[2:] == (0, 2)]
    shares, seeds = zip(*(arguments[:2] for arguments in begun))
    assert opening.call_count == 1 and shares == 3 * (Share(12, 1, 2),) and seeds[0] == seeds[1] != seeds[2]


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """23 training images and 11 for validation, of three classes."""
    root = tmp_path_factory.mktemp("imagenet")
    image_files.write_folders(root, (9, 7, 7), (3, 4, 4))
    return root


@pytest.fixture(scope="module")
def tiny():
    """`Tiny` instead of every network."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stage, "make_network", lambda *_, **__: Tiny())
        patched.setattr(stage, "DISPATCH_SECONDS", 0.0)  # calls of 1 and 2 steps
        yield


@pytest.fixture(scope="module")
def taught(folders, tiny, tmp_path_factory):
    """(config, work directory, result) of two stages of two epochs on JPEGs, with a teacher trained on them before."""
    root = tmp_path_factory.mktemp("runs")
    fp32 = load(folders, "--config.train.epochs=2", "--config.train.learning_rate=0.05", config="imagenet_fp32")
    train.run(fp32, root / "teacher")
    config = load(folders, f"--config.teacher={root / 'teacher'}", "--config.step1.epochs=2", "--config.step2.epochs=2")
    return config, root / "taught", train.run(config, root / "taught")


@needs_tensorflow
def test_two_stages_on_jpegs_resumed_in_the_middle_equal_the_uncut_run(taught, tmp_path, capsys):
    config, uncut, expected = taught
    stops = []
    for questions in (1, 3, 8):  # in an epoch, in an evaluation, and in an epoch of the second stage
        asked = iter(range(questions))
        with pytest.raises(errors.Interrupted) as stop:
            train.run(config, tmp_path, stopping=lambda asked=asked: next(asked, None) is None)
        stops.append(str(stop.value).partition(" of ")[0])
    assert stops == ["stage step1 at step 1", "stage step1 at step 3", "stage step2 at step 1"]
    assert train.run(config, tmp_path) == expected
    assert "23 training and 11 test images" in capsys.readouterr().out
    assert_same_run(tmp_path, uncut, config.stages)


@needs_tensorflow
def test_a_run_on_jpegs_learns_their_colours(folders, tiny, tmp_path):
    """Each class has a blue of its own."""
    fields = ("--config.train.epochs=8", "--config.train.learning_rate=0.05", "--config.train.label_smoothing=0.0")
    result = train.run(load(folders, *fields, config="imagenet_typeII_scratch"), tmp_path)
    assert result["top1"] > 80
    scored = train.evaluate(checkpoint.load_run(tmp_path, checkpoint.LAST))
    assert scored == {**{name: result[name] for name in scored}, "loss": pytest.approx(result["loss"], rel=1e-6)}


PROGRAM = """
from small_runs import Tiny
from onebnet_jax import errors
from onebnet_jax import main
from onebnet_jax.training import stage
stage.make_network = lambda *_, **__: Tiny()
errors.cli(main.main)
"""


def start(folders, workdir, devices, *arguments):
    """Starts the command on JPEGs with a number of fake devices."""
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers"))),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    fields = {"data.dir": folders, "data.image_size": 32, "train.batch_size": 8, "train.epochs": 3}
    options = [f"--config.{field}={value}" for field, value in fields.items()]
    command = [sys.executable, "-c", PROGRAM, "--config=configs/imagenet_typeII_scratch.py", f"--workdir={workdir}"]
    command += [*options, *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@needs_tensorflow
@pytest.mark.slow
def test_two_processes_train_on_jpegs_as_one_does(folders, tmp_path):
    """Global batches of folders do not depend on the processes; sums are taken in another order."""
    two = [f"--coordinator=127.0.0.1:{free_port()}", "--processes=2"]
    processes = [start(folders, tmp_path / "two", 2, *two, f"--process={index}") for index in range(2)]
    processes.append(start(folders, tmp_path / "one", 4))
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], outputs
    mine, its = (lines(tmp_path / name / "train") for name in ("two", "one"))
    assert len(mine) == len(its) == 6
    for line, other in zip(mine, its):
        assert {**line, "loss": 0} == {**other, "loss": 0}
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
