"""A checked config as plain data."""

import dataclasses

import pytest

from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs import config
from onebnet_jax.runs.experiment import Data
from onebnet_jax.runs.optim import Optimizer


def experiment(path, *fields):
    return config.experiment(config.load(f"configs/{path}.py", [f"--config.{field}" for field in fields]))


def test_every_field_arrives_at_its_place():
    """Each of a stage has a value of its own, so that no two can be taken for each other."""
    fields = dict(batch_size=11, epochs=12, learning_rate=0.13, warmup_epochs=4, weight_decay=0.15, momentum=0.16)
    fields |= dict(
        optimizer="sgd",
        schedule="cosine",
        label_weight=0.17,
        label_smoothing=0.18,
        teacher_weight=0.19,
        temperature=20.0,
    )
    words = [f"step1.{name}={value}" for name, value in fields.items()]
    model = ["estimator=tanh", "window=1.5", "weight_estimator=reste", "weight_scale=none", "dtype=bfloat16"]
    run = experiment(
        "cifar10_two_stage",
        *words,
        *(f"model.{field}" for field in model),
        "seed=3",
        "checkpoint_seconds=7",
        "eval_every_epochs=2",
    )
    assert [stage.name for stage in run.stages] == ["step1", "step2"] and run.stage("step2") is run.stages[1]
    first = run.stages[0]
    assert first.optimizer == Optimizer("sgd", 0.13, "cosine", 4, 0.15, 0.16)
    assert (
        first.binarization == Binarization(True, False, "tanh", 1.5, "reste", "none")
        and run.stages[1].binarization.weights
    )
    for name in ("batch_size", "epochs", "label_weight", "label_smoothing", "teacher_weight", "temperature"):
        assert getattr(first, name) == fields[name]
    assert (run.seed, run.dtype, run.teacher) == (3, "bfloat16", "runs/cifar10_fp32")
    assert (run.checkpoint_seconds, run.eval_every_epochs) == (7.0, 2)
    assert run.data == Data("cifar10", crop_padding=4, flip=True)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("fashionmnist_conv64_ds64", dict(family="onebnet", depth=20, conv_1d=(64,), ds_1d=(64,), channels=1)),
        ("imagenet_birealnet", dict(family="birealnet")),
        ("imagenet_xnornet", dict(family="xnornet")),
        ("imagenet_teacher", dict(family="resnet", depth=34, stem="imagenet", padding="torch", num_classes=1000)),
    ],
)
def test_the_network_is_what_its_family_builds(path, fields):
    """A family gets those of the fields that it takes, and the classes and channels of the data set."""
    built, structure = families.build(**fields), experiment(path).structure
    assert dataclasses.replace(structure, recipe=()) == dataclasses.replace(built, recipe=())
    assert families.build(**dict(structure.recipe)) == structure


def test_images_have_the_size_asked_for():
    assert experiment("imagenet_typeI").data.info.shape == (224, 224, 3)
    assert experiment("imagenet_typeI", "data.image_size=96").data.info.shape == (96, 96, 3)
