"""Binarized convolution as bits compute it: XNOR and population count on packed words. JAX, without TensorFlow or LCE.

This is the proof that the training-time convolution of -1 and +1 is what a bit kernel computes: both give the same integers.
A bit is 1 for +1 and 0 for -1; 32 channels share a word, and the unused bits of the last word are 0.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

WORD = 32


def pack(values: jax.Array) -> jax.Array:
    """Values of -1 and +1, [..., C], as bits: [..., ceil(C / 32)] of uint32."""
    channels = values.shape[-1]
    bits = (jnp.asarray(values) > 0).astype(jnp.uint32)
    bits = jnp.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -channels % WORD)])
    words = bits.reshape(*bits.shape[:-1], -1, WORD)
    return jnp.sum(words << jnp.arange(WORD, dtype=jnp.uint32), axis=-1, dtype=jnp.uint32)


def lanes(channels: int) -> jax.Array:
    """The words in which the bits in use are 1: [ceil(channels / 32)] of uint32."""
    return pack(jnp.ones(channels))


def packed_conv(
    x: jax.Array, kernel: jax.Array, channels: int, strides: tuple[int, int] = (1, 1), pad_value: int = 0
) -> jax.Array:
    """Convolution of packed -1 and +1, with TensorFlow's SAME padding.

    The sum over a tap's channels is 2 popcount(xnor(x, w)) - channels. Padding with +1 pads the map with set bits. A
    zero has no bit: padding with 0 leaves out the taps outside of the map, so border sums have fewer terms.

    Args:
      x: [N, H, W, ceil(channels / 32)] of uint32, see `pack`.
      kernel: [kh, kw, ceil(channels / 32), C_out] of uint32: the kernel packed along C_in, see `pack_kernel`.
      channels: C_in.
      strides: (row, column).
      pad_value: 0 or 1.

    Returns:
      [N, ceil(H / row stride), ceil(W / column stride), C_out] of int32.
    """
    height, width = x.shape[1:3]
    pads = lax.padtype_to_pads((height, width), kernel.shape[:2], strides, "SAME")
    used = lanes(channels)
    padded = jnp.broadcast_to(used, (x.shape[0], height + sum(pads[0]), width + sum(pads[1]), used.size))
    padded = lax.dynamic_update_slice(padded, x, (0, pads[0][0], pads[1][0], 0))
    inside = np.zeros(padded.shape[1:3], np.int32)
    inside[pads[0][0] : pads[0][0] + height, pads[1][0] : pads[1][0] + width] = 1
    counts = np.ones_like(inside) if pad_value else inside

    rows, columns = -(-height // strides[0]), -(-width // strides[1])
    total = 0
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            window = (slice(i, i + rows * strides[0], strides[0]), slice(j, j + columns * strides[1], strides[1]))
            xnor = ~(padded[:, *window, :, None] ^ kernel[i, j]) & used[:, None]
            agreeing = jnp.sum(lax.population_count(xnor).astype(jnp.int32), axis=3)
            total += (2 * agreeing - channels) * counts[window][None, :, :, None]
    return total


def pack_kernel(kernel: jax.Array) -> jax.Array:
    """A kernel of -1 and +1, [kh, kw, C_in, C_out], as bits: [kh, kw, ceil(C_in / 32), C_out] of uint32."""
    return jnp.swapaxes(pack(jnp.swapaxes(jnp.asarray(kernel), 2, 3)), 2, 3)
