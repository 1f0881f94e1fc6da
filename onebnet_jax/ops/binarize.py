"""Binarization: the sign, its straight-through estimators, and the binarized convolution. Pure functions.

Conventions (paper, section 3.4): values are -1 or +1 and sign(0) = -1, for activations and weights alike.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from onebnet_jax.ops.convolution import conv


def sign(x: jax.Array) -> jax.Array:
    """sign(x) = +1 where x > 0, else -1: never 0, and sign(0) = -1. Any shape; keeps the dtype."""
    return jnp.where(x > 0, 1.0, -1.0).astype(x.dtype)


# Estimators: what replaces the derivative of the sign ----------------------------------------------------------
#
# Each is a pair of functions: `save(x, window)` keeps the least from which `slope(saved, shape, dtype, window)` gives
# back the pseudo-derivative at x.


def _save_clip(x, window):
    """One bit per element: whether inside the window."""
    return _pack(jnp.abs(x) <= window)


def _slope_clip(saved, shape, dtype, window):
    return _unpack(saved, shape).astype(dtype)


def _save_poly(x, window):
    """The slope varies with x, so x itself is kept."""
    return x


def _slope_poly(saved, shape, dtype, window):
    return jnp.maximum(0.0, (2.0 - 2.0 * jnp.abs(saved) / window) / window).astype(dtype)


ESTIMATORS = {"clip": (_save_clip, _slope_clip), "poly": (_save_poly, _slope_poly)}


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

    Taking the gradient raises KeyError for an unknown estimator.
    """
    return sign(x)


def _ste_sign_fwd(x, estimator, window):
    save, _ = ESTIMATORS[estimator]
    return sign(x), save(x, window)


def _ste_sign_bwd(estimator, window, saved, grad):
    _, slope = ESTIMATORS[estimator]
    return (grad * slope(saved, grad.shape, grad.dtype, window),)


ste_sign.defvjp(_ste_sign_fwd, _ste_sign_bwd)


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
    save, _ = ESTIMATORS[estimator]
    saved = save(x, window)
    positive = None if saved is x else _pack(x > 0)  # x holds its signs
    # An array without elements carries shape and dtype to the backward pass.
    like = jnp.zeros((0, *x.shape), x.dtype)
    return conv(sign(x), kernel, strides, pad_value), (saved, positive, like, kernel)


def _binary_conv_bwd(strides, pad_value, estimator, window, residuals, grad):
    _, slope = ESTIMATORS[estimator]
    saved, positive, like, kernel = residuals
    shape, dtype = like.shape[1:], like.dtype
    signs = sign(saved) if positive is None else jnp.where(_unpack(positive, shape), 1.0, -1.0).astype(dtype)
    # Adding zero ties the map to the gradient. Without it XLA computes the maps, transposed for the kernels' gradients,
    # as early as in the forward pass, and keeps all of them until they are needed.
    signs += 0 * grad.ravel()[0]
    _, vjp = jax.vjp(lambda b, w: conv(b, w, strides, pad_value), signs, kernel)
    signs_grad, kernel_grad = vjp(grad)
    return signs_grad * slope(saved, shape, dtype, window), kernel_grad


binary_conv.defvjp(_binary_conv_fwd, _binary_conv_bwd)
