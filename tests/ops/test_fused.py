"""Hand-written backward passes against the autodiff of the formulas they implement, in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax.ops import fused

pytestmark = pytest.mark.usefixtures("quick_compilation")

DEVICES = 4
EPSILON = 1e-5


def close(computed, wanted, tolerance=1e-11):
    jax.tree.map(lambda c, w: np.testing.assert_allclose(c, w, rtol=tolerance, atol=tolerance), computed, wanted)


# Batch normalization -------------------------------------------------------------------------------------------


def plain_batch_norm(x, scale, bias, mask):
    """The formulas as they stand, the statistics over the images that count. Autodiff gives the gradients."""
    counted = mask[:, None, None, None]
    count = jnp.sum(mask) * x.shape[1] * x.shape[2]
    mean = jnp.sum(counted * x, axis=(0, 1, 2)) / count
    variance = jnp.sum(counted * (x - mean) ** 2, axis=(0, 1, 2)) / count
    return (x - mean) / jnp.sqrt(variance + EPSILON) * scale + bias, mean, variance


def batch_norm_arguments(count=6):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3, 2, 4)) * [1.0, 2.0, 0.5, 3.0] + [0.0, 1.0, -2.0, 5.0]
    grad = rng.normal(size=x.shape)
    return tuple(map(jnp.array, (x, rng.normal(size=4), rng.normal(size=4), grad)))


@pytest.mark.parametrize("mask", [[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 0], [0, 0, 1, 0, 0, 0]])
def test_batch_norm_values_and_gradients(mask, float64, platform):
    """Of any cotangent, those of images that do not count included."""
    x, scale, bias, grad = batch_norm_arguments()
    mask = jnp.array(mask, jnp.float32)

    def values_and_gradients(norm):
        (y, mean, variance), vjp = jax.vjp(lambda *args: norm(*args, mask), x, scale, bias)
        return y, mean, variance, vjp((grad, jnp.zeros_like(mean), jnp.zeros_like(variance)))

    ours = functools.partial(fused.batch_norm, epsilon=EPSILON)
    computed, wanted = jax.jit(lambda: [values_and_gradients(norm) for norm in (ours, plain_batch_norm)])()
    assert all(leaf.dtype == jnp.float64 for leaf in jax.tree.leaves(computed))
    close(computed, wanted)


def test_batch_norm_statistics_and_mask_carry_no_gradient():
    x, scale, bias, _ = batch_norm_arguments()

    def statistics(x):
        _, mean, variance = fused.batch_norm(x, scale, bias, jnp.ones(6))
        return jnp.sum(mean) + jnp.sum(variance)

    def masked(mask):
        return jnp.sum(fused.batch_norm(x, scale, bias, mask)[0] ** 3)

    gradients = jax.jit(lambda: (jax.grad(statistics)(x), jax.grad(masked)(jnp.ones(6))))()
    assert not any(np.any(leaf) for leaf in gradients)


@pytest.mark.parametrize("mask", [[1] * 12, [1] * 7 + [0] * 5])
def test_batch_norm_on_four_devices_is_that_on_one(mask, float64):
    """The second mask leaves the last device without any image that counts."""
    x, scale, bias, grad = batch_norm_arguments(12)
    mask = jnp.array(mask, jnp.float32)

    def run(x, mask, grad, axis_name):
        (y, *statistics), vjp = jax.vjp(lambda *args: fused.batch_norm(*args, mask, EPSILON, axis_name), x, scale, bias)
        x_grad, *parameter_grads = vjp((grad, *map(jnp.zeros_like, statistics)))
        return (y, x_grad), statistics, parameter_grads

    shards = [array.reshape(DEVICES, -1, *array.shape[1:]) for array in (x, mask, grad)]
    per_device = jax.pmap(functools.partial(run, axis_name="devices"), "devices")(*shards)
    maps, statistics, parameter_grads = run(x, mask, grad, None)
    close([array.reshape(x.shape) for array in per_device[0]], list(maps))
    for device in range(DEVICES):
        close([array[device] for array in per_device[1]], statistics)
    close([array.sum(0) for array in per_device[2]], parameter_grads)


def test_batch_norm_of_a_constant_channel_is_its_bias():
    """The variance, a difference of two sums, never gets below zero."""
    x = jnp.full((8, 5, 5, 3), jnp.array([0.1, 7.3, 1234.5]))
    bias = jnp.array([1.0, 2.0, 3.0])
    y, _, variance = fused.batch_norm(x, jnp.full(3, 0.01), bias, jnp.ones(8))
    assert (variance >= 0).all()
    np.testing.assert_allclose(y, jnp.broadcast_to(bias, y.shape), rtol=0, atol=1e-2)


def test_batch_norm_in_bfloat16_computes_in_float32():
    x, scale, bias, grad = (array.astype(jnp.float32) for array in batch_norm_arguments())
    x, grad = x.astype(jnp.bfloat16), grad.astype(jnp.bfloat16)
    (y, *statistics), vjp = jax.vjp(lambda *args: fused.batch_norm(*args, jnp.ones(6)), x, scale, bias)
    grads = vjp((grad, *map(jnp.zeros_like, statistics)))
    assert [array.dtype for array in (y, *statistics, *grads)] == [jnp.bfloat16, *[jnp.float32] * 2, jnp.bfloat16] + [
        jnp.float32
    ] * 2
    wide_y, *wide_statistics = plain_batch_norm(x.astype(jnp.float32), scale, bias, jnp.ones(6))
    close(statistics, wide_statistics, 1e-4)
    close(y.astype(jnp.float32), wide_y, 2 * float(jnp.finfo(jnp.bfloat16).eps))


# Activations ---------------------------------------------------------------------------------------------------


def plain_rprelu(x, gamma, beta, zeta):
    return jnp.where(x > gamma, x - gamma, beta * (x - gamma)) + zeta


def per_channel(rng, *values):
    """[3] each, with x on a grid that hits gamma exactly: [4, 3, 2, 3]."""
    x = rng.integers(-4, 5, (4, 3, 2, 3)) / 2
    return jnp.array(x), *map(jnp.array, values)


def test_rprelu_values_and_gradients(float64, platform):
    rng = np.random.default_rng(0)
    args = per_channel(rng, [0.0, 0.5, -1.0], [0.25, -0.5, 1.0], [0.0, 2.0, -1.0])
    assert (args[0] == args[1]).any(axis=(0, 1, 2)).all()
    grad = jnp.array(rng.normal(size=args[0].shape))
    y, vjp = jax.vjp(fused.rprelu, *args)
    expected, expected_vjp = jax.vjp(plain_rprelu, *args)
    close((y, vjp(grad)), (expected, expected_vjp(grad)))


def test_shift_values_and_gradients(float64, platform):
    rng = np.random.default_rng(0)
    x, alpha = per_channel(rng, [0.0, 0.5, -1.0])
    grad = jnp.array(rng.normal(size=x.shape))
    y, vjp = jax.vjp(fused.shift, x, alpha)
    close((y, vjp(grad)), (x - alpha, (grad, -grad.sum((0, 1, 2)))))


def test_activations_in_bfloat16_give_gradients_of_the_arguments_types():
    x = jnp.ones((2, 3, 3, 4), jnp.bfloat16)
    parameter = jnp.full(4, 0.5)
    for function, count in [(fused.shift, 1), (fused.rprelu, 3)]:
        y, vjp = jax.vjp(function, x, *[parameter] * count)
        assert y.dtype == jnp.bfloat16
        assert [grad.dtype for grad in vjp(y)] == [jnp.bfloat16] + [jnp.float32] * count
