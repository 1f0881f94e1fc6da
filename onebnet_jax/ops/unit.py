"""A unit in one piece: RSign, binarized convolution, batch normalization, shortcut, activation. Pure functions.

The native kernels compute them together where they serve, or, of float weights (stage 1), in two parts; XLA computes
them one after the other everywhere else.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from onebnet_jax.errors import Parts
from onebnet_jax.native import kernels, units
from onebnet_jax.ops import binarize, cpu, fused

# Activations without parameters, functions of [N, H, W, C]. The kernels compute the two that are here.
ACTIVATIONS = Parts("activation", none=lambda y: y, relu=jax.nn.relu)


class RSignConv(NamedTuple):
    """conv(sign(x - alpha), kernel), described but not yet computed: `norm` computes it with what follows.

    x is [N, H, W, C_in], alpha [C_in] or None, kernel [kh, kw, C_in, C_out]; the others are `binarize.binary_conv`'s.
    """

    x: jax.Array
    alpha: jax.Array | None
    kernel: jax.Array
    progress: jax.Array | float
    strides: tuple[int, int]
    pad_value: int
    estimator: str
    window: float
    binary_kernel: bool  # whether it is a scale for each output channel times -1 or +1


def shifted(x: jax.Array, alpha: jax.Array | None) -> jax.Array:
    """x - alpha: [N, H, W, C] and [C]; None for no shift."""
    return x if alpha is None else fused.shift(x, alpha)


def value(y: jax.Array | RSignConv) -> jax.Array:
    """The result of a convolution: [N, H', W', C_out]."""
    if not isinstance(y, RSignConv):
        return y
    if kernels.serves(y.x, y.kernel):
        return kernels.rsign_conv(y.x, y.alpha, y.kernel, y.progress, *_static(y), y.binary_kernel)
    return binarize.binary_conv(
        shifted(y.x, y.alpha), y.kernel, y.progress, y.strides, y.pad_value, y.estimator, y.window
    )


def norm(y, shortcut, scale, bias, mask, activation="none", epsilon=1e-5, axis_name=None):
    """activation(BN(y) + shortcut), with the statistics of the batch: see `fused.batch_norm`.

    y is [N, H, W, C] or an RSignConv; shortcut [N, H, W, C] or None; activation one of ACTIVATIONS or, for RPReLU,
    (gamma, beta, zeta), each [C]. Returns (result, mean, biased variance), [N, H, W, C], [C] and [C]; the last two
    carry no gradient.
    """
    if isinstance(y, RSignConv) and not _native(y):
        y = value(y)  # of float weights: the kernels may compute what follows apart
    if _native(y):
        if shortcut is not None:  # of each channel, perhaps; the kernels read a whole map
            shape = kernels.output(y.x.shape, y.kernel, y.strides) if isinstance(y, RSignConv) else y.shape
            shortcut = shortcut if shortcut.shape == shape else jnp.broadcast_to(shortcut, shape)
        rprelu, behind = (None, activation) if isinstance(activation, str) else (activation, "none")
        if activation == "relu":
            rprelu, behind = 3 * (jnp.zeros_like(scale),), "none"
        rest = shortcut, scale, bias, mask, rprelu
        if isinstance(y, RSignConv):
            y, *moments = units.unit(y.x, y.alpha, y.kernel, *rest, y.progress, *_static(y), epsilon, axis_name)
        else:
            y, *moments = units.tail(y, *rest, epsilon, axis_name)
        return ACTIVATIONS[behind](y), *moments
    y, mean, variance = fused.batch_norm(y, scale, bias, mask, epsilon, axis_name)
    return add(y, shortcut, activation), mean, variance


def add(y, shortcut, activation):
    """activation(y + shortcut): [N, H, W, C]; see `norm`."""
    y = y if shortcut is None else y + shortcut
    return ACTIVATIONS[activation](y) if isinstance(activation, str) else fused.rprelu(y, *activation)


def settle(x: jax.Array, images: jax.Array) -> jax.Array:
    """x, computed once for all its uses: see `cpu.materialize`. Kernels' results are in memory anyway."""
    return x if kernels.serves(x) else cpu.materialize(x, images)


def _native(y):
    """Whether the kernels compute a convolution with what follows, or what follows its result."""
    return y.binary_kernel and kernels.serves(y.x, y.kernel) if isinstance(y, RSignConv) else kernels.serves(y)


def _static(y):
    known = y.estimator if y.estimator in kernels.SLOPES else binarize.ESTIMATORS[y.estimator]
    return y.strides, y.pad_value, known, y.window
