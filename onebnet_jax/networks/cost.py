"""What a network costs, counted from its structure without running it: parameters, MACs, OPs and storage.

Conventions (they reproduce the paper's Table 3; MB there means MiB):

- A MAC is one multiplication with its addition; taps on the padding count. OPs = float MACs + binary MACs / 64,
  as in Bi-Real Net and ReActNet. Batch normalization and element-wise work are not in it.
- Storage: FP32 weights take 4 bytes, binary ones 1 bit. BN is 2 floats per channel (running statistics and the
  weights' scale fold into them), RSign 1 and RPReLU 3. Where no BN follows a binarized convolution, the scale of its
  weights is 1.
- Element passes: the elements that an op of its own reads, as for a shift, an addition, a PReLU or a pool. A BN or
  a ReLU behind a convolution is part of that convolution; a BN elsewhere is a multiplication and an addition. The
  latency estimate (paper/latency.py) needs them.

The command `python -m onebnet_jax.cost CONFIG` prints them.
"""

import dataclasses
import math
from collections.abc import Iterable

from onebnet_jax.networks.structure import Placed, Shape, Structure, placed, strided

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
      kind: "conv", "binary conv", "scale", "batch norm", "rsign", "rprelu", "add", "max pool", "average pool" or
        "dense".
      output: (H, W, C).
    """

    name: str
    kind: str
    output: Shape


def total(layer_costs: Iterable[LayerCost]) -> Cost:
    """The sum over the layers."""
    layer_costs = tuple(layer_costs)
    fields = (field.name for field in dataclasses.fields(Cost))
    return Cost(**{name: sum(getattr(layer, name) for layer in layer_costs) for name in fields})


def layers(
    structure: Structure, image_shape: Shape, binarized: bool = True, folded: bool = False
) -> tuple[LayerCost, ...]:
    """The cost of every layer, in order of evaluation.

    Args:
      structure: the network.
      image_shape: (H, W, C) of an image.
      binarized: False where weights or activations stay float (stage 1 of the two-stage training), which makes ordinary
        convolutions of binary ones.
      folded: whether the deployed graph is folded: gamma has gone into the BN before it and zeta into the next RSign.
        RPReLU is then one pass with one float per channel instead of three with three, and a BN before a sign is one
        pass with one float instead of two with two. `parameters` stays.
    """
    result = []
    for place in placed(structure, image_shape):
        result += _unit(place, binarized, folded)
    last = result[-1].output
    result.append(_pool("pool", "average pool", last, last[:2]))
    weights = last[2] * structure.num_classes
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


def _unit(place: Placed, binarized: bool, folded: bool) -> list[LayerCost]:
    """The layers of one unit, see `structure.Unit`."""
    unit, shortcut = place.unit, place.shortcut
    binary = unit.binary and binarized

    def name(part):
        return "/".join(unit.at(part))

    def beside(part):
        return "/".join(unit.beside(part))

    result = []
    if unit.norm == "before":
        kept = 0 if place.fused_norm else 1 if folded else 2
        stored = 2 if place.fused_norm else kept
        result.append(_per_channel(name("bn"), "batch norm", place.input, parameters=2, stored=stored, passes=kept))
    if unit.shift:
        result.append(_per_channel(name("rsign"), "rsign", place.input, parameters=1, passes=1))
    result.append(_conv(name("conv"), place.input, unit.out_channels, unit.kernel, unit.strides, binary))
    if unit.norm == "after":
        result.append(_batch_norm(name("bn"), place.convolved))
    elif binary and shortcut:
        result.append(_per_channel(name("scale"), "scale", place.convolved, stored=1))
    if shortcut:
        start = shortcut.input
        if shortcut.pool != (1, 1):
            result.append(_pool(beside("shortcut_pool"), "average pool", start, shortcut.pool))
            start = result[-1].output
        if shortcut.projects:
            result.append(_conv(beside("shortcut_conv"), start, unit.out_channels, (1, 1), shortcut.strides))
            result.append(_batch_norm(beside("shortcut_bn"), place.convolved))
        result.append(_per_channel(beside("add"), "add", place.convolved, passes=1))
    if unit.activation == "rprelu":
        kept = 1 if folded else 3
        layer = _per_channel(name("rprelu"), "rprelu", place.convolved, parameters=3, stored=kept, passes=kept)
        result.append(layer)
    if unit.max_pool:
        result.append(_pool(name("pool"), "max pool", place.convolved, (2, 2)))
    return result


def _conv(name, shape, channels, kernel, strides=(1, 1), binary=False) -> LayerCost:
    output = (*strided(shape, strides), channels)
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
    return LayerCost(name=name, kind=kind, output=(*strided(shape, strides), shape[2]), elements=math.prod(shape))
