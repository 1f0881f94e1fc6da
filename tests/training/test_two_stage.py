"""Two stages under a teacher: what each takes over, and its losses, against closed forms with small networks.

Batches hold all training images, so that batch statistics, losses and gradients are those of the whole data set.
"""

import contextlib
import io
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_runs import TINY, cached_compilation, final, lines, tiny_logits, tiny_maps, train

from onebnet_jax.data import load as data
from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import optim, trained
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints
from onebnet_jax.runs.experiment import Stage
from onebnet_jax.runs.optim import Optimizer
from onebnet_jax.training import stage

STEP1 = {"epochs": 3, "learning_rate": 0.1, "label_weight": 0.0, "teacher_weight": 1.0, "weight_decay": 0.0}
# A learning rate of 0 leaves the parameters as they were given.
STEP2 = {"epochs": 2, "learning_rate": 0.0, "label_weight": 0.7, "teacher_weight": 0.4}
STEP2 |= {"label_smoothing": 0.3, "temperature": 2.5, "weight_decay": 0.06}


def wanted_loss(logits, labels, teacher_logits, fields):
    """[N], from the definitions: smoothed labels, and Hinton's softened answers with their factor T^2."""
    smoothing, temperature = fields["label_smoothing"], fields["temperature"]
    hard = (1 - smoothing) * jnp.eye(10)[labels] + smoothing / 10
    soft = jax.nn.softmax(teacher_logits / temperature)
    of_labels = -(hard * jax.nn.log_softmax(logits)).sum(-1)
    of_teacher = -(soft * jax.nn.log_softmax(logits / temperature)).sum(-1)
    return fields["label_weight"] * of_labels + fields["teacher_weight"] * temperature**2 * of_teacher


@pytest.fixture(scope="module")
def pixels():
    """(x, labels): the training images [4000, 28, 28, 1], normalized."""
    dataset = data.open("fashion_mnist_mini")
    x = (dataset.train_images.astype(np.float32) / 255 - dataset.info.mean[0]) / dataset.info.std[0]
    return x, dataset.train_labels


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """(work directory, the teacher's variables) of a run in two stages.

    The teacher's `best` checkpoint knows something of the classes; `last`, from which is to be learnt, answers the
    opposite. So students get worse, and the first is the best.
    """
    folder = tmp_path_factory.mktemp("two_stage")
    fields = {"stages": ("step1", "step2"), "teacher": folder / "teacher", "checkpoint_seconds": 1e6}
    for name, values in (("step1", STEP1), ("step2", STEP2)):
        fields |= {f"{name}.{field}": value for field, value in values.items()} | {f"{name}.batch_size": 4000}
    config = config_lib.load("configs/quickstart.py", [f"--config.{name}={value}" for name, value in fields.items()])
    with pytest.MonkeyPatch.context() as patched, cached_compilation():
        patched.setattr(families, "FAMILIES", TINY)
        fields = {"model.family": "resnet", "model.ds_1d": (), "train.epochs": 1, "train.batch_size": 500}
        teaching = [f"--config.{name}={value}" for name, value in (fields | {"train.learning_rate": 0.02}).items()]
        train(config_lib.load("configs/quickstart.py", teaching), folder / "teacher")
        wrong = trained.load(folder / "teacher", LAST).variables
        wrong["params"]["head"] = {name: -2 * values for name, values in wrong["params"]["head"].items()}
        checkpoints = Checkpoints(folder / "teacher" / "train")
        checkpoints.save(LAST, 9, wrong, {})
        checkpoints.close()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            train(config, folder / "run")
        teacher = trained.load(folder / "teacher", LAST)
        assert f"teacher: {folder / 'teacher'}, {teacher.describe()}" in printed.getvalue().splitlines()
        yield folder / "run", wrong


def checkpoint_of(workdir, stage, which):
    """(step, tree, metadata)"""
    return final(workdir / stage)[(LAST, BEST).index(which)]


def test_the_second_stage_begins_with_the_last_parameters_of_the_first(run):
    best, last = checkpoint_of(run[0], "step1", BEST), checkpoint_of(run[0], "step1", LAST)
    assert best[2]["epoch"] < STEP1["epochs"]  # so it does matter which
    assert np.abs(best[1]["params"]["head"]["kernel"] - last[1]["params"]["head"]["kernel"]).max() > 0.01
    kept = checkpoint_of(run[0], "step2", LAST)[1]["params"]
    jax.tree.map(np.testing.assert_array_equal, kept, last[1]["params"])
    assert trained.load(run[0]).stage.name == "step2"


