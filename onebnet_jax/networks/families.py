"""Published networks, each one function that returns a `Structure`. To add one, write its function and a config.

`build` makes the network that the `model` fields of a config describe: the names of a function's parameters are the
names of the fields that it takes.
"""

import dataclasses
import inspect
import itertools
from collections.abc import Callable

from onebnet_jax.errors import UserError, one_of, own_line
from onebnet_jax.networks.structure import Structure, Unit
from onebnet_jax.surroundings import of_kind


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
    widths, counts = stages(depth, width_multiplier)
    for field, given, allowed in (("conv_1d", conv_1d, widths), ("ds_1d", ds_1d, widths[1:])):
        if not set(given) <= set(allowed) or len(set(given)) != len(given):
            raise UserError(f"model.{field}={tuple(given)} must name stages by their channels {allowed}, each once.")
    options = dict(shift=True, activation="rprelu", pad_value=pad_value)

    def place(name, stage, strides, inputs, outputs):
        parts = [(name, (3, 3), strides)]
        if stage in (ds_1d if strides != (1, 1) else conv_1d):
            parts = [(f"{name}_3x1", (3, 1), (strides[0], 1)), (f"{name}_1x3", (1, 3), (1, strides[1]))]
        for part, kernel, step in parts:
            yield Unit(part, kernel, step, inputs, outputs, module=part, stage=stage, **options)
            inputs = outputs

    first = _stem(stem, "relu" if stem_relu else "none")
    return _residual(f"ResNet{depth}", (widths, counts), width_multiplier, first, place, num_classes, channels)


def birealnet(depth=18, width_multiplier=1.0, stem="imagenet", pad_value=0, num_classes=1000, channels=3) -> Structure:
    """Bi-Real Net (Liu et al. 2018): each binarized convolution has a shortcut of its own, and nothing else.

    No activation anywhere, not even in the stem: ReActNet without RSign and RPReLU.
    """
    body, first, place = stages(depth, width_multiplier), _stem(stem, "none"), _place(pad_value=pad_value)
    return _residual(f"Bi-RealNet{depth}", body, width_multiplier, first, place, num_classes, channels)


def xnornet(depth=18, width_multiplier=1.0, stem="imagenet", pad_value=0, num_classes=1000, channels=3) -> Structure:
    """XNOR-Net (Rastegari et al. 2016) as a ResNet: BN, sign, convolution; one shortcut over two convolutions.

    Without the scale K of the activations, which its authors found to be worth less than 1 % and left out.
    """
    body, first = stages(depth, width_multiplier), _stem(stem, "relu")
    place = _place(joined=True, norm="before", pad_value=pad_value)
    return _residual(f"XNOR-Net ResNet{depth}", body, width_multiplier, first, place, num_classes, channels)


def resnet(
    depth=18, width_multiplier=1.0, stem="cifar", stem_relu=True, padding="same", num_classes=10, channels=3
) -> Structure:
    """The FP32 ResNet (He et al. 2016, Figure 2): ReLU(BN(conv(ReLU(BN(conv(x))))) + shortcut).

    padding: "same" (TensorFlow's rule) or "torch" (symmetric, for torchvision's weights); the others as in `onebnet`.
    """
    one_of("model.padding", padding, ("same", "torch"))
    symmetric = padding == "torch"
    body, first = stages(depth, width_multiplier), _stem(stem, "relu" if stem_relu else "none", symmetric)
    place = _place(joined=True, binary=False, activation="relu", symmetric=symmetric)
    return _residual(f"FP32 ResNet{depth}", body, width_multiplier, first, place, num_classes, channels)


def reactnet_a(width_multiplier=1.0, stem="imagenet", pad_value=0, num_classes=1000, channels=3) -> Structure:
    """ReActNet-A (Liu et al. 2020, Figure 4), MobileNet's shape in ReActNet's units, of which a block has two.

    A 3x3 unit keeps the channels, and halves the map where a stage begins; a 1x1 unit doubles the channels there. No
    shortcut has parameters. The stem has no activation and no pool: "imagenet" is 3x3/2, "cifar" 3x3/1.
    """
    _check_width(width_multiplier, 32)
    width = round(width_multiplier * 32)  # of the stem; all others are multiples of it, whatever the multiplier
    strides = {"cifar": (1, 1), "imagenet": (2, 2)}
    one_of("model.stem", stem, strides)
    first = dict(_stem("cifar", "none"), strides=strides[stem], out_channels=width)
    options = dict(shift=True, activation="rprelu", shortcut="repeated", pad_value=pad_value)

    def place(name, stage, strides, inputs, outputs):
        kernel, outputs = ((3, 3), inputs) if name.endswith("conv1") else ((1, 1), outputs)
        return [Unit(name, kernel, strides, inputs, outputs, module=name, stage=stage, **options)]

    body = (64, 128, 256, 512, 1024), (1, 2, 2, 6, 2)
    return _residual("ReActNet-A", body, width / 32, first, place, num_classes, channels)


