"""What a network costs, counted from its structure without running it: parameters, MACs, OPs and storage.

Conventions (they reproduce the paper's Table 3; MB there means MiB):

- A MAC is one multiplication with its addition; taps on the padding count. OPs = float MACs + binary MACs / 64,
  as in Bi-Real Net and ReActNet. Batch normalization and element-wise work are not in it.
- Storage: FP32 weights take 4 bytes, binary ones 1 bit. BN is 2 floats per channel (running statistics and the
  weights' scale fold into them), RSign 1, PReLU 1 and RPReLU 3. Where no BN follows a binarized convolution, the scale
  of its weights is 1 more, but that of a published network with a gate, Real-to-Bin, whose weights have none.
- Element passes: the elements that an op of its own reads, as for a shift, an addition, a PReLU or a pool. A BN or
  a ReLU behind a convolution is part of that convolution; a BN elsewhere is a multiplication and an addition, and a
  gate a mean and a multiplication. The latency estimate (paper/latency.py) needs them.
"""

import dataclasses
import math
from collections.abc import Iterable, Iterator

from onebnet_jax.networks.structure import Placed, Shape, Structure, check_formulas, placed, strided

BITS_PER_FLOAT = 32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """Counts for one image."""

    parameters: int = 0  # floats that training learns
    float_macs: int = 0  # multiplications with their additions
    binary_macs: int = 0  # those of 1 bit
    storage_bits: int = 0  # of the deployed network
    elements: int = 0  # element passes, see above

    @property
    def ops(self) -> float:
        """Float MACs, and binary ones at 64 for one."""
        return self.float_macs + self.binary_macs / 64

    @property
    def storage_mib(self) -> float:
        """Storage in MiB, 2^20 bytes."""
        return self.storage_bits / (8 * 2**20)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerCost(Cost):
    """The cost of one layer."""

    name: str  # path of its parameters in the Flax model, or of the same form where it has none
    kind: str  # in words, such as "conv", "binary conv", "batch norm", "rprelu", "add", "max pool" or "dense"
    output: Shape


def total(layer_costs: Iterable[LayerCost]) -> Cost:
    """The sum over the layers."""
    layer_costs, names = tuple(layer_costs), [field.name for field in dataclasses.fields(Cost)]
    return Cost(**{name: sum(getattr(layer, name) for layer in layer_costs) for name in names})


def layers(
    structure: Structure, image_shape: Shape, binarized: bool = True, folded: bool = False, weight_scale: str = ""
) -> tuple[LayerCost, ...]:
    """The cost of every layer for images of (H, W, C), in order of evaluation.

    binarized is False where weights or activations stay float (stage 1 of the two-stage training), which makes ordinary
    convolutions of binary ones. In a folded graph gamma has gone into the BN before it and zeta into the next RSign:
    RPReLU is one pass with one float per channel instead of three with three, and a BN before a sign one pass with one
    float instead of two with two. `parameters` stays. weight_scale: "mean" or "none", see `ops.binarize`; "" for
    that of the published network. Raises UserError for a unit with a formula of its own, see `check_formulas`.
    """
    check_formulas(structure)
    places = placed(structure, image_shape)
    result = [layer for place in places for layer in _unit(place, binarized, folded, weight_scale)]
    last = _pool(["pool"], "average pool", result[-1].output, result[-1].output[:2])
    return *result, last, _weights(["head"], "dense", last.output, structure.num_classes, bias=True)


def _unit(place: Placed, binarized: bool, folded: bool, weight_scale: str) -> Iterator[LayerCost]:
    """The layers of one unit, see `structure.Unit`."""
    unit, shortcut = place.unit, place.shortcut
    binary = unit.binary and binarized
    if unit.norm == "before":
        kept = 0 if place.fused_norm else 1 if folded else 2
        yield _per_channel(unit.at("bn"), "batch norm", place.input, 2, 2 if place.fused_norm else kept, kept)
    if unit.shift:
        yield _per_channel(unit.at("rsign"), "rsign", place.input, 1, 1, 1)
    kind = "binary conv" if binary else "conv"
    yield _weights(unit.at("conv"), kind, place.input, unit.out_channels, unit.strides, unit.kernel)
    if unit.norm == "after":
        yield _per_channel(unit.at("bn"), "batch norm", place.convolved, 2, 2, 0)
    elif binary and shortcut and (weight_scale or ("none" if unit.gate else "mean")) != "none":
        yield _per_channel(unit.at("scale"), "scale", place.convolved, 0, 1, 0)
    if unit.gate:
        inner = (1, 1, unit.in_channels), (1, 1, unit.gate)
        yield _pool(unit.at("gate_pool"), "average pool", place.input, place.input[:2])
        yield _weights(unit.at("gate_in"), "dense", inner[0], unit.gate)
        yield _weights(unit.at("gate_out"), "dense", inner[1], unit.out_channels)
        yield _per_channel(unit.at("gate"), "gate", place.convolved, 0, 0, 1)
    activation = ()
    if unit.activation not in ("none", "relu"):
        floats = {"rprelu": 3, "prelu": 1}.get(unit.activation, 0)
        stored, passes = (min(floats, 1), 1) if folded else (floats, max(floats, 1))
        path = unit.at(unit.activation)
        activation = (_per_channel(path, unit.activation, place.convolved, floats, stored, passes),)
    if unit.norm == "before":
        yield from activation
    if shortcut:
        if shortcut.pool != (1, 1):
            yield _pool(unit.beside("shortcut_pool"), "average pool", shortcut.input, shortcut.pool)
        if shortcut.projects:
            pooled = (*strided(shortcut.input, shortcut.pool), shortcut.input[2])
            yield _weights(unit.beside("shortcut_conv"), "conv", pooled, unit.out_channels, shortcut.strides)
            yield _per_channel(unit.beside("shortcut_bn"), "batch norm", place.convolved, 2, 2, 0)
        if shortcut.repeats > 1:
            read = math.prod(place.convolved) // shortcut.repeats
            name = "/".join(unit.beside("shortcut_repeat"))
            yield LayerCost(name=name, kind="repeat", output=place.convolved, elements=read)
        yield _per_channel(unit.beside("add"), "add", place.convolved, 0, 0, 1)
    if unit.norm == "after":
        yield from activation
    if unit.max_pool:
        yield _pool(unit.at("pool"), "max pool", place.convolved, (2, 2))


def _weights(path, kind, shape, channels, strides=(1, 1), kernel=(1, 1), bias=False) -> LayerCost:
    """A convolution, or a fully connected layer as one of a single pixel."""
    output = (*strided(shape, strides), channels)
    weights = math.prod(kernel) * shape[2] * channels
    macs, parameters = weights * output[0] * output[1], weights + bias * channels
    counts = dict(float_macs=macs, storage_bits=parameters * BITS_PER_FLOAT)
    if kind == "binary conv":
        counts = dict(binary_macs=macs, storage_bits=parameters)
    return LayerCost(name="/".join(path), kind=kind, output=output, parameters=parameters, **counts)


def _per_channel(path, kind, shape, parameters, stored, passes) -> LayerCost:
    """A layer that keeps the shape; `parameters` and `stored` are floats per channel."""
    bits, elements = stored * shape[2] * BITS_PER_FLOAT, passes * math.prod(shape)
    counts = dict(parameters=parameters * shape[2], storage_bits=bits, elements=elements)
    return LayerCost(name="/".join(path), kind=kind, output=shape, **counts)


def _pool(path, kind, shape, strides) -> LayerCost:
    output = (*strided(shape, strides), shape[2])
    return LayerCost(name="/".join(path), kind=kind, output=output, elements=math.prod(shape))
