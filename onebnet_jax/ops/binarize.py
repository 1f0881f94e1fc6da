"""Binarization: the sign, its estimators, binarized weights, and the binarized convolution. Pure functions.

Values are -1 or +1 and sign(0) = -1, for activations and weights alike (the paper's section 3.4).
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from onebnet_jax.errors import Parts, UserError
from onebnet_jax.ops import cpu
from onebnet_jax.ops.convolution import conv
from onebnet_jax.ops.trial import fault


def sign(x: jax.Array) -> jax.Array:
    """+1 where x > 0, else -1. Any shape; keeps the dtype."""
    return jnp.where(x > 0, 1.0, -1.0).astype(x.dtype)


# Estimators ----------------------------------------------------------------------------------------------------
#
# An estimator gives the slope that the backward pass takes for the derivative of the sign, which is 0 and teaches
# nothing. It is a function of x (any shape), the half width `window` of the region that it acts in, and `progress`,
# how far training has come, from 0 to 1 (a traced scalar: a schedule costs no recompilation). It returns an array of
# x's shape. One of type bool, 0 or 1, is kept in one bit per value until the backward pass; for any other, x itself is.


def clip(x, window, progress):
    """1 for |x| <= window (Courbariaux et al. 2016; the paper's section 3.4)."""
    return jnp.abs(x) <= window


def poly(x, window, progress):
    """(2 - 2|x| / window) / window for |x| < window (Bi-Real Net, Liu et al. 2018, section 3.3; ReActNet's code).

    The area below is 2 for every window: the height of the step.
    """
    return jnp.maximum(0.0, (2.0 - 2.0 * jnp.abs(x) / window) / window)


def tanh(x, window, progress):
    """k t (1 - tanh(t x / window)^2), a slope that becomes steeper (IR-Net, Qin et al. 2020, section 3.3).

    t goes from 0.1 to 10 as progress goes from 0 to 1, each step multiplying it alike; k = max(1 / t, 1).
    """
    t = 10.0 ** (2.0 * progress - 1.0)
    return (jnp.maximum(1.0 / t, 1.0) * t * (1.0 - jnp.tanh(t * x / window) ** 2)).astype(x.dtype)


def reste(x, window, progress):
    """(1 / o) |x / window|^(1/o - 1) for |x| <= 1.5 windows: ReSTE (Wu et al. 2023).

    o grows from 1, the identity, to 3. Up to a tenth of the window, where this would grow without bound, the slope is
    the mean slope there, 10 * 0.1^(1/o), as in the authors' code.
    """
    o = 3.0 - 2.0 * jnp.cos(jnp.pi / 2 * progress)
    size = jnp.abs(x) / window
    slope = jnp.where(size <= 0.1, 10.0 * 0.1 ** (1.0 / o), jnp.maximum(size, 0.1) ** (1.0 / o - 1.0) / o)
    return jnp.where(size <= 1.5, slope, 0.0).astype(x.dtype)


ESTIMATORS = Parts("estimator", clip=clip, poly=poly, tanh=tanh, reste=reste)

# Scales of binarized weights -----------------------------------------------------------------------------------
#
# A scale makes of a kernel [kh, kw, C_in, C_out], of JAX or of NumPy, factors [C_out], constants to the backward pass.


def mean(kernel):
    """The mean of |w| over kh, kw and C_in, which is nearest to the float kernel (XNOR-Net, Rastegari et al. 2016)."""
    return abs(kernel).mean(axis=(0, 1, 2))


def none(kernel):
    """1: the weights stay -1 and +1."""
    return np.ones(kernel.shape[-1], kernel.dtype)


SCALES = Parts("scale of weights", mean=mean, none=none)

# What a user's own code adds is tried once before it trains. --------------------------------------------------------


def check_estimator(name: str, window: float) -> None:
    """Raises UserError where an estimator gives no slope: one finite number for each value, and not always 0.

    Tried on 0, the edges of the window and far beyond, when training begins, is halfway, and ends.
    """
    sizes = np.concatenate([[0.0, 1e-30, 0.5, 1.0, 1.5, 10.0, 100.0], np.linspace(0.01, 3.0, 43)])
    x = jnp.asarray(np.concatenate([-sizes, sizes]) * window, jnp.float32)
    stages = (0.0, 0.5, 1.0)
    for progress in stages:
        if found := fault(lambda *args: ESTIMATORS[name](args[0], window, args[1]), x.shape, x, jnp.float32(progress)):
            raise UserError(f"The estimator {name!r} {found}, with window {window:g} and progress {progress:g}.")
    if not any(jnp.any(ESTIMATORS[name](x, window, jnp.float32(progress))) for progress in stages):
        raise UserError(
            f"The estimator {name!r} gives 0 everywhere, with window {window:g}: nothing before it would learn."
        )


def check_scale(name: str) -> None:
    """Raises UserError where a scale of weights gives anything but a finite factor for each output channel."""
    kernel = jnp.asarray(np.random.default_rng(0).standard_normal((3, 1, 4, 5)), jnp.float32)
    if found := fault(SCALES[name], kernel.shape[-1:], kernel):
        raise UserError(f"The scale of weights {name!r} {found}, of a kernel {list(kernel.shape)}.")


def _unpack(words, shape):
    return jnp.unpackbits(words, count=math.prod(shape)).reshape(shape).astype(bool)


def _keep(x, slope):
    """What the backward pass needs of x: the slope in bits if it is 0 or 1, else x."""
    return jnp.packbits(slope.reshape(-1)) if slope.dtype == bool else x


def _slope(kept, shape, dtype, progress, estimator, window):
    if kept.dtype == jnp.uint8:  # bits
        return _unpack(kept, shape).astype(dtype)
    return ESTIMATORS[estimator](kept, window, progress).astype(dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def ste_sign(x: jax.Array, progress: jax.Array | float = 1.0, estimator: str = "clip", window: float = 1.0):
    """The sign of x, with an estimator's slope as its derivative. Any shape; keeps the dtype.

    estimator: a name in `ESTIMATORS`. progress: how far training has come, from 0 to 1; window: half the width of the
    region that the estimator acts in.
    """
    return sign(x)


def _ste_sign_fwd(x, progress, estimator, window):
    return sign(x), (_keep(x, ESTIMATORS[estimator](x, window, progress)), progress)


def _ste_sign_bwd(estimator, window, kept, grad):
    kept, progress = kept
    return grad * _slope(kept, grad.shape, grad.dtype, progress, estimator, window), jnp.zeros_like(progress)


ste_sign.defvjp(_ste_sign_fwd, _ste_sign_bwd)


def binarize_kernel(
    kernel: jax.Array,
    progress: jax.Array | float = 1.0,
    estimator: str = "clip",
    window: float = 1.0,
    scale: str = "mean",
) -> jax.Array:
    """Binarized weights of a convolution, scale * ste_sign(kernel): [kh, kw, C_in, C_out] -> the same shape."""
    return lax.stop_gradient(SCALES[scale](kernel)) * ste_sign(kernel, progress, estimator, window)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5, 6))
