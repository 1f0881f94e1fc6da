"""A checked config as plain data."""

import dataclasses

import pytest

from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs import config
from onebnet_jax.runs.experiment import Data
from onebnet_jax.runs.optim import Optimizer

OF_STAGE = dict(
    batch_size=11, epochs=12, label_weight=0.17, label_smoothing=0.18, teacher_weight=0.19, temperature=20.0
)
OF_OPTIMIZER = dict(learning_rate=0.13, schedule="cosine", warmup_epochs=4, weight_decay=0.15, momentum=0.16)
OF_OPTIMIZER |= dict(centre_weights=True)
OF_SIGNS = dict(estimator="tanh", window=1.5, weight_estimator="reste", weight_scale="none")


def experiment(path, **fields):
    return config.experiment(config.load(f"configs/{path}.py", [f"--config.{k}={v}" for k, v in fields.items()]))


def test_every_field_arrives_at_its_place():
    fields = {f"step1.{name}": value for name, value in (OF_STAGE | OF_OPTIMIZER | {"optimizer": "sgd"}).items()}
    fields |= {f"model.{name}": value for name, value in (OF_SIGNS | {"dtype": "bfloat16"}).items()}
    run = experiment("cifar10_two_stage", **fields, seed=3, checkpoint_seconds=7.5, eval_every_epochs=2)
    first, second = run.stages
    assert (first.name, second.name) == ("step1", "step2")
    assert first.optimizer == Optimizer("sgd", **OF_OPTIMIZER)
    assert first.binarization == Binarization(weights=False, **OF_SIGNS) and second.binarization.weights
    assert {name: getattr(first, name) for name in OF_STAGE} == OF_STAGE
    assert (run.seed, run.dtype, run.checkpoint_seconds, run.eval_every_epochs) == (3, "bfloat16", 7.5, 2)
    assert run.data == Data("cifar10", crop_padding=4, flip=True) and run.teacher == "runs/cifar10_fp32"


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
    assert experiment("imagenet_typeI", **{"data.image_size": 96}).data.info.shape == (96, 96, 3)
