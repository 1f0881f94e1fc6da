"""Convolution with SAME padding, its gradients written as convolutions and products that are fast everywhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

FEW_INPUTS = 32  # of one output value, such as those of a 3x3 kernel on images with three channels


def conv(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, int] = (1, 1), pad_value: int = 0, symmetric: bool = False
) -> jax.Array:
    """2-D convolution: [N, H, W, C_in] and [kh, kw, C_in, C_out] -> [N, ceil(H / row stride), ceil(W / ...), C_out].

    pad_value, 0 or 1, surrounds the map. symmetric pads by k // 2 on either side, as torch networks do, instead of
    TensorFlow's SAME, which LCE runs; the two differ at stride 2 on even sizes.
    """
    size = kernel.shape[:2]
    if symmetric:
        pads = tuple((k // 2, k // 2) for k in size)
    else:
        pads = tuple(lax.padtype_to_pads(x.shape[1:3], size, strides, "SAME"))
    if pad_value:
        x, pads = _padded(x, pads, pad_value), ((0, 0), (0, 0))
    return _conv(x, kernel, strides, pads)


def _padded(x, pads, value=0):
    edges = [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)]
    return lax.pad(x, jnp.array(value, x.dtype), edges)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv(x, kernel, strides, pads):
    return _nhwc(x, kernel, strides, pads)


def _nhwc(x, kernel, strides=(1, 1), pads=((0, 0), (0, 0)), dilation=(1, 1), kernel_dilation=(1, 1)):
    layout = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, kernel, strides, pads, dilation, kernel_dilation, layout)


def _conv_bwd(strides, pads, residuals, grad):
    """Both gradients as NHWC convolutions with explicit transposes, or the kernel's as a matrix product.

    JAX's own rule expresses the transposes as dimension numbers instead. XLA's CPU backend turns those into a form
    that it has fast code for, but not inside a loop such as lax.scan, where they run a hundred times slower.
    """
    x, kernel = residuals
    # How far the kernel's first and last position stick out of the dilated gradient, for each spatial axis.
    x_pads, kernel_pads = [], []
    for axis in (0, 1):
        size, k, stride, (low, _) = x.shape[1 + axis], kernel.shape[axis], strides[axis], pads[axis]
        dilated = (grad.shape[1 + axis] - 1) * stride + 1
        x_pads.append((k - 1 - low, size + low - dilated))
        kernel_pads.append((low, dilated + k - 1 - size - low))
    x_grad = _nhwc(grad, kernel[::-1, ::-1].swapaxes(2, 3), pads=x_pads, dilation=strides)
    if kernel[..., 0].size <= FEW_INPUTS or kernel.shape[:2] == (1, 1):
        return x_grad, _kernel_grad_by_product(x, kernel, grad, strides, kernel_pads)
    kernel_grad = _nhwc(x.transpose(3, 1, 2, 0), grad.transpose(1, 2, 0, 3), pads=kernel_pads, kernel_dilation=strides)
    return x_grad, kernel_grad.transpose(1, 2, 0, 3)


def _kernel_grad_by_product(x, kernel, grad, strides, pads):
    """The same as one matrix product of all patches, which spares two transposes of whole maps."""
    x, patches = _padded(x, pads), []
    for i, j in np.ndindex(kernel.shape[:2]):
        rows, columns = (
            slice(first, first + (count - 1) * stride + 1, stride)
            for first, count, stride in zip((i, j), grad.shape[1:3], strides)
        )
        patches.append(x[:, rows, columns])
    patches = jnp.concatenate(patches, -1).reshape(-1, kernel[..., 0].size)
    return (patches.T @ grad.reshape(-1, grad.shape[-1])).reshape(kernel.shape)


_conv.defvjp(lambda x, kernel, strides, pads: (_conv(x, kernel, strides, pads), (x, kernel)), _conv_bwd)
