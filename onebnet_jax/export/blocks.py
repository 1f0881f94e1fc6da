"""Arrays as the native engine takes them: channels in blocks of 32, see native/engine/format.h."""

import numpy as np

BLOCK = 32


def channels(values: np.ndarray, fill: float = 0) -> np.ndarray:
    """[..., C] with the last block filled up."""
    return whole(np.asarray(values), -1, fill)


def whole(values: np.ndarray, axis: int, fill: float = 0) -> np.ndarray:
    """The same along any axis."""
    pads = [(0, 0)] * values.ndim
    pads[axis] = (0, -values.shape[axis] % BLOCK)
    return np.pad(values, pads, constant_values=fill)


def float_kernel(kernel: np.ndarray) -> np.ndarray:
    """[kh, kw, C_in, C_out] -> [C_out / 32, kh, kw, C_in, 32]."""
    kernel = channels(kernel)
    return np.moveaxis(kernel.reshape(*kernel.shape[:3], -1, BLOCK), 3, 0)


def words(bits: np.ndarray) -> np.ndarray:
    """[..., C] of bool -> [..., C / 32] of 32-bit words."""
    return np.ascontiguousarray(np.packbits(channels(bits), axis=-1, bitorder="little")).view("<u4")


def binary_kernel(kernel: np.ndarray) -> np.ndarray:
    """[kh, kw, C_in, C_out] of -1 and +1 -> words [C_out / 32, kh, kw, C_in / 32, 32]."""
    packed = channels(np.swapaxes(words(np.swapaxes(kernel, 2, 3) > 0), 2, 3))  # [kh, kw, C_in / 32, C_out]
    return np.moveaxis(packed.reshape(*packed.shape[:3], -1, BLOCK), 3, 0)
