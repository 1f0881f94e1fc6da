"""From trained variables to a deployment plan. Pure functions on NumPy arrays, computed in float64.

A batch normalization behind a convolution is a multiplier and a bias per channel; those of float convolutions go into
their weights, and the scale of binary weights into their multiplier. With fold=True, of the four additions that a
OneBNet's unit has beside its convolution (-alpha, the shortcut, -gamma, +zeta) two remain:

- -gamma comes after a sum, so the BN before the sum takes it in.
- +zeta is left out of the stream of activations: between units flows p = x - zeta. The next sign compares p with
  alpha - zeta. A shortcut gives zeta back as a constant of a BN's bias: zeta itself without a convolution, and W zeta
  behind an average pool and a 1x1 convolution W; the head's bias takes in the last one.

A batch normalization before a sign, a x + c, is a comparison of x with -c / a: one subtraction. All this is exact in
real arithmetic; in floating point a sign can turn out otherwise where a value is within rounding of its threshold.
"""

import functools
import operator
from typing import TYPE_CHECKING

import jax
import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export.plan import Conv, Gate, Pads, Plan, Shortcut, Unit
from onebnet_jax.networks.layers import BN_EPSILON
from onebnet_jax.networks.structure import Binarization, Placed, Shape, Structure, check_convertible, placed, strided
from onebnet_jax.ops.binarize import SCALES, sign

if TYPE_CHECKING:
    from onebnet_jax.runs.trained import Trained

MIN_NORMAL = np.finfo(np.float32).tiny
HUGE = np.float32(1e30)  # a threshold that no activation reaches
_float32, _float64 = (functools.partial(np.asarray, dtype=dtype) for dtype in (np.float32, np.float64))


def make_plan(trained: "Trained", folded: bool = True, raw_input: bool = False) -> Plan:
    """The deployment plan of a trained network; arguments as in `convert.convert`."""
    info, network = trained.info, (trained.structure, trained.binarization, trained.variables)
    return deployment_plan(*network, info.shape, folded, (info.mean, info.std) if raw_input else None)


def deployment_plan(
    structure: Structure, binarization: Binarization, variables: dict, image_shape: Shape, fold=True, normalization=None
) -> Plan:
    """The plan of a trained network.

    fold: see above; False keeps a layer for each addition. normalization: (mean, std), [C] each, if the plan is to take
    pixels p of 0..255 and itself compute (p / 255 - mean) / std; None if it takes normalized images. Raises UserError
    for variables that are not finite, as a sign would hide them, for a tanh in place of the signs, and for activations
    and formulas that files for devices lack.
    """
    check_convertible(structure)
    if structure.binary and not binarization.activations and binarization.soft_sign != "none":
        words = f"{binarization.soft_sign} where a sign is to be, which no converted file can have"
        raise UserError(f"The network has {words}: convert a stage that binarizes activations.")
    for path, values in jax.tree_util.tree_leaves_with_path(variables):
        if not np.all(np.isfinite(values)):
            name = "/".join(key.key for key in path)
            raise UserError(
                f"{name} of the network holds values that are not finite; convert another checkpoint, or train it anew."
            )
    places = list(placed(structure, image_shape))
    pixel_mean, divisor = None, 1.0
    if normalization is not None:
        # The division goes into the weights. The subtraction cannot: zero padding surrounds the normalized image.
        mean, std = (_float64(values) for values in normalization)
        pixel_mean, divisor = _nonzero(255 * mean), 255 * std
    units, offsets = [], [np.zeros(image_shape[2])]
    for place, after in zip(places, [*places[1:], None]):
        units.append(_unit(place, after, binarization, variables, offsets, fold, divisor))
        offsets.append(_float64(units[-1].left_out))
        divisor = 1.0
    head = variables["params"]["head"]
    return Plan(
        image_shape=tuple(image_shape),
        pixel_mean=pixel_mean,
        units=tuple(units),
        head_kernel=_float32(head["kernel"]),
        head_bias=_float32(_float64(head["bias"]) + offsets[-1] @ _float64(head["kernel"])),
    )


def above(value: np.ndarray) -> np.ndarray:
    """The threshold for a sign with sign(0) = +1 that gives the trained sign of x - value, whose sign(0) is -1.

    The next greater float32: x > value exactly where x >= above(value), and the sign of a difference of two floats is
    exact. Near 0 the step is the smallest normal number, as processors may take smaller differences for zero.
    """
    value = _float32(value)
    return np.maximum(np.nextafter(value, np.float32(np.inf)), value + MIN_NORMAL)


