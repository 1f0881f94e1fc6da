"""Every config in configs/, those to come included: it says how it is run, loads, builds, and takes a training step."""

import ast
import pathlib
import re

import jax
import numpy as np
import pytest
from onebnet_jax.export.untrained import random_variables
from small_runs import cached_compilation

from onebnet_jax.data import catalog as data_info
from onebnet_jax.networks import network as models
from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.networks.structure import Structure
from onebnet_jax.runs import config as config_lib
from onebnet_jax.training import optim, stage, steps

CONFIGS = sorted(path for path in pathlib.Path("configs").glob("*.py") if path.stem != "default")
BATCH = 3

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    with cached_compilation(tmp_path_factory.mktemp("compiled")):
        yield


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_the_docstring_gives_the_command(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert re.search(rf"^ *python -m onebnet_jax\.\w+ .*\b{path.stem}\b", docstring, re.MULTILINE)
    assert len(docstring.splitlines()[0]) > 30 and docstring.splitlines()[0].endswith(".")


def test_it_loads_with_a_known_data_set_and_stages(path):
    config = config_lib.load(str(path))
    assert config.data.name in data_info.DATASETS
    assert all(name in config for name in config.stages)
    assert config_lib.flat(config).keys() == config_lib.flat(config_lib.load("configs/default.py")).keys()


@pytest.fixture(params=["last stage", pytest.param("whole", marks=pytest.mark.slow)])
def depth(request, monkeypatch):
    """Networks of which only the stage with the most channels is there: to compile is what takes the time."""
    if request.param == "last stage":
        for depth, (widths, counts) in structure_lib.DEPTHS.items():
            monkeypatch.setitem(structure_lib.DEPTHS, depth, (widths, (0,) * (len(counts) - 1) + (1,)))


@pytest.mark.usefixtures("depth")
def test_it_takes_a_training_step_in_each_stage(path):
    """At an eighth of the width, ImageNet in 32x32; a stage begins with what the one before left."""
    config = config_lib.load(str(path), ["--config.model.width_multiplier=0.125"])
    info = data_info.DATASETS[config.data.name]
    if info.streamed:
        config.data.image_size = 32
        config_lib.check(config)
    shape = config_lib.input_shape(config)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(1, BATCH, *shape)).astype(np.float32)
    labels = rng.integers(0, info.num_classes, (1, BATCH)).astype(np.int32)
    variables = random_variables(config_lib.structure(config), shape)
    for name in config.stages:
        before = variables
        fields, network = config[name], stage.make_network(config, name)
        teacher, constants = None, {}
        if fields.teacher_weight:
            structure = Structure(8, "resnet", width_multiplier=0.125, num_classes=info.num_classes)
            teacher, constants = models.Network(structure), random_variables(structure, shape, seed=1)
        optimizer = optim.adam(optim.poly_schedule(fields.learning_rate, 1, 2), fields.weight_decay)
        state = steps.TrainState(
            0, **before, opt_state=optimizer.init(before["params"]), sums=steps.Sums.zero(), bad_step=-1
        )
        train_step = steps.make_train_step(network.apply, optimizer, stage.make_loss(fields, teacher))
        train_step = jax.pmap(
            train_step, steps.AXIS, in_axes=(None, None, 0, 0, 0), out_axes=None, devices=jax.devices()[:1]
        )
        mask = np.ones((1, BATCH), np.float32)
        state = steps.check_finite(jax.device_get(train_step(state, constants, images, labels, mask)))
        assert int(state.step) == 1 and int(state.bad_step) == -1
        assert int(state.sums.count) == BATCH and np.isfinite(state.sums.loss)
        variables = stage.check_same_tree(stage.variables_of(state), before)
        moved = jax.tree.map(lambda a, b: np.any(a != b), variables, before)
        assert np.mean(jax.tree.leaves(moved)) > 0.9
