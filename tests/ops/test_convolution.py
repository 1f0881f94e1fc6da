"""The convolution and its hand-written gradients against JAX's own, in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from jaxprs import convolutions

from onebnet_jax.ops.convolution import conv

pytestmark = pytest.mark.usefixtures("quick_compilation")

CANONICAL = ("NHWC", "HWIO", "NHWC")


def plain_conv(x, kernel, strides, pad_value, symmetric):
    """By lax.conv_general_dilated on an array padded by hand; autodiff gives the gradients."""
    size = kernel.shape[:2]
    pads = [(k // 2, k // 2) for k in size] if symmetric else lax.padtype_to_pads(x.shape[1:3], size, strides, "SAME")
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=pad_value)
    return lax.conv_general_dilated(x, kernel, strides, "VALID", dimension_numbers=CANONICAL)


def check(image, size, strides, pad_value=0, symmetric=False, channels=17):
    """Values and both gradients of a convolution of a map of `image` pixels with a kernel of `size`."""
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, *image, channels)), rng.normal(size=(*size, channels, 4))

    def values_and_gradients(conv, x, kernel):
        y, vjp = jax.vjp(lambda x, kernel: conv(x, kernel, strides, pad_value, symmetric), x, kernel)
        return y, *vjp(jnp.sin(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape))

    ours, plain = jax.jit(lambda *args: [values_and_gradients(c, *args) for c in (conv, plain_conv)])(x, kernel)
    if not symmetric:
        assert ours[0].shape == (2, -(-image[0] // strides[0]), -(-image[1] // strides[1]), 4)
    for computed, wanted in zip(ours, plain, strict=True):
        np.testing.assert_allclose(computed, wanted, rtol=0, atol=1e-12)


# Every kind of convolution that a network holds: kernel, strides, symmetric.
IN_NETWORKS = [
    ((3, 3), (1, 1), False),
    ((3, 3), (2, 2), False),
    ((3, 1), (1, 1), False),
    ((3, 1), (2, 1), False),
    ((1, 3), (1, 1), False),
    ((1, 3), (1, 2), False),
    ((1, 1), (1, 1), False),
    ((1, 1), (2, 2), False),
    ((7, 7), (2, 2), False),
    ((7, 7), (2, 2), True),
    ((3, 3), (2, 2), True),
]


@pytest.mark.parametrize(("size", "strides", "symmetric"), IN_NETWORKS)
def test_values_and_gradients(size, strides, symmetric, float64):
    for channels in (2, 17):  # both ways to a kernel's gradient
        check((8, 7), size, strides, 0, symmetric, channels)
    if strides != (1, 1):  # the other way round
        check((7, 8), size, strides, 1, symmetric)


@settings(max_examples=15)
@given(
    image=st.tuples(*[st.integers(1, 9)] * 2),
    size=st.tuples(*[st.sampled_from([1, 2, 3, 5])] * 2),
    strides=st.tuples(*[st.integers(1, 3)] * 2),
    pad_value=st.sampled_from([0, 1]),
    channels=st.sampled_from([1, 17]),
)
def test_any_convolution(image, size, strides, pad_value, channels, float64):
    """Maps smaller than the kernel, strides beyond it, even kernels: SAME padding has an answer for all."""
    check(image, size, strides, pad_value, channels=channels)


def test_same_and_symmetric_padding_differ_at_stride_2_on_even_sizes():
    x, kernel = jnp.arange(4.0).reshape(1, 1, 4, 1), jnp.array([1.0, 10.0, 100.0]).reshape(1, 3, 1, 1)
    assert conv(x, kernel, (1, 2)).ravel().tolist() == [210.0, 32.0]  # pads 0 and 1
    assert conv(x, kernel, (1, 2), symmetric=True).ravel().tolist() == [100.0, 321.0]  # pads 1 and 1


def test_all_three_passes_are_convolutions_in_the_canonical_layout():
    """The one for which XLA's CPU backend has fast code even inside a loop."""
    x, kernel = jnp.ones((2, 6, 5, 17)), jnp.ones((3, 1, 17, 2))

    def layouts(conv):
        gradients = jax.grad(lambda x, kernel: jnp.sum(conv(x, kernel, (2, 1), 0, False)), (0, 1))
        jaxpr = jax.make_jaxpr(gradients)(x, kernel).jaxpr
        return [equation.params["dimension_numbers"] for equation in convolutions(jaxpr)]

    canonical = lax.conv_dimension_numbers(x.shape, kernel.shape, CANONICAL)
    assert layouts(conv) == [canonical] * 3
    assert layouts(plain_conv) != [canonical] * 3
