"""Binarized convolutions on packed bits, and what surrounds them in a unit, as pure JAX functions for CPUs.

The functions mean what their counterparts in ops/ mean, in float32, on the same arguments; results differ from theirs
by rounding only. They work under jit, grad, pmap and in loops, not under vmap. `serves` says whether to use them.

The convolution proper is exact: it gives integers, conv(sign(x - alpha), sign(kernel)). Gradients and batch statistics
are sums of floats, taken in an order that depends on the shapes alone: the same bits for any number of threads.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from onebnet_jax.native import library

SLOPES = {"poly": 0, "clip": 1}  # estimators whose slope the kernels compute themselves; 2 is a slope as an array


def serves(x: jax.Array, kernel: jax.Array | None = None) -> bool:
    """Whether the kernels are for these arrays, [N, H, W, C_in] and [kh, kw, C_in, C_out]: float32, on a CPU.

    With 64-bit types switched on, parameters may be of those; that is left to XLA.
    """
    if jax.config.jax_enable_x64:
        return False
    if kernel is not None:
        taps = kernel.shape[0] * kernel.shape[1]
        if taps > 49 or taps * kernel.shape[2] > np.iinfo(np.int16).max:  # sums of so many signs take 16 bits
            return False
        if kernel.dtype != jnp.float32:
            return False
    return x.dtype == jnp.float32 and jax.default_backend() == "cpu" and library.available()


def _floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _or_empty(x, dtype=jnp.float32):
    """x, or for None the array without elements that stands for it in the library."""
    return jnp.zeros(0, dtype) if x is None else x


def _or_zeros(alpha, x):
    return jnp.zeros(x.shape[-1], jnp.float32) if alpha is None else alpha


def _psum(x, axis_name):
    return x if axis_name is None else lax.psum(x, axis_name)


def _scale(kernel):
    """[C_out] of a kernel whose values are that scale times -1 or +1."""
    return jnp.abs(kernel[0, 0, 0])


def output(shape, kernel, strides):
    """The shape of a convolution's result, of that of x [N, H, W, C_in]."""
    return shape[0], -(-shape[1] // strides[0]), -(-shape[2] // strides[1]), kernel.shape[3]


def _bits(shape, size, strides):
    """Packed signs of a map of `shape` [N, H, W, C], with the border that a kernel of `size` (kh, kw) needs."""
    pads = lax.padtype_to_pads(shape[1:3], size, strides, "SAME")
    rows, columns = (length + sum(pair) for length, pair in zip(shape[1:3], pads))
    return jax.ShapeDtypeStruct((shape[0], rows, columns, -(-shape[3] // 32)), jnp.uint32)


# The convolution and its gradients ------------------------------------------------------------------------------------


def counts(x, alpha, kernel, mask=None, strides=(1, 1), pad_value=0):
    """The exact convolution of signs, with SAME padding.

    Args:
      x: [N, H, W, C_in].
      alpha: [C_in] or None; the sign is taken of x - alpha.
      kernel: [kh, kw, C_in, C_out], of which the signs count.
      mask: [N], which images count in the sums; None for all.
      strides, pad_value: as in `ops.convolution.conv`.

    Returns:
      (counts, bits, sums): int16 [N, H', W', C_out]; the packed signs, uint32 [N, rows, columns, ceil(C_in / 32)] with
      the border; the sums over N, H', W' of the counts and of their squares, [2, C_out].
    """
    results = (
        jax.ShapeDtypeStruct(output(x.shape, kernel, strides), jnp.int16),
        _bits(x.shape, kernel.shape[:2], strides),
        _floats(2, kernel.shape[3]),
    )
    attributes = {"rows": strides[0], "columns": strides[1], "pad_value": pad_value}
    return library.call("forward", results, x, _or_zeros(alpha, x), kernel, _or_empty(mask), **attributes)


def gradients(
    grad,
    bits,
    x,
    alpha,
    kernel,
    progress,
    strides,
    pad_value,
    estimator,
    window,
    norm=None,
    shortcut=False,
    binary_kernel=True,
):
    """Gradients of x, alpha and the kernel; the estimator's slope at x - alpha stands for the sign's.

    Args:
      grad: [N, H', W', C_out], of the convolution's result, or of its batch normalization's with `norm`.
      bits: packed signs, from `counts`.
      norm: (counts, coefficients c [3, C_out], mask [N]): that of the convolution is then
        grad * c[0] - mask * (counts * c[1] + c[2]).
      shortcut: adds grad to the gradient of x.
      binary_kernel: whether the kernel is a scale times -1 or +1; a float one goes with neither of the two before.

    Returns:
      [N, H, W, C_in], [C_in], [kh, kw, C_in, C_out].
    """
    known = estimator in SLOPES
    slopes = None if known else estimator(x if alpha is None else x - alpha, window, progress).astype(jnp.float32)
    counted, coefficients, mask = norm or (None, None, None)
    *results, _ = library.call(
        "gradients",
        (_floats(*x.shape), _floats(x.shape[-1]), _floats(*kernel.shape), _floats(*(grad.shape if norm else (0,)))),
        grad,
        _or_empty(counted, jnp.int16),
        _or_empty(coefficients),
        _or_empty(mask),
        kernel,
        x,
        _or_zeros(alpha, x),
        _or_empty(slopes),
        bits,
        rows=strides[0],
        columns=strides[1],
        pad_value=pad_value,
        slope=SLOPES[estimator] if known else 2,
        window=np.float32(window),
        shortcut=int(shortcut),
        binary=int(binary_kernel),
    )
    return results


def float_forward(x, alpha, kernel, strides, pad_value):
    """conv(sign(x - alpha), kernel) of a float kernel, and the packed signs; arguments and bits as in `counts`."""
    shape = output(x.shape, kernel, strides)
    attributes = {"rows": strides[0], "columns": strides[1], "pad_value": pad_value}
    bits = _bits(x.shape, kernel.shape[:2], strides)
    return library.call("float_forward", (_floats(*shape), bits), x, _or_zeros(alpha, x), kernel, **attributes)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5, 6, 7, 8))
def rsign_conv(
    x: jax.Array,
    alpha: jax.Array | None,
    kernel: jax.Array,
    progress: jax.Array | float = 1.0,
    strides: tuple[int, int] = (1, 1),
    pad_value: int = 0,
    estimator: str | Callable = "poly",
    window: float = 1.0,
    binary_kernel: bool = True,
) -> jax.Array:
    """conv(sign(x - alpha), kernel), with an estimator's slope in the backward pass.

    Args:
      x: [N, H, W, C_in].
      alpha: [C_in], or None for no shift.
      kernel: [kh, kw, C_in, C_out].
      progress, window: what the estimator gets.
      estimator: "poly", "clip", or a function as in `ops.binarize.ESTIMATORS`.
      binary_kernel: whether the kernel is one scale for each output channel times -1 or +1, or float.

    Returns:
      [N, H', W', C_out]. Of a binary kernel an exact integer times the scale, which is rounded once. (XLA adds up the
      scales.)
    """
    return _rsign_conv_fwd(x, alpha, kernel, progress, strides, pad_value, estimator, window, binary_kernel)[0]


def _rsign_conv_fwd(x, alpha, kernel, progress, strides, pad_value, estimator, window, binary_kernel):
    if binary_kernel:
        counted, bits, _ = counts(x, alpha, kernel, None, strides, pad_value)
        y = counted.astype(jnp.float32) * _scale(kernel)
    else:
        y, bits = float_forward(x, alpha, kernel, strides, pad_value)
    return y, (x, alpha, kernel, progress, bits)


def _rsign_conv_bwd(strides, pad_value, estimator, window, binary_kernel, residuals, grad):
    x, alpha, kernel, progress, bits = residuals
    fixed = strides, pad_value, estimator, window
    dx, dalpha, dkernel = gradients(grad, bits, x, alpha, kernel, progress, *fixed, binary_kernel=binary_kernel)
    return dx, None if alpha is None else dalpha, dkernel, jnp.zeros_like(progress)


rsign_conv.defvjp(_rsign_conv_fwd, _rsign_conv_bwd)

# Batch normalization, shortcut, RPReLU -------------------------------------------------------------------------


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
        _floats(*shape),
        _or_empty(y),
        _or_empty(counted, jnp.int16),
        _or_empty(shortcut),
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
        (_floats(*grad.shape) if rprelu else _floats(0), _floats(4 if rprelu else 2, grad.shape[-1])),
        grad,
        _or_empty(y),
        _or_empty(counted, jnp.int16),
        _or_empty(shortcut),
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
    sums = library.call("statistics", _floats(2, y.shape[-1]), y, mask)
    return _normalize(y, None, jnp.float32(1), sums, shortcut, scale, bias, mask, rprelu, epsilon, axis_name)


def _tail_bwd(epsilon, axis_name, residuals, grads):
    y, shortcut, mask = residuals[0], residuals[3], residuals[6]
    h, coefficients, dscale, dbias, dparameters = _denormalize(grads[0], residuals, axis_name)
    dy = library.call("tail_gradient", _floats(*y.shape), h, y, mask, coefficients)
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
        None, counted, _scale(kernel), sums, added, scale, bias, mask, rprelu, epsilon, axis_name
    )
    return results, (x, alpha, kernel, progress, bits, tail)


def _unit_bwd(strides, pad_value, estimator, window, identity, epsilon, axis_name, residuals, grads):
    x, alpha, kernel, progress, bits, tail = residuals
    counted, shortcut, mask = tail[1], tail[3], tail[6]
    h, coefficients, dscale, dbias, dparameters = _denormalize(grads[0], tail, axis_name)
    dx, dalpha, dkernel = gradients(
        h,
        bits,
        x,
        alpha,
        kernel,
        progress,
        strides,
        pad_value,
        estimator,
        window,
        norm=(counted, coefficients, mask),
        shortcut=identity,
    )
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
