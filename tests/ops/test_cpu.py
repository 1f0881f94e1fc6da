"""What XLA's CPU backend is told: nothing that changes a value, and each with the effect that it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax.ops import binarize, cpu, fused


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_channel_sum(dtype, platform):
    rng = np.random.default_rng(0)
    x = jnp.array(rng.normal(size=(5, 4, 3, 7)), dtype)
    mask = np.float32([1, 0, 1, 1, 0])
    wide = np.float64(x)
    for computed, wanted in [
        (cpu.channel_sum(x), wide.sum((0, 1, 2))),
        (cpu.channel_sum(x, mask), wide[mask == 1].sum((0, 1, 2))),
    ]:
        assert computed.dtype == jnp.float32
        np.testing.assert_allclose(computed, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("pixel", [0.0, 255.0, -3e38, np.inf, -np.inf, np.nan])
def test_materialize_is_the_identity(pixel, platform):
    x = jnp.array([[-np.inf, np.nan, 0.0], [-0.0, 1.5, np.inf]])
    images = jnp.full((2, 2, 2, 1), pixel)
    y, vjp = jax.vjp(jax.jit(cpu.materialize), x, images)
    np.testing.assert_array_equal(np.signbit(y), np.signbit(x))
    np.testing.assert_array_equal(y, x)
    x_grad, images_grad = vjp(x)
    np.testing.assert_array_equal(x_grad, x)
    assert not np.any(images_grad)


def test_materialize_survives_the_compiler():
    """XLA keeps the branch: one conditional for each call."""

    def chain(x, images):
        for scale in (2.0, 3.0):
            x = cpu.materialize(jnp.tanh(scale * x), images)
        return x

    x = jnp.ones((4, 4))
    compiled = jax.jit(chain).lower(x, x).compile({"xla_backend_optimization_level": 3}).as_text()
    assert compiled.count(" conditional(") == 2


def test_after_is_the_identity(platform):
    x, other = jnp.array([1.0, -1.0, 0.0, 1e-37, jnp.inf]), jnp.array([[-3e38, 1.0]])
    np.testing.assert_array_equal(jax.jit(cpu.after)(x, other), x)


@pytest.mark.parametrize("estimator", ["clip", "poly", "tanh"])  # one bit is kept, or x; the slope is dear
def test_after_saves_memory(estimator, monkeypatch):
    """Without it, a training step holds up to one map more for each binary unit: all +-1 maps, or all slopes."""
    units, x = 4, jnp.ones((4, 8, 8, 16))
    params = [(jnp.ones((3, 3, 16, 16)), jnp.zeros(16))] * units

    def temporary():
        def loss(params, x):
            for kernel, alpha in params:
                x = x + binarize.binary_conv(fused.shift(x, alpha), kernel, estimator=estimator)
            return jnp.sum(x**2)

        return jax.jit(jax.grad(loss)).lower(params, x).compile().memory_analysis().temp_size_in_bytes

    tied = temporary()
    monkeypatch.setattr(cpu, "after", lambda x, other: x)
    assert temporary() - tied > 0.4 * units * x.nbytes
