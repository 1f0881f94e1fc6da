"""Binarized convolution as bits compute it: XNOR and population count on packed words. NumPy, without XLA, TF or LCE.

This is the proof that the training-time convolution of -1 and +1 is what a bit kernel computes: both give the same
integers. A bit is 1 for +1 and 0 for -1; 64 channels share a word, and the unused bits of the last word are 0.
"""

import numpy as np

WORD = 64
_BITS_OF_BYTE = np.array([byte.bit_count() for byte in range(256)], np.uint8)


def pack(values: np.ndarray) -> np.ndarray:
    """Values of -1 and +1, [..., C], as bits: [..., ceil(C / 64)] of uint64."""
    bits = np.asarray(values) > 0
    bits = np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, -bits.shape[-1] % WORD)])
    return np.ascontiguousarray(np.packbits(bits, axis=-1, bitorder="little")).view("<u8")


def pack_kernel(kernel: np.ndarray) -> np.ndarray:
    """A kernel of -1 and +1, [kh, kw, C_in, C_out], as bits: [kh, kw, C_out, ceil(C_in / 64)] of uint64."""
    return pack(np.swapaxes(kernel, 2, 3))


def packed_conv(
    x: np.ndarray, kernel: np.ndarray, channels: int, strides: tuple[int, int] = (1, 1), pad_value: int = 0
) -> np.ndarray:
    """Convolution of packed -1 and +1, with TensorFlow's SAME padding.

    The sum over the channels of a tap is 2 popcount(xnor(x, w)) - channels. Padding with +1 surrounds the map with set
    bits. A zero has no bit: padding with 0 leaves out the taps outside of the map, so sums at the border have fewer
    terms.

    Args:
      x: [N, H, W, ceil(channels / 64)] of uint64, see `pack`.
      kernel: [kh, kw, C_out, ceil(channels / 64)] of uint64, see `pack_kernel`.
      channels: C_in.
      strides: (row, column).
      pad_value: 0 or 1.

    Returns:
      [N, ceil(H / row stride), ceil(W / column stride), C_out] of int32.
    """
    count, height, width, _ = x.shape
    lanes = pack(np.ones(channels))  # the bits in use
    rows, top, all_rows = _geometry(height, kernel.shape[0], strides[0])
    columns, left, all_columns = _geometry(width, kernel.shape[1], strides[1])
    padded = np.broadcast_to(lanes, (count, all_rows, all_columns, lanes.size)).copy()
    padded[:, top : top + height, left : left + width] = x
    taken = np.full((all_rows, all_columns), pad_value)
    taken[top : top + height, left : left + width] = 1

    total = np.zeros((count, rows, columns, kernel.shape[2]), np.int32)
    for i in range(kernel.shape[0]):
        for j in range(kernel.shape[1]):
            window = (slice(i, i + rows * strides[0], strides[0]), slice(j, j + columns * strides[1], strides[1]))
            xnor = ~(padded[:, *window, None, :] ^ kernel[i, j]) & lanes
            total += (2 * _popcount(xnor) - channels) * taken[window][:, :, None]
    return total


def _geometry(length: int, extent: int, stride: int) -> tuple[int, int, int]:
    """One axis of SAME padding: (output size, padding before, size with padding)."""
    size = -(-length // stride)
    total = max((size - 1) * stride + extent - length, 0)
    return size, total // 2, length + total


def _popcount(words: np.ndarray) -> np.ndarray:
    """Number of set bits: [..., words] -> [...] of int32."""
    return _BITS_OF_BYTE[words.view(np.uint8)].sum(axis=-1, dtype=np.int32)
