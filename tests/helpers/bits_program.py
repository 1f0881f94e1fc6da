"""Runs a network from the file of `onebnet convert --bits` alone: NumPy, and the description in export/bits.py."""

import numpy as np


def run(file, pixels):
    """Logits [N, classes] of uint8 pixels [N, H, W, C]; file: the arrays by name, such as np.load gives."""
    return head(file, list(maps(file, pixels))[-1])


def head(file, x):
    return x.mean(axis=(1, 2)) @ file["head/kernel"] + file["head/bias"]


def maps(file, pixels):
    """What each unit takes, one after the other, and the last map: float32 [N, h, w, c]."""
    inputs = [np.stack([file["table"][c][pixels[..., c]] for c in range(pixels.shape[-1])], axis=-1)]
    for name in file["units"]:
        yield inputs[-1]
        inputs.append(unit(of(file, name), inputs))
    yield inputs[-1]


def of(file, name):
    """The arrays of a unit."""
    return {key.removeprefix(f"{name}/"): file[key] for key in file if key.startswith(f"{name}/")}


def unit(u, inputs):
    """A unit, by its arrays; `inputs` are those of the units before it and, last, its own."""
    x = inputs[-1]
    if "weights" not in u:
        seen = windows(x, u["pads"], u["strides"], u["kernel"].shape, 0)
        y = np.einsum("nhwijc,ijco->nhwo", seen, u["kernel"], optimize=True)
        y = slope(y + u["bias"], u)
        return windows(y, u["pool_pads"], (2, 2), (3, 3), -np.inf).max(axis=(3, 4)) if "pool_pads" in u else y
    y = sums(np.where((x > u["threshold"]) != u["reversed"], np.float32(1), np.float32(-1)), u)
    y = y * u["multiplier"] + u["bias"]
    if "gate/inner" in u:
        hidden = np.maximum(x.mean(axis=(1, 2)) @ u["gate/inner"] + u["gate/bias"], 0)
        y = y / (1 + np.exp(-hidden @ u["gate/outer"]))[:, None, None]
    s = shortcut(inputs[-u["span"]], u) if u["span"] else np.float32(0)
    last = u["span"] and u["shortcut/last"]
    y = y - u["gamma"] if last else y + s - u["gamma"]
    y = slope(y, u) + u["zeta"]
    return y + s if last else y


def slope(y, u):
    return np.where(y > 0, y, u["beta"] * y)


def sums(b, u):
    """A binarized convolution of signs b, [N, h, w, C_in] of -1 and +1: whole numbers, which float32 holds exactly."""
    weights = np.unpackbits(u["weights"], axis=-1, count=int(u["inputs"]), bitorder="little") * np.float32(2) - 1
    seen = windows(b, u["pads"], u["strides"], weights.shape, u["pad_value"])
    return np.einsum("nhwijc,ijoc->nhwo", seen, weights, optimize=True)


def shortcut(x, u):
    rows, columns = u["shortcut/pool"]
    pads = ((0, -x.shape[1] % rows), (0, -x.shape[2] % columns))
    x = np.nanmean(windows(x, pads, (rows, columns), (rows, columns), np.nan), axis=(3, 4), dtype=np.float32)
    if "shortcut/kernel" not in u:
        return np.tile(x, u["shortcut/repeats"])
    strides = u["shortcut/strides"]
    return x[:, :: strides[0], :: strides[1]] @ u["shortcut/kernel"][0, 0] + u["shortcut/bias"]


def windows(x, pads, strides, extent, value):
    """[N, h, w, C] -> the windows of extent (kh, kw) of the padded map, [N, h', w', kh, kw, C]."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)
    seen = np.lib.stride_tricks.sliding_window_view(x, tuple(extent[:2]), axis=(1, 2))
    return np.moveaxis(seen[:, :: strides[0], :: strides[1]], 3, -1)