def below(value: np.ndarray) -> np.ndarray:
    """The same for a constant that is added: the sign of x + below(value) is the trained sign of x + value."""
    return -above(-value)


def decided(multiplier: np.ndarray, bias: np.ndarray, terms: int) -> np.ndarray:
    """The same for multiplier * n + bias, [C] each, where n is a whole number of -terms to terms.

    LCE adds multiplier * terms to the bias and subtracts for each bit not set, in which what `below` takes away would
    be lost. So the change of sign is put halfway between the two whole numbers around it.
    """
    n = np.clip(-bias / np.where(multiplier == 0, 1, multiplier), -terms - 1, terms + 1)
    halfway = np.where(multiplier > 0, np.floor(n) + 0.5, np.ceil(n) - 0.5)
    return np.where(multiplier == 0, np.where(bias > 0, 1.0, -1.0), -multiplier * halfway)


def _unit(place: Placed, after, binarization, variables, offsets, fold, divisor) -> Unit:
    """The plan of a unit, whose input lacks the last of `offsets`; after: the next place, or None."""
    unit, offset = place.unit, offsets[-1]
    activations, weights = (unit.binary and kind for kind in (binarization.activations, binarization.weights))
    kernel = _float64(_at(variables["params"], *unit.at("conv"))["kernel"])

    multiplier, bias = np.ones(unit.out_channels), np.zeros(unit.out_channels)
    fused = after is not None and after.fused_norm
    if unit.norm == "after" or fused:
        multiplier, bias = _affine(variables, (unit if unit.norm == "after" else after.unit).at("bn"))
    if weights:
        multiplier = multiplier * SCALES[binarization.weight_scale](kernel)
        kernel = _float64(sign(_float32(kernel)))

    if fused and after.unit.binary and binarization.activations:
        # The sign of the unit behind follows at once.
        terms = kernel[..., 0].size
        bias = decided(multiplier, bias, terms) if weights and activations else below(bias)

    kernel = kernel / np.reshape(divisor, (-1, 1))  # of each input channel
    affine, threshold, flips = _before_sign(place, variables, activations, offset, fold)
    if activations:
        kernel = kernel * np.reshape(flips, (-1, 1))
    shortcut, left_out = None, np.zeros(unit.out_channels)
    if place.shortcut:
        shortcut, constant = _shortcut(place, variables, offsets[-unit.span])
        if shortcut.last:
            left_out = left_out + constant
        else:
            bias = bias + constant
    gamma = beta = zeta = None
    if unit.activation in ("prelu", "rprelu"):
        parameters = _at(variables["params"], *unit.at(unit.activation))
        gamma, beta, zeta = (_float64(parameters.get(name, 0)) for name in ("gamma", "beta", "zeta"))
        if fold:
            left_out = left_out + zeta
        if fold and not unit.gate:
            bias, gamma = bias - gamma, None
    # With float weights or activations it is an ordinary convolution, whose kernel takes the multiplier in.
    kernel, multiplier = (kernel, _float32(multiplier)) if weights and activations else (kernel * multiplier, None)
    name, size, pad_value = "_".join(unit.at("conv")), place.input[:2], unit.pad_value if activations else 0
    pads = _explicit_pads(size, unit.kernel, unit.strides) if unit.symmetric else None
    return Unit(
        name=unit.name,
        prefix="_".join(unit.at("{}")),
        section=unit.section,
        affine=affine,
        threshold=threshold,
        flips=np.broadcast_to(np.float32(flips), unit.in_channels),
        sign=activations,
        conv=Conv(name, _float32(kernel), _float32(bias), unit.strides, size, multiplier, pads, pad_value),
        shortcut=shortcut,
        relu=unit.activation == "relu",
        gamma=_nonzero(gamma),
        beta=None if beta is None else _float32(beta),
        zeta=None if fold else _nonzero(zeta),
        max_pool=unit.max_pool,
        pool_pads=_explicit_pads(place.convolved[:2], (3, 3), (2, 2)) if unit.max_pool and unit.symmetric else None,
        left_out=_float32(left_out),
        gate=_gate(place, variables, offset) if unit.gate else None,
    )


