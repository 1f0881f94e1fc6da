"""One ResNet body for every network: OneBNets of any `Structure`, ReActNet, and their FP32 counterparts."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from onebnet_jax.networks.layers import BatchNorm, Binarization, BinaryConv, Conv, RPReLU, RSign, average_pool
from onebnet_jax.networks.structure import Block, Structure, Unit, blocks
from onebnet_jax.ops import fused as ops


class OneBNetUnit(nn.Module):
    """One binarized convolution with its own shortcut and activation (section 3.2, algorithm 1).

    y = BN(BinaryConv(RSign(x))), s = x or BN(Conv1x1(AveragePool(x))), output RPReLU(y + s).
    [N, H, W, C_in] -> [N, ceil(H / row stride), ceil(W / column stride), C_out].
    """

    unit: Unit
    binarization: Binarization
    pad_value: int
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        unit = self.unit
        y = RSign(name="rsign")(x)
        y = BinaryConv(
            unit.out_channels, unit.kernel, unit.strides, self.binarization, self.pad_value, self.dtype, name="conv"
        )(y)
        y = BatchNorm(self.axis_name, name="bn")(y, mask)
        if unit.downsamples:
            x = average_pool(x, unit.strides)
            x = Conv(unit.out_channels, (1, 1), dtype=self.dtype, name="shortcut_conv")(x)
            x = BatchNorm(self.axis_name, name="shortcut_bn")(x, mask)
        return RPReLU(name="rprelu")(y + x)


class ResNetBlock(nn.Module):
    """The FP32 residual block: ReLU(BN(conv(ReLU(BN(conv(x))))) + s) (He et al. 2016, Figure 2).

    s is x, or BN(Conv1x1(x)) with the block's strides where the shape changes. [N, H, W, C_in] -> [N, H', W', C_out].
    """

    block: Block
    symmetric: bool
    axis_name: str | None
    dtype: Any

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array | None) -> jax.Array:
        y = x
        for index, unit in enumerate(self.block.units, start=1):
            y = y if index == 1 else nn.relu(y)
            y = Conv(unit.out_channels, unit.kernel, unit.strides, self.symmetric, self.dtype, name=f"conv{index}")(y)
            y = BatchNorm(self.axis_name, name=f"bn{index}")(y, mask)
        if self.block.strides != (1, 1):
            x = Conv(y.shape[-1], (1, 1), self.block.strides, dtype=self.dtype, name="shortcut_conv")(x)
            x = BatchNorm(self.axis_name, name="shortcut_bn")(x, mask)
        return nn.relu(y + x)


class Network(nn.Module):
    """Stem, body and head: normalized images [N, H, W, C] -> logits [N, num_classes], float32.

    Attributes:
      structure: the shape of the network.
      binarization: what is binarized; ignored where structure.block is "resnet".
      axis_name: axis of the pmap over which batch statistics are taken.
      dtype: of activations and convolutions; parameters, batch statistics and logits are float32 always.
    """

    structure: Structure
    binarization: Binarization = Binarization()
    axis_name: str | None = None
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """mask: [N] of 0 and 1 while training, which uses and updates batch statistics; None for evaluation."""
        shape = self.structure
        symmetric = shape.padding == "torch"
        kernel, strides = ((7, 7), (2, 2)) if shape.stem == "imagenet" else ((3, 3), (1, 1))
        x = images.astype(self.dtype)
        x = Conv(shape.widths[0], kernel, strides, symmetric, self.dtype, name="stem_conv")(x)
        x = BatchNorm(self.axis_name, name="stem_bn")(x, mask)
        if shape.stem_relu:
            x = nn.relu(x)
        if shape.stem == "imagenet":
            x = nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)) if symmetric else "SAME")
        x = ops.materialize(x, images)
        for block in blocks(shape):
            for module in self._modules(block):
                x = ops.materialize(module(x, mask), images)
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.promote_types(x.dtype, jnp.float32))
        return nn.Dense(shape.num_classes, name="head")(x)

    def _modules(self, block: Block) -> list[nn.Module]:
        """The modules that make up one residual block."""
        if self.structure.block == "resnet":
            symmetric = self.structure.padding == "torch"
            return [ResNetBlock(block, symmetric, self.axis_name, self.dtype, name=block.name)]
        options = self.binarization, self.structure.pad_value, self.axis_name, self.dtype
        return [OneBNetUnit(unit, *options, name=unit.name) for unit in block.units]


def variable_shapes(network: nn.Module, image_shape: tuple[int, int, int]) -> dict:
    """{"params", "batch_stats"} of a network for images [H, W, C], as shapes and types; computes nothing."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return dict(jax.eval_shape(network.init, jax.random.key(0), images))
