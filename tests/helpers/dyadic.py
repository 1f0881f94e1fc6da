"""Networks whose every value is a small multiple of a power of two: float32 computes them without rounding."""

import dataclasses

import jax
import numpy as np

from onebnet_jax.networks import families
from onebnet_jax.networks.layers import BN_EPSILON
from onebnet_jax.networks.network import Network, variable_shapes

STAGES = ((16, 1), (32, 1))  # of `structure`: output channels at width multiplier 1, and blocks
IMAGE_SHAPE = (8, 8, 3)  # halved once: 16 pixels are averaged by the head


def structure(family="onebnet", **fields):
    """A small network of a family: two stages of one block, with 8 and 16 channels if `fields` say nothing else.

    conv_1d and ds_1d name them 16 and 32. ReActNet-A, whose blocks double the channels, has 32 and 64.
    """
    small = dict(depth=8, width_multiplier=0.5, stem="cifar", num_classes=10)
    taken = {name: value for name, value in small.items() if name in families.parameters(family)}
    whole = families.build(family, **taken | fields)
    units = tuple(unit for unit in whole.units if unit.name.startswith(("stem", "stage1", "stage2_block1")))
    return dataclasses.replace(whole, units=units, recipe=())


def variables(structure, seed=0):
    """Variables of a network, {"params", "batch_stats"}, in which inputs hit thresholds exactly, at zero and elsewhere.

    Binary kernels contain zeros, whose sign is -1 as well; gains are positive and negative, and zero before a sign.
    """
    tree = variable_shapes(Network(structure), IMAGE_SHAPE)
    rng = np.random.default_rng(seed)
    binary = {unit.at("conv") for unit in structure.units if unit.binary}
    float_body = {unit.at("conv") for unit in structure.units[1:] if not unit.binary}
    before_signs = {unit.at("bn") for unit in structure.units if unit.norm == "before"}

    def draw(path, leaf):
        _, *layer, name = (key.key for key in path)
        layer, shape = tuple(layer), leaf.shape
        if layer in binary:
            # Half zeros and half +-1 or +-2: the scale of each channel, the mean of |w|, is a power of two.
            size = int(np.prod(shape[:3]))
            magnitude = np.arange(size) % 2 * 2.0 ** rng.integers(0, 2, (shape[3], 1))
            kernel = rng.permuted(magnitude, axis=1) * rng.choice([-1, 1], (shape[3], size))
            return kernel.T.reshape(shape)
        if layer[-1] == "shortcut_conv":
            # Each output takes at most one input, so that few values occur and thresholds are hit.
            return rng.permuted(np.eye(shape[2], shape[3]), axis=0).reshape(shape) * rng.choice([-1, 1], shape[3])
        if layer[-1] == "gate_out":
            return np.zeros(shape)  # the sigmoid of 0 is 1/2, all others are no multiples of a power of two
        values = {
            "kernel": [-1.0, 1.0, *[0.0] * (14 if layer in float_body else 1)],
            "scale": [-1.0, 0.5, 1.0, *[0.0] * (layer in before_signs)],
            "bias": [-1.0, 0.0, 0.5],
            "mean": [-2.0, 0.0, 1.0],
            "var": [np.float32(v) - np.float32(BN_EPSILON) for v in (1, 4)],  # 1 / sqrt(var + epsilon) is 1 or 1/2
            "alpha": [-0.5, 0.0, 0.0, 1.0],
            "gamma": [-0.5, 0.0, 1.0],
            "beta": [-1.0, 0.5, 1.0] if layer[0].startswith("stage1") else [-1.0, 1.0],  # fewer bits to carry
            "zeta": [-1.0, 0.0, 0.5],
        }[name]
        return rng.choice(values, shape)

    return jax.tree_util.tree_map_with_path(lambda path, leaf: np.asarray(draw(path, leaf), np.float32), tree)


def images(count=16, seed=1):
    """Images of -2, -1, 0, 1 and 2, [count, 8, 8, 3]; the first is all zero."""
    result = np.random.default_rng(seed).integers(-2, 3, (count, *IMAGE_SHAPE)).astype(np.float32)
    result[0] = 0
    return result