def _before_sign(place: Placed, variables, activations: bool, offset, fold: bool):
    """What `plan.Unit` has before its convolution: (affine, threshold, flips)."""
    unit = place.unit
    if place.fused_norm:
        return None, None, 1.0
    if unit.norm == "before":
        gain, constant = _affine(variables, unit.at("bn"))
        constant = constant + gain * offset
        if unit.shift:
            constant = constant - _float64(_at(variables["params"], *unit.at("rsign"))["alpha"])
        if not (activations and fold and unit.pad_value == 0):
            return (_float32(gain), below(constant) if activations else _float32(constant)), None, 1.0
        # gain x + constant > 0 is x > t where the gain is positive and x < t where it is negative, with t = -constant /
        # gain; in the second case the sign of x - t is the opposite, and the weights take the minus. (Padding with 0
        # has no sign; of a padding with 1 the minus would make -1, which LCE has not.) With no gain it is the same
        # whatever x is.
        limit = np.clip(-constant / np.where(gain == 0, 1, gain), -HUGE, HUGE)
        limit = np.where(gain > 0, above(limit), np.where(gain < 0, _float32(limit), HUGE))
        return None, limit, np.where(gain > 0, 1.0, np.where(gain < 0, -1.0, np.where(constant > 0, -1.0, 1.0)))
    alpha = _at(variables["params"], *unit.at("rsign"))["alpha"] if unit.shift else np.zeros(unit.in_channels)
    limit = _float64(alpha) - offset
    return None, above(limit) if activations else _nonzero(limit), 1.0


def _gate(place: Placed, variables, offset) -> Gate:
    """The gate of a unit, its first matrix with the BN before it: of the input's mean, not of the BN's."""
    inner, outer = (
        _float64(_at(variables["params"], *place.unit.at(name))["kernel"]) for name in ("gate_in", "gate_out")
    )
    gain, constant = (1.0, 0.0) if place.fused_norm else _affine(variables, place.unit.at("bn"))
    inputs = gain * np.ones(len(inner)), constant + gain * offset
    return Gate(_float32(inputs[0][:, None] * inner), _float32(inputs[1] @ inner), _float32(outer))


def _shortcut(place: Placed, variables, offset) -> tuple[Shortcut, np.ndarray]:
    """The shortcut of a unit, and the constant that its input's missing offset makes up behind it."""
    unit, shortcut = place.unit, place.shortcut
    last = unit.norm == "before" and (unit.activation != "none" or unit.gate > 0)
    if not shortcut.projects:
        return Shortcut(unit.span, shortcut.pool, None, shortcut.repeats, last), np.tile(offset, shortcut.repeats)
    kernel = _float64(_at(variables["params"], *unit.beside("shortcut_conv"))["kernel"])
    multiplier, bias = _affine(variables, unit.beside("shortcut_bn"))
    bias = bias + multiplier * (offset @ kernel[0, 0])
    weights, size = _float32(kernel * multiplier), strided(shortcut.input, shortcut.pool)
    conv = Conv("_".join(unit.beside("shortcut_conv")), weights, _float32(bias), shortcut.strides, size)
    return Shortcut(unit.span, shortcut.pool, conv, last=last), np.zeros_like(bias)


def _at(tree, *path):
    return functools.reduce(operator.getitem, filter(None, path), tree)


def _affine(variables, path) -> tuple[np.ndarray, np.ndarray]:
    """The batch normalization at `path` as (multiplier, bias): BN(y) = multiplier * y + bias."""
    params, statistics = (_at(variables[tree], *path) for tree in ("params", "batch_stats"))
    # The sum in float32, as the trained network computes it; all else in float64.
    variance = _float32(statistics["var"]) + np.float32(BN_EPSILON)
    multiplier = _float64(params["scale"]) / np.sqrt(_float64(variance))
    return multiplier, _float64(params["bias"]) - _float64(statistics["mean"]) * multiplier


def _explicit_pads(size, kernel, strides) -> Pads | None:
    """PyTorch's padding of (k - 1) / 2 on either side, or None where TensorFlow's SAME is the same.

    LCE's converter takes any padding with SAME's output size for SAME; with stride 2 PyTorch's begins one pixel
    earlier. So the last row that PyTorch pads, which no window reads then, is left out: the sizes differ.
    """
    pads, same = [], []
    for length, extent, stride in zip(size, kernel, strides, strict=True):
        low = (extent - 1) // 2
        total = max((-(-length // stride) - 1) * stride + extent - length, 0)
        pads.append((low, max(total - low, 0)))
        same.append((total // 2, total - total // 2))
    return None if pads == same else tuple(pads)


def _nonzero(x) -> np.ndarray | None:
    """In float32, or None for a constant that changes nothing."""
    return _float32(x) if x is not None and np.any(x) else None
