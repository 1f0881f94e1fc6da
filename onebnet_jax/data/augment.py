"""Shuffling, augmentation and normalization of images on the device: pure JAX functions of keys and arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Draws(NamedTuple):
    """The random choices for a batch."""

    offsets: jax.Array  # int32 [N, 2], row and column of each crop in the padded image, 0 to 2 * crop_padding
    flips: jax.Array  # bool [N], whether to mirror left and right


def epoch_order(key: jax.Array, size: int) -> jax.Array:
    """A random order of 0 to size - 1, int32 [size]: every image once."""
    return jax.random.permutation(key, size).astype(jnp.int32)


def draw(key: jax.Array, count: int, crop_padding: int, flip: bool) -> Draws:
    """Draws for `count` images, crops uniform over all offsets and flips with probability 1/2."""
    offsets_key, flips_key = jax.random.split(key)
    offsets = jax.random.randint(offsets_key, (count, 2), 0, 2 * crop_padding + 1, jnp.int32)
    flips = jax.random.bernoulli(flips_key, 0.5, (count,)) if flip else jnp.zeros((count,), bool)
    return Draws(offsets, flips)


def apply(images: jax.Array, draws: Draws, crop_padding: int) -> jax.Array:
    """Pads with zeros by `crop_padding` on each side, crops back to size at the offset, then flips.

    uint8 [N, H, W, C] -> uint8 [N, H, W, C]. He et al. 2016, section 4.2, with crop_padding 4 for CIFAR-10.
    """
    count, height, width, _ = images.shape
    padding = (crop_padding, crop_padding)
    padded = jnp.pad(images, ((0, 0), padding, padding, (0, 0)))
    # One gather does it all: a flip only reverses the column indices.
    columns = jnp.arange(width)
    columns = jnp.where(draws.flips[:, None], columns[::-1], columns) + draws.offsets[:, 1:]
    rows = jnp.arange(height) + draws.offsets[:, :1]
    return padded[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...], dtype: Any) -> jax.Array:
    """(x / 255 - mean) / std per channel, computed in float32: uint8 [N, H, W, C] -> `dtype` [N, H, W, C]."""
    scaled = images.astype(jnp.float32) / 255
    return ((scaled - jnp.array(mean, jnp.float32)) / jnp.array(std, jnp.float32)).astype(dtype)
