"""Every config in configs/, those to come included: it says how it is run, loads, and trains and scores one batch."""

import ast
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax import config as config_lib
from onebnet_jax import data, models, optim, stage, steps
from onebnet_jax.structure import Structure

CONFIGS = sorted(path for path in pathlib.Path("configs").glob("*.py") if path.stem not in ("__init__", "default"))
QUICK = ("fashionmnist_fp32", "imagenet_typeIII")  # test_resume.py trains quickstart; each takes long to compile
TRAINED = [pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow) for path in CONFIGS]
SMALLER = ["--config.model.width_multiplier=0.125"]

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(params=CONFIGS, ids=lambda path: path.stem)
def path(request):
    return request.param


def test_the_docstring_gives_the_command(path):
    docstring = ast.get_docstring(ast.parse(path.read_text()))
    assert re.search(rf"^ *python -m onebnet_jax\.\w+ .*\b{path.stem}\b", docstring, re.MULTILINE)
    assert len(docstring.splitlines()[0]) > 30 and docstring.splitlines()[0].endswith(".")


def test_it_loads_with_a_known_data_set_and_stages(path):
    config = config_lib.load(str(path))
    assert config.data.name in data.DATASETS
    assert all(name in config for name in config.stages)
    assert config_lib.flat(config).keys() == config_lib.flat(config_lib.load("configs/default.py")).keys()


@pytest.mark.parametrize("path", TRAINED, ids=lambda path: path.stem)
def test_it_trains_and_scores_a_batch(path):
    """Of two images, in each of its stages, at an eighth of the width."""
    config = config_lib.load(str(path), SMALLER)
    info = data.DATASETS[config.data.name]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1, 3, *info.shape), np.uint8)
    labels = rng.integers(0, info.num_classes, (1, 3)).astype(np.int32)
    variables = None
    for name in config.stages:
        fields = config[name]
        teacher, constants = None, {}
        if fields.teacher_weight:
            teacher = models.Network(Structure(8, "resnet", width_multiplier=0.125, num_classes=info.num_classes))
            constants = jax.jit(teacher.init)(jax.random.key(1), jnp.zeros((1, *info.shape)))
        network = stage.make_network(config, name)
        batch = stage.make_input(config, batch_size=2, devices=1)
        optimizer = optim.adam(optim.poly_schedule(fields.learning_rate, 1, 2), fields.weight_decay)
        state = stage.initial_state(network, optimizer, info.shape, jax.random.key(config.seed))
        if variables is not None:
            state = state.replace(**stage.check_same_tree(variables, {k: getattr(state, k) for k in variables}))
        train_step = steps.make_train_step(network.apply, optimizer, stage.make_loss(fields, teacher))
        train_steps = steps.make_train_steps(train_step, batch, jax.random.key(0))
        devices = jax.devices()[:1]
        in_axes = (None, None, 0, 0, None, None)
        train_steps = jax.pmap(train_steps, steps.AXIS, in_axes=in_axes, out_axes=None, devices=devices)
        after = jax.device_get(train_steps(state, constants, images, labels, 0, 2))
        assert int(after.bad_step) == -1 and int(after.sums.count) == 3 and np.isfinite(after.sums.loss)
        moved = jax.tree.map(lambda a, b: np.any(a != b), after.params, jax.device_get(state.params))
        assert np.mean(jax.tree.leaves(moved)) > 0.9

        eval_steps = steps.make_eval_steps(network.apply, batch)
        eval_steps = jax.pmap(eval_steps, steps.AXIS, in_axes=(None, 0, 0, None, None), out_axes=None, devices=devices)
        variables = {"params": after.params, "batch_stats": after.batch_stats}
        sums = eval_steps(variables, images, labels, 0, 2)
        assert int(sums.count) == 3 and int(sums.top1) <= int(sums.top5) <= 3 and np.isfinite(sums.loss)
