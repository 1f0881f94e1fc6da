"""Diagnostics: the shares by their definitions, and a run that is stopped and goes on writes the same."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import BODY, QUICK, STEM, assert_same_run, lines, shrunken, tiny_maps, train

from onebnet_jax.errors import Interrupted
from onebnet_jax.networks import families
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Structure
from onebnet_jax.ops import losses
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.trained import random_variables
from onebnet_jax.training import diagnostics
from onebnet_jax.training.steps import Input

pytestmark = pytest.mark.usefixtures("quick_compilation")
STRUCTURE = Structure((STEM, BODY), num_classes=10)


@functools.cache
def measured():
    """(shares, variables, normalized images) of a batch of random images and random parameters."""
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (12, 28, 28, 1), np.uint8), rng.integers(0, 10, 12)
    variables = random_variables(STRUCTURE, (28, 28, 1))
    kernel = rng.uniform(-1.5, 1.5, (3, 3, 16, 16)).astype(np.float32)  # a third lies outside of the window of weights
    variables["params"]["body"]["conv"]["kernel"] = kernel
    batch = Input(12, 1, mean=(0.3,), std=(0.4,))
    network = Network(STRUCTURE, axis_name="devices")
    loss = lambda logits, labels, images, params, constants: losses.cross_entropy(logits, labels)  # noqa: E731
    shares = diagnostics.measurer(network, loss, batch, images, labels, {})(variables, 0.5)
    return shares, variables, (images / np.float32(255) - 0.3) / 0.4


def test_shares_of_signs():
    shares, variables, images = measured()
    params = variables["params"]
    maps = np.asarray(tiny_maps(params, jnp.asarray(images, jnp.float32)), np.float64)
    maps = (maps - maps.mean((0, 1))) / np.sqrt(maps.var((0, 1)) + 1e-5)  # the batch's own statistics, as in training
    maps = np.maximum(maps * params["stem_bn"]["scale"] + params["stem_bn"]["bias"], 0)
    shifted = maps - params["body"]["rsign"]["alpha"]
    assert shares["plus/body"] == pytest.approx(np.mean(shifted > 0), abs=1e-3)
    assert shares["in_window/body"] == pytest.approx(np.mean(abs(shifted) <= 1), abs=1e-3)


def test_weights_outside_of_the_window_have_no_gradient():
    shares, variables, _ = measured()
    kernel = variables["params"]["body"]["conv"]["kernel"]
    assert shares["zero_gradient/body"] == pytest.approx(np.mean(abs(kernel) > 1), abs=1e-6)
    assert 0.25 < shares["zero_gradient/body"] < 0.4


def test_flipped_signs():
    params = measured()[1]["params"]
    kernel = params["body"]["conv"]["kernel"]
    other = jax.tree.map(np.copy, params)
    other["body"]["conv"]["kernel"][0, 0, 0, :9] *= -1
    signs = [diagnostics.signs(STRUCTURE, each) for each in (params, other)]
    assert diagnostics.flipped(*signs) == {"flipped/body": 9 / kernel.size}


@pytest.mark.slow
@pytest.mark.usefixtures("tiny")
def test_a_stopped_run_writes_the_same(tmp_path, monkeypatch):
    """launch/test.sh -m slow -k stopped_run"""
    shrunk = {name: shrunken(family, BODY) for name, family in families.FAMILIES.items()}
    monkeypatch.setattr(families, "FAMILIES", shrunk)
    fields = QUICK | {"train.epochs": 2, "diagnostics": True, "checkpoint_seconds": 0.0}
    config = config_lib.load("quickstart", [f"--config.{name}={value}" for name, value in fields.items()])
    train(config, tmp_path / "whole")
    calls = itertools.count()
    with pytest.raises(Interrupted, match="step (9|1[0-5]) "):  # in the second epoch
        train(config, tmp_path / "cut", stopping=lambda: next(calls) > 9)
    train(config, tmp_path / "cut")
    assert_same_run(tmp_path / "whole", tmp_path / "cut")
    found = [line for line in lines(tmp_path / "whole" / "train") if line["split"] == "diagnostics"]
    assert [line["epoch"] for line in found] == [1, 2]
    assert all(0 < line["flipped/body"] < 0.5 for line in found)


def test_it_is_refused_where_nothing_is_binarized():
    with pytest.raises(ValueError, match="diagnostics would have no effect"):
        config_lib.load("fashionmnist_fp32", ["--config.diagnostics=True"])
