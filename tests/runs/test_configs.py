"""Every config in configs/, those to come included: it says how it is run, loads, builds, and takes a training step."""

import ast
import dataclasses
import pathlib
import re

import jax
import numpy as np
import pytest
from small_runs import cached_compilation

from onebnet_jax.data import catalog as data_info
from onebnet_jax.networks import cost, families
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import trained
from onebnet_jax.runs.trained import check_same_tree, random_variables
from onebnet_jax.training import stage, steps

CONFIGS = sorted(path for path in pathlib.Path("configs").glob("*.py") if path.stem not in ("__init__", "default"))
DEFAULT = ("fashionmnist_two_stage",)
BATCH = 3  # on one device


def load(path, *overrides):
    """A config; a folder of images has two classes."""
    return config_lib.load(str(path), overrides, assumed=2)


pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module", autouse=True)
def cache():
    with cached_compilation():
        yield


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_the_docstring_gives_the_command(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert re.search(rf"^ *onebnet \w+ .*\b{path.stem}\b", docstring, re.MULTILINE)
    assert len(docstring.splitlines()[0]) > 30 and docstring.splitlines()[0].endswith(".")


# Parameters, storage in MiB and OPs in millions: a new config needs its row.
ROWS = {
    "cifar10_fp32": (11_173_962, 42.625, 555.4),
    "cifar10_reactnet": (11_188_874, 2.085, 16.6),
    "cifar10_typeI": (11_540_106, 3.425, 35.8),
    "cifar10_typeII": (8_587_402, 3.06, 28.2),
    "cifar10_two_stage": (8_587_402, 3.06, 28.2),
    "fashionmnist_conv64_ds64": (219_914, 0.078, 1.1),
    "fashionmnist_ds32_64": (280_714, 0.083, 1.4),
    "fashionmnist_fp32": (272_186, 1.038, 31.0),
    "fashionmnist_two_stage": (280_714, 0.083, 1.4),
    "folder": (1_319_362, 0.674, 6.2),
    "imagenet": (9_102_952, 5.027, 199.5),  # TypeII, where no row is named
    "imagenet_birealnet": (11_689_512, 3.995, 164.0),
    "imagenet_fp32": (11_689_512, 44.592, 1814.1),
    "cifar10_baseline": (11_173_962, 2.029, 16.6),  # Bi-RealNet, where no family is named
    "fashionmnist_baseline": (272_186, 0.051, 0.8),
    "imagenet_reactnet_a": (29_343_592, 7.528, 87.1),
    "imagenet_realtobin": (11_986_920, 5.13, 164.3),
    "imagenet_reactnet": (11_704_424, 4.052, 164.0),
    "imagenet_teacher": (21_797_672, 83.152, 3663.8),
    "imagenet_typeI": (12_055_656, 5.392, 222.7),
    "imagenet_typeII": (9_102_952, 5.027, 199.5),
    "imagenet_typeIII": (9_620_584, 4.822, 181.7),
    "imagenet_typeII_scratch": (9_102_952, 5.027, 199.5),
    "imagenet_xnornet": (11_688_616, 3.999, 164.0),
    "imagenette": (1_319_362, 0.674, 6.2),
    "quickstart": (280_714, 0.083, 1.4),
}


def test_its_network_is_the_one_that_is_meant(path):
    run = config_lib.experiment(load(path))
    counts = cost.total(cost.layers(run.structure, run.data.info.shape))
    assert ROWS[path.stem] == (counts.parameters, round(counts.storage_mib, 3), round(counts.ops / 1e6, 1))


def test_its_json_reads_back_as_the_same(path, tmp_path):
    stage = load(path).stages[0]
    config = load(path, f"--config.{stage}.learning_rate=0.1", f"--config.{stage}.epochs=99")
    (tmp_path / "config.json").write_text(config.to_json(indent=2))
    again, default = config_lib.load_json(tmp_path / "config.json"), config_lib.load("configs/default.py")
    assert again == config and config_lib.experiment(again) == config_lib.experiment(config)
    types = {name: type(value) for name, value in config_lib.flat(again).items()}
    assert types == {name: type(value) for name, value in config_lib.flat(default).items()}


def last_stage(structure):
    """The stem, and the first block of the stage with the most channels: to compile all of them would take long."""
    stem, *units = structure.units
    units = [unit for unit in units if unit.stage == units[-1].stage and "block1" in unit.name]
    return dataclasses.replace(structure, units=(dataclasses.replace(stem, out_channels=units[0].in_channels), *units))


FAMILIES = ("birealnet", "xnornet", "realtobin", "reactnet_a", "resnet")


@pytest.mark.parametrize("name", ["cifar10_baseline", "fashionmnist_baseline"])
@pytest.mark.parametrize("family", FAMILIES)
def test_baselines_of_every_family(name, family):
    """Each on the data set that its name says, by the recipe of the paper's own network there."""
    config = config_lib.load(f"configs/{name}.py:{family}")
    model, own = config.model, {"cifar10_baseline": "cifar10_typeII", "fashionmnist_baseline": "fashionmnist_ds32_64"}
    others = [value for field, value in config.items() if field != "model"]
    assert others == [value for field, value in config_lib.load(own[name]).items() if field != "model"]
    assert model.family == family and model.stem == "cifar"
    assert (model.estimator == "clip") == (family in ("xnornet", "realtobin"))
    assert (model.weight_scale == "none") == (family == "realtobin")


ARGUMENTS = {"folder": ["fp32"], "imagenet_realtobin": ["1", "2"], "fashionmnist_baseline": ["reactnet_a"]}
WITH_ARGUMENTS = [pathlib.Path(f"configs/{name}.py:{kind}") for name, kinds in ARGUMENTS.items() for kind in kinds]


def aspects(path):
    """What the code of a config's steps follows from: its kinds of units, and its kinds of stages; without numbers."""
    experiment = config_lib.experiment(load(path))
    plain = dict(name="", module="", parts="", stage=0, in_channels=0, out_channels=0)
    units = [dataclasses.replace(unit, **plain) for unit in last_stage(experiment.structure).units]
    stages = [
        (
            each.label_weight > 0,
            each.teacher_weight > 0,
            each.attention_weight > 0,
            each.binarization,
            each.optimizer.name,
            experiment.dtype,
        )
        for each in experiment.stages
    ]
    return {*units, *stages}


def different():
    """The configs without those all of whose aspects others have."""
    found, seen = [], set()
    for path in sorted([*CONFIGS, *WITH_ARGUMENTS], key=lambda path: -len(aspects(path))):
        if aspects(path) - seen:
            found.append(path)
            seen |= aspects(path)
    return found


@pytest.mark.parametrize(
    ("path", "part"),
    [
        *(
            pytest.param(path, last_stage, id=path.name, marks=[pytest.mark.slow] * (path.stem not in DEFAULT))
            for path in different()
        ),
        *(
            pytest.param(path, lambda whole: whole, marks=pytest.mark.slow, id=f"{path.name}, whole")
            for path in [*CONFIGS, *WITH_ARGUMENTS]
        ),
    ],
)
def test_it_takes_a_training_step_in_each_stage(path, part):
    """At an eighth of the width, ImageNet in 32x32; a stage begins with what the one before left.

    By default those of DEFAULT do; the slow tests take every kind of unit and of stage alone, and all configs whole.
    """
    config = load(path, "--config.model.width_multiplier=0.125")
    if data_info.DATASETS[config.data.name].streamed:
        config.data.image_size = 32
        config_lib.check(config)
    experiment = config_lib.experiment(config)
    experiment = dataclasses.replace(experiment, structure=part(experiment.structure))
    info = experiment.data.info
    model = dict(depth=config.model.depth, stem=config.model.stem, width_multiplier=0.125)
    resnet = part(families.build("resnet", **model, num_classes=info.num_classes, channels=info.shape[2]))
    teacher = dataclasses.replace(
        trained.untrained(config), structure=resnet, variables=random_variables(resnet, info.shape, seed=1)
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, BATCH, *info.shape)).astype(np.uint8)
    labels = rng.integers(0, info.num_classes, (1, BATCH)).astype(np.int32)
    variables, one = random_variables(experiment.structure, info.shape), jax.devices()[:1]
    for each in experiment.stages:
        before = variables
        learner = stage.Learner(experiment, each, BATCH, teacher if each.teacher_weight else None)
        train_step = jax.pmap(learner.step, steps.AXIS, out_axes=None, in_axes=(None, None, 0, 0, 0), devices=one)
        constants = jax.tree.map(lambda copies: copies[0], learner.constants)
        state = steps.TrainState.first(before, learner.optimizer)
        state = train_step(state, constants, images, labels, np.ones((1, BATCH), np.float32))
        state = steps.check_finite(jax.device_get(state))
        assert int(state.step) == 1 and int(state.bad_step) == -1
        assert int(state.sums.count) == BATCH and np.isfinite(state.sums.loss)
        variables = check_same_tree(state.variables, before, "The step", "the test")
        moved = jax.tree.map(lambda a, b: np.any(a != b), variables, before)
        assert np.mean(jax.tree.leaves(moved)) > 0.9