def test_an_optimizer_that_keeps_parameters_begins_with_those_of_the_first_stage(tiny, monkeypatch, tmp_path):
    """As an optimizer of one's own that averages them does: its state begins as the parameters themselves."""
    keeping = optax.GradientTransformation(lambda params: params, lambda grads, kept, params: (grads, kept))
    monkeypatch.setitem(optim.OPTIMIZERS, "keeping", lambda spec, rate: optax.chain(optax.sgd(rate), keeping))
    fields = {"stages": ("step1", "step2")} | {f"{name}.epochs": 1 for name in ("step1", "step2")}
    fields |= {f"{name}.optimizer": "keeping" for name in ("step1", "step2")}
    train(config_lib.load("configs/quickstart.py", [f"--config.{name}={x}" for name, x in fields.items()]), tmp_path)
    first, second = (checkpoint_of(tmp_path, name, LAST)[1] for name in ("step1", "step2"))
    jax.tree.map(np.testing.assert_array_equal, second["opt_state"][1], first["params"])


def test_running_statistics_go_on_from_the_first_stage(run, pixels):
    first, second = (checkpoint_of(run[0], name, LAST)[1] for name in ("step1", "step2"))
    variance = tiny_maps(second["params"], np.float64(pixels[0])).var((0, 1))  # in each step of the second stage
    left = 0.9 ** STEP2["epochs"]
    expected = left * first["batch_stats"]["stem_bn"]["var"] + (1 - left) * variance
    np.testing.assert_allclose(second["batch_stats"]["stem_bn"]["var"], expected, rtol=1e-4)


def second_stage_loss(params, pixels, teacher):
    """The mean of the second stage's loss over all training images."""
    x, labels = pixels
    logits = tiny_logits(teacher | {"params": params}, x, training=True)
    return wanted_loss(logits, labels, tiny_logits(teacher, x), STEP2).mean()


def test_the_loss_is_that_of_the_labels_and_of_the_teachers_last_checkpoint(run, pixels):
    workdir, teacher = run
    params = checkpoint_of(workdir, "step2", LAST)[1]["params"]
    losses = [line["loss"] for line in lines(workdir / "step2") if line["split"] == "train"]
    assert losses == pytest.approx([float(second_stage_loss(params, pixels, teacher))] * STEP2["epochs"], rel=1e-4)


def test_the_first_stage_learns_the_teachers_errors(run):
    scores, losses = (
        [line[name] for line in lines(run[0] / "step1") if line["split"] == split]
        for name, split in (("top1", "test"), ("loss", "train"))
    )
    assert scores[-1] < scores[0] and losses[-1] < losses[0]


def test_adam_begins_anew_with_the_stages_own_weight_decay(run, pixels):
    """All gradients of the second stage are the same; moments follow from that and the number of steps."""
    workdir, teacher = run
    step, state, _ = checkpoint_of(workdir, "step2", LAST)
    params, count = state["params"], STEP2["epochs"]
    gradient = jax.jit(jax.grad(second_stage_loss))(jax.tree.map(jnp.asarray, params), pixels, teacher)
    gradient["stem_conv"]["kernel"] += STEP2["weight_decay"] * params["stem_conv"]["kernel"]
    (moments,) = [part for part in state["opt_state"] if part and "mu" in part]
    assert step == state["step"] == moments["count"] == count
    for found, g in zip(jax.tree.leaves(moments["mu"]), jax.tree.leaves(gradient)):
        np.testing.assert_allclose(found, (1 - 0.9**count) * g, rtol=1e-3, atol=1e-6)
    for found, g in zip(jax.tree.leaves(moments["nu"]), jax.tree.leaves(gradient)):
        np.testing.assert_allclose(found, (1 - 0.999**count) * g**2, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(("label_weight", "teacher_weight"), [(0.7, 0.4), (0.7, 0.0), (0.0, 0.4)])
def test_the_loss_of_a_stage_is_what_its_fields_say(label_weight, teacher_weight):
    rng = np.random.default_rng(0)
    shapes = (6, 10), (6, 3), (3, 10)
    logits, images, weights = (rng.normal(0, 2, shape).astype(np.float32) for shape in shapes)
    labels = rng.integers(0, 10, 6)
    teacher = types.SimpleNamespace(apply=lambda variables, images: images @ variables) if teacher_weight else None
    weighted = {"label_weight": label_weight, "teacher_weight": teacher_weight}
    weighted |= {name: STEP2[name] for name in ("label_smoothing", "temperature")}
    step2 = Stage("step2", 6, 1, Binarization(), Optimizer(), **weighted)
    found = stage.loss_of(step2, teacher, logits, labels, images, {}, weights)
    assert found.shape == (6,)
    np.testing.assert_allclose(found, wanted_loss(logits, labels, images @ weights, weighted), rtol=1e-5)
