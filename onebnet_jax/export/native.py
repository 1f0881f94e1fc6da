"""From a deployment plan to the one file that the native engine runs; native/engine/format.h describes the file.

What the engine does not do is done here: it has a single float map at any time, compares with `>` alone, and knows no
kernel or channel order but its own.
"""

import json
import struct
import zlib
from typing import TYPE_CHECKING

import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export import blocks, card
from onebnet_jax.export.fold import make_plan
from onebnet_jax.export.plan import Conv, Pads, Plan, Unit

if TYPE_CHECKING:
    from onebnet_jax.runs.trained import Trained

MAGIC, VERSION = b"OneBNet\n", 3
ALIGNMENT = 64
HEADER, STEM, UNIT = "<8sIIQIIIIIiIIii", "<14iI3i2I", "<19i13Ii3I"
PROJECT, ADD, STORE, SHIFT, GATE, LAST, ODD = 1, 2, 4, 8, 16, 32, 64  # flags of a unit
SIZE = struct.calcsize(HEADER) + struct.calcsize(STEM)


def convert(trained: "Trained", folded: bool = True, raw_input: bool = False) -> tuple[Plan, np.ndarray, dict]:
    """What `pack` here, and in `bits`, makes a file of: a network's plan, table and facts.

    Arguments and UserError as in `onebnet_jax.convert`.
    """
    plan = make_plan(trained, folded, raw_input)
    table = pixel_table(plan, None if raw_input else (trained.info.mean, trained.info.std))
    of_tflite = ("sha256", "bytes", "mib", "operators", "classes")
    facts = card.make(trained, b"", {}, folded, raw_input)
    # The program onebnet-run looks for the names of the classes at the beginning.
    return plan, table, {"classes": facts["classes"]} | {k: v for k, v in facts.items() if k not in of_tflite}


def pixel_table(plan: Plan, normalization: tuple | None) -> np.ndarray:
    """What the first convolution takes for each value of a pixel, float32 [C, 256].

    normalization: (mean, std) of the data set, [C] each, as training uses them; None for a plan that takes pixels.
    """
    values = np.broadcast_to(np.arange(256, dtype=np.uint8)[:, None], (256, plan.image_shape[2]))
    if normalization is not None:
        return card.normalize(values, *normalization).T
    return (np.float32(values) - (0 if plan.pixel_mean is None else plan.pixel_mean)).T


def pack(plan: Plan, table: np.ndarray, facts: dict) -> bytes:
    """The bytes of the native engine's file: the plan with `table`, see `pixel_table`, and `facts`, its card.

    Raises UserError for networks without binarized convolutions and others that the engine has no kernels for.
    """
    check(plan)
    file = _File()
    words = json.dumps(facts, ensure_ascii=False).encode(errors="surrogateescape")
    card_at = file.add(np.frombuffer(words, np.uint8))
    table_at = file.add(table, "<f4")
    mean_at = 0 if plan.pixel_mean is None else file.add(plan.pixel_mean, "<f4")
    stem, units = _stem(file, plan), [_unit(file, unit, flags) for unit, flags in zip(plan.units[1:], _flags(plan))]
    units_at = file.add(np.frombuffer(b"".join(units), np.uint8))
    head, classes = blocks.float_kernel(blocks.whole(plan.head_kernel[None, None], 2)), plan.head_bias.size
    head_at, bias_at = file.add(head, "<f4"), file.add(blocks.channels(plan.head_bias), "<f4")
    places = (card_at, len(words), table_at, mean_at, units_at, len(units), head_at, bias_at, classes, 0)
    fields = (MAGIC, VERSION, 0, len(file.content), *places)
    file.content[:SIZE] = struct.pack(HEADER, *fields) + stem
    file.content[12:16] = struct.pack("<I", zlib.crc32(file.content[16:]))
    return bytes(file.content)


def limits(unit: Unit) -> tuple[np.ndarray, np.ndarray]:
    """The thresholds t of a unit and where its signs are reversed, [C_in] each: b = +1 is x > t, or there x <= t."""
    if unit.affine is None:
        value = np.zeros_like(unit.flips) if unit.threshold is None else unit.threshold
        return np.nextafter(value, np.float32(-np.inf)), np.zeros(unit.flips.size, bool)
    gain, constant = (values.astype(np.float64) for values in unit.affine)
    if unit.threshold is not None:
        constant = constant - unit.threshold
    root = -constant / np.where(gain == 0, 1, gain)
    near = np.float32(root)
    low = np.where(near > root, np.nextafter(near, np.float32(-np.inf)), near)  # the greatest float up to the root
    reached = np.where(near < root, np.nextafter(near, np.float32(np.inf)), near)
    always = np.where(constant >= 0, -np.inf, np.inf)
    rising = np.nextafter(np.float32(reached), np.float32(-np.inf))
    return np.float32(np.where(gain > 0, rising, np.where(gain < 0, low, always))), gain < 0


