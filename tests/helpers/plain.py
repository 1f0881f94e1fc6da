"""Every network once more, written plainly: jnp and lax with ordinary autodiff, nothing of the package's code.

No mask either: training statistics are those of all images given.
"""

import jax
import jax.numpy as jnp
from jax import lax


def soft_sign(x, estimator, window=1.0, progress=1.0):
    """The function that the paper of an estimator puts in place of the sign: its derivative is the slope.

    Up to a constant on each side of a jump, which no derivative shows.
    """
    u = x / window
    size = jnp.abs(u)
    if estimator == "clip":  # Courbariaux et al. 2016, equation 4
        return jnp.where(size <= 1, x, 0.0)
    if estimator == "poly":  # Bi-Real Net, equation 6
        return jnp.where(size < 1, 2 * u - u * size, 0.0)
    if estimator == "tanh":  # IR-Net, equations 9 to 11
        t = 0.1 * jnp.exp(progress * jnp.log(100.0))
        return jnp.maximum(1 / t, 1.0) * window * jnp.tanh(t * u)
    if estimator == "reste":  # DravenALG/ReSTE: sign(x) |x|^(1/o), a straight line below 0.1, nothing beyond 1.5
        o = 1 + (1 - jnp.cos(progress * jnp.pi / 2)) * (3 - 1)
        power = jnp.sign(u) * jnp.maximum(size, 0.1) ** (1 / o)
        return window * jnp.where(size <= 0.1, u * 0.1 ** (1 / o) / 0.1, jnp.where(size <= 1.5, power, 0.0))
    raise ValueError(estimator)


def binarize(x, *options):
    """The sign in the forward pass, the derivative of `soft_sign` in the backward pass."""
    soft = soft_sign(x, *options)
    return lax.stop_gradient(jnp.where(x > 0, 1.0, -1.0) - soft) + soft


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


def network(family, fields, stages, binarization, variables, images, train, progress=1.0):
    """Returns (logits, mean and variance that each normalization used, by its name).

    fields: what was given to the family's function, its stem included; stages: (output channels at multiplier 1,
    blocks) of each; train: normalize by these images' statistics, not by the running ones.
    """
    params, running, statistics = variables["params"], variables["batch_stats"], {}
    symmetric = fields.get("padding") == "torch"
    pad_value = fields.get("pad_value", 1 if family == "onebnet" else 0) if binarization.activations else 0

    def batch_norm(x, *path):
        p, r = params, running
        for key in path:
            p, r = p[key], r[key]
        mean, var = (x.mean((0, 1, 2)), x.var((0, 1, 2))) if train else (r["mean"], r["var"])
        statistics["/".join(path)] = (mean, var)
        return (x - mean) / jnp.sqrt(var + 1e-5) * p["scale"] + p["bias"]

    def binary_conv(x, w, strides):
        if binarization.activations:
            x = binarize(x, binarization.estimator, binarization.window, progress)
        elif binarization.soft_sign == "tanh":
            x = jnp.tanh(x)
        if binarization.weights:
            scale = {"mean": lax.stop_gradient(jnp.mean(jnp.abs(w), (0, 1, 2))), "none": 1.0}[binarization.weight_scale]
            w = scale * binarize(w, binarization.weight_estimator, 1.0, progress)
        return conv(x, w, strides, pad_value)

    def unit(x, name, strides):
        """Of Bi-Real Net, and with two more functions of ReActNet and OneBNet."""
        p, y = params[name], x
        if family != "birealnet":
            y = y - p["rsign"]["alpha"]
        y = batch_norm(binary_conv(y, p["conv"]["kernel"], strides), name, "bn")
        if family == "reactnet_a":
            x = average_pool(x, strides)
            x = jnp.concatenate([x] * (y.shape[-1] // x.shape[-1]), axis=-1)
        elif strides != (1, 1):
            x = batch_norm(conv(average_pool(x, strides), p["shortcut_conv"]["kernel"]), name, "shortcut_bn")
        if family == "birealnet":
            return x + y
        centered = x + y - p["rprelu"]["gamma"]
        return jnp.where(centered > 0, centered, p["rprelu"]["beta"] * centered) + p["rprelu"]["zeta"]

    def gated_unit(x, name, strides):
        p, y = params[name], batch_norm(x, name, "bn")
        hidden = jax.nn.relu(y.mean((1, 2)) @ p["gate_in"]["kernel"])
        gate = 1 / (1 + jnp.exp(-hidden @ p["gate_out"]["kernel"]))
        y = gate[:, None, None] * binary_conv(y, p["conv"]["kernel"], strides)
        y = jnp.where(y > 0, y, p["prelu"]["beta"] * y)
        if strides != (1, 1):
            x = batch_norm(conv(average_pool(x, strides), p["shortcut_conv"]["kernel"]), name, "shortcut_bn")
        return y + x

    def block_of_units(x, name, stage, strides):
        for place, step in ((1, strides), (2, (1, 1))):
            if stage in fields.get("conv_1d" if step == (1, 1) else "ds_1d", ()):
                x = unit(x, f"{name}_conv{place}_3x1", (step[0], 1))
                x = unit(x, f"{name}_conv{place}_1x3", (1, step[1]))
            else:
                x = (gated_unit if family == "realtobin" else unit)(x, f"{name}_conv{place}", step)
        return x

    def shortcut(x, name, strides):
        if strides == (1, 1):
            return x
        return batch_norm(conv(x, params[name]["shortcut_conv"]["kernel"], strides), name, "shortcut_bn")

    def xnornet_block(x, name, stage, strides):
        y = binary_conv(batch_norm(x, name, "bn1"), params[name]["conv1"]["kernel"], strides)
        y = binary_conv(batch_norm(y, name, "bn2"), params[name]["conv2"]["kernel"], (1, 1))
        return y + shortcut(x, name, strides)

    def resnet_block(x, name, stage, strides):
        y = conv(x, params[name]["conv1"]["kernel"], strides, 0, symmetric)
        y = conv(jax.nn.relu(batch_norm(y, name, "bn1")), params[name]["conv2"]["kernel"], (1, 1), 0, symmetric)
        return jax.nn.relu(batch_norm(y, name, "bn2") + shortcut(x, name, strides))

    imagenet = fields["stem"] == "imagenet"
    x = conv(images, params["stem_conv"]["kernel"], (2, 2) if imagenet else (1, 1), 0, symmetric)
    x = batch_norm(x, "stem_bn")
    if family == "xnornet" or fields.get("stem_relu", family == "resnet"):
        x = jax.nn.relu(x)
    if family == "realtobin":
        x = jnp.where(x > 0, x, params["stem_prelu"]["beta"] * x)
    if imagenet and family != "reactnet_a":
        padding = ((0, 0), (1, 1), (1, 1), (0, 0)) if symmetric else "SAME"
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), padding)
    block = {"xnornet": xnornet_block, "resnet": resnet_block}.get(family, block_of_units)
    for number, (stage, blocks) in enumerate(stages, start=1):
        for index in range(1, blocks + 1):
            x = block(x, f"stage{number}_block{index}", stage, (2, 2) if number > 1 and index == 1 else (1, 1))
    return x.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"], statistics
