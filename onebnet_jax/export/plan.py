"""A deployment plan: what a device computes, as a list of units with their constants, all float32.

A convolution carries the batch normalization that follows it.
"""

import collections
import dataclasses

import numpy as np

from onebnet_jax.networks.structure import Pair

Pads = tuple[Pair, Pair]  # ((top, bottom), (left, right))


@dataclasses.dataclass(frozen=True)
class Conv:
    """multiplier * conv(x, kernel) + bias: [N, H, W, C_in] -> [N, ceil(H / rows), ceil(W / columns), C_out]."""

    name: str  # of the layer
    kernel: np.ndarray  # [kh, kw, C_in, C_out]; of -1 and +1 where binary, which it is only for inputs of -1 and +1
    bias: np.ndarray  # [C_out]
    strides: Pair  # (row, column)
    input_size: Pair  # (H, W)
    multiplier: np.ndarray | None = None  # [C_out] where binary; None where the kernel has taken it in
    pads: Pads | None = None  # None for TensorFlow's SAME padding, or explicit ones
    pad_value: int = 0  # what surrounds the map, 0 or 1

    @property
    def binary(self) -> bool:
        return self.multiplier is not None


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """What is added behind a convolution: conv(AveragePool(x)) or, `repeats` times, the channels of AveragePool(x)."""

    span: int  # x is the input of the unit `span` - 1 places earlier
    pool: Pair  # window and strides of the average pool; (1, 1) for none
    conv: Conv | None  # the 1x1 convolution with its BN, or None
    repeats: int = 1
    last: bool = False  # whether it is added behind the activation, not before

    @property
    def plain(self) -> bool:
        """Whether it is its input as it is."""
        return not self.conv and self.pool == (1, 1) and self.repeats == 1


@dataclasses.dataclass(frozen=True)
class Gate:
    """sigmoid(relu(mean(x) @ inner + bias) @ outer), the mean over rows and columns: [N, H, W, C_in] -> [N, C_out]."""

    inner: np.ndarray  # [C_in, hidden]
    bias: np.ndarray  # [hidden]
    outer: np.ndarray  # [hidden, C_out]


@dataclasses.dataclass(frozen=True)
class Unit:
    """MaxPool(activation(gate * conv(b) + shortcut - gamma) + zeta), b = sign(affine(x) - threshold), sign(0) = +1.

    Everything but the convolution may be missing.
    """

    name: str  # of the unit in the structure
    prefix: str  # of its layers' names in the Keras model, with "{}" for the layer's own name
    section: str  # the part of the network that the unit belongs to, see `structure.Unit`
    affine: tuple[np.ndarray, np.ndarray] | None  # (multiplier, bias), [C_in] each: multiplier * x + bias in place of x
    threshold: np.ndarray | None  # [C_in]; `fold.above` says how it gives the trained sign(0) = -1
    flips: np.ndarray  # [C_in] of -1 and +1: the trained network's sign is flips * b; the kernel has taken them in
    sign: bool  # whether b is the sign, or (float activations) the difference itself
    conv: Conv  # with its BN
    shortcut: Shortcut | None  # what is added
    relu: bool  # whether a ReLU follows
    # [C_out], shifts and slope of an RPReLU; None where there is none, folded, or all zero: no file keeps x + 0.
    gamma: np.ndarray | None
    beta: np.ndarray | None
    zeta: np.ndarray | None
    max_pool: bool  # whether a 3x3/2 max pool comes last
    pool_pads: Pads | None  # its padding, as `pads` of a `Conv`
    left_out: np.ndarray  # [C_out], what the output lacks beside the trained network's: zeta where it is folded, or 0
    gate: Gate | None = None  # of the unit's input

    def operators(self) -> collections.Counter:
        """The operators that the converted file must have for this unit, and no others."""
        count = collections.Counter(SUB=int(self.threshold is not None))
        if self.affine:
            count.update(MUL=1, ADD=1)
        if self.conv.binary:
            count.update(LceQuantize=1, LceBconv2d=1)
        else:
            count.update(CONV_2D=1, PAD=int(self.conv.pads is not None))
            if self.sign:
                count.update(LceQuantize=1, LceDequantize=1, PADV2=self.conv.pad_value)
        if self.gate:
            count.update(MEAN=1, FULLY_CONNECTED=2, LOGISTIC=1, MUL=1)
        if self.shortcut:
            count.update(ADD=1, CONV_2D=int(self.shortcut.conv is not None))
            count.update(AVERAGE_POOL_2D=int(self.shortcut.pool != (1, 1)))
            count.update(CONCATENATION=int(self.shortcut.repeats > 1))
        # A ReLU is part of the operator before it, but for a binarized convolution.
        count.update(RELU=int(self.relu and self.conv.binary and not self.shortcut))
        count.update(SUB=int(self.gamma is not None), PRELU=int(self.beta is not None), ADD=int(self.zeta is not None))
        if self.max_pool:
            count.update(MAX_POOL_2D=1, PADV2=int(self.pool_pads is not None))
        return +count


@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole network: images [N, H, W, C] -> logits [N, num_classes]."""

    image_shape: tuple[int, int, int]  # (H, W, C)
    pixel_mean: np.ndarray | None  # [C], subtracted from pixels 0..255; None for normalized images, or if all zero
    units: tuple[Unit, ...]  # in order; the first is the stem
    head_kernel: np.ndarray  # [C, num_classes]
    head_bias: np.ndarray  # [num_classes]

    @property
    def signs(self) -> tuple[Unit, ...]:
        return tuple(unit for unit in self.units if unit.sign)

    def operators(self) -> dict[str, collections.Counter]:
        """Section of the network -> the operators that the converted file must have for it, and no others."""
        sections = collections.defaultdict(collections.Counter)
        for before, unit in zip((None, *self.units), self.units):
            sections[unit.section].update(unit.operators())
            bare = unit.threshold is None and unit.affine is None
            if unit.sign and bare and before.conv.binary and before.conv.pad_value == 1:
                sections[unit.section].update(LceQuantize=-1)  # the convolution before writes bits itself
        sections[self.units[0].section].update(SUB=int(self.pixel_mean is not None))
        sections["head"].update(MEAN=1, FULLY_CONNECTED=1)
        return {name: +count for name, count in sections.items()}
