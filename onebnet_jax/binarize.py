"""Binarization: the sign, its straight-through estimators, and the binarized convolution. Pure functions.

Conventions (paper, section 3.4): values are -1 or +1 and sign(0) = -1, for activations and weights alike.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from onebnet_jax.convolution import conv


def sign(x: jax.Array) -> jax.Array:
    """sign(x) = +1 where x > 0, else -1: never 0, and sign(0) = -1. Any shape; keeps the dtype."""
    return jnp.where(x > 0, 1.0, -1.0).astype(x.dtype)


# Estimators: what replaces the derivative of the sign ----------------------------------------------------------
#
# Each is a pair of functions: `save(x, window)` keeps the least that the backward pass needs, and
# `restore(saved, shape, dtype, window)` gives back (sign(x), pseudo-derivative at x).


def _save_clip(x, window):
    """Two bits per element: on which side of 0, and whether inside the window."""
    return _pack(x > 0), _pack(jnp.abs(x) <= window)


def _restore_clip(saved, shape, dtype, window):
    positive, inside = (_unpack(words, shape) for words in saved)
    return jnp.where(positive, 1.0, -1.0).astype(dtype), inside.astype(dtype)


def _save_poly(x, window):
    """The slope varies with x, so x itself is kept; the +-1 map is computed again from it."""
    return x


def _restore_poly(saved, shape, dtype, window):
    slope = jnp.maximum(0.0, (2.0 - 2.0 * jnp.abs(saved) / window) / window)
    return sign(saved).astype(dtype), slope.astype(dtype)


ESTIMATORS = {"clip": (_save_clip, _restore_clip), "poly": (_save_poly, _restore_poly)}


def _pack(bits):
    return jnp.packbits(bits.reshape(-1))


def _unpack(words, shape):
    return jnp.unpackbits(words, count=math.prod(shape)).reshape(shape).astype(bool)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def ste_sign(x: jax.Array, estimator: str = "clip", window: float = 1.0) -> jax.Array:
    """Sign with a straight-through estimator. Any shape; keeps the dtype.

    Forward: sign(x), +1 where x > 0 and -1 elsewhere. Backward, with t = window:

    - "clip": dy/dx = 1 for |x| <= t, else 0 (Courbariaux et al. 2016; the paper's section 3.4).
    - "poly": dy/dx = (2 - 2|x|/t) / t for |x| < t, else 0 (Bi-Real Net, Liu et al. 2018, section 3.3, where
      t = 1; ReActNet's code). The area under it is 2 for every t: the height of the step.

    Raises KeyError for an unknown estimator.
    """
    return sign(x)


def _ste_sign_fwd(x, estimator, window):
    return sign(x), (ESTIMATORS[estimator][0](x, window), _shape_of(x))


def _ste_sign_bwd(estimator, window, residuals, grad):
    saved, like = residuals
    _, slope = ESTIMATORS[estimator][1](saved, like.shape[1:], like.dtype, window)
    return (grad * slope,)


ste_sign.defvjp(_ste_sign_fwd, _ste_sign_bwd)


def _shape_of(x):
    """An array without elements that carries shape and dtype through a custom_vjp's residuals."""
    return jnp.zeros((0, *x.shape), x.dtype)


def binarize_kernel(kernel: jax.Array) -> jax.Array:
    """Binarized weights of a convolution, [kh, kw, C_in, C_out] -> the same shape.

    Forward: s_o * sign(w), with one scale per output channel, s_o = mean |w| over kh, kw and C_in (XNOR-Net,
    Rastegari et al. 2016, eq. 6; the paper's section 3.4). Backward: s_o is a constant, and the sign has the
    clipped estimator, so dy/dw = s_o for |w| <= 1, else 0.
    """
    scale = lax.stop_gradient(jnp.mean(jnp.abs(kernel), axis=(0, 1, 2)))
    return scale * ste_sign(kernel, "clip", 1.0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4, 5))
def binary_conv(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple[int, int] = (1, 1),
    pad_value: int = 0,
    estimator: str = "poly",
    window: float = 1.0,
) -> jax.Array:
    """conv(ste_sign(x), kernel), holding on to less memory than the composition of the two.

    The +-1 map is not kept for the backward pass: "poly" keeps x and takes its sign again, "clip" keeps two bits
    per element. Arguments and result as those of `conv` and `ste_sign`; the kernel may be binarized or float (stage
    1 of the two-stage training).
    """
    return conv(sign(x), kernel, strides, pad_value)


def _binary_conv_fwd(x, kernel, strides, pad_value, estimator, window):
    saved = ESTIMATORS[estimator][0](x, window)
    return conv(sign(x), kernel, strides, pad_value), (saved, _shape_of(x), kernel)


def _binary_conv_bwd(strides, pad_value, estimator, window, residuals, grad):
    saved, like, kernel = residuals
    signs, slope = ESTIMATORS[estimator][1](saved, like.shape[1:], like.dtype, window)
    _, vjp = jax.vjp(lambda b, w: conv(b, w, strides, pad_value), signs, kernel)
    signs_grad, kernel_grad = vjp(grad)
    return signs_grad * slope, kernel_grad


binary_conv.defvjp(_binary_conv_fwd, _binary_conv_bwd)
