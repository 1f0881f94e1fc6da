"""A deployment plan: what a device computes, as a list of layers with their constants. Plain dataclasses and NumPy.

A plan is complete: the Keras model, the packed reference and the lint of the converted file are all made from it.
Every constant is float32. A convolution carries the batch normalization that follows it.
"""

import collections
import dataclasses

import numpy as np

Pads = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))


@dataclasses.dataclass(frozen=True)
class Conv:
    """multiplier * conv(x, kernel) + bias: [N, H, W, C_in] -> [N, ceil(H / rows), ceil(W / columns), C_out].

    Attributes:
      name: of the layer.
      kernel: [kh, kw, C_in, C_out]; of -1 and +1 where binary, which it is only for inputs of -1 and +1.
      bias: [C_out].
      strides: (row, column).
      input_size: (H, W).
      multiplier: [C_out] where binary; None where the kernel has taken it in.
      pads: None for TensorFlow's SAME padding, or explicit ones.
      pad_value: what surrounds the map, 0 or 1.
    """

    name: str
    kernel: np.ndarray
    bias: np.ndarray
    strides: tuple[int, int]
    input_size: tuple[int, int]
    multiplier: np.ndarray | None = None
    pads: Pads | None = None
    pad_value: int = 0

    @property
    def binary(self) -> bool:
        return self.multiplier is not None


@dataclasses.dataclass(frozen=True)
class Unit:
    """PReLU(conv(b) + s - gamma) + zeta, b = sign(+-(x - threshold)), s = x or shortcut(AveragePool(x)).

    Attributes:
      name: of the unit in `structure.units`.
      threshold: [C_in].
      reverse: b = sign(threshold - x) instead of sign(x - threshold); the kernel has the opposite sign then.
        Here sign(0) = +1, Larq's and LCE's convention: `fold.rsign` says how both forms give the trained -1.
      sign: whether b is the sign, or (float activations) the difference itself.
      conv: the convolution with its BN.
      pool: window and strides of the average pool, or None for an identity shortcut.
      shortcut: the 1x1 convolution with its BN, or None.
      gamma, zeta: [C_out]; None where folded into other constants, or all zero: no file keeps x + 0.
      beta: [C_out], slope of the PReLU.
      offset: [C_in], what folding has taken from the unit's input: the trained network has x + offset here.
    """

    name: str
    threshold: np.ndarray
    reverse: bool
    sign: bool
    conv: Conv
    pool: tuple[int, int] | None
    shortcut: Conv | None
    gamma: np.ndarray | None
    beta: np.ndarray
    zeta: np.ndarray | None
    offset: np.ndarray

    def operators(self) -> collections.Counter:
        """The operators that the converted file must have for this unit, and no others."""
        count = collections.Counter(SUB=int(self.sign or np.any(self.threshold)), ADD=1, PRELU=1)
        if self.conv.binary:
            count.update(LceQuantize=1, LceBconv2d=1)
        else:
            count.update(CONV_2D=1)
            if self.sign:
                count.update(LceQuantize=1, LceDequantize=1, PADV2=self.conv.pad_value)
        if self.shortcut is not None:
            count.update(AVERAGE_POOL_2D=1, CONV_2D=1)
        count.update(SUB=int(self.gamma is not None), ADD=int(self.zeta is not None))
        return +count


@dataclasses.dataclass(frozen=True)
class ResNetBlock:
    """ReLU(conv2(ReLU(conv1(x))) + s), s = x or shortcut(x): the FP32 residual block."""

    name: str
    convs: tuple[Conv, ...]
    shortcut: Conv | None

    def operators(self) -> collections.Counter:
        convs = [*self.convs, *([self.shortcut] if self.shortcut else [])]
        padded = sum(conv.pads is not None for conv in convs)
        return +collections.Counter(CONV_2D=len(convs), PAD=padded, ADD=1)  # the ReLUs are fused


@dataclasses.dataclass(frozen=True)
class MaxPool:
    """The 3x3/2 max pool of the ImageNet stem; pads as in `Conv`."""

    input_size: tuple[int, int]
    pads: Pads | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole network: images [N, H, W, C] -> logits [N, num_classes].

    Attributes:
      image_shape: (H, W, C).
      pixel_mean: [C], subtracted from pixels 0..255; None where the images come normalized, or all zero.
      stem, stem_relu, max_pool: the stem; max_pool is None for the CIFAR stem.
      body: of `Unit` or of `ResNetBlock`.
      head_kernel, head_bias: [C, num_classes] and [num_classes].
    """

    image_shape: tuple[int, int, int]
    pixel_mean: np.ndarray | None
    stem: Conv
    stem_relu: bool
    max_pool: MaxPool | None
    body: tuple[Unit, ...] | tuple[ResNetBlock, ...]
    head_kernel: np.ndarray
    head_bias: np.ndarray

    @property
    def units(self) -> tuple[Unit, ...]:
        return tuple(layer for layer in self.body if isinstance(layer, Unit))

    def operators(self) -> dict[str, collections.Counter]:
        """Section of the network -> the operators that the converted file must have for it, and no others."""
        stem = collections.Counter(CONV_2D=1, SUB=int(self.pixel_mean is not None), PAD=int(self.stem.pads is not None))
        if self.max_pool is not None:
            stem.update(MAX_POOL_2D=1, PADV2=int(self.max_pool.pads is not None))
        head = collections.Counter(MEAN=1, FULLY_CONNECTED=1)
        return {"stem": +stem, **{layer.name: layer.operators() for layer in self.body}, "head": head}
