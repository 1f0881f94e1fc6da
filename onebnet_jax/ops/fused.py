"""Batch normalization, RPReLU and per-channel shifts as pure functions with hand-written backward passes.

Hand-written because XLA's CPU backend is slow at sums from [N, H, W, C] to [C], the gradients of per-channel
parameters, and because less is kept in memory than autodiff would keep.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from onebnet_jax.ops import cpu


def _psum(x, axis_name):
    return x if axis_name is None else lax.psum(x, axis_name)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def batch_norm(x, scale, bias, mask, epsilon=1e-5, axis_name=None):
    """Batch normalization of x [N, H, W, C] with the statistics of the batch (Ioffe & Szegedy 2015, algorithm 1).

    scale and bias are [C]; mask [N] is 1 for images that count, 0 for those that fill up the last batch of an epoch;
    the pmap's axis_name, if any, has all devices' statistics taken. Returns (y, mean, biased variance): [N, H, W, C],
    [C], [C]; the last two are for the running statistics and carry no gradient.
    """
    return _batch_norm_fwd(x, scale, bias, mask, epsilon, axis_name)[0]


def _batch_norm_fwd(x, scale, bias, mask, epsilon, axis_name):
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    pixels = x.shape[1] * x.shape[2]
    count = _psum(jnp.sum(mask), axis_name) * pixels
    sums = _psum(jnp.stack([cpu.channel_sum(wide, mask), cpu.channel_sum(wide * wide, mask)]), axis_name)
    mean, mean_of_squares = sums / count
    variance = jnp.maximum(mean_of_squares - mean * mean, 0.0)
    inverse = lax.rsqrt(variance + epsilon)
    y = (wide * (scale * inverse) + (bias - mean * scale * inverse)).astype(x.dtype)
    return (y, mean, variance), (x, scale, mask, mean, inverse, count)


def _batch_norm_bwd(epsilon, axis_name, residuals, grads):
    x, scale, mask, mean, inverse, count = residuals
    grad = grads[0].astype(mean.dtype)
    normalized = (x.astype(mean.dtype) - mean) * inverse
    local = jnp.stack([cpu.channel_sum(grad), cpu.channel_sum(grad * normalized)])
    # The batch's statistics depend on every device's images, the parameters' gradients on this device's alone.
    grad_mean, grad_projection = _psum(local, axis_name) / count
    correction = (grad_mean + normalized * grad_projection) * mask[:, None, None, None]
    x_grad = (grad - correction) * (scale * inverse)
    return x_grad.astype(x.dtype), local[1], local[0], None


batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


@jax.custom_vjp
def shift(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """Learnable bias, x - alpha: [N, H, W, C] and [C] (the paper's equation 1)."""
    return x - alpha.astype(x.dtype)


shift.defvjp(lambda x, alpha: (shift(x, alpha), None), lambda _, grad: (grad, -cpu.channel_sum(grad)))


@jax.custom_vjp
def rprelu(x: jax.Array, gamma: jax.Array, beta: jax.Array, zeta: jax.Array) -> jax.Array:
    """RPReLU, PReLU_beta(x - gamma) + zeta: [N, H, W, C] and three times [C] (the paper's equation 2)."""
    gamma, beta, zeta = (p.astype(x.dtype) for p in (gamma, beta, zeta))
    centered = x - gamma
    return jnp.where(centered > 0, centered, beta * centered) + zeta


def _rprelu_fwd(x, gamma, beta, zeta):
    return rprelu(x, gamma, beta, zeta), (x, gamma, beta)


def _rprelu_bwd(residuals, grad):
    x, gamma, beta = residuals
    centered = x - gamma.astype(x.dtype)
    x_grad = jnp.where(centered > 0, grad, beta.astype(x.dtype) * grad)
    beta_grad = cpu.channel_sum(grad * jnp.minimum(centered, 0))
    return x_grad, -cpu.channel_sum(x_grad), beta_grad, cpu.channel_sum(grad)


rprelu.defvjp(_rprelu_fwd, _rprelu_bwd)
