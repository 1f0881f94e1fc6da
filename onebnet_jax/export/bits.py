"""A network's packed bits and constants as plain arrays, for whoever writes a runtime of their own: an .npz file.

`tests/helpers/bits_program.py` runs a network from such a file alone, in 60 lines of NumPy. The file's arrays:

    table           float32 [C, 256]: what the first convolution takes for each value of a pixel of a channel
    units           the names of all units in order; the first is the stem. Those below begin with "NAME/"
    head/kernel     float32 [C, classes]; logits = mean of the last map over its pixels @ kernel + bias
    head/bias       float32 [classes]
    card            JSON: names of the classes, normalization, origin, Top-1

A unit takes the last map x, [H, W, C], and makes the next one. The stem is y = conv(x, kernel) + bias, then y if y > 0
else beta * y, and a 3x3 max pool of strides 2 where there is `pool_pads`. All others are, with b = +1 where
(x > threshold) != reversed and -1 elsewhere,

    y = gate * (multiplier * conv(b, weights) + bias) + shortcut - gamma
    next x = (y if y > 0 else beta * y) + zeta

    kernel          float32 [kh, kw, C_in, C_out] of the stem, or of a shortcut
    weights         uint8 [kh, kw, C_out, ceil(C_in / 8)]: bit 1 for +1 and 0 for -1, the first channel's the lowest;
                    bits that are left over are 0
    inputs          C_in
    strides         (row, column)
    pads            ((top, bottom), (left, right)): pixels around the map; those of the max pool are `pool_pads`
    pad_value       of signs: 1 surrounds the map with +1; 0 with zeros, so that a tap there adds nothing
    threshold       float32 [C_in], and reversed, bool [C_in]
    multiplier, bias, beta, gamma, zeta   float32 [C_out]
    span            the shortcut's input is that of the unit `span` - 1 places earlier; 0 for no shortcut
    shortcut/last   1 where the shortcut is not added to y but, last of all, to the next x
    shortcut/pool   window and strides of its average pool, of which what lies outside of the map does not count
    shortcut/repeats   how often the channels of that follow one another: [a, b] twice is [a, b, a, b]
    shortcut/kernel, shortcut/bias, shortcut/strides   its 1x1 convolution; missing where it has none
    gate/inner, gate/bias, gate/outer   gate = 1 / (1 + exp(-relu(mean of x over its pixels @ inner + bias) @ outer));
                    1 where they are missing
"""

import io
import json

import numpy as np

from onebnet_jax.export.native import axis, check, limits, slope
from onebnet_jax.export.plan import Conv, Plan, Unit
from onebnet_jax.networks.structure import strided


def arrays(plan: Plan, table: np.ndarray, facts: dict) -> dict[str, np.ndarray]:
    """All arrays of the file by name. Raises UserError for networks without binarized convolutions."""
    check(plan)
    result = {"table": table, "units": np.array([unit.name for unit in plan.units])}
    for index, unit in enumerate(plan.units):
        fields = _unit(unit) if index else _stem(unit)
        result.update({f"{unit.name}/{name}": np.asarray(value) for name, value in fields.items()})
    head = {"head/kernel": plan.head_kernel, "head/bias": plan.head_bias}
    return result | head | {"card": np.array(json.dumps(facts))}


def pack(plan: Plan, table: np.ndarray, facts: dict) -> bytes:
    """The file."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays(plan, table, facts))
    return buffer.getvalue()


def _stem(unit: Unit) -> dict:
    conv = unit.conv
    fields = _geometry(conv) | {"kernel": conv.kernel, "bias": conv.bias, "beta": slope(unit)}
    if unit.max_pool:
        fields["pool_pads"] = unit.pool_pads or [_pads(n, 3, 2, None) for n in strided(conv.input_size, conv.strides)]
    return fields


def _unit(unit: Unit) -> dict:
    conv, shortcut = unit.conv, unit.shortcut
    threshold, reversed_ = limits(unit)
    zeros = np.zeros(conv.kernel.shape[3], np.float32)
    fields = _geometry(conv) | {
        "weights": np.packbits(np.swapaxes(conv.kernel, 2, 3) > 0, axis=-1, bitorder="little"),
        "inputs": conv.kernel.shape[2],
        "pad_value": conv.pad_value,
        "threshold": threshold,
        "reversed": reversed_,
        "multiplier": conv.multiplier,
        "bias": conv.bias,
        "beta": slope(unit),
        "gamma": zeros if unit.gamma is None else unit.gamma,
        "zeta": zeros if unit.zeta is None else unit.zeta,
        "span": shortcut.span if shortcut else 0,
    }
    if shortcut:
        fields |= {f"shortcut/{name}": getattr(shortcut, name) for name in ("pool", "repeats", "last")}
        if shortcut.conv:
            of_conv = {"kernel": shortcut.conv.kernel, "bias": shortcut.conv.bias, "strides": shortcut.conv.strides}
            fields |= {f"shortcut/{name}": value for name, value in of_conv.items()}
    if unit.gate:
        fields |= {f"gate/{name}": getattr(unit.gate, name) for name in ("inner", "bias", "outer")}
    return fields


def _geometry(conv: Conv) -> dict:
    pads = conv.pads or (None, None)
    sizes = zip(conv.input_size, conv.kernel.shape, conv.strides, pads)
    return {"strides": conv.strides, "pads": [_pads(*fields) for fields in sizes]}


def _pads(length: int, extent: int, stride: int, pads: tuple[int, int] | None) -> tuple[int, int]:
    size, before = axis(length, extent, stride, pads)
    return before, max((size - 1) * stride + extent - length - before, 0)
