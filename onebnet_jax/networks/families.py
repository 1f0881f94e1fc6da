"""Published networks, each one function that returns a `Structure`. To add one, write its function and a config.

`build` makes the network that the `model` fields of a config describe: the names of a function's parameters are the
names of the fields that it takes.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable

from onebnet_jax.errors import UserError
from onebnet_jax.networks.structure import Structure, Unit

ONE_D = (((3, 1), 0), ((1, 3), 1))  # the kernels that a 3x3 is split into, and the axis along which each may stride


def onebnet(
    depth: int = 18,
    conv_1d: tuple[int, ...] = (),
    ds_1d: tuple[int, ...] = (),
    width_multiplier: float = 1.0,
    stem: str = "cifar",
    stem_relu: bool = False,
    pad_value: int = 1,
    num_classes: int = 10,
    channels: int = 3,
) -> Structure:
    """OneBNet; without 1-D stages ReActNet, the paper's baseline (section 3.2; Tables 1, 5 and 6).

    A 3x3 place is one unit, or a 3x1 unit and a 1x3 unit. Where a place downsamples in 1-D, the 3x1 unit halves the
    height and widens the channels, and the 1x3 unit halves the width.

    depth is explained at `stages`, stem at `_stem`. conv_1d names stages, by their output channels at multiplier 1,
    whose places without downsampling are 1-D (`1-D Conv` in Table 1); ds_1d those whose downsampling place is (`1-D DS`
    in Table 1), of which the first stage has none. width_multiplier is m of Table 7: every width becomes
    round(m * width). pad_value, 0 or 1, surrounds a binarized map. num_classes and channels are the data set's.
    """
    widths, _ = stages(depth, width_multiplier)
    for field, given, allowed in (("conv_1d", conv_1d, widths), ("ds_1d", ds_1d, widths[1:])):
        if not set(given) <= set(allowed) or len(set(given)) != len(given):
            raise UserError(f"model.{field}={tuple(given)} must name stages by their channels {allowed}, each once.")
    options = dict(shift=True, activation="rprelu", pad_value=pad_value)

    def place(name, stage, strides, inputs, outputs):
        if stage not in (ds_1d if strides != (1, 1) else conv_1d):
            yield Unit(name, (3, 3), strides, inputs, outputs, module=name, stage=stage, **options)
            return
        for kernel, axis in ONE_D:
            part, step = f"{name}_{kernel[0]}x{kernel[1]}", tuple(s if i == axis else 1 for i, s in enumerate(strides))
            yield Unit(part, kernel, step, inputs, outputs, module=part, stage=stage, **options)
            inputs = outputs

    make_stem = _stem(stem, "relu" if stem_relu else "none")
    return _residual(f"ResNet{depth}", depth, width_multiplier, make_stem, place, pad_value, num_classes, channels)


def birealnet(
    depth: int = 18,
    width_multiplier: float = 1.0,
    stem: str = "imagenet",
    pad_value: int = 0,
    num_classes: int = 1000,
    channels: int = 3,
) -> Structure:
    """Bi-Real Net (Liu et al. 2018): each binarized convolution has a shortcut of its own, and nothing else.

    No activation anywhere, not even in the stem: ReActNet without RSign and RPReLU.
    """

    def place(name, stage, strides, inputs, outputs):
        yield Unit(name, (3, 3), strides, inputs, outputs, pad_value=pad_value, module=name, stage=stage)

    title, make_stem = f"Bi-RealNet{depth}", _stem(stem, "none")
    return _residual(title, depth, width_multiplier, make_stem, place, pad_value, num_classes, channels)


def xnornet(
    depth: int = 18,
    width_multiplier: float = 1.0,
    stem: str = "imagenet",
    pad_value: int = 0,
    num_classes: int = 1000,
    channels: int = 3,
) -> Structure:
    """XNOR-Net (Rastegari et al. 2016) as a ResNet: BN, sign, convolution; one shortcut over two convolutions.

    Without the scale K of the activations, which its authors found to be worth less than 1 % and left out.
    """

    def place(name, stage, strides, inputs, outputs):
        options = dict(norm="before", pad_value=pad_value, **_in_block(name))
        yield Unit(name, (3, 3), strides, inputs, outputs, stage=stage, **options)

    title, make_stem = f"XNOR-Net ResNet{depth}", _stem(stem, "relu")
    return _residual(title, depth, width_multiplier, make_stem, place, pad_value, num_classes, channels)


def resnet(
    depth: int = 18,
    width_multiplier: float = 1.0,
    stem: str = "cifar",
    stem_relu: bool = True,
    padding: str = "same",
    num_classes: int = 10,
    channels: int = 3,
) -> Structure:
    """The FP32 ResNet (He et al. 2016, Figure 2): ReLU(BN(conv(ReLU(BN(conv(x))))) + shortcut).

    padding: "same" (TensorFlow's rule) or "torch" (symmetric, for torchvision's weights); the others as in `onebnet`.
    """
    if padding not in ("same", "torch"):
        raise UserError(f"model.padding={padding!r} is unknown; it must be 'same' or 'torch'.")
    symmetric = padding == "torch"

    def place(name, stage, strides, inputs, outputs):
        options = dict(binary=False, activation="relu", symmetric=symmetric, **_in_block(name))
        yield Unit(name, (3, 3), strides, inputs, outputs, stage=stage, **options)

    title, make_stem = f"FP32 ResNet{depth}", _stem(stem, "relu" if stem_relu else "none", symmetric)
    return _residual(title, depth, width_multiplier, make_stem, place, 0, num_classes, channels)


FAMILIES = {"onebnet": onebnet, "resnet": resnet, "birealnet": birealnet, "xnornet": xnornet}


def build(family: str, **fields) -> Structure:
    """The network of a family, from the parameters of its function. Raises UserError for what cannot be."""
    if family not in FAMILIES:
        raise UserError(f"model.family={family!r} is unknown; it must be one of {', '.join(map(repr, FAMILIES))}.")
    structure = FAMILIES[family](**fields)
    return dataclasses.replace(structure, recipe=(("family", family), *fields.items()))


def parameters(family: str) -> tuple[str, ...]:
    """The names of what a family's function takes."""
    return tuple(inspect.signature(FAMILIES[family]).parameters)