class _File:
    def __init__(self):
        self.content = bytearray(SIZE)

    def add(self, array: np.ndarray, kind: str | None = None) -> int:
        """Appends an array as numbers of a kind; where it begins."""
        self.content += bytes(-len(self.content) % ALIGNMENT)
        start = len(self.content)
        self.content += np.ascontiguousarray(array, kind).tobytes()
        return start


def check(plan: Plan) -> None:
    """Raises UserError for a network that the engine has no kernels for."""
    stem, *units = plan.units
    for unit in units:
        if not (unit.sign and unit.conv.binary):
            raise UserError(f"The native engine runs binarized networks only; {unit.name} has a float convolution.")
        if unit.shortcut and max(unit.shortcut.pool) > 2:
            window = "x".join(map(str, unit.shortcut.pool))
            raise UserError(
                f"The native engine averages up to 2x2 values in a shortcut, not {window} as {unit.name} does; "
                "make a .tflite file, or train with strides of at most 2."
            )
        if unit.max_pool:
            raise UserError(f"The native engine has a max pool behind the first convolution only, not in {unit.name}.")
    wrong = stem.sign or stem.affine or stem.shortcut or stem.gate
    if wrong or any(x is not None for x in (stem.threshold, stem.gamma, stem.zeta)) or not units:
        raise UserError("The native engine takes a first unit that is a convolution, perhaps with PReLU and max pool.")


def slope(unit: Unit) -> np.ndarray:
    """That of y < 0 behind a convolution, [C_out]: 0 for a ReLU, 1 without activation."""
    return np.full(unit.conv.bias.shape, float(not unit.relu), np.float32) if unit.beta is None else unit.beta


def _flags(plan: Plan) -> list[int]:
    """What each unit does with the one float map, in which every shortcut must find its input."""
    units, result, held = plan.units[1:], [], 0  # the map holds what the unit at index `held` takes
    readers = {index + 1 - unit.shortcut.span for index, unit in enumerate(units) if unit.shortcut}
    for index, unit in enumerate(units):
        flags = 0
        if unit.shortcut:
            if held != index + 1 - unit.shortcut.span:
                raise UserError(f"The native engine cannot run {unit.name}: its shortcut begins where another goes on.")
            flags = ADD | (0 if unit.shortcut.plain else PROJECT) | (LAST if unit.shortcut.last else 0)
        if unit.gate:
            if held != index:
                raise UserError(f"The native engine cannot run {unit.name}: nothing keeps what its gate takes.")
            flags |= GATE
        if index + 1 in readers or index + 1 == len(units):
            flags, held = flags | STORE, index + 1
        if unit.gamma is not None or unit.zeta is not None:
            flags |= SHIFT
        result.append(flags)
    return result


def _stem(file: _File, plan: Plan) -> bytes:
    unit, conv = plan.units[0], plan.units[0].conv
    rows, columns = _geometry(conv)
    out, pads = (rows[0], columns[0]), (0, 0)
    if unit.max_pool:
        pooled = [axis(out[i], 3, 2, unit.pool_pads and unit.pool_pads[i]) for i in (0, 1)]
        out, pads = zip(*pooled)
    kernel = blocks.float_kernel(conv.kernel)
    plain = unit.beta is None and not unit.relu
    beta = 0 if plain else file.add(blocks.channels(slope(unit)), "<f4")
    arrays = file.add(kernel, "<f4"), file.add(blocks.channels(conv.bias), "<f4")
    sizes = (*plan.image_shape, rows[0], columns[0], *out, conv.kernel.shape[3], *conv.kernel.shape[:2], *conv.strides)
    return struct.pack(STEM, *sizes, rows[1], columns[1], beta, unit.max_pool, *pads, *arrays)


