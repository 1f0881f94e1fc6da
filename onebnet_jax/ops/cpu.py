"""What XLA's CPU backend has to be told to be fast; on other platforms each function here is just what it says."""

import jax
import jax.numpy as jnp
from jax import lax


def channel_sum(x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Sum over N, H and W: [N, H, W, C] -> [C], in float32 or wider; with mask [N], each image times its mask.

    On a CPU as a vector-matrix product, which XLA runs three times as fast there as its own reductions.
    """
    count, height, width, channels = x.shape
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    weights = jnp.ones(count, x.dtype) if mask is None else mask.astype(x.dtype)

    def product(x, weights):
        return jnp.repeat(weights, height * width) @ x.reshape(-1, channels)

    def reduction(x, weights):
        per_image = jnp.sum(x, axis=(1, 2))
        return jnp.sum(weights[:, None] * per_image, axis=0)

    return lax.platform_dependent(x, weights, cpu=product, default=reduction)


@jax.custom_vjp
def materialize(x: jax.Array, images: jax.Array) -> jax.Array:
    """x, computed once; images is any array not known before the run.

    XLA would compute an element-wise chain, such as a residual network's additions, again for each of its uses. On a
    CPU it ignores lax.optimization_barrier, but moves no work across a branch whose condition it cannot know.
    """

    def branch(x, images):
        pixel = images.ravel()[0]
        never = (pixel < -1e30) & (pixel > 1e30)
        return lax.cond(never, jnp.zeros_like, lambda x: x, x)

    return lax.platform_dependent(x, images, cpu=branch, default=lambda x, _: x)


materialize.defvjp(lambda x, images: (materialize(x, images), None), lambda _, grad: (grad, None))


def after(x: jax.Array, other: jax.Array) -> jax.Array:
    """x, computed only when `other` is there: adding 0 times one of its values ties the two together.

    XLA would compute the backward pass's +-1 maps and slopes in the forward pass, and keep them in memory until then.
    """
    return lax.platform_dependent(x, other, cpu=lambda x, other: x + 0 * other.ravel()[0], default=lambda x, _: x)
