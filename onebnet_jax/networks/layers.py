"""The layers of a network as Flax modules: parameters and their first values around the pure functions."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from onebnet_jax.networks.structure import Binarization, Unit
from onebnet_jax.ops import binarize
from onebnet_jax.ops import unit as ops
from onebnet_jax.ops.convolution import conv

zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
he_normal = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# Uniform within 1 / sqrt(fan_in), PyTorch's default and so ReActNet's. Only the signs of binarized weights count, and
# Adam's steps are as large whatever the weights: the smaller they begin, the sooner signs that are wrong have changed.
small_uniform = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
BN_EPSILON = 1e-5
BN_MOMENTUM = 0.9


class BatchNorm(nn.Module):
    """Batch normalization across devices, its statistics in float32, and what follows it in a unit.

    Running statistics move by 1 - BN_MOMENTUM a step, with the biased variance.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(self, y, mask: jax.Array | None, shortcut: jax.Array | None = None, activation="none"):
        """activation(BN(y) + shortcut): [N, H, W, C]; y and activation are as in `ops.unit.norm`.

        mask: [N] while training (the batch's statistics are used), None for evaluation (the running ones).
        """
        channels = (y.kernel.shape[-1] if isinstance(y, ops.RSignConv) else y.shape[-1],)
        scale, bias = self.param("scale", ones, channels), self.param("bias", zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if mask is None or self.is_initializing():
            y = ops.value(y)
            factor = scale * jax.lax.rsqrt(variance.value + BN_EPSILON)
            return ops.add((y * factor + (bias - mean.value * factor)).astype(y.dtype), shortcut, activation)
        rest = shortcut, scale, bias, mask, activation, BN_EPSILON, self.axis_name
        y, batch_mean, batch_variance = ops.norm(y, *rest)
        mean.value = BN_MOMENTUM * mean.value + (1 - BN_MOMENTUM) * batch_mean
        variance.value = BN_MOMENTUM * variance.value + (1 - BN_MOMENTUM) * batch_variance
        return y


class Conv(nn.Module):
    """FP32 convolution without bias. [N, H, W, C_in] -> [N, H', W', features]."""

    features: int
    kernel: tuple[int, int]
    strides: tuple[int, int] = (1, 1)
    symmetric: bool = False
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", he_normal, (*self.kernel, x.shape[-1], self.features))
        return conv(x, kernel.astype(self.dtype), self.strides, symmetric=self.symmetric)


class RSign(nn.Module):
    """The learnable bias alpha [C] before the sign, which starts at 0 (the paper's equation 1)."""

    @nn.compact
    def __call__(self, channels: int) -> jax.Array:
        return self.param("alpha", zeros, (channels,))


class RPReLU(nn.Module):
    """gamma, beta and zeta, each [C], of a PReLU with a learnable shift on either side (the paper's equation 2).

    gamma and zeta start at 0, the slope beta at 0.25 as in ReActNet.
    """

    @nn.compact
    def __call__(self, channels: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        gamma, zeta = (self.param(name, zeros, (channels,)) for name in ("gamma", "zeta"))
        return gamma, self.param("beta", nn.initializers.constant(0.25), (channels,)), zeta


class PReLU(nn.Module):
    """The same without shifts. The slope starts at 0, as in Real-to-Bin's code."""

    @nn.compact
    def __call__(self, channels: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        beta = self.param("beta", zeros, (channels,))
        return jnp.zeros_like(beta), beta, jnp.zeros_like(beta)


class BinaryConv(nn.Module):
    """Convolution of a binary unit, conv(sign(x - alpha), scale * sign(w)): [N, H, W, C_in] -> [N, H', W', C_out].

    The same parameter serves all four combinations of binarized and float activations and weights.
    """

    unit: Unit
    binarization: Binarization
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: jax.Array, alpha: jax.Array | None, progress: jax.Array | float = 1.0
    ) -> jax.Array | ops.RSignConv:
        """The convolution's result or, of binarized activations, its description. alpha is [C_in] or None."""
        options, strides = self.binarization, self.unit.strides
        kernel = self.param("kernel", small_uniform, (*self.unit.kernel, x.shape[-1], self.unit.out_channels))
        progress = jnp.asarray(progress, float)
        if options.weights:
            kernel = binarize.binarize_kernel(kernel, progress, options.weight_estimator, scale=options.weight_scale)
        kernel = kernel.astype(self.dtype)
        if not options.activations:
            x = ops.shifted(x, alpha)
            return conv(jnp.tanh(x) if options.soft_sign == "tanh" else x, kernel, strides)
        fixed = strides, self.unit.pad_value, options.estimator, options.window, options.weights
        return ops.RSignConv(x, alpha, kernel, progress, *fixed)


def average_pool(x: jax.Array, window: tuple[int, int]) -> jax.Array:
    """Average pooling by windows, SAME: [N, H, W, C] -> [N, ceil(H / rows), ceil(W / columns), C].

    A window that sticks out of the map takes the mean of what lies inside. Sums of slices, as XLA's CPU backend takes
    several times as long for reduce_window and its gradient.
    """
    counts, pads = [], []
    for size, length in zip(x.shape[1:3], window):
        low = -size % length // 2
        pads.append((low, -size % length - low))
        counts.append(np.pad(np.ones(size), pads[-1]).reshape(-1, length).sum(1))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    rows, columns = window
    x = x.reshape(len(x), -1, rows, x.shape[2] // columns, columns, x.shape[3])
    total = sum(x[:, :, i, :, j] for i in range(rows) for j in range(columns))
    return total / np.outer(*counts)[..., None].astype(x.dtype)
