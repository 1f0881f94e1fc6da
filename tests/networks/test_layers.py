"""First values and options of the layers; tests/networks/test_network.py has their equations."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax.networks.layers import BatchNorm, BinaryConv, Conv, RPReLU, RSign
from onebnet_jax.networks.structure import Binarization, Unit
from onebnet_jax.ops.binarize import binarize_kernel, binary_conv
from onebnet_jax.ops.convolution import conv
from onebnet_jax.ops.unit import value

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.array(np.random.default_rng(0).integers(-4, 5, (3, 5, 4, 6)) / 4, jnp.float32)
KEY = jax.random.key(0)


def test_first_values_of_parameters_per_channel():
    variables = [layer.init(KEY, 6) for layer in (RSign(), RPReLU())] + [BatchNorm().init(KEY, X, None)]
    first = {key[-1].key: set(leaf.tolist()) for key, leaf in jax.tree_util.tree_leaves_with_path(variables)}
    expected = dict(alpha=0, gamma=0, beta=0.25, zeta=0, scale=1, bias=0, mean=0, var=1)
    assert first == {name: {value} for name, value in expected.items()}


@pytest.mark.parametrize(("activations", "weights"), list(itertools.product([True, False], repeat=2)))
def test_binary_conv_in_its_four_combinations(activations, weights):
    """One parameter serves all four; each option goes where it belongs; a float map is surrounded by zeros."""
    unit = Unit("unit", (3, 1), (2, 1), 6, 7, pad_value=1)
    layer = BinaryConv(unit, Binarization(activations, weights, "tanh", 0.7, "reste", "none"))
    kernel = 0.5 * jax.random.normal(KEY, (3, 1, 6, 7))
    assert jax.tree.map(jnp.shape, layer.init(KEY, X, None)) == {"params": {"kernel": kernel.shape}}

    def ours(x, kernel):
        return value(layer.apply({"params": {"kernel": kernel}}, x, None, 0.3))

    def expected(x, kernel):
        kernel = binarize_kernel(kernel, 0.3, "reste", 1.0, "none") if weights else kernel
        return binary_conv(x, kernel, 0.3, (2, 1), 1, "tanh", 0.7) if activations else conv(x, kernel, (2, 1))

    def value_and_gradients(function):
        y, vjp = jax.vjp(function, X, kernel)
        return y, *vjp(jnp.ones_like(y))

    results = zip(*jax.jit(lambda: [value_and_gradients(f) for f in (ours, expected)])(), strict=True)
    for computed, wanted in results:
        np.testing.assert_allclose(computed, wanted, rtol=1e-4, atol=1e-5)


def first_kernel(layer):
    """The first values of a 3x1 kernel from 128 to 256 channels."""
    kernel = layer.init(KEY, jnp.zeros((1, 4, 4, 128)), *[None] * isinstance(layer, BinaryConv))["params"]["kernel"]
    assert kernel.shape == (3, 1, 128, 256)
    assert abs(jnp.mean(kernel)) < 1e-3
    return kernel


def test_float_kernels_start_as_he_et_al_with_the_fan_out():
    kernel = first_kernel(Conv(256, (3, 1)))
    assert jnp.std(kernel) == pytest.approx(np.sqrt(2 / (3 * 1 * 256)), rel=0.01)


@pytest.mark.parametrize("weights", [True, False])
def test_binarized_kernels_start_uniform_within_the_root_of_the_fan_in(weights):
    """Float ones too, as the stage that follows binarizes them."""
    kernel = first_kernel(BinaryConv(Unit("unit", (3, 1), (1, 1), 128, 256), Binarization(weights=weights)))
    bound = 1 / np.sqrt(3 * 1 * 128)
    assert jnp.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert 0.99 * bound < jnp.max(jnp.abs(kernel)) <= bound
