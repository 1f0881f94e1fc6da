"""What a network costs, counted from its structure without running it: parameters, MACs, OPs and storage.

Conventions (they reproduce the paper's Table 3; MB there means MiB):

- A MAC is one multiplication with its addition; taps on the padding count. OPs = float MACs + binary MACs / 64,
  as in Bi-Real Net and ReActNet. Batch normalization and element-wise work are not in it.
- Storage: FP32 weights take 4 bytes, binary ones 1 bit. BN is 2 floats per channel (running statistics and the
  weights' scale fold into them), RSign 1 and RPReLU 3.
- Element passes: the elements that an op of its own reads, as for a shift, an addition, a PReLU or a pool. A BN or
  a ReLU behind a convolution is part of that convolution. The latency estimate (latency.py) needs them.

The command `python -m onebnet_jax.cost CONFIG` prints them.
"""

import dataclasses
import math
from collections.abc import Iterable

from onebnet_jax.networks.structure import Block, Structure, Unit, blocks

BITS_PER_FLOAT = 32
BITS_PER_MIB = 8 * 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Counts for one image.

    Attributes:
      parameters: floats that training learns.
      float_macs, binary_macs: multiply-accumulates of float and of binarized convolutions.
      storage_bits: of the deployed network.
      elements: element passes, see above.
    """

    parameters: int = 0
    float_macs: int = 0
    binary_macs: int = 0
    storage_bits: int = 0
    elements: int = 0

    @property
    def ops(self) -> float:
        """OPs = float MACs + binary MACs / 64."""
        return self.float_macs + self.binary_macs / 64

    @property
    def storage_mib(self) -> float:
        return self.storage_bits / BITS_PER_MIB


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCost(Cost):
    """The cost of one layer.

    Attributes:
      name: path of its parameters in the Flax model, or of the same form where it has none.
      kind: "conv", "binary conv", "batch norm", "rsign", "rprelu", "add", "max pool", "average pool" or "dense".
      output: (H, W, C).
    """

    name: str
    kind: str
    output: tuple[int, int, int]


def total(layer_costs: Iterable[LayerCost]) -> Cost:
    """The sum over the layers."""
    layer_costs = tuple(layer_costs)
    fields = (field.name for field in dataclasses.fields(Cost))
    return Cost(**{name: sum(getattr(layer, name) for layer in layer_costs) for name in fields})


def layers(
    structure: Structure, input_shape: tuple[int, int, int], binarized: bool = True, folded: bool = False
) -> tuple[LayerCost, ...]:
    """The cost of every layer, in order of evaluation.

    Args:
      structure: the network.
      input_shape: (H, W, C) of an image.
      binarized: False for a OneBNet with float weights (stage 1 of the two-stage training) or float activations, whose
        convolutions are then ordinary ones. Without effect where structure.block is "resnet".
      folded: whether the deployed graph is folded: gamma has gone into the BN before it and zeta into the next RSign.
        RPReLU is then one pass with one float per channel instead of three with three. `parameters` stays.
    """
    result = _stem(structure, input_shape)
    for block in blocks(structure):
        if structure.block == "resnet":
            result += _resnet_block(block, result[-1].output)
        else:
            for unit in block.units:
                result += _unit(unit, result[-1].output, binarized, folded)
    result.append(_pool("pool", "average pool", result[-1].output, result[-1].output[:2]))
    weights = structure.widths[-1] * structure.num_classes
    floats = weights + structure.num_classes
    result.append(
        LayerCost(
            name="head",
            kind="dense",
            output=(1, 1, structure.num_classes),
            parameters=floats,
            float_macs=weights,
            storage_bits=floats * BITS_PER_FLOAT,
        )
    )
    return tuple(result)


def _stem(structure: Structure, shape) -> list[LayerCost]:
    imagenet = structure.stem == "imagenet"
    kernel, strides = ((7, 7), (2, 2)) if imagenet else ((3, 3), (1, 1))
    conv = _conv("stem_conv", shape, structure.widths[0], kernel, strides)
    pool = [_pool("stem_pool", "max pool", conv.output, (2, 2))] if imagenet else []
    return [conv, _batch_norm("stem_bn", conv.output), *pool]


def _unit(unit: Unit, shape, binarized: bool, folded: bool) -> list[LayerCost]:
    """models.OneBNetUnit: RSign, convolution, BN, the shortcut and its addition, RPReLU."""
    name = unit.name
    rsign = _per_channel(f"{name}/rsign", "rsign", shape, parameters=1, passes=1)
    conv = _conv(f"{name}/conv", shape, unit.out_channels, unit.kernel, unit.strides, binarized)
    output = conv.output
    shortcut = []
    if unit.downsamples:
        pool = _pool(f"{name}/shortcut_pool", "average pool", shape, unit.strides)
        projection = _conv(f"{name}/shortcut_conv", pool.output, unit.out_channels, (1, 1))
        shortcut = [pool, projection, _batch_norm(f"{name}/shortcut_bn", output)]
    add = _per_channel(f"{name}/add", "add", output, passes=1)
    kept = 1 if folded else 3
    rprelu = _per_channel(f"{name}/rprelu", "rprelu", output, parameters=3, stored=kept, passes=kept)
    return [rsign, conv, _batch_norm(f"{name}/bn", output), *shortcut, add, rprelu]


def _resnet_block(block: Block, shape) -> list[LayerCost]:
    """models.ResNetBlock: convolutions with BN and ReLU, the shortcut and its addition."""
    result, inputs = [], shape
    for index, unit in enumerate(block.units, start=1):
        conv = _conv(f"{block.name}/conv{index}", inputs, unit.out_channels, unit.kernel, unit.strides)
        result += [conv, _batch_norm(f"{block.name}/bn{index}", conv.output)]
        inputs = conv.output
    if block.strides != (1, 1):
        projection = _conv(f"{block.name}/shortcut_conv", shape, inputs[2], (1, 1), block.strides)
        result += [projection, _batch_norm(f"{block.name}/shortcut_bn", projection.output)]
    return [*result, _per_channel(f"{block.name}/add", "add", inputs, passes=1)]


def _conv(name, shape, channels, kernel, strides=(1, 1), binary=False) -> LayerCost:
    output = (*_strided(shape, strides), channels)
    weights = math.prod(kernel) * shape[2] * channels
    macs = weights * output[0] * output[1]
    return LayerCost(
        name=name,
        kind="binary conv" if binary else "conv",
        output=output,
        parameters=weights,
        float_macs=0 if binary else macs,
        binary_macs=macs if binary else 0,
        storage_bits=weights if binary else weights * BITS_PER_FLOAT,
    )


def _batch_norm(name, shape) -> LayerCost:
    return _per_channel(name, "batch norm", shape, parameters=2)


def _per_channel(name, kind, shape, parameters=0, stored=None, passes=0) -> LayerCost:
    """A layer that keeps the shape; `parameters` and `stored` (the same if not given) are floats per channel."""
    return LayerCost(
        name=name,
        kind=kind,
        output=shape,
        parameters=parameters * shape[2],
        storage_bits=(parameters if stored is None else stored) * shape[2] * BITS_PER_FLOAT,
        elements=passes * math.prod(shape),
    )


def _pool(name, kind, shape, strides) -> LayerCost:
    return LayerCost(name=name, kind=kind, output=(*_strided(shape, strides), shape[2]), elements=math.prod(shape))


def _strided(shape, strides):
    """Height and width behind SAME padding; symmetric padding of 3x3/2 and 7x7/2 gives the same sizes."""
    return tuple(math.ceil(size / stride) for size, stride in zip(shape[:2], strides))
