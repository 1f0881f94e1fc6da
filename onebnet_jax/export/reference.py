"""A deployment plan computed without TensorFlow and LCE: binarized convolutions on packed bits, the rest in plain JAX.

An independent witness: it shares no arithmetic with LCE's kernels, and no folding with the trained network.
"""

import jax
import jax.numpy as jnp
from jax import lax

from onebnet_jax.export.packed import pack, pack_kernel, packed_conv
from onebnet_jax.export.plan import Conv, Plan, ResNetBlock, Unit
from onebnet_jax.networks.layers import average_pool


def run(plan: Plan, images: jax.Array) -> jax.Array:
    """Logits [N, num_classes] of images [N, H, W, C], which are pixels 0..255 if the plan takes them."""
    x = jnp.asarray(images, jnp.float32)
    if plan.pixel_mean is not None:
        x = x - plan.pixel_mean
    x = conv(plan.stem, x)
    if plan.stem_relu:
        x = jax.nn.relu(x)
    if plan.max_pool is not None:
        pads = "SAME" if plan.max_pool.pads is None else ((0, 0), *plan.max_pool.pads, (0, 0))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)
    for layer in plan.body:
        x = unit(layer, x) if isinstance(layer, Unit) else resnet_block(layer, x)
    return jnp.mean(x, axis=(1, 2)) @ plan.head_kernel + plan.head_bias


def unit(layer: Unit, x: jax.Array) -> jax.Array:
    """One unit: [N, H, W, C_in] -> [N, H / rows, W / columns, C_out]."""
    b = layer.threshold - x if layer.reverse else x - layer.threshold
    if layer.sign:
        b = jnp.where(b >= 0, 1.0, -1.0)
    s = x if layer.pool is None else conv(layer.shortcut, average_pool(x, layer.pool))
    y = conv(layer.conv, b) + s
    if layer.gamma is not None:
        y = y - layer.gamma
    y = jnp.where(y > 0, y, layer.beta * y)
    return y if layer.zeta is None else y + layer.zeta


def resnet_block(layer: ResNetBlock, x: jax.Array) -> jax.Array:
    """One FP32 residual block: [N, H, W, C_in] -> [N, H / rows, W / columns, C_out]."""
    y = x
    for index, each in enumerate(layer.convs):
        y = conv(each, jax.nn.relu(y) if index else y)
    return jax.nn.relu(y + (x if layer.shortcut is None else conv(layer.shortcut, x)))


def conv(layer: Conv, x: jax.Array) -> jax.Array:
    """A convolution of the plan with its BN; on packed bits where binary."""
    if layer.binary:
        channels = layer.kernel.shape[2]
        y = packed_conv(pack(x), pack_kernel(layer.kernel), channels, layer.strides, layer.pad_value)
        return jnp.asarray(y, jnp.float32) * layer.multiplier + layer.bias
    pads = layer.pads or lax.padtype_to_pads(x.shape[1:3], layer.kernel.shape[:2], layer.strides, "SAME")
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=layer.pad_value)
    y = lax.conv_general_dilated(
        x, jnp.asarray(layer.kernel), layer.strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    return y + layer.bias
