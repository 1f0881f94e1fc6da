"""XNOR + popcount on packed words gives the integers of the float convolution, bit for bit."""

import dyadic
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax.export import fold, packed, reference
from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.networks.structure import Structure
from onebnet_jax.ops.convolution import conv


def signs(rng, *shape):
    return rng.choice(np.float32([-1, 1]), shape)


def test_bits_of_words():
    values = -np.ones((1, 40), np.float32)
    values[0, [0, 5, 31, 32, 39]] = 1
    words = packed.pack(values)
    np.testing.assert_array_equal(words, np.array([[1 + 2**5 + 2**31 + 2**32 + 2**39]], np.uint64))
    assert packed.pack(np.ones((2, 3, 65))).shape == (2, 3, 2)


@pytest.mark.parametrize("kernel", [(3, 3), (3, 1), (1, 3)])
@pytest.mark.parametrize("strides", [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("pad_value", [0, 1])
def test_equals_float_convolution(kernel, strides, pad_value):
    rng = np.random.default_rng(0)
    # Even, odd and tiny maps, and channel counts on both sides of a word's 64 bits.
    for height, width, channels in [(6, 6, 64), (7, 4, 45), (2, 1, 130)]:
        x, w = signs(rng, 2, height, width, channels), signs(rng, *kernel, channels, 5)
        y = packed.packed_conv(packed.pack(x), packed.pack_kernel(w), channels, strides, pad_value)
        assert y.dtype == np.int32
        np.testing.assert_array_equal(y, np.asarray(conv(jnp.array(x), jnp.array(w), strides, pad_value)))


def test_borders_of_zero_padding_have_fewer_terms():
    ones = np.ones((1, 3, 3, 7))
    y = packed.packed_conv(packed.pack(ones), packed.pack_kernel(np.ones((3, 3, 7, 1))), 7)
    np.testing.assert_array_equal(y[0, :, :, 0], 7 * np.array([[4, 6, 4], [6, 9, 6], [4, 6, 4]]))


@pytest.mark.parametrize(("pad_value", "folded"), [(0, True), (1, False)])
def test_a_converted_file_gives_what_packed_bits_give(pad_value, folded, monkeypatch):
    """LCE against a plan on packed bits, which shares no arithmetic with it: equal where float32 does not round."""
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export import keras as larq_model
    from onebnet_jax.export import lce

    monkeypatch.setitem(structure_lib.DEPTHS, 6, dyadic.TINY)
    structure = Structure(6, conv_1d=(8,), ds_1d=(16,), pad_value=pad_value)
    images = dyadic.images()
    plan = fold.deployment_plan(structure, Binarization(), dyadic.variables(structure), dyadic.IMAGE_SHAPE, folded)
    tflite = lce.convert(larq_model.keras_model(plan))
    assert lce.histogram(tflite)["LceBconv2d"] == len(plan.units)
    expected = np.asarray(reference.run(plan, images))
    assert np.ptp(expected) > 1
    np.testing.assert_array_equal(lce.executable(tflite)(images=images)["head"], expected)
