"""Convolutions of packed signs, as pure JAX functions for CPUs; `units` has what surrounds them in a unit.

The functions mean what their counterparts in ops/ mean, in float32, on the same arguments; results differ from theirs
by rounding only. They work under jit, grad, pmap and in loops, not under vmap. `serves` says whether to use them.

The convolution proper is exact where the kernel is binary too: it gives integers, conv(sign(x - alpha), sign(kernel)).
With float weights (stage 1), gradients and batch statistics are sums of floats, taken in an order that depends on the
shapes alone: the same bits for any number of threads.
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


def floats(*shape):
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def or_empty(x, dtype=jnp.float32):
    """x, or for None the array without elements that stands for it in the library."""
    return jnp.zeros(0, dtype) if x is None else x


def _or_zeros(alpha, x):
    return jnp.zeros(x.shape[-1], jnp.float32) if alpha is None else alpha


def scale_of(kernel):
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


def _placed(strides, pad_value):
    """The attributes that say where the kernel goes."""
    return {"rows": strides[0], "columns": strides[1], "pad_value": pad_value}


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
        floats(2, kernel.shape[3]),
    )
    return library.call(
        "forward", results, x, _or_zeros(alpha, x), kernel, or_empty(mask), **_placed(strides, pad_value)
    )


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
        (floats(*x.shape), floats(x.shape[-1]), floats(*kernel.shape), floats(*(grad.shape if norm else (0,)))),
        grad,
        or_empty(counted, jnp.int16),
        or_empty(coefficients),
        or_empty(mask),
        kernel,
        x,
        _or_zeros(alpha, x),
        or_empty(slopes),
        bits,
        **_placed(strides, pad_value),
        slope=SLOPES[estimator] if known else 2,
        window=np.float32(window),
        shortcut=int(shortcut),
        binary=int(binary_kernel),
    )
    return results


def float_forward(x, alpha, kernel, strides, pad_value):
    """conv(sign(x - alpha), kernel) of a float kernel, and the packed signs; arguments and bits as in `counts`."""
    shape = output(x.shape, kernel, strides)
    bits = _bits(x.shape, kernel.shape[:2], strides)
    arguments = x, _or_zeros(alpha, x), kernel
    return library.call("float_forward", (floats(*shape), bits), *arguments, **_placed(strides, pad_value))


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
        y = counted.astype(jnp.float32) * scale_of(kernel)
    else:
        y, bits = float_forward(x, alpha, kernel, strides, pad_value)
    return y, (x, alpha, kernel, progress, bits)


def _rsign_conv_bwd(strides, pad_value, estimator, window, binary_kernel, residuals, grad):
    x, alpha, kernel, progress, bits = residuals
    fixed = strides, pad_value, estimator, window
    dx, dalpha, dkernel = gradients(grad, bits, x, alpha, kernel, progress, *fixed, binary_kernel=binary_kernel)
    return dx, None if alpha is None else dalpha, dkernel, jnp.zeros_like(progress)


rsign_conv.defvjp(_rsign_conv_fwd, _rsign_conv_bwd)