def realtobin(depth=18, width_multiplier=1.0, stem="imagenet", pad_value=0, num_classes=1000, channels=3) -> Structure:
    """Real-to-Bin (Martinez et al. 2020): BN, sign, convolution, gate and PReLU, with a shortcut over each.

    The gate's two matrices go through an eighth of the input channels. A PReLU in the stem too.
    """
    body, first = stages(depth, width_multiplier), _stem(stem, "prelu")

    def place(name, stage, strides, inputs, outputs):
        options = dict(norm="before", activation="prelu", gate=max(inputs // 8, 1), pad_value=pad_value)
        return [Unit(name, (3, 3), strides, inputs, outputs, module=name, stage=stage, **options)]

    return _residual(f"Real-to-Bin ResNet{depth}", body, width_multiplier, first, place, num_classes, channels)


FAMILIES = {"onebnet": onebnet, "resnet": resnet, "birealnet": birealnet, "xnornet": xnornet}
FAMILIES |= {"reactnet_a": reactnet_a, "realtobin": realtobin}


def build(family: str, **fields) -> Structure:
    """The network of a family, from the parameters of its function. Raises UserError for what cannot be."""
    one_of("model.family", family, FAMILIES)
    try:
        structure = FAMILIES[family](**fields)
    except Exception as error:  # whatever a user's own function may raise
        if isinstance(error, UserError) or not (line := own_line(error)):
            raise
        raise UserError(f"The function of model.family={family!r} fails ({of_kind(error)}{line}).") from error
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
    _check_width(width_multiplier, widths[0])
    return widths, counts


def _check_width(width_multiplier: float, narrowest: int) -> None:
    if not 0 < width_multiplier <= 16 or round(width_multiplier * narrowest) < 1:
        raise UserError(f"model.width_multiplier={width_multiplier} must leave at least one channel and be at most 16.")


def _stem(kind: str, activation: str, symmetric: bool = False) -> dict:
    """Fields of the first unit, with an activation as in ResNet, or with "none" as in ReActNet's code.

    "imagenet" is 7x7/2, BN and a 3x3/2 max pool; "cifar" is 3x3/1 and BN (the paper's Table 5).
    """
    sizes = {"cifar": ((3, 3), (1, 1)), "imagenet": ((7, 7), (2, 2))}
    one_of("model.stem", kind, sizes)
    kernel, strides = sizes[kind]
    options = dict(activation=activation, symmetric=symmetric, max_pool=kind == "imagenet")
    return dict(kernel=kernel, strides=strides, binary=False, span=0, **options)


def _place(joined: bool = False, **options) -> Callable:
    """One unit a place; `joined`: the two of a block share a Flax module and one shortcut over both."""

    def place(name, stage, strides, inputs, outputs):
        where = dict(module=name)
        if joined:
            block, index = name.rsplit("_conv", 1)
            where = dict(module=block, parts=f"{{}}{index}", span=2 if index == "2" else 0, shortcut="strided")
        return [Unit(name, (3, 3), strides, inputs, outputs, stage=stage, **where, **options)]

    return place


def _residual(title, body, width_multiplier, stem, place, num_classes, channels) -> Structure:
    """A stem, and the units of all places of a body: two a block, the first of a stage but the first strides.

    body: what `stages` gives. place(name, stage, strides, in_channels, out_channels) gives the units of one place.
    """
    if num_classes < 2:
        raise UserError(f"model.num_classes={num_classes} must be 2 or more.")
    stem = dict(out_channels=round(width_multiplier * body[0][0])) | stem
    units = [Unit("stem", in_channels=channels, parts="stem_{}", **stem)]
    for number, (stage, blocks) in enumerate(zip(*body), start=1):
        outputs = round(width_multiplier * stage)
        for block, conv in itertools.product(range(1, blocks + 1), (1, 2)):
            strides = (2, 2) if number > 1 and block == conv == 1 else (1, 1)
            inputs = units[-1].out_channels
            units += place(f"stage{number}_block{block}_conv{conv}", stage, strides, inputs, outputs)
    return Structure(tuple(units), num_classes, title)