def binary_conv(
    x: jax.Array,
    kernel: jax.Array,
    progress: jax.Array | float = 1.0,
    strides: tuple[int, int] = (1, 1),
    pad_value: int = 0,
    estimator: str = "poly",
    window: float = 1.0,
) -> jax.Array:
    """conv(ste_sign(x), kernel) in less memory; the kernel may be binarized or float.

    The backward pass keeps two bits per value instead of the +-1 map where the slope is 0 or 1, and x otherwise.
    """
    return conv(sign(x), kernel, strides, pad_value)


def _binary_conv_fwd(x, kernel, progress, strides, pad_value, estimator, window):
    values, kept = sign(x), _keep(x, ESTIMATORS[estimator](x, window, progress))
    positive = None if kept is x else jnp.packbits((values > 0).reshape(-1))
    # An array without elements carries shape and dtype to the backward pass.
    like = jnp.zeros((0, *x.shape), x.dtype)
    return conv(values, kernel, strides, pad_value), (kept, positive, like, kernel, progress)


def _binary_conv_bwd(strides, pad_value, estimator, window, residuals, grad):
    kept, positive, like, kernel, progress = residuals
    shape, dtype = like.shape[1:], like.dtype
    values = sign(kept) if positive is None else jnp.where(_unpack(positive, shape), 1.0, -1.0).astype(dtype)
    _, vjp = jax.vjp(lambda b, w: conv(b, w, strides, pad_value), cpu.after(values, grad), kernel)
    values_grad, kernel_grad = vjp(grad)
    # A slope that needs progress waits for the gradient too; one of x alone costs XLA no memory.
    slope = _slope(kept, shape, dtype, cpu.after(progress, grad), estimator, window)
    return values_grad * slope, kernel_grad, jnp.zeros_like(progress)


binary_conv.defvjp(_binary_conv_fwd, _binary_conv_bwd)
