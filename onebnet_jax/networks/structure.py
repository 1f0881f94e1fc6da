"""The one description of a network's shape, read by the model, the cost model and the converter alike.

Plain Python, no arrays: a `Structure` holds the choices (Tables 1, 5 and 6 of the paper), and `blocks`
spells them out as the list of convolutions, in the order in which they are evaluated.
"""

import dataclasses

from onebnet_jax.errors import UserError

# depth -> (output channels of each stage, residual blocks of each stage); He et al. 2016, Table 1 (18, 34) and section
# 4.2 (6n + 2: 20, and 8 for quick trials).
DEPTHS = {
    8: ((16, 32, 64), (1, 1, 1)),
    18: ((64, 128, 256, 512), (2, 2, 2, 2)),
    20: ((16, 32, 64), (3, 3, 3)),
    34: ((64, 128, 256, 512), (3, 4, 6, 3)),
}
BLOCKS = ("onebnet", "resnet")
STEMS = ("cifar", "imagenet")
PADDINGS = ("same", "torch")


@dataclasses.dataclass(frozen=True)
class Structure:
    """Everything that fixes the shape of a network.

    Attributes:
      depth: 8, 18, 20 or 34, see `DEPTHS`.
      block: "onebnet" for units of one convolution with its own shortcut, RSign and RPReLU (section 3.2);
        "resnet" for the FP32 residual block of two 3x3 convolutions with ReLU.
      conv_1d: stages, named by their output channels at multiplier 1, whose places without downsampling
        are 1-D (`1-D Conv` in Table 1).
      ds_1d: stages whose downsampling place is 1-D (`1-D DS` in Table 1).
      width_multiplier: m of Table 7; every width becomes round(m * width).
      num_classes: outputs of the fully connected layer.
      stem: "imagenet" is 7x7/2, BN, 3x3/2 max pool; "cifar" is 3x3/1, BN (Table 5).
      stem_relu: whether a ReLU follows the stem's BN (ResNet's stem has it, ReActNet's code has not).
      pad_value: 0 or 1, what surrounds a binarized map. LCE runs both.
      padding: "same" (TensorFlow's rule, the only one that LCE converts faithfully at stride 2) or "torch"
        (symmetric, for torchvision's weights; "resnet" blocks only).
    """

    depth: int = 18
    block: str = "onebnet"
    conv_1d: tuple[int, ...] = ()
    ds_1d: tuple[int, ...] = ()
    width_multiplier: float = 1.0
    num_classes: int = 10
    stem: str = "cifar"
    stem_relu: bool = False
    pad_value: int = 0
    padding: str = "same"

    def __post_init__(self):
        """Refuses what cannot be built. Raises UserError with one sentence that names the field."""
        _one_of("depth", self.depth, tuple(DEPTHS))
        _one_of("block", self.block, BLOCKS)
        _one_of("stem", self.stem, STEMS)
        _one_of("pad_value", self.pad_value, (0, 1))
        _one_of("padding", self.padding, PADDINGS)
        widths = DEPTHS[self.depth][0]
        for field, allowed in (("conv_1d", widths), ("ds_1d", widths[1:])):
            stages = getattr(self, field)
            unknown = [stage for stage in stages if stage not in allowed]
            if unknown or len(set(stages)) != len(stages):
                raise UserError(
                    f"model.{field}={tuple(stages)} must name stages of ResNet{self.depth} by their output "
                    f"channels, each once: any of {allowed}."
                )
            if stages and self.block == "resnet":
                raise UserError(f"model.{field} applies to block='onebnet'; set it to () for block='resnet'.")
        if not 0 < self.width_multiplier <= 16 or round(self.width_multiplier * widths[0]) < 1:
            raise UserError(
                f"model.width_multiplier={self.width_multiplier} must leave at least one channel and be at most 16."
            )
        if self.num_classes < 2:
            raise UserError(f"model.num_classes={self.num_classes} must be 2 or more.")
        if self.padding == "torch" and self.block != "resnet":
            raise UserError("model.padding='torch' applies to block='resnet' only; a OneBNet needs 'same'.")

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of each stage after the multiplier."""
        return tuple(round(self.width_multiplier * width) for width in DEPTHS[self.depth][0])

    @property
    def reduction(self) -> int:
        """How many times smaller than the image the last map is, in height and in width."""
        return (4 if self.stem == "imagenet" else 1) * 2 ** (len(self.widths) - 1)


def _one_of(field, value, allowed):
    if value not in allowed:
        raise UserError(f"model.{field}={value!r} is unknown; it must be one of {', '.join(map(repr, allowed))}.")


@dataclasses.dataclass(frozen=True)
class Unit:
    """One convolution of the body, with what its own shortcut has to do.

    Attributes:
      name: key of its parameters, such as "stage2_block1_conv1_3x1".
      kernel: (height, width) of the filter: (3, 3), (3, 1) or (1, 3).
      strides: (row, column) strides, and equally window and strides of the shortcut's average pool.
      in_channels, out_channels: channel counts; they differ only where the shortcut has a 1x1 convolution.
      stage: output channels of the unit's stage at multiplier 1.
    """

    name: str
    kernel: tuple[int, int]
    strides: tuple[int, int]
    in_channels: int
    out_channels: int
    stage: int

    @property
    def downsamples(self) -> bool:
        return self.strides != (1, 1)


@dataclasses.dataclass(frozen=True)
class Block:
    """One residual block of ResNet: its name and its units in order."""

    name: str
    units: tuple[Unit, ...]

    @property
    def strides(self) -> tuple[int, int]:
        rows, columns = zip(*(unit.strides for unit in self.units))
        return max(rows), max(columns)


def blocks(structure: Structure) -> tuple[Block, ...]:
    """The residual blocks of the body, in order.

    A block has two places. A 2-D place is one unit of 3x3; a 1-D place is a 3x1 unit and a 1x3 unit. The first
    place of every stage but the first downsamples: in 2-D with strides (2, 2), in 1-D with (2, 1) and then
    (1, 2), the first of the two units widening the channels (section 3.2, Figure 2).
    """
    names, counts = DEPTHS[structure.depth]
    result = []
    channels = structure.widths[0]
    for index, (stage, width, count) in enumerate(zip(names, structure.widths, counts)):
        for block_index in range(count):
            name = f"stage{index + 1}_block{block_index + 1}"
            units = []
            for place in (1, 2):
                downsamples = index > 0 and block_index == 0 and place == 1
                one_d = stage in (structure.ds_1d if downsamples else structure.conv_1d)
                for kernel, strides in _place(one_d, downsamples):
                    suffix = "" if kernel == (3, 3) else f"_{kernel[0]}x{kernel[1]}"
                    units.append(Unit(f"{name}_conv{place}{suffix}", kernel, strides, channels, width, stage))
                    channels = width
            result.append(Block(name, tuple(units)))
    return tuple(result)


def units(structure: Structure) -> tuple[Unit, ...]:
    """All units of the body, in order."""
    return tuple(unit for block in blocks(structure) for unit in block.units)


def _place(one_d: bool, downsamples: bool):
    """Kernels and strides of one 3x3 place."""
    if not one_d:
        return (((3, 3), (2, 2) if downsamples else (1, 1)),)
    if downsamples:
        return (((3, 1), (2, 1)), ((1, 3), (1, 2)))
    return (((3, 1), (1, 1)), ((1, 3), (1, 1)))