def _unit(file: _File, unit: Unit, flags: int) -> bytes:
    conv, shortcut = unit.conv, unit.shortcut
    height, width, inputs, outputs = conv.kernel.shape
    rows, columns = _geometry(conv)
    threshold, reversed_ = limits(unit)
    kernel = conv.kernel * np.where(reversed_, -1, 1)[:, None]
    row_classes, column_classes, base = _base(conv, kernel, rows, columns)
    if inputs % 2:
        flags |= ODD
    else:
        base //= 2
    border = ~reversed_ if conv.pad_value == 1 else np.zeros(inputs, bool)
    window = steps = (0, 0)
    project = project_bias = gamma = zeta = 0
    gate = (0, 0, 0, 0)
    if flags & PROJECT:
        window = steps = shortcut.pool
        if shortcut.conv:
            steps = tuple(a * b for a, b in zip(shortcut.pool, shortcut.conv.strides))
            kernel_1x1, bias_1x1 = shortcut.conv.kernel, shortcut.conv.bias
        else:
            kernel_1x1 = np.tile(np.eye(outputs // shortcut.repeats), shortcut.repeats)[None, None]
            bias_1x1 = np.zeros(outputs)
        if shortcut.conv or (shortcut.repeats > 1 and kernel_1x1.shape[2] % blocks.BLOCK):
            project = file.add(blocks.float_kernel(blocks.whole(kernel_1x1, 2)), "<f4")
            project_bias = file.add(blocks.channels(bias_1x1), "<f4")
    if flags & SHIFT:
        shifts = [np.zeros(outputs) if values is None else values for values in (unit.gamma, unit.zeta)]
        gamma, zeta = (file.add(blocks.channels(values), "<f4") for values in shifts)
    if unit.gate:
        gated = unit.gate.inner, unit.gate.bias, blocks.channels(unit.gate.outer)
        gate = unit.gate.bias.size, *(file.add(values, "<f4") for values in gated)
    arrays = [
        file.add(row_classes, np.uint8),
        file.add(column_classes, np.uint8),
        file.add(blocks.channels(-base), "<i4"),
        file.add(blocks.channels(threshold, np.inf), "<f4"),
        file.add(blocks.words(border), "<u4"),
        file.add(blocks.binary_kernel(kernel), "<u4"),
        *(file.add(blocks.channels(values), "<f4") for values in (-2 * conv.multiplier, conv.bias, slope(unit))),
    ]
    sizes = (*conv.input_size, inputs, rows[0], columns[0], outputs, height, width, *conv.strides, rows[1], columns[1])
    counts = row_classes.max() + 1, column_classes.max() + 1
    return struct.pack(
        UNIT, *sizes, flags, *window, *steps, *counts, *arrays, gamma, zeta, project, project_bias, *gate
    )


def _geometry(conv: Conv) -> list[tuple[int, int]]:
    """(size of the result, padding before) of rows and of columns."""
    pads: Pads | tuple = conv.pads or (None, None)
    return [axis(conv.input_size[i], conv.kernel.shape[i], conv.strides[i], pads[i]) for i in (0, 1)]


def axis(length: int, extent: int, stride: int, pads: tuple[int, int] | None) -> tuple[int, int]:
    """(size of the result, padding before) of one axis of a convolution or pool; pads: None for TensorFlow's SAME."""
    if pads is not None:
        return (length + sum(pads) - extent) // stride + 1, pads[0]
    size = -(-length // stride)
    return size, max((size - 1) * stride + extent - length, 0) // 2


def _base(conv: Conv, kernel: np.ndarray, rows, columns) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(class of each row, class of each column, [classes of rows, of columns, C_out]): sums if no sign differed.

    Each sign that differs from the kernel's makes the sum smaller by 2; the engine counts these from minus half the
    sum on. A tap outside of a map padded with 0 has cleared bits, which differ from each set bit of the kernel; it is
    to make 0, so there the sum begins with twice their number. Positions with the same taps inside are of one class.
    """
    taps, inputs = kernel.shape[:2], kernel.shape[2]
    if conv.pad_value == 1:
        base = np.full((1, 1, kernel.shape[3]), taps[0] * taps[1] * inputs)
        return np.zeros(rows[0], np.uint8), np.zeros(columns[0], np.uint8), base
    inside, classes = [], []
    for (size, before), length, extent, stride in zip((rows, columns), conv.input_size, taps, conv.strides):
        place = np.arange(size)[:, None] * stride - before + np.arange(extent)
        masks, indices = np.unique((place >= 0) & (place < length), axis=0, return_inverse=True)
        inside.append(masks)
        classes.append(indices.reshape(-1))
    within = inside[0][:, None, :, None] & inside[1][None, :, None, :]  # [row classes, column classes, kh, kw]
    outside = 2 * np.count_nonzero(kernel > 0, axis=2)  # [kh, kw, C_out]
    return *classes, np.where(within[..., None], inputs, outside).sum(axis=(2, 3))
