"""The deployment plan gives the trained network's answers, whatever the structure. Without TensorFlow and LCE."""

import dyadic
import jax
import numpy as np
import pytest
from onebnet_jax.export.untrained import random_variables

from onebnet_jax.errors import UserError
from onebnet_jax.export import fold, reference
from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.networks.network import Network, OneBNetUnit
from onebnet_jax.networks.structure import Structure


@pytest.fixture(autouse=True)
def tiny_depth(monkeypatch):
    monkeypatch.setitem(structure_lib.DEPTHS, 6, dyadic.TINY)


def logits(structure, binarization, variables, images):
    return np.asarray(jax.jit(Network(structure, binarization).apply)(variables, images))


CASES = {
    "2-D": (dict(), Binarization()),
    "1-D, pad 1, ReLU": (dict(conv_1d=(8, 16), ds_1d=(16,), pad_value=1, stem_relu=True), Binarization()),
    "1-D downsampling, odd width, ImageNet stem": (
        dict(ds_1d=(16,), width_multiplier=1.7, stem="imagenet"),
        Binarization(),
    ),
    "stage 1": (dict(conv_1d=(16,)), Binarization(weights=False)),
    "stage 1, pad 1": (dict(ds_1d=(16,), pad_value=1), Binarization(weights=False)),
    "float activations": (dict(ds_1d=(16,), pad_value=1), Binarization(activations=False)),
    "all float": (dict(), Binarization(activations=False, weights=False)),
    "FP32": (dict(block="resnet", stem_relu=True), Binarization()),
    "FP32, torch's padding": (dict(block="resnet", stem="imagenet", padding="torch"), Binarization()),
}


@pytest.mark.parametrize("case", CASES)
def test_plan_equals_network(case):
    fields, binarization = CASES[case]
    structure = Structure(6, **fields)
    shape = (21, 18, 3)  # odd sizes on the way, so that average pools stick out
    variables = random_variables(structure, shape)
    pixels = np.random.default_rng(1).integers(0, 256, (4, *shape)).astype(np.float32)
    mean, std = np.float32([0.5, 0.4, 0.3]), np.float32([0.2, 0.25, 0.3])
    images = (pixels / 255 - mean) / std
    expected = logits(structure, binarization, variables, images)
    close = dict(rtol=0, atol=1e-5 * np.abs(expected).max())
    for folded in (True, False):
        plan = fold.deployment_plan(structure, binarization, variables, shape, folded)
        np.testing.assert_allclose(reference.run(plan, images), expected, **close)
    raw = fold.deployment_plan(structure, binarization, variables, shape, normalization=(mean, std))
    np.testing.assert_allclose(reference.run(raw, pixels), expected, **close)


@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("one_d", [False, True])
def test_exact_on_dyadic_values(pad_value, one_d):
    stages = dict(conv_1d=(8,), ds_1d=(16,)) if one_d else {}
    structure = Structure(6, pad_value=pad_value, **stages)
    variables, images = dyadic.variables(structure), dyadic.images()
    expected = logits(structure, Binarization(), variables, images)
    assert np.ptp(expected) > 1
    for folded in (True, False):
        plan = fold.deployment_plan(structure, Binarization(), variables, dyadic.IMAGE_SHAPE, folded)
        np.testing.assert_array_equal(reference.run(plan, images), expected)


def test_dyadic_networks_hit_thresholds():
    structure = Structure(6, ds_1d=(16,))
    variables, images = dyadic.variables(structure), dyadic.images()
    _, state = Network(structure).apply(
        variables, images, capture_intermediates=lambda m, _: isinstance(m, OneBNetUnit), mutable=["intermediates"]
    )
    units = structure_lib.units(structure)
    assert len(units) == 5
    for before, unit in zip(units, units[1:], strict=False):
        x = np.asarray(state["intermediates"][before.name]["__call__"][0])
        alpha = variables["params"][unit.name]["rsign"]["alpha"]
        assert np.sum((x == alpha) & (alpha == 0)) > 10
        assert np.sum((x == alpha) & (alpha != 0)) > 10


@pytest.mark.parametrize("pad_value", [0, 1])
def test_rsign_is_minus_one_at_the_threshold(pad_value):
    tiny = np.finfo(np.float32).tiny
    alpha = np.float32([0, 1, -1, 0.1, -0.1, 3e4, -3e-20, 1e-30, tiny, -tiny])
    threshold, reverse = fold.rsign(alpha, pad_value)
    assert reverse == (pad_value == 0)
    for x in (alpha, np.nextafter(alpha, np.float32(np.inf)), np.nextafter(alpha, np.float32(-np.inf)), 0 * alpha):
        clear = (x == alpha) | (np.abs(x - alpha) >= tiny)  # XLA and some processors take smaller numbers for zero
        bit = (threshold - x if reverse else x - threshold) >= 0
        np.testing.assert_array_equal((bit != reverse)[clear], (x > alpha)[clear])
        assert clear.sum() >= len(alpha) - 3


def test_folding_leaves_two_additions_per_unit():
    structure = Structure(6, ds_1d=(16,))
    variables = random_variables(structure, (8, 8, 3))
    for folded, additions in ((True, 2), (False, 4)):
        plan = fold.deployment_plan(structure, Binarization(), variables, (8, 8, 3), folded)
        assert len(plan.units) == 5
        for unit in plan.units:
            count = unit.operators()
            assert count["ADD"] + count["SUB"] == additions
            assert count["LceQuantize"] == count["LceBconv2d"] == count["PRELU"] == 1


def test_binary_kernels_are_plus_and_minus_one_even_of_zeros():
    structure = Structure(6)
    variables = dyadic.variables(structure)
    kernel = variables["params"]["stage1_block1_conv1"]["conv"]["kernel"]
    assert (kernel == 0).any()
    for pad_value, sign in ((0, -1), (1, 1)):
        structure = Structure(6, pad_value=pad_value)
        plan = fold.deployment_plan(structure, Binarization(), variables, dyadic.IMAGE_SHAPE)
        np.testing.assert_array_equal(plan.units[0].conv.kernel, sign * np.where(kernel > 0, 1, -1))


def test_refuses_values_that_are_not_finite():
    structure = Structure(6)
    variables = random_variables(structure, (8, 8, 3))
    variables["params"]["stage1_block1_conv2"]["rprelu"]["zeta"][3] = np.nan
    with pytest.raises(UserError, match="^params/stage1_block1_conv2/rprelu/zeta of the network"):
        fold.deployment_plan(structure, Binarization(), variables, (8, 8, 3))
