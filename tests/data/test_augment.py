import jax
import jax.numpy as jnp
import numpy as np
import pytest

from onebnet_jax.data import augment, photos


def images(count=12, height=6, width=5, channels=3, seed=0):
    return np.random.default_rng(seed).integers(1, 256, (count, height, width, channels), np.uint8)


def apply_with_numpy(x, offsets, flips, crop_padding):
    """The definition, one image at a time."""
    height, width = x.shape[1:3]
    result = []
    for image, (row, column), flip in zip(x, np.array(offsets), np.array(flips), strict=True):
        padded = np.zeros((height + 2 * crop_padding, width + 2 * crop_padding, x.shape[3]), x.dtype)
        padded[crop_padding : crop_padding + height, crop_padding : crop_padding + width] = image
        crop = padded[row : row + height, column : column + width]
        result.append(crop[:, ::-1] if flip else crop)
    return np.stack(result)


@pytest.mark.parametrize("crop_padding, flip", [(0, False), (0, True), (4, False), (4, True)])
def test_apply_equals_the_numpy_definition(crop_padding, flip):
    x = images()
    offsets, flips = augment.draw(jax.random.key(3), len(x), crop_padding, flip)
    assert flips.any() == flip and offsets.any() == bool(crop_padding)
    result = jax.jit(augment.apply, static_argnums=3)(x, offsets, flips, crop_padding)
    assert result.dtype == jnp.uint8
    np.testing.assert_array_equal(result, apply_with_numpy(x, offsets, flips, crop_padding))


def test_apply_is_right_at_every_offset_with_and_without_flip():
    crop_padding = 2
    rows, columns, flips = (a.ravel() for a in np.meshgrid(range(5), range(5), (False, True)))
    arguments = np.repeat(images(1), len(flips), 0), np.stack([rows, columns], 1).astype(np.int32), flips, crop_padding
    np.testing.assert_array_equal(augment.apply(*arguments), apply_with_numpy(*arguments))


def test_draws_are_uniform_and_independent():
    count, crop_padding = 20000, 4
    offsets, flips = augment.draw(jax.random.key(1), count, crop_padding, flip=True)
    assert offsets.shape == (count, 2) and offsets.dtype == jnp.int32
    assert flips.shape == (count,) and flips.dtype == bool
    pairs = np.array(offsets) @ [9, 1]
    frequency = np.bincount(pairs, minlength=81)
    assert len(frequency) == 81  # offsets are 0 to 8, never beyond
    expected = count / 81
    assert np.abs(frequency - expected).max() < 5 * np.sqrt(expected)
    assert abs(np.mean(flips) - 0.5) < 5 * 0.5 / np.sqrt(count)
    assert abs(np.corrcoef(pairs, flips)[0, 1]) < 5 / np.sqrt(count)


def test_normalize_equals_its_equation():
    x = np.concatenate([images(), np.zeros((1, 6, 5, 3), np.uint8), np.full((1, 6, 5, 3), 255, np.uint8)])
    mean, std = (0.1, 0.5, 0.9), (0.25, 0.5, 0.125)
    result = augment.normalize(x, mean, std)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, (x.astype(np.float64) / 255 - mean) / std, rtol=1e-6, atol=1e-6)


def test_quarter_turns_and_brightness_are_exact():
    x = images(height=6, width=6)
    angles = np.tile(np.float32([0, 90, 180, -90]), 3)
    factors = np.repeat(np.float32([1, 0.6, 1.4]), 4)  # which give no halves
    expected = (
        np.stack([np.rot90(image, angle // 90) for image, angle in zip(x, angles)]) * factors[:, None, None, None]
    )
    np.testing.assert_array_equal(augment.turn(x, angles, factors), np.clip(np.round(expected), 0, 255))


def test_any_turn_equals_pillows_but_at_the_edge():
    smooth = 127 + 100 * np.sin(np.arange(40)[:, None] / 5) * np.cos(np.arange(32) / 7)
    x = np.stack([smooth, 255 - smooth], 2)[None].round().astype(np.uint8)
    for angle in (-170.0, -33.0, 4.0, 45.0, 101.0):
        turned = np.asarray(augment.turn(x, np.float32([angle]), np.float32([0.9])))[0].astype(int)
        others = photos.turn(x[0], angle, 0.9).astype(int)
        # Farther from an edge of the turned image than a pixel: what a turned image of ones is 1 around.
        inner = photos.turn(np.full_like(x[0], 255), angle, 1.0)[..., :1] == 255
        inner = inner & np.roll(inner, 1, 0) & np.roll(inner, -1, 0) & np.roll(inner, 1, 1) & np.roll(inner, -1, 1)
        inner[[0, -1]] = inner[:, [0, -1]] = False
        assert inner.mean() > 0.4 and np.abs((turned - others) * inner).max() <= 2


def test_turns_are_drawn_from_their_ranges():
    angles, factors = augment.draw_turns(jax.random.key(1), 20000, 30.0, 0.2)
    for drawn, low, high in ((angles, -30, 30), (factors, 0.8, 1.2)):
        shares = np.histogram(drawn, 10, (low, high))[0] / 20000
        assert shares.sum() == 1 and np.abs(shares - 0.1).max() < 0.011
    assert abs(np.corrcoef(angles, factors)[0, 1]) < 0.04