def stages(depth: int, width_multiplier: float = 1.0) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(output channels of each stage at multiplier 1, residual blocks of each stage) of a ResNet.

    Depths 10, 18 and 34 are He et al.'s for ImageNet, with four stages; 6n + 2 (8, 14, 20, ...) those of their section
    4.2 for small images, with three. Raises UserError for other depths, and a multiplier that leaves no channel.
    """
    four = {10: (1, 1, 1, 1), 18: (2, 2, 2, 2), 34: (3, 4, 6, 3)}
    if depth in four:
        widths, counts = (64, 128, 256, 512), four[depth]
    elif depth in range(8, 111, 6):
        widths, counts = (16, 32, 64), (depth // 6,) * 3
    else:
        raise UserError(f"model.depth={depth!r} is unknown; it must be 10, 18, 34, or 6n + 2 from 8 to 110.")
    if not 0 < width_multiplier <= 16 or round(width_multiplier * widths[0]) < 1:
        raise UserError(f"model.width_multiplier={width_multiplier} must leave at least one channel and be at most 16.")
    return widths, counts


def _stem(kind: str, activation: str, symmetric: bool = False) -> Callable[[int, int], Unit]:
    """The first unit, given its input and output channels: "relu" is as in ResNet, "none" as in ReActNet's code.

    "imagenet" is 7x7/2, BN and a 3x3/2 max pool; "cifar" is 3x3/1 and BN (the paper's Table 5).
    """
    if kind not in ("cifar", "imagenet"):
        raise UserError(f"model.stem={kind!r} is unknown; it must be 'cifar' or 'imagenet'.")
    kernel, strides = ((7, 7), (2, 2)) if kind == "imagenet" else ((3, 3), (1, 1))
    options = dict(binary=False, activation=activation, span=0, symmetric=symmetric, max_pool=kind == "imagenet")
    return lambda inputs, outputs: Unit("stem", kernel, strides, inputs, outputs, parts="stem_{}", **options)


def _in_block(name: str) -> dict:
    """Fields of a unit at a place of a block whose two units share a Flax module and one shortcut over both."""
    block, index = name.rsplit("_conv", 1)
    return dict(module=block, parts=f"{{}}{index}", span=2 if index == "2" else 0, shortcut="strided")


def _residual(title, depth, width_multiplier, stem, place, pad_value, num_classes, channels) -> Structure:
    """A stem, and the units of all 3x3 places of a ResNet: two a block, the first of a stage but the first strides.

    place(name, stage, strides, in_channels, out_channels) gives the units of one place.
    """
    if pad_value not in (0, 1):
        raise UserError(f"model.pad_value={pad_value!r} is unknown; it must be 0 or 1.")
    if num_classes < 2:
        raise UserError(f"model.num_classes={num_classes} must be 2 or more.")
    widths, counts = stages(depth, width_multiplier)
    inputs = round(width_multiplier * widths[0])
    units = [stem(channels, inputs)]
    for number, (stage, blocks) in enumerate(zip(widths, counts), start=1):
        outputs = round(width_multiplier * stage)
        for block, conv in itertools.product(range(1, blocks + 1), (1, 2)):
            strides = (2, 2) if number > 1 and block == conv == 1 else (1, 1)
            units += place(f"stage{number}_block{block}_conv{conv}", stage, strides, inputs, outputs)
            inputs = outputs
    return Structure(tuple(units), num_classes, title)
