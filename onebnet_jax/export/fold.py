"""From trained variables to a deployment plan. Pure functions on NumPy arrays, computed in float64.

What is folded. Every batch normalization is one multiplier and one bias per channel; those of float convolutions go
into their weights, and the XNOR-Net scale of binary weights goes into their multiplier. With fold=True, of the four
additions that a unit has beside its convolution (-alpha, the shortcut, -gamma, +zeta) two remain:

- -gamma comes after a sum, so the BN before the sum takes it in.
- +zeta is left out of the stream of activations: between units flows p = x - zeta. The next sign compares p with
  alpha - zeta. A shortcut gives zeta back as a constant of a BN's bias: zeta itself if it is the identity, W zeta
  behind an average pool and a 1x1 convolution W; the head's bias takes in the last one.

All this is exact in real arithmetic; in floating point it moves values by their rounding, so that a sign can turn
out otherwise only where x is within rounding of alpha.
"""

import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export.plan import Conv, MaxPool, Pads, Plan, ResNetBlock, Unit
from onebnet_jax.networks import structure as shape
from onebnet_jax.networks.layers import BN_EPSILON, Binarization
from onebnet_jax.networks.structure import Structure

MIN_NORMAL = np.finfo(np.float32).tiny


def deployment_plan(
    structure: Structure,
    binarization: Binarization,
    variables: dict,
    image_shape: tuple[int, int, int],
    fold: bool = True,
    normalization: tuple | None = None,
) -> Plan:
    """The plan of a trained network.

    Args:
      structure, binarization: of the `models.Network`.
      variables: its {"params", "batch_stats"}, trees of arrays.
      image_shape: (H, W, C).
      fold: two additions per unit instead of four, see above; False keeps one layer for each.
      normalization: (mean, std), each [C], if the plan is to take pixels p of 0..255 and itself compute
        (p / 255 - mean) / std; None if it takes normalized images.

    Raises UserError for variables that are not finite: a sign would hide them.
    """
    _check_finite(variables)
    size = tuple(image_shape[:2])
    torch = structure.padding == "torch"
    stem_kernel, stem_strides = _float64(variables["params"]["stem_conv"]["kernel"]), (1, 1)
    pixel_mean = None
    if normalization is not None:
        # The division goes into the weights. The subtraction cannot: zero padding surrounds the normalized image.
        mean, std = (_float64(values) for values in normalization)
        pixel_mean = _float32(255 * mean) if np.any(mean) else None
        stem_kernel = stem_kernel / (255 * std)[:, None]
    max_pool = None
    if structure.stem == "imagenet":
        stem_strides = (2, 2)
    stem = _float_conv("stem_conv", stem_kernel, _affine(variables, "stem_bn"), stem_strides, size, torch)
    size = _output_size(size, stem_strides)
    if structure.stem == "imagenet":
        max_pool = MaxPool(size, _explicit_pads(size, (3, 3), (2, 2)) if torch else None)
        size = _output_size(size, (2, 2))

    body = []
    offset = np.zeros(structure.widths[0])
    for block in shape.blocks(structure):
        if structure.block == "resnet":
            body.append(_resnet_block(block, variables, size, torch))
            size, offset = _output_size(size, block.strides), np.zeros(block.units[-1].out_channels)
            continue
        for unit in block.units:
            layer, offset = _unit(unit, structure.pad_value, binarization, variables, size, offset, fold)
            body.append(layer)
            size = _output_size(size, unit.strides)

    head = variables["params"]["head"]
    head_bias = _float64(head["bias"]) + offset @ _float64(head["kernel"])
    return Plan(
        image_shape=tuple(image_shape),
        pixel_mean=pixel_mean,
        stem=stem,
        stem_relu=structure.stem_relu,
        max_pool=max_pool,
        body=tuple(body),
        head_kernel=_float32(head["kernel"]),
        head_bias=_float32(head_bias),
    )


def rsign(threshold: np.ndarray, pad_value: int) -> tuple[np.ndarray, bool]:
    """How to compute the trained sign, with sign(0) = -1, by a sign that has sign(0) = +1, at no extra operation.

    Zero padding: sign-(x - t) = -sign+(t - x). The negation goes into the weights, and does not touch zeros.
    Padding with +1 would be turned into padding with -1 by that, which LCE has not. There the threshold moves up by
    one float instead: x > t exactly when x >= next(t), and the sign of a difference of floats is exact. Close to
    t = 0 the step is the smallest normal number, as processors may flush smaller differences to zero.

    Returns:
      (threshold, reverse) as in `plan.Unit`.
    """
    threshold = _float32(threshold)
    if pad_value == 0:
        return threshold, True
    return np.maximum(np.nextafter(threshold, np.float32(np.inf)), threshold + MIN_NORMAL), False


