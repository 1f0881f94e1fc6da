"""Every network once more, written plainly: jnp and lax with ordinary autodiff, nothing of the package's code.

No mask either: training statistics are those of all images given.
"""

import jax
import jax.numpy as jnp
from jax import lax


def straight_through(hard, soft):
    """`hard` in the forward pass, the derivative of `soft` in the backward pass."""
    return lax.stop_gradient(hard) + (soft - lax.stop_gradient(soft))


def binarize_activations(x, estimator, window):
    """Its soft counterparts are the functions whose derivatives are the estimators, up to a constant."""
    u = x / window
    soft = {
        "clip": jnp.where(jnp.abs(x) <= window, x, 0.0),
        "poly": jnp.where(jnp.abs(u) < 1, 2 * u - u * jnp.abs(u), 0.0),
    }
    return straight_through(jnp.where(x > 0, 1.0, -1.0), soft[estimator])


def binarize_weights(w):
    scale = lax.stop_gradient(jnp.mean(jnp.abs(w), axis=(0, 1, 2)))
    return scale * straight_through(jnp.where(w > 0, 1.0, -1.0), jnp.where(jnp.abs(w) <= 1, w, 0.0))


def conv(x, w, strides=(1, 1), pad_value=0, symmetric=False):
    pads = []
    for size, k, stride in zip(x.shape[1:3], w.shape[:2], strides, strict=True):
        total = max((-(-size // stride) - 1) * stride + k - size, 0)
        pads.append((k // 2, k // 2) if symmetric else (total // 2, total - total // 2))
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)), constant_values=pad_value)
    return lax.conv_general_dilated(x, w, strides, "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def average_pool(x, window):
    """Of what lies inside the map, where the window sticks out below or to the right."""

    def sums(x):
        pads = [(0, -size % w) for size, w in zip(x.shape[1:3], window, strict=True)]
        x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        n, height, width, channels = x.shape
        return x.reshape(n, height // window[0], window[0], width // window[1], window[1], channels).sum((2, 4))

    return sums(x) / sums(jnp.ones_like(x))


def network(structure, binarization, stages, variables, images, train):
    """Returns (logits, mean and variance that each normalization used, by its name).

    stages: an entry of structure.DEPTHS; train: normalize by these images' statistics, not by the running ones.
    """
    params, running = variables["params"], variables["batch_stats"]
    symmetric = structure.padding == "torch"
    statistics = {}

    def batch_norm(x, *path):
        p, r = params, running
        for key in path:
            p, r = p[key], r[key]
        mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (r["mean"], r["var"])
        statistics["/".join(path)] = (mean, var)
        return (x - mean) / jnp.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def unit(x, name, strides):
        p = params[name]
        y = x - p["rsign"]["alpha"]
        if binarization.activations:
            y = binarize_activations(y, binarization.estimator, binarization.window)
        w = p["conv"]["kernel"]
        w = binarize_weights(w) if binarization.weights else w
        y = conv(y, w, strides, structure.pad_value if binarization.activations else 0)
        y = batch_norm(y, name, "bn")
        if strides != (1, 1):
            x = conv(average_pool(x, strides), p["shortcut_conv"]["kernel"])
            x = batch_norm(x, name, "shortcut_bn")
        centered = x + y - p["rprelu"]["gamma"]
        return jnp.where(centered > 0, centered, p["rprelu"]["beta"] * centered) + p["rprelu"]["zeta"]

    def onebnet_block(x, name, stage, downsamples):
        for place in (1, 2):
            halves = downsamples and place == 1
            if stage in (structure.ds_1d if halves else structure.conv_1d):
                x = unit(x, f"{name}_conv{place}_3x1", (2, 1) if halves else (1, 1))
                x = unit(x, f"{name}_conv{place}_1x3", (1, 2) if halves else (1, 1))
            else:
                x = unit(x, f"{name}_conv{place}", (2, 2) if halves else (1, 1))
        return x

    def resnet_block(x, name, stage, downsamples):
        p, strides = params[name], (2, 2) if downsamples else (1, 1)
        y = jax.nn.relu(batch_norm(conv(x, p["conv1"]["kernel"], strides, 0, symmetric), name, "bn1"))
        y = batch_norm(conv(y, p["conv2"]["kernel"], (1, 1), 0, symmetric), name, "bn2")
        if downsamples:
            x = batch_norm(conv(x, p["shortcut_conv"]["kernel"], strides), name, "shortcut_bn")
        return jax.nn.relu(x + y)

    imagenet = structure.stem == "imagenet"
    x = conv(images, params["stem_conv"]["kernel"], (2, 2) if imagenet else (1, 1), 0, symmetric)
    x = batch_norm(x, "stem_bn")
    if structure.stem_relu:
        x = jax.nn.relu(x)
    if imagenet:
        padding = ((0, 0), (1, 1), (1, 1), (0, 0)) if symmetric else "SAME"
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)
    block = {"onebnet": onebnet_block, "resnet": resnet_block}[structure.block]
    for number, (stage, blocks) in enumerate(zip(*stages, strict=True), start=1):
        for index in range(1, blocks + 1):
            x = block(x, f"stage{number}_block{index}", stage, number > 1 and index == 1)
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"], statistics
