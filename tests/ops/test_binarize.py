"""Signs, straight-through estimators and the binarized convolution against their closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onebnet_jax.ops.binarize import ESTIMATORS, binarize_kernel, binary_conv, sign, ste_sign
from onebnet_jax.ops.convolution import conv

pytestmark = pytest.mark.usefixtures("quick_compilation")

WINDOWS = (0.5, 1.0, 2.0)
PSEUDO_GRADIENT = {
    "clip": lambda x, t: np.where(np.abs(x) <= t, 1.0, 0.0),
    "poly": lambda x, t: np.where(np.abs(x) < t, (2 - 2 * np.abs(x) / t) / t, 0.0),
}


def test_every_estimator_has_a_closed_form_here():
    assert PSEUDO_GRADIENT.keys() == ESTIMATORS.keys()


def edges(window, dtype):
    """Zeros of both kinds, the edges of the window, their neighbours in `dtype`, and what lies between and beyond."""
    edge, zero, infinity = (jnp.asarray(value, dtype) for value in (window, 0, jnp.inf))
    inside, outside = jnp.nextafter(edge, zero), jnp.nextafter(edge, infinity)
    assert inside < edge < outside
    tiny = jnp.finfo(dtype).tiny
    positive = [zero, tiny, 0.25 * edge, 0.5 * edge, inside, edge, outside, 3 * edge, infinity]
    values = jnp.array(positive, dtype)
    return jnp.concatenate([-values, values])


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_sign_is_never_zero_and_that_of_zero_is_minus_one(dtype):
    x = edges(1.0, dtype)
    y = sign(x)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, np.where(np.asarray(x, np.float32) > 0, 1, -1))
    assert sign(jnp.zeros((2, 3), dtype)).tolist() == [[-1.0] * 3] * 2
    assert sign(-jnp.zeros((), dtype)) == -1


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_ste_sign_on_zeros_and_edges(estimator, window, dtype):
    x = edges(window, dtype)
    grad = jnp.where(jnp.arange(x.size) % 3 == 0, -2.0, 1.0).astype(dtype)
    y, vjp = jax.vjp(lambda x: ste_sign(x, estimator, window), x)
    (x_grad,) = vjp(grad)
    assert y.dtype == x_grad.dtype == dtype
    np.testing.assert_array_equal(y, sign(x))
    expected = np.float32(grad) * PSEUDO_GRADIENT[estimator](np.float32(x), window)
    # The slope of "poly" is rounded a few times on the way; that of "clip" is exact. Zero is exact in both.
    rounding = 0 if estimator == "clip" else 2 * float(jnp.finfo(dtype).eps) / window
    np.testing.assert_allclose(np.float32(x_grad), expected, rtol=0, atol=2 * rounding)
    np.testing.assert_array_equal(np.float32(x_grad) == 0, expected == 0)


@settings(max_examples=30)
@given(st.lists(st.floats(-4, 4, width=32, allow_subnormal=False), min_size=12, max_size=12), st.sampled_from(WINDOWS))
def test_ste_sign_on_any_values(values, window):
    x = np.float32(values)
    for estimator, closed_form in PSEUDO_GRADIENT.items():
        y, vjp = jax.vjp(lambda x, e=estimator: ste_sign(x, e, window), x)
        np.testing.assert_array_equal(y, np.where(x > 0, 1, -1))
        np.testing.assert_allclose(vjp(np.ones_like(y))[0], closed_form(x, window), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("window", WINDOWS)
def test_area_under_poly_is_the_height_of_the_step(window):
    x = jnp.linspace(-2.5, 2.5, 5001)
    slope = jax.grad(lambda x: jnp.sum(ste_sign(x, "poly", window)))(x)
    assert jnp.mean(slope) * 5.0 == pytest.approx(2.0, rel=1e-3)


def test_unknown_estimator_is_refused_when_differentiated():
    with pytest.raises(KeyError, match="cubic"):
        jax.grad(lambda x: ste_sign(x, "cubic"))(1.0)
    x, kernel = jnp.ones((1, 2, 2, 1)), jnp.ones((1, 1, 1, 1))
    with pytest.raises(KeyError, match="cubic"):
        jax.grad(lambda x: jnp.sum(binary_conv(x, kernel, estimator="cubic")))(x)


# Weights -------------------------------------------------------------------------------------------------------


def kernel_with_edges():
    """[3, 1, 4, 5]; channel 0 holds zeros, edges and their neighbours, channel 1 zeros alone."""
    kernel = np.random.default_rng(0).normal(size=(3, 1, 4, 5)).astype(np.float32)
    one = np.float32(1)
    above, below = np.nextafter(one, np.float32(2)), np.nextafter(one, np.float32(0))
    kernel[..., 0] = np.reshape([0, -0.0, 1, -1, above, -above, below, -below, 0.5, -0.5, 3, -3], (3, 1, 4))
    kernel[..., 1] = 0
    return kernel


def test_binarize_kernel_is_the_mean_magnitude_times_the_sign():
    kernel = kernel_with_edges()
    scale = np.abs(kernel).mean(axis=(0, 1, 2))
    binarized = binarize_kernel(jnp.array(kernel))
    np.testing.assert_allclose(binarized, np.where(kernel > 0, scale, -scale), rtol=1e-6)
    # One magnitude per output channel; a zero weight gives minus the scale, and a channel of zeros gives zeros.
    magnitudes = [len(np.unique(np.abs(binarized[..., channel]))) for channel in range(kernel.shape[-1])]
    assert magnitudes == [1] * kernel.shape[-1]
    assert (binarized[0, 0, :2, 0] < 0).all()
    assert not binarized[..., 1].any()


def test_gradient_of_binarize_kernel_takes_the_scale_for_a_constant():
    kernel = kernel_with_edges()
    grad = np.random.default_rng(1).normal(size=kernel.shape).astype(np.float32)
    _, vjp = jax.vjp(binarize_kernel, jnp.array(kernel))
    scale = np.abs(kernel).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(vjp(grad)[0], grad * scale * (np.abs(kernel) <= 1), rtol=1e-6)


# The binarized convolution -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "strides"),
    [((3, 3), (1, 1)), ((3, 3), (2, 2)), ((3, 1), (2, 1)), ((1, 3), (1, 2)), ((3, 1), (1, 1)), ((1, 1), (1, 1))],
)
def test_binary_conv_is_conv_of_ste_sign(size, strides, float64):
    rng = np.random.default_rng(0)
    # A grid that contains 0 and the edges +-0.5 and +-1 exactly.
    x = jnp.array(rng.integers(-12, 13, (2, 6, 5, 4)) / 8)
    kernel = jnp.array(rng.normal(size=(*size, 4, 3)))
    for estimator, window, pad_value in [("clip", 1.0, 0), ("clip", 0.5, 1), ("poly", 1.0, 1), ("poly", 0.5, 0)]:

        def whole(x, kernel, options=(strides, pad_value, estimator, window)):
            return binary_conv(x, kernel, *options)

        def parts(x, kernel, estimator=estimator, window=window, pad_value=pad_value):
            return conv(ste_sign(x, estimator, window), kernel, strides, pad_value)

        y, vjp = jax.vjp(whole, x, kernel)
        expected, expected_vjp = jax.vjp(parts, x, kernel)
        np.testing.assert_array_equal(y, expected)
        grad = jnp.array(rng.normal(size=y.shape))
        for computed, wanted in zip(vjp(grad), expected_vjp(grad), strict=True):
            assert np.abs(wanted).max() > 0
            np.testing.assert_allclose(computed, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_binary_conv_in_bfloat16(estimator):
    """Sums of +-1 below 256 are exact, and every gradient has the type of its argument."""
    x = jnp.array(np.random.default_rng(0).integers(-4, 5, (2, 5, 5, 16)) / 4, jnp.bfloat16)
    kernel = sign(jax.random.normal(jax.random.key(0), (3, 3, 16, 4), jnp.bfloat16))
    y, vjp = jax.vjp(lambda x, kernel: binary_conv(x, kernel, (2, 1), 0, estimator), x, kernel)
    assert y.dtype == jnp.bfloat16
    wide = binary_conv(x.astype(jnp.float32), kernel.astype(jnp.float32), (2, 1), 0, estimator)
    np.testing.assert_array_equal(np.float32(y), wide)
    assert [grad.dtype for grad in vjp(y)] == [jnp.bfloat16] * 2


# Memory --------------------------------------------------------------------------------------------------------


def kept_bytes(function, *args):
    """Bytes of all arrays that the backward pass of `function` holds on to."""
    _, vjp = jax.vjp(function, *args)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(vjp))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_what_the_backward_pass_keeps(dtype):
    """The figures of the module's documentation, to the byte."""
    x, kernel = jnp.ones((4, 8, 8, 32), dtype), jnp.ones((3, 3, 32, 16), dtype)
    assert kept_bytes(lambda x: ste_sign(x, "clip"), x) == x.size // 8
    assert kept_bytes(lambda x: ste_sign(x, "poly"), x) == x.nbytes

    def kept(estimator):
        return kept_bytes(lambda x, kernel: binary_conv(x, kernel, estimator=estimator), x, kernel)

    assert kept("clip") == 2 * x.size // 8 + kernel.nbytes
    assert kept("poly") == x.nbytes + kernel.nbytes
    # The composition of the two would keep the map of +-1 as well.
    parts = kept_bytes(lambda x, kernel: conv(ste_sign(x, "poly"), kernel), x, kernel)
    assert parts == 2 * x.nbytes + kernel.nbytes


def test_bits_are_kept_of_any_number_of_elements():
    x = jnp.linspace(-2, 2, 13).reshape(1, 13, 1, 1)
    assert kept_bytes(lambda x: ste_sign(x, "clip"), x) == 2
    grad = jax.grad(lambda x: jnp.sum(binary_conv(x, jnp.full((1, 1, 1, 1), 3.0), estimator="clip")))(x)
    np.testing.assert_array_equal(grad, np.where(np.abs(x) <= 1, 3, 0))