def _unit(unit, pad_value, binarization, variables, size, offset, fold) -> tuple[Unit, np.ndarray]:
    """The plan of one unit whose input lacks `offset`, and the offset that its own output lacks."""
    params = variables["params"][unit.name]
    gamma, beta, zeta = (_float64(params["rprelu"][name]) for name in ("gamma", "beta", "zeta"))
    multiplier, bias = _affine(variables, unit.name, "bn")
    threshold = _float64(params["rsign"]["alpha"]) - offset
    if binarization.activations:
        threshold, reverse = rsign(threshold, pad_value)
    else:
        threshold, reverse, pad_value = _float32(threshold), False, 0

    shortcut = None
    if unit.downsamples:
        kernel = _float64(params["shortcut_conv"]["kernel"])
        shortcut_multiplier, shortcut_bias = _affine(variables, unit.name, "shortcut_bn")
        shortcut_bias = shortcut_bias + shortcut_multiplier * (offset @ kernel[0, 0])
        pooled = _output_size(size, unit.strides)
        affine = (shortcut_multiplier, shortcut_bias)
        shortcut = _float_conv(f"{unit.name}_shortcut_conv", kernel, affine, (1, 1), pooled, False)
    else:
        bias = bias + offset
    if fold:
        bias = bias - gamma

    kernel = _float64(params["conv"]["kernel"])
    if binarization.weights:
        multiplier = multiplier * np.mean(np.abs(kernel), axis=(0, 1, 2))
        kernel = np.where(kernel > 0, 1.0, -1.0)
    if not (binarization.weights and binarization.activations):  # an ordinary convolution
        kernel, multiplier = kernel * multiplier, None
    conv = Conv(
        name=f"{unit.name}_conv",
        kernel=_float32(-kernel if reverse else kernel),
        bias=_float32(bias),
        strides=unit.strides,
        input_size=size,
        multiplier=None if multiplier is None else _float32(multiplier),
        pad_value=pad_value,
    )
    layer = Unit(
        name=unit.name,
        threshold=threshold,
        reverse=reverse,
        sign=binarization.activations,
        conv=conv,
        pool=unit.strides if unit.downsamples else None,
        shortcut=shortcut,
        gamma=None if fold or not np.any(gamma) else _float32(gamma),
        beta=_float32(beta),
        zeta=None if fold or not np.any(zeta) else _float32(zeta),
        offset=_float32(offset),
    )
    return layer, zeta if fold else np.zeros_like(zeta)


def _resnet_block(block, variables, size, torch) -> ResNetBlock:
    params = variables["params"][block.name]
    convs, input_size = [], size
    for index, unit in enumerate(block.units, start=1):
        name = f"{block.name}_conv{index}"
        affine = _affine(variables, block.name, f"bn{index}")
        convs.append(_float_conv(name, params[f"conv{index}"]["kernel"], affine, unit.strides, size, torch))
        size = _output_size(size, unit.strides)
    shortcut = None
    if "shortcut_conv" in params:
        name, affine = f"{block.name}_shortcut_conv", _affine(variables, block.name, "shortcut_bn")
        kernel = params["shortcut_conv"]["kernel"]
        shortcut = _float_conv(name, kernel, affine, block.strides, input_size, torch)
    return ResNetBlock(block.name, tuple(convs), shortcut)


def _float_conv(name, kernel, affine, strides, size, torch) -> Conv:
    """A float convolution that has taken in the multiplier of its BN."""
    multiplier, bias = affine
    pads = _explicit_pads(size, kernel.shape[:2], strides) if torch else None
    return Conv(name, _float32(_float64(kernel) * multiplier), _float32(bias), strides, size, pads=pads)


def _affine(variables, *path) -> tuple[np.ndarray, np.ndarray]:
    """The batch normalization at `path` as (multiplier, bias): BN(y) = multiplier * y + bias."""
    params, statistics = variables["params"], variables["batch_stats"]
    for key in path:
        params, statistics = params[key], statistics[key]
    # The sum in float32, as the trained network computes it; all else in float64.
    variance = _float32(statistics["var"]) + np.float32(BN_EPSILON)
    multiplier = _float64(params["scale"]) / np.sqrt(_float64(variance))
    return multiplier, _float64(params["bias"]) - _float64(statistics["mean"]) * multiplier


def _output_size(size, strides) -> tuple[int, int]:
    return tuple(-(-length // stride) for length, stride in zip(size, strides, strict=True))


def _explicit_pads(size, kernel, strides) -> Pads | None:
    """PyTorch's padding of (k - 1) / 2 on either side, or None where TensorFlow's SAME is the same.

    LCE's converter takes any padding that gives SAME's output size for SAME, although with stride 2 PyTorch's begins
    one pixel earlier. The last row that PyTorch pads is read by no window then; without it the sizes differ and the
    padding stays as it is.
    """
    pads, same = [], []
    for length, extent, stride in zip(size, kernel, strides, strict=True):
        low = (extent - 1) // 2
        total = max((-(-length // stride) - 1) * stride + extent - length, 0)
        pads.append((low, max(total - low, 0)))
        same.append((total // 2, total - total // 2))
    return None if pads == same else tuple(pads)


def _check_finite(tree, path=()):
    for name, value in tree.items():
        if isinstance(value, dict):
            _check_finite(value, (*path, name))
        elif not np.all(np.isfinite(value)):
            raise UserError(f"{'/'.join((*path, name))} of the network holds values that are not finite.")


def _float32(x) -> np.ndarray:
    return np.asarray(x, np.float32)


def _float64(x) -> np.ndarray:
    return np.asarray(x, np.float64)
