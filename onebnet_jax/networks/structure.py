"""The one description of a network: a list of units. Model, cost, conversion, lint and report all read this list.

Plain Python, no arrays. A `Unit` is one convolution with what surrounds it; a network is its units in order, the first
of which is the stem, and a head: global average pool and fully connected layer. `families` makes such lists.
"""

import dataclasses
import math
from collections.abc import Iterator

from onebnet_jax.errors import UserError, one_of

Shape = tuple[int, int, int]  # (H, W, C)
Pair = tuple[int, int]  # (rows, columns)


@dataclasses.dataclass(frozen=True)
class Unit:
    """One convolution, its normalization, activation and shortcut:

        y = activation(BN(conv(sign(x - alpha))) + shortcut)              # where norm is "after"
        y = activation(g(BN(x)) * conv(sign(BN(x) - alpha))) + shortcut   # where norm is "before"

    alpha only with shift, sign only where binary, the shortcut only where one ends here. The gate g, if there is one,
    is a factor for each image and output channel: sigmoid(W2 relu(W1 mean(BN(x)))), its mean over rows and columns.

    A shortcut follows a change of shape in one of three ways: "pooled" is an average pool, a 1x1 convolution and BN,
    wherever one of the spanned units has strides; "strided" is a 1x1 convolution with their strides and BN, wherever
    strides or channels change; "repeated" has no parameters: an average pool wherever there are strides, and its
    channels several times where there are more behind it. It is the input itself everywhere else.
    """

    name: str  # such as "stage2_block1_conv1_3x1"; no two in a network are the same
    kernel: Pair
    strides: Pair
    in_channels: int
    out_channels: int
    binary: bool = True  # whether inputs and weights are binarized; `Binarization` may leave one of the two float
    shift: bool = False  # whether a learnable bias alpha per channel comes before the sign (RSign, equation 1)
    norm: str = "after"  # or "before": where batch normalization is; or another of `networks.network.FORMULAS`
    activation: str = "none"  # or "relu", "prelu" (a slope per channel), "rprelu" (equation 2), see `ops.unit`
    gate: int = 0  # channels between W1 and W2 of its gate, 0 for none; only where norm is "before"
    span: int = 1  # how many units the shortcut that ends here spans, this one included; 0 for no shortcut
    shortcut: str = "pooled"  # or "strided", "repeated"
    pad_value: int = 0  # 0 or 1, what surrounds a binarized map
    symmetric: bool = False  # pads a float map by k // 2 on either side, as PyTorch; not SAME, another at stride 2
    max_pool: bool = False  # whether a 3x3 max pool with strides (2, 2) comes last
    module: str = ""  # where the parameters are, see `at`; so parts
    parts: str = "{}"
    stage: int = 0  # output channels of its stage at width multiplier 1, by which the paper names it; 0 for the stem

    def __post_init__(self):
        """Raises UserError for what training would leave out, or kernels and files for devices compute otherwise."""
        one_of("model.pad_value", self.pad_value, (0, 1))
        one_of(f"{self.name}'s shortcut", self.shortcut, ("pooled", "strided", "repeated"))
        for words, there in (
            ("symmetric=True, which is of float maps", self.symmetric and self.binary),
            ("shift=True, which is of binarized maps", self.shift and not self.binary),
            ("a gate, which needs norm='before'", self.gate and self.norm == "after"),
        ):
            if there:
                raise UserError(f"{self.name} has {words}; leave it out.")

    def at(self, part: str) -> tuple[str, ...]:
        """Path of a part in the trees of variables: ("stage1_block1", "conv2") for "conv", ("stem_conv",) in a stem."""
        return (*filter(None, [self.module]), self.parts.format(part))

    def beside(self, part: str) -> tuple[str, ...]:
        """The same for what belongs to the shortcut, which the units that it spans share."""
        return self.module, part

    @property
    def section(self) -> str:
        """The part of the network that the unit belongs to: all units that share a shortcut, or the stem."""
        return self.module or "stem"


@dataclasses.dataclass(frozen=True)
class Structure:
    """A whole network: images [N, H, W, C] -> logits [N, num_classes]."""

    units: tuple[Unit, ...]  # in order of evaluation; the first is the stem
    num_classes: int
    title: str = "network"  # in words, such as "FP32 ResNet18"
    recipe: tuple[tuple[str, object], ...] = ()  # (name, value) pairs that `families.build` made it from, if it did

    def __post_init__(self):
        """Raises UserError, with the unit's name, for units that do not fit each other."""
        seen = set()
        for index, unit in enumerate(self.units):
            fault, first = None, index + 1 - unit.span
            spanned = self.units[max(first, 0) : index + 1]
            if unit.at("conv") in seen:
                fault = f"has the parameters {'/'.join(unit.at('conv'))} of a unit before it; give it others"
            elif index and not unit.module:
                fault = "needs a module, which says where its parameters are"
            elif index and unit.in_channels != (given := self.units[index - 1].out_channels):
                fault = f"takes {unit.in_channels} channels, and the unit before it gives {given}"
            elif first < 0 or any(other.section != unit.section for other in spanned):
                fault = f"has a shortcut over {unit.span} units, which must all be there and of one module"
            elif added := shortcut(spanned, (1, 1, 1)):
                start = spanned[0].in_channels
                if not added.projects and start * added.repeats != unit.out_channels:
                    fault = f"gives {unit.out_channels} channels, to which its {unit.shortcut} shortcut adds {start}"
            if fault:
                raise UserError(f"{unit.name} {fault}.")
            seen.add(unit.at("conv"))

    @property
    def binary(self) -> bool:
        """Whether there is anything to binarize."""
        return any(unit.binary for unit in self.units)

    @property
    def reduction(self) -> Pair:
        """How many times smaller than the image the last map is, in height and in width."""
        return tuple(math.prod(unit.strides[axis] * (1 + unit.max_pool) for unit in self.units) for axis in (0, 1))


