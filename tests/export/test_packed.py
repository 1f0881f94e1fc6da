"""XNOR and population count on packed words give the integers of the float convolution, bit for bit."""

import jax.numpy as jnp
import numpy as np
import packed
import pytest

from onebnet_jax.ops.convolution import conv


def test_bits_of_words():
    values = -np.ones((1, 40), np.float32)
    values[0, [0, 5, 31, 32, 39]] = 1
    np.testing.assert_array_equal(packed.pack(values), [[1 + 2**5 + 2**31 + 2**32 + 2**39]])
    assert packed.pack(np.ones((2, 3, 65))).shape == (2, 3, 2)


@pytest.mark.parametrize("kernel", [(3, 3), (3, 1), (1, 3)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_equals_float_convolution(kernel, strides):
    rng = np.random.default_rng(0)
    # Even, odd and tiny maps, and channel counts on both sides of a word's 64 bits.
    for height, width, channels in [(6, 6, 64), (7, 4, 45), (2, 1, 130)]:
        x, w = (
            rng.choice(np.float32([-1, 1]), shape) for shape in [(2, height, width, channels), (*kernel, channels, 5)]
        )
        for pad_value in (0, 1):
            y = packed.packed_conv(packed.pack(x), packed.pack_kernel(w), channels, strides, pad_value)
            assert y.dtype == np.int32
            np.testing.assert_array_equal(y, np.asarray(conv(jnp.array(x), jnp.array(w), strides, pad_value)))


def test_borders_of_zero_padding_have_fewer_terms():
    ones = np.ones((1, 3, 3, 7))
    y = packed.packed_conv(packed.pack(ones), packed.pack_kernel(np.ones((3, 3, 7, 1))), 7)
    np.testing.assert_array_equal(y[0, :, :, 0], 7 * np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]))
