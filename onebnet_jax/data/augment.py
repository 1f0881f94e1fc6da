"""Augmentation and normalization of images on the device: pure JAX functions of keys and arrays."""

from functools import partial

import jax
import jax.numpy as jnp


def draw(key: jax.Array, count: int, crop_padding: int, flip: bool) -> tuple[jax.Array, jax.Array]:
    """Of crops int32 [count, 2], row and column from 0 to 2 * crop_padding; of flips bool [count], one in two."""
    offsets_key, flips_key = jax.random.split(key)
    offsets = jax.random.randint(offsets_key, (count, 2), 0, 2 * crop_padding + 1, jnp.int32)
    flips = jax.random.bernoulli(flips_key, 0.5, (count,)) if flip else jnp.zeros((count,), bool)
    return offsets, flips


def apply(images: jax.Array, offsets: jax.Array, flips: jax.Array, crop_padding: int) -> jax.Array:
    """Pads with zeros by `crop_padding` on each side, crops back to size at the offset, then flips.

    uint8 [N, H, W, C] -> uint8 [N, H, W, C]. He et al. 2016, section 4.2, with crop_padding 4 for CIFAR-10.
    """
    count, height, width, _ = images.shape
    padding = (crop_padding, crop_padding)
    padded = jnp.pad(images, ((0, 0), padding, padding, (0, 0)))
    # One gather does it all: a flip only reverses the column indices.
    columns = jnp.arange(width)
    columns = jnp.where(flips[:, None], columns[::-1], columns) + offsets[:, 1:]
    rows = jnp.arange(height) + offsets[:, :1]
    return padded[jnp.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]]


def draw_turns(key: jax.Array, count: int, rotate: float, brightness: float) -> tuple[jax.Array, jax.Array]:
    """Of angles [count], from -rotate to rotate degrees; of factors [count], from 1 - brightness to 1 + brightness."""
    angles_key, factors_key = jax.random.split(key)
    angles = jax.random.uniform(angles_key, (count,), minval=-rotate, maxval=rotate)
    return angles, jax.random.uniform(factors_key, (count,), minval=1 - brightness, maxval=1 + brightness)


def turn(images: jax.Array, angles: jax.Array, factors: jax.Array) -> jax.Array:
    """Turns about the centre, counterclockwise by degrees, with zeros from outside; then multiplies by the factors.

    uint8 [N, H, W, C] -> uint8 [N, H, W, C]. Bilinear, as Pillow's `Image.rotate`.
    """
    _, height, width, _ = images.shape
    centre = jnp.array([(height - 1) / 2, (width - 1) / 2])
    rows, columns = jnp.meshgrid(
        *(jnp.arange(size) - middle for size, middle in zip((height, width), centre)), indexing="ij"
    )

    def turned(image, angle, factor):
        cos, sin = jnp.cos(jnp.deg2rad(angle)), jnp.sin(jnp.deg2rad(angle))
        places = jnp.stack([cos * rows + sin * columns, cos * columns - sin * rows]) + centre[:, None, None]
        sample = jax.vmap(partial(jax.scipy.ndimage.map_coordinates, order=1), (2, None), 2)
        return jnp.clip(jnp.round(factor * sample(image.astype(jnp.float32), list(places))), 0, 255).astype(jnp.uint8)

    return jax.vmap(turned)(images, angles, factors)


def normalize(images: jax.Array, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """(x / 255 - mean) / std per channel: uint8 [N, H, W, C] -> float32 [N, H, W, C]."""
    return (images.astype(jnp.float32) / 255 - jnp.array(mean, jnp.float32)) / jnp.array(std, jnp.float32)
