"""Two stages under a teacher: what each takes over, and its losses, against closed forms with stand-in networks.

Batches hold all training images, so that batch statistics, losses and gradients are those of the whole data set.
"""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from small_runs import Tiny, cached_compilation, final, lines

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from configs import default
from onebnet_jax import main
from onebnet_jax.commands import agree, convert
from onebnet_jax.data import load as data
from onebnet_jax.export import card
from onebnet_jax.export.untrained import random_variables
from onebnet_jax.networks import structure
from onebnet_jax.networks.layers import BatchNorm
from onebnet_jax.runs import checkpoint
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints
from onebnet_jax.training import run as train
from onebnet_jax.training import stage, steps

pytestmark = pytest.mark.usefixtures("quick_compilation")

STEP1 = {"epochs": 3, "learning_rate": 0.1, "label_weight": 0.0, "teacher_weight": 1.0}
# A learning rate of 0 leaves the parameters as they were given.
STEP2 = {"epochs": 2, "learning_rate": 0.0, "label_weight": 0.7, "teacher_weight": 0.4}
STEP2 |= {"label_smoothing": 0.3, "temperature": 2.5, "weight_decay": 0.06}


def words(fields):
    """As on the command line."""
    return [f"--config.{name}={value}" for name, value in fields.items()]


class Student(nn.Module):
    """Logits linear in a 4x4 map of an image, after batch normalization; weight decay is for the kernel alone."""

    @nn.compact
    def __call__(self, images, mask=None):
        x = BatchNorm(steps.AXIS, name="bn")(nn.avg_pool(images, (7, 7), (7, 7)), mask)
        return nn.Dense(10, name="conv")(x.reshape(len(x), -1))


def linear(params, name, x, mean, variance):
    """Logits of either stand-in, given the statistics to normalize with."""
    bn, layer = params["bn"], params[name]
    return ((x - mean) / jnp.sqrt(variance + 1e-5) * bn["scale"] + bn["bias"]) @ layer["kernel"] + layer["bias"]


def wanted_loss(logits, labels, teacher_logits, fields):
    """[N], from the definitions: smoothed labels, and Hinton's softened answers with their factor T^2."""
    smoothing, temperature = fields["label_smoothing"], fields["temperature"]
    hard = (1 - smoothing) * jnp.eye(10)[labels] + smoothing / 10
    soft = jax.nn.softmax(teacher_logits / temperature)
    of_labels = -(hard * jax.nn.log_softmax(logits)).sum(-1)
    of_teacher = -(soft * jax.nn.log_softmax(logits / temperature)).sum(-1)
    return fields["label_weight"] * of_labels + fields["teacher_weight"] * temperature**2 * of_teacher


@pytest.mark.parametrize(("label_weight", "teacher_weight"), [(0.7, 0.4), (0.7, 0.0), (0.0, 0.4)])
def test_the_loss_of_a_stage_is_what_its_fields_say(label_weight, teacher_weight):
    rng = np.random.default_rng(0)
    shapes = (6, 10), (6, 3), (3, 10)
    logits, images, weights = (rng.normal(0, 2, shape).astype(np.float32) for shape in shapes)
    labels = rng.integers(0, 10, 6)
    teacher = types.SimpleNamespace(apply=lambda variables, images: images @ variables) if teacher_weight else None
    fields = STEP2 | {"label_weight": label_weight, "teacher_weight": teacher_weight}
    losses = stage.make_loss(default.stage(**fields), teacher)(logits, labels, images, weights)
    assert losses.shape == (6,)
    np.testing.assert_allclose(losses, wanted_loss(logits, labels, images @ weights, fields), rtol=1e-5)


@pytest.fixture(scope="module")
def pixels():
    """(x, labels): the 4x4 maps [4000, 16] of the training images, normalized."""
    dataset = data.open("fashion_mnist_mini")
    x = (dataset.train_images.astype(np.float64) / 255 - dataset.info.mean) / dataset.info.std
    return x.reshape(-1, 4, 7, 4, 7).mean((2, 4)).reshape(-1, 16).astype(np.float32), dataset.train_labels


