"""The equations, first values and options of the layers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax.networks.layers import BatchNorm, Binarization, BinaryConv, Conv, RPReLU, RSign, average_pool
from onebnet_jax.ops.binarize import binarize_kernel, sign
from onebnet_jax.ops.convolution import conv

pytestmark = pytest.mark.usefixtures("quick_compilation")

X = jnp.array(np.random.default_rng(0).integers(-4, 5, (3, 5, 4, 6)) / 4, jnp.float32)
KEY = jax.random.key(0)
MASK = jnp.array([1.0, 1.0, 0.0])


def per_channel(seed):
    return jnp.array(np.random.default_rng(seed).normal(size=X.shape[-1]), jnp.float32)


def test_rsign():
    variables = RSign().init(KEY, X)
    assert variables["params"]["alpha"].tolist() == [0.0] * 6
    np.testing.assert_array_equal(RSign().apply(variables, X), X)
    alpha = per_channel(1)
    np.testing.assert_array_equal(RSign().apply({"params": {"alpha": alpha}}, X), X - alpha)


def test_rprelu():
    params = RPReLU().init(KEY, X)["params"]
    assert {name: set(value.tolist()) for name, value in params.items()} == {
        "gamma": {0.0},
        "beta": {0.25},
        "zeta": {0.0},
    }
    gamma, beta, zeta = per_channel(1), per_channel(2), per_channel(3)
    y = RPReLU().apply({"params": {"gamma": gamma, "beta": beta, "zeta": zeta}}, X)
    np.testing.assert_allclose(y, np.where(X - gamma > 0, X - gamma, beta * (X - gamma)) + zeta, rtol=1e-6)


def test_batch_norm_in_training_and_evaluation():
    layer = BatchNorm()
    variables = layer.init(KEY, X, MASK)
    stats = variables["batch_stats"]
    assert (stats["mean"].tolist(), stats["var"].tolist()) == ([0.0] * 6, [1.0] * 6)
    params = {"scale": per_channel(1), "bias": per_channel(2)}
    stats = {"mean": per_channel(3), "var": per_channel(4) ** 2}
    variables = {"params": params, "batch_stats": stats}

    counted = np.float64(X[:2])
    mean, var = counted.mean((0, 1, 2)), counted.var((0, 1, 2))
    y, updates = layer.apply(variables, X, MASK, mutable=["batch_stats"])
    expected = (X - mean) / np.sqrt(var + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    # Momentum 0.9, the biased variance.
    np.testing.assert_allclose(updates["batch_stats"]["mean"], 0.9 * stats["mean"] + 0.1 * mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(updates["batch_stats"]["var"], 0.9 * stats["var"] + 0.1 * var, rtol=1e-4)

    y, updates = layer.apply(variables, X, None, mutable=["batch_stats"])
    expected = (X - stats["mean"]) / np.sqrt(stats["var"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    jax.tree.map(np.testing.assert_array_equal, updates["batch_stats"], stats)


@pytest.mark.parametrize(("activations", "weights"), [(True, True), (True, False), (False, True), (False, False)])
def test_binary_conv_in_its_four_combinations(activations, weights):
    """One parameter serves all four; padding with ones concerns binarized maps alone."""
    layer = BinaryConv(7, (3, 1), (2, 1), Binarization(activations, weights), pad_value=1)
    variables = layer.init(KEY, X)
    assert jax.tree.map(jnp.shape, variables) == {"params": {"kernel": (3, 1, 6, 7)}}
    kernel = variables["params"]["kernel"]
    expected = conv(
        sign(X) if activations else X,
        binarize_kernel(kernel) if weights else kernel,
        strides=(2, 1),
        pad_value=1 if activations else 0,
    )
    y = layer.apply(variables, X)
    assert y.shape == (3, 3, 4, 7)
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("estimator", ["clip", "poly"])
def test_binary_conv_passes_estimator_and_window_on(estimator):
    """A 1x1 kernel of ones shows the slope: 1 or 2 - 2|x| at window 1, so 1 or (2 - |x|) / 2 at window 2."""
    layer = BinaryConv(1, (1, 1), (1, 1), Binarization(True, False, estimator, 2.0), pad_value=0)
    x = jnp.array([-2.5, -1.5, 0.0, 1.0]).reshape(1, 1, 4, 1)
    variables = {"params": {"kernel": jnp.ones((1, 1, 1, 1))}}
    slope = jax.grad(lambda x: jnp.sum(layer.apply(variables, x)))(x)
    expected = {"clip": [0.0, 1.0, 1.0, 1.0], "poly": [0.0, 0.25, 1.0, 0.5]}
    assert slope.ravel().tolist() == expected[estimator]


def first_kernel(layer):
    """The first values of a 3x1 kernel from 128 to 256 channels."""
    kernel = layer.init(KEY, jnp.zeros((1, 4, 4, 128)))["params"]["kernel"]
    assert kernel.shape == (3, 1, 128, 256)
    assert abs(jnp.mean(kernel)) < 1e-3
    return kernel


def test_float_kernels_start_as_he_et_al_with_the_fan_out():
    kernel = first_kernel(Conv(256, (3, 1)))
    assert jnp.std(kernel) == pytest.approx(np.sqrt(2 / (3 * 1 * 256)), rel=0.01)
    assert jnp.max(jnp.abs(kernel)) > 3 * jnp.std(kernel)


@pytest.mark.parametrize("weights", [True, False])
def test_binarized_kernels_start_uniform_within_the_root_of_the_fan_in(weights):
    """Float ones too, as the stage that follows binarizes them."""
    kernel = first_kernel(BinaryConv(256, (3, 1), (1, 1), Binarization(weights=weights), 0))
    bound = 1 / np.sqrt(3 * 1 * 128)
    assert jnp.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.01)
    assert 0.99 * bound < jnp.max(jnp.abs(kernel)) <= bound


def test_symmetric_padding_of_a_convolution():
    x, kernel = jnp.arange(16.0).reshape(1, 4, 4, 1), {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
    same, symmetric = (Conv(1, (3, 3), (2, 2), symmetric).apply(kernel, x) for symmetric in (False, True))
    assert same[0, 0, 0, 0] == 0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10
    assert symmetric[0, 0, 0, 0] == 0 + 1 + 4 + 5


def test_average_pool_of_odd_sizes_averages_what_lies_inside():
    x = jnp.arange(15.0).reshape(1, 3, 5, 1)
    assert average_pool(x, (2, 1)).shape == (1, 2, 5, 1)
    assert average_pool(x, (2, 2))[0, :, :, 0].tolist() == [[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]]
    assert average_pool(x, (1, 2))[0, :, :, 0].tolist() == [[0.5, 2.5, 4.0], [5.5, 7.5, 9.0], [10.5, 12.5, 14.0]]


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    x = X.astype(jnp.bfloat16)
    layers = [
        (RSign(), ()),
        (RPReLU(), ()),
        (BatchNorm(), (MASK,)),
        (Conv(4, (3, 3), dtype=jnp.bfloat16), ()),
        (BinaryConv(4, (3, 3), (1, 1), Binarization(), 0, jnp.bfloat16), ()),
    ]
    for layer, args in layers:
        variables = layer.init(KEY, x, *args)
        y, updates = layer.apply(variables, x, *args, mutable=["batch_stats"])
        assert y.dtype == jnp.bfloat16
        assert {leaf.dtype for leaf in jax.tree.leaves((variables, updates))} == {jnp.dtype("float32")}
