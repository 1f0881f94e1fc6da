"""A deployment plan computed without TensorFlow and LCE: binarized convolutions on packed bits, the rest in plain JAX.

An independent witness: it shares no arithmetic with LCE's kernels, and no folding with the trained network.
"""

import jax
import jax.numpy as jnp
from jax import lax
from packed import pack, pack_kernel, packed_conv

from onebnet_jax.export.plan import Conv, Plan, Unit
from onebnet_jax.networks.layers import average_pool


def run(plan: Plan, images: jax.Array) -> jax.Array:
    """Logits [N, num_classes] of images [N, H, W, C], which are pixels 0..255 if the plan takes them."""
    x = jnp.asarray(images, jnp.float32)
    if plan.pixel_mean is not None:
        x = x - plan.pixel_mean
    inputs = []
    for layer in plan.units:
        inputs.append(x)
        x = unit(layer, inputs)
    return jnp.mean(x, axis=(1, 2)) @ plan.head_kernel + plan.head_bias


def unit(layer: Unit, inputs: list[jax.Array]) -> jax.Array:
    """One unit; `inputs` are those of the units before it and, last, its own."""
    b = inputs[-1]
    if layer.affine:
        b = b * layer.affine[0] + layer.affine[1]
    if layer.threshold is not None:
        b = b - layer.threshold
    if layer.sign:
        b = jnp.where(b >= 0, 1.0, -1.0)
    y, s, last = conv(layer.conv, b), 0, layer.shortcut and layer.shortcut.last
    if layer.gate:
        hidden = jax.nn.relu(jnp.mean(inputs[-1], axis=(1, 2)) @ layer.gate.inner + layer.gate.bias)
        y = y * jax.nn.sigmoid(hidden @ layer.gate.outer)[:, None, None]
    if layer.shortcut:
        s = average_pool(inputs[-layer.shortcut.span], layer.shortcut.pool)
        s = conv(layer.shortcut.conv, s) if layer.shortcut.conv else jnp.tile(s, layer.shortcut.repeats)
    y = y if last else y + s
    if layer.relu:
        y = jax.nn.relu(y)
    if layer.gamma is not None:
        y = y - layer.gamma
    if layer.beta is not None:
        y = jnp.where(y > 0, y, layer.beta * y)
    if layer.zeta is not None:
        y = y + layer.zeta
    y = y + s if last else y
    if layer.max_pool:
        pads = "SAME" if layer.pool_pads is None else ((0, 0), *layer.pool_pads, (0, 0))
        y = lax.reduce_window(y, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), pads)
    return y


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