def class_means(x, labels):
    """A classifier: {"kernel" [16, 10], "bias" [10]}, the larger a logit, the nearer the mean of its class."""
    kernel = np.stack([x[labels == label].mean(0) for label in range(10)], -1)
    return {"kernel": kernel, "bias": -(kernel**2).sum(0) / 2}


def make_teacher(workdir, config, variables):
    """A work directory as training leaves it, given the variables of each checkpoint."""
    workdir.mkdir()
    (workdir / "config.json").write_text(config.to_json())
    checkpoints = Checkpoints(workdir / "train")
    score = {"epoch": 6, "loss": 1.0, "top1": 80.0, "top5": 99.0}
    for name, info in ((BEST, score), (LAST, {"best": score, "result": score})):
        checkpoints.save(name, 378, variables[name], info)
    checkpoints.close()


@pytest.fixture(scope="module")
def run(pixels, tmp_path_factory, quick_compilation):
    """(work directory, the teacher's variables) of a run in two stages.

    The teacher's `best` checkpoint knows the classes; `last`, from which is to be learnt, is wrong wherever it can be.
    So students get worse, and the first is the best.
    """
    folder = tmp_path_factory.mktemp("two_stage")
    right = class_means(*pixels)
    wrong = {name: -2 * values for name, values in right.items()}
    norm = {"scale": np.float32([1.3]), "bias": np.float32([0.2])}
    statistics = {"bn": {"mean": np.float32([0.1]), "var": np.float32([0.8])}}
    teacher = {
        name: {"params": {"bn": norm, "head": head}, "batch_stats": statistics}
        for name, head in ((BEST, right), (LAST, wrong))
    }
    quickstart = config_lib.load("configs/quickstart.py").copy_and_resolve_references()
    make_teacher(folder / "teacher", default.fp32(quickstart), teacher)

    fields = {"stages": "('step1', 'step2')", "teacher": folder / "teacher", "checkpoint_seconds": 1e6}
    for name, values in (("step1", STEP1), ("step2", STEP2)):
        fields |= {f"{name}.{field}": value for field, value in values.items()} | {f"{name}.batch_size": 4000}
    with pytest.MonkeyPatch.context() as patched, cached_compilation(folder / "compiled"):
        networks = {"onebnet": Student, "resnet": Tiny}
        patched.setattr(stage, "make_network", lambda config, *_, **__: networks[config.model.block]())
        train.run(config_lib.load("configs/quickstart.py", words(fields)), folder / "run")
    return folder / "run", teacher[LAST]


def checkpoint_of(workdir, stage, which):
    """(step, tree, metadata)"""
    return final(workdir / stage)[(LAST, BEST).index(which)]


def test_the_second_stage_begins_with_the_last_parameters_of_the_first(run):
    best, last = checkpoint_of(run[0], "step1", BEST), checkpoint_of(run[0], "step1", LAST)
    assert best[2]["epoch"] < STEP1["epochs"]  # so it does matter which
    assert np.abs(best[1]["params"]["conv"]["kernel"] - last[1]["params"]["conv"]["kernel"]).max() > 0.01
    kept = checkpoint_of(run[0], "step2", LAST)[1]["params"]
    assert jax.tree.structure(kept) == jax.tree.structure(last[1]["params"])
    for mine, its in zip(jax.tree.leaves(kept), jax.tree.leaves(last[1]["params"])):
        assert mine.tobytes() == its.tobytes()
    assert checkpoint.load_run(run[0]).stage == "step2"


def test_running_statistics_go_on_from_the_first_stage(run, pixels):
    for name, passed in (("step1", STEP1["epochs"]), ("step2", STEP1["epochs"] + STEP2["epochs"])):
        found = checkpoint_of(run[0], name, LAST)[1]["batch_stats"]["bn"]
        left = 0.9**passed  # of the first value, 1
        np.testing.assert_allclose(found["var"], [left + (1 - left) * pixels[0].var()], rtol=1e-4)