@dataclasses.dataclass(frozen=True)
class Shortcut:
    """What is added behind a unit."""

    input: Shape  # where it begins
    pool: Pair  # window and strides of its average pool; (1, 1) for none
    strides: Pair  # of its 1x1 convolution
    projects: bool  # whether it has a 1x1 convolution and BN
    repeats: int = 1  # how often the channels follow one another: [a, b] twice is [a, b, a, b]


@dataclasses.dataclass(frozen=True)
class Placed:
    """A unit with the sizes that its maps have for images of one size."""

    unit: Unit
    input: Shape
    convolved: Shape  # behind its convolution
    output: Shape  # smaller than `convolved` where there is a max pool
    shortcut: Shortcut | None
    fused_norm: bool  # whether its BN follows right on the convolution of the unit before: a part of that at inference


def placed(structure: Structure, image_shape: Shape) -> Iterator[Placed]:
    """The units of a network in order, with the sizes of their maps for images of (H, W, C)."""
    inputs, shape = [], image_shape
    bare = False  # whether nothing follows the convolution of the unit before
    for index, unit in enumerate(structure.units):
        inputs.append(shape)
        convolved = (*strided(shape, unit.strides), unit.out_channels)
        output = (*strided(convolved, (2, 2)), unit.out_channels) if unit.max_pool else convolved
        added = shortcut(structure.units[index + 1 - unit.span : index + 1], inputs[-unit.span])
        fused = bare and unit.norm == "before" and not (unit.shift or unit.gate)  # which take the BN's own result
        yield Placed(unit, shape, convolved, output, added, fused)
        bare = not (unit.norm == "after" or unit.gate or unit.span or unit.activation != "none" or unit.max_pool)
        shape = output


def shortcut(spanned: tuple[Unit, ...], start: Shape) -> Shortcut | None:
    """The shortcut over some units, from a map of (H, W, C) on; None over no unit."""
    if not spanned:
        return None
    first, last = spanned[0], spanned[-1]
    strides = tuple(map(max, zip(*(unit.strides for unit in spanned))))
    if last.shortcut == "pooled":
        return Shortcut(start, strides, (1, 1), strides != (1, 1))
    if last.shortcut == "repeated":
        return Shortcut(start, strides, (1, 1), False, last.out_channels // first.in_channels)
    return Shortcut(start, (1, 1), strides, strides != (1, 1) or first.in_channels != last.out_channels)


def blocks(structure: Structure, image_shape: Shape) -> dict[str, Pair]:
    """The section that ends each block -> (H, W) of its map; a block is what units named BLOCK_conv... make up."""
    ends = {place.unit.name.split("_conv")[0]: place for place in placed(structure, image_shape)}
    return {place.unit.section: place.output[:2] for name, place in ends.items() if name != structure.units[0].name}


def check_formulas(structure: Structure) -> None:
    """Raises UserError, with the unit's name, for a formula added to `networks.network.FORMULAS`: known there alone."""
    for unit in structure.units:
        if unit.norm not in ("after", "before"):
            raise UserError(
                f"{unit.name} is computed by {unit.norm!r}, a formula that was added: training and scoring know it, "
                "but costs, files for devices, diagnostics and figures do not; leave these out."
            )


def check_convertible(structure: Structure) -> None:
    """Raises UserError, with the unit's name, for what files for devices have no counterpart of."""
    check_formulas(structure)
    for unit in structure.units:
        if unit.activation not in ("none", "relu", "prelu", "rprelu"):
            raise UserError(
                f"{unit.name}: files for devices have no activation {unit.activation!r}; train with another."
            )


def check_deployable(structure: Structure, image_shape: Shape, binarization: "Binarization") -> None:
    """Raises UserError, with the unit's name, for maps on which Larq Compute Engine's kernels are silently wrong.

    And for what no file can have: see `check_convertible`.

    With zero padding they correct borders as if a filter never stuck out of the map on both sides, as one of height 3
    does on a map of height 1 or 2 (and likewise for widths).
    """
    check_convertible(structure)
    if not (binarization.activations and binarization.weights):
        return
    for place in placed(structure, image_shape):
        unit, size = place.unit, place.input[:2]
        if unit.binary and unit.pad_value == 0 and any(1 < k > length for length, k in zip(size, unit.kernel)):
            size, kernel = ("x".join(map(str, pair)) for pair in (size, unit.kernel))
            remedies = ["model.pad_value=1", *["model.stem='cifar'"] * structure.units[0].max_pool, "larger images"]
            raise UserError(
                f"{unit.name}: a {kernel} binarized convolution with zero padding on a {size} map gives wrong results "
                f"in Larq Compute Engine; train with {' or '.join(remedies)} (data.image_size, of folder or ImageNet)."
            )


def strided(shape, strides: Pair) -> Pair:
    """Height and width behind strides: SAME padding, and PyTorch's at the kernels used here, give the same."""
    return -(-shape[0] // strides[0]), -(-shape[1] // strides[1])


@dataclasses.dataclass(frozen=True)
class Binarization:
    """What of a network's binary units is binarized, and how gradients pass the signs: by estimators and scales."""

    activations: bool = True  # False leaves the inputs of the convolutions as they are (padding is then 0)
    weights: bool = True  # False leaves the weights float (stage 1 of the two-stage training)
    estimator: str = "poly"  # of the activations; so window
    window: float = 1.0
    weight_estimator: str = "clip"  # of the weights, with a window of 1
    weight_scale: str = "mean"
    soft_sign: str = "none"  # or "tanh": what stands for the sign where activations are float
