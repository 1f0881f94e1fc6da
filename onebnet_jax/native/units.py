"""What surrounds a binarized convolution in a unit, by the native kernels: batch normalization, shortcut, RPReLU.

As in `kernels`: functions for CPUs that mean what their counterparts in ops/ mean.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from onebnet_jax.native import library
from onebnet_jax.native.kernels import counts, floats, gradients, or_empty, scale_of


def _psum(x, axis_name):
    return x if axis_name is None else lax.psum(x, axis_name)


def _normalize(y, counted, unit, sums, shortcut, scale, bias, mask, rprelu, epsilon, axis_name):
    """Forward pass from the sums on. y float, or counts in multiples of `unit` [C].

    Returns ((out, mean, variance), residuals), mean and variance those of y.
    """
    shape = (counted if y is None else y).shape
    count = _psum(jnp.sum(mask), axis_name) * shape[1] * shape[2]
    mean, mean_of_squares = _psum(sums, axis_name) / count
    variance = jnp.maximum(mean_of_squares - mean * mean, 0.0) * unit * unit
    mean = mean * unit
    inverse = lax.rsqrt(variance + epsilon)
    a, b = scale * inverse, bias - mean * scale * inverse
    rows = [a * unit, b]
    if rprelu:
        gamma, beta, zeta = rprelu
        rows = [a * unit, b - gamma, beta, zeta]
    out = library.call(
        "tail_forward",
        floats(*shape),
        or_empty(y),
        or_empty(counted, jnp.int16),
        or_empty(shortcut),
        jnp.stack(rows),
        rprelu=int(bool(rprelu)),
    )
    return (out, mean, variance), (y, counted, unit, shortcut, rows, a, mask, mean, inverse, count)


def _denormalize(grad, residuals, axis_name):
    """Backward pass up to BN's result: (its gradient, coefficients of dy [3, C], gradients of scale, bias, RPReLU)."""
    y, counted, unit, shortcut, rows, a, mask, mean, inverse, count = residuals
    rprelu = len(rows) == 4
    h, sums = library.call(
        "tail_backward",
        (floats(*grad.shape) if rprelu else floats(0), floats(4 if rprelu else 2, grad.shape[-1])),
        grad,
        or_empty(y),
        or_empty(counted, jnp.int16),
        or_empty(shortcut),
        jnp.stack([inverse * unit, -mean * inverse, *(rows[:3] if rprelu else ())]),
        rprelu=int(rprelu),
    )
    # The batch's statistics depend on every device's images, the parameters' gradients on this device's alone.
    grad_mean, grad_projection = _psum(sums[:2], axis_name) / count
    projection = a * grad_projection * inverse
    coefficients = jnp.stack([a, projection * unit, a * grad_mean - projection * mean])
    parameters = (-sums[0], sums[2], sums[3]) if rprelu else None
    return h if rprelu else grad, coefficients, sums[1], sums[0], parameters


@functools.partial(jax.custom_vjp, nondiff_argnums=(6, 7))
def tail(y, shortcut, scale, bias, mask, rprelu, epsilon=1e-5, axis_name=None):
    """RPReLU(batch_norm(y) + shortcut), see `ops.fused`.

    Args:
      y, shortcut: [N, H, W, C]; shortcut may be None.
      scale, bias: [C].
      mask: [N], 1 for images that count in the statistics.
      rprelu: (gamma, beta, zeta), each [C], or None for no activation.
      epsilon, axis_name: as in `ops.fused.batch_norm`.

    Returns:
      (out, mean, variance): [N, H, W, C], [C], [C]; mean and variance carry no gradient.
    """
    return _tail_fwd(y, shortcut, scale, bias, mask, rprelu, epsilon, axis_name)[0]


def _tail_fwd(y, shortcut, scale, bias, mask, rprelu, epsilon, axis_name):
    sums = library.call("statistics", floats(2, y.shape[-1]), y, mask)
    return _normalize(y, None, jnp.float32(1), sums, shortcut, scale, bias, mask, rprelu, epsilon, axis_name)


def _tail_bwd(epsilon, axis_name, residuals, grads):
    y, shortcut, mask = residuals[0], residuals[3], residuals[6]
    h, coefficients, dscale, dbias, dparameters = _denormalize(grads[0], residuals, axis_name)
    dy = library.call("tail_gradient", floats(*y.shape), h, y, mask, coefficients)
    return dy, None if shortcut is None else h, dscale, dbias, None, dparameters


tail.defvjp(_tail_fwd, _tail_bwd)


@functools.partial(jax.custom_vjp, nondiff_argnums=(9, 10, 11, 12, 13, 14, 15))
def _unit(x, alpha, kernel, shortcut, scale, bias, mask, rprelu, progress, *static):
    return _unit_fwd(x, alpha, kernel, shortcut, scale, bias, mask, rprelu, progress, *static)[0]


def _unit_fwd(x, alpha, kernel, shortcut, scale, bias, mask, rprelu, progress, *static):
    strides, pad_value, _, _, identity, epsilon, axis_name = static
    counted, bits, sums = counts(x, alpha, kernel, mask, strides, pad_value)
    added = x if identity else shortcut
    results, tail = _normalize(
        None, counted, scale_of(kernel), sums, added, scale, bias, mask, rprelu, epsilon, axis_name
    )
    return results, (x, alpha, kernel, progress, bits, tail)


def _unit_bwd(strides, pad_value, estimator, window, identity, epsilon, axis_name, residuals, grads):
    x, alpha, kernel, progress, bits, tail = residuals
    counted, shortcut, mask = tail[1], tail[3], tail[6]
    h, coefficients, dscale, dbias, dparameters = _denormalize(grads[0], tail, axis_name)
    fixed, of_norm = (strides, pad_value, estimator, window), (counted, coefficients, mask)
    dx, dalpha, dkernel = gradients(h, bits, x, alpha, kernel, progress, *fixed, norm=of_norm, shortcut=identity)
    dalpha = None if alpha is None else dalpha
    dshortcut = None if identity or shortcut is None else h
    return dx, dalpha, dkernel, dshortcut, dscale, dbias, None, dparameters, jnp.zeros_like(progress)


_unit.defvjp(_unit_fwd, _unit_bwd)


def unit(
    x: jax.Array,
    alpha: jax.Array | None,
    kernel: jax.Array,
    shortcut: jax.Array | None,
    scale: jax.Array,
    bias: jax.Array,
    mask: jax.Array,
    rprelu: tuple[jax.Array, jax.Array, jax.Array] | None,
    progress: jax.Array | float = 1.0,
    strides: tuple[int, int] = (1, 1),
    pad_value: int = 0,
    estimator: str | Callable = "poly",
    window: float = 1.0,
    epsilon: float = 1e-5,
    axis_name: str | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """tail(rsign_conv(x, alpha, kernel), shortcut, ...) in fewer passes over memory; arguments and result are theirs.

    What is kept for the backward pass is x, 16 bits for each value of the convolution, and one for each sign. A
    shortcut that is x itself costs nothing more.
    """
    identity = shortcut is x
    progress = jnp.asarray(progress, jnp.float32)
    static = (tuple(strides), pad_value, estimator, window, identity, epsilon, axis_name)
    return _unit(x, alpha, kernel, None if identity else shortcut, scale, bias, mask, rprelu, progress, *static)