def second_stage_loss(params, pixels, teacher):
    """The mean of the second stage's loss over all training images."""
    x, labels = pixels
    norm = teacher["batch_stats"]["bn"]
    teacher_logits = linear(teacher["params"], "head", x, norm["mean"], norm["var"])
    logits = linear(params, "conv", x, x.mean(), x.var())
    return wanted_loss(logits, labels, teacher_logits, STEP2).mean()


def test_the_loss_is_that_of_the_labels_and_of_the_teachers_last_checkpoint(run, pixels):
    workdir, teacher = run
    params = checkpoint_of(workdir, "step2", LAST)[1]["params"]
    losses = [line["loss"] for line in lines(workdir / "step2") if line["split"] == "train"]
    assert losses == pytest.approx([float(second_stage_loss(params, pixels, teacher))] * STEP2["epochs"], rel=1e-4)


def test_the_first_stage_learns_the_teachers_errors(run):
    scores = [line["top1"] for line in lines(run[0] / "step1") if line["split"] == "test"]
    assert scores[-1] < 3 < scores[0]


def test_adam_begins_anew_with_the_stages_own_weight_decay(run, pixels):
    """All gradients of the second stage are the same; moments follow from that and the number of steps."""
    workdir, teacher = run
    step, state, _ = checkpoint_of(workdir, "step2", LAST)
    params, count = state["params"], STEP2["epochs"]
    gradient = jax.grad(second_stage_loss)(jax.tree.map(jnp.asarray, params), pixels, teacher)
    gradient["conv"]["kernel"] += STEP2["weight_decay"] * params["conv"]["kernel"]
    (moments,) = [part for part in state["opt_state"] if part and "mu" in part]
    assert step == state["step"] == moments["count"] == count
    for found, g in zip(jax.tree.leaves(moments["mu"]), jax.tree.leaves(gradient)):
        np.testing.assert_allclose(found, (1 - 0.9**count) * g, rtol=1e-3, atol=1e-7)
    for found, g in zip(jax.tree.leaves(moments["nu"]), jax.tree.leaves(gradient)):
        np.testing.assert_allclose(found, (1 - 0.999**count) * g**2, rtol=1e-3, atol=1e-12)


def test_a_run_in_two_stages_is_converted_and_agrees(tmp_path, capsys, monkeypatch):
    """The commands, with real networks on few images: train under a teacher, convert, compare."""
    pytest.importorskip("larq_compute_engine")
    whole = data.open("fashion_mnist_mini")
    few = {name: getattr(whole, name)[:100] for name in ("train_images", "train_labels", "test_images", "test_labels")}
    monkeypatch.setattr(data, "open", lambda *_, **__: dataclasses.replace(whole, **few))
    monkeypatch.setitem(structure.DEPTHS, 8, ((16, 32), (0, 1)))  # a block is enough
    small = {"data.name": "fashion_mnist_mini", "model.depth": 8, "model.width_multiplier": 0.5}
    teacher = config_lib.load("configs/fashionmnist_fp32.py", words(small))
    variables = random_variables(config_lib.structure(teacher), config_lib.input_shape(teacher))
    make_teacher(tmp_path / "teacher", teacher, {BEST: variables, LAST: variables})

    fields = {**small, "model.ds_1d": (32,), "teacher": tmp_path / "teacher"}
    for name in ("step1", "step2"):
        fields |= {f"{name}.epochs": 2, f"{name}.batch_size": 40, f"{name}.learning_rate": 0.01}
    workdir, model = tmp_path / "run", tmp_path / "m.tflite"
    main.main(["--config=configs/fashionmnist_two_stage.py", f"--workdir={workdir}", *words(fields)])
    convert.main([f"--workdir={workdir}", f"--output={model}", "--checkpoint=last"])
    facts = card.read(model)[1]
    assert (facts["source"]["stage"], facts["source"]["step"]) == ("step2", 6)
    assert facts["operators"]["LceBconv2d"] == facts["operators"]["PRELU"] == 3  # 3x1, 1x3 and 3x3
    agree.main([str(model), "--images=40"])
    assert "Every difference is explained" in capsys.readouterr().out
