"""The Keras model of a deployment plan: Larq layers, named as the parameters; `larq.models.summary` understands it."""

import itertools

import numpy as np

from onebnet_jax.export.keras2 import larq, tf
from onebnet_jax.export.plan import Conv, Pads, Plan, Unit

LOWEST = float(np.finfo(np.float32).min)
registered = tf.keras.utils.register_keras_serializable(package="onebnet_jax")


@registered
class ChannelSubtract(tf.keras.layers.Layer):
    """x - shift, per channel."""

    weight = "shift"  # its name in the file

    def build(self, input_shape):
        self.shift = self.add_weight(self.weight, (input_shape[-1],))

    def call(self, x):
        return x - self.shift


@registered
class RSign(ChannelSubtract):
    """The same with a threshold. The sign itself is the quantizer of the convolution that follows."""

    weight = "threshold"


@registered
class ChannelAdd(ChannelSubtract):
    """x + shift, per channel."""

    def call(self, x):
        return x + self.shift


@registered
class ChannelAffine(tf.keras.layers.Layer):
    """multiplier * x + bias, per channel: a batch normalization at inference. LCE fuses it into its convolution."""

    def build(self, input_shape):
        self.multiplier = self.add_weight("multiplier", (input_shape[-1],))
        self.bias = self.add_weight("bias", (input_shape[-1],))

    def call(self, x):
        return x * self.multiplier + self.bias


@registered
class Pad(tf.keras.layers.Layer):
    """Explicit padding ((top, bottom), (left, right)) with one value."""

    def __init__(self, pads: Pads, value: float, **kwargs):
        super().__init__(**kwargs)
        self.pads, self.value = pads, value

    def call(self, x):
        return tf.pad(x, ((0, 0), *self.pads, (0, 0)), constant_values=self.value)

    def get_config(self):
        return {**super().get_config(), "pads": self.pads, "value": self.value}


def keras_model(plan: Plan, with_sign_inputs: bool = False) -> tf.keras.Model:
    """Images [N, H, W, C] -> logits [N, num_classes], or {"head": logits, name of unit: what its sign is taken of}."""
    tf.keras.backend.reset_uids()  # the same names, and so the same file to the byte, whatever was built before
    images = x = tf.keras.layers.Input(plan.image_shape, name="images")
    if plan.pixel_mean is not None:
        x = _apply(ChannelSubtract(name="stem_pixel_mean"), x, plan.pixel_mean)
    sign_inputs = {}
    logits = _head(plan, _units(plan.units, x, sign_inputs))
    return tf.keras.Model(images, {"head": logits, **sign_inputs} if with_sign_inputs else logits, name="onebnet")


def separate_sections(plan: Plan) -> tf.keras.Model:
    """Every section and the head alone: SECTION_input -> SECTION_output and what `keras_model` adds."""
    inputs, outputs = [], {}
    for name, section in sections(plan):
        first = section[0].conv
        inputs.append(tf.keras.layers.Input((*first.input_size, first.kernel.shape[2]), name=f"{name}_input"))
        outputs[f"{name}_output"] = x = _units(section, inputs[-1], outputs)
    inputs.append(tf.keras.layers.Input(x.shape[1:], name="head_input"))
    return tf.keras.Model(inputs, outputs | {"head": _head(plan, inputs[-1])})


def sections(plan: Plan) -> list[tuple[str, list[Unit]]]:
    """The sections of the body in order, with their units."""
    return [(name, list(group)) for name, group in itertools.groupby(plan.units[1:], lambda unit: unit.section)]


def _units(units, x, sign_inputs: dict):
    """Units one after the other: [N, H, W, C] -> [N, H', W', C']; fills in what their signs are taken of, by name."""
    inputs = [x]
    for unit in units:
        inputs.append(_unit(unit, inputs, sign_inputs))
    return inputs[-1]


def _unit(unit: Unit, inputs: list, sign_inputs: dict):
    """One unit; `inputs` are those of the units before it and, last, its own."""
    layers, name, conv, y = tf.keras.layers, unit.prefix.format, unit.conv, inputs[-1]
    if unit.affine:
        y = _apply(ChannelAffine(name=name("affine")), y, *unit.affine)
    if unit.threshold is not None:
        y = _apply(RSign(name=name("rsign")), y, unit.threshold)
    if unit.sign:
        sign_inputs[unit.name] = y
        options = dict(strides=conv.strides, padding="same", pad_values=conv.pad_value, input_quantizer="ste_sign")
        if conv.binary:
            options |= dict(kernel_quantizer="ste_sign", kernel_constraint="weight_clip", use_bias=False)
        filters, size = conv.kernel.shape[3], conv.kernel.shape[:2]
        quant_conv = larq.layers.QuantConv2D(filters, size, **options, name=conv.name)
        if conv.binary:
            y = _apply(quant_conv, y, conv.kernel)
            y = _apply(ChannelAffine(name=name("bn")), y, conv.multiplier, conv.bias)
        else:
            y = _apply(quant_conv, y, conv.kernel, conv.bias)
    else:
        y = _float_conv(conv, y)
    if unit.gate:
        g = layers.GlobalAveragePooling2D(name=name("gate_pool"))(inputs[-1])
        hidden, outputs = unit.gate.outer.shape
        g = _apply(layers.Dense(hidden, "relu", name=name("gate_in")), g, unit.gate.inner, unit.gate.bias)
        g = _apply(layers.Dense(outputs, "sigmoid", use_bias=False, name=name("gate_out")), g, unit.gate.outer)
        y = layers.Multiply(name=name("gate"))([y, layers.Reshape((1, 1, outputs), name=name("gate_shape"))(g)])
    if unit.shortcut and not unit.shortcut.last:
        y = _add(unit, y, inputs)
    if unit.relu:
        y = layers.ReLU(name=name("relu"))(y)
    if unit.gamma is not None:
        y = _apply(ChannelSubtract(name=name("gamma")), y, unit.gamma)
    if unit.beta is not None:
        y = _apply(layers.PReLU(shared_axes=[1, 2], name=name("prelu")), y, unit.beta.reshape(1, 1, -1))
    if unit.zeta is not None:
        y = _apply(ChannelAdd(name=name("zeta")), y, unit.zeta)
    if unit.shortcut and unit.shortcut.last:
        y = _add(unit, y, inputs)
    if unit.max_pool:
        y, padding = _padded(y, unit.pool_pads, LOWEST, name("max_pool_pad"))
        y = layers.MaxPooling2D(3, 2, padding, name=name("max_pool"))(y)
    return y


def _add(unit: Unit, y, inputs: list):
    """y + shortcut."""
    layers, pool, s = tf.keras.layers, unit.shortcut.pool, inputs[-unit.shortcut.span]
    if pool != (1, 1):
        s = layers.AveragePooling2D(pool, pool, "same", name=f"{unit.section}_shortcut_pool")(s)
    if unit.shortcut.conv:
        s = _float_conv(unit.shortcut.conv, s)
    if unit.shortcut.repeats > 1:
        s = layers.Concatenate(name=f"{unit.section}_shortcut_repeat")([s] * unit.shortcut.repeats)
    return layers.Add(name=f"{unit.section}_add")([y, s])


def _head(plan: Plan, x):
    x = tf.keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return _apply(tf.keras.layers.Dense(plan.head_bias.size, name="head"), x, plan.head_kernel, plan.head_bias)


def _float_conv(conv: Conv, x):
    x, padding = _padded(x, conv.pads, 0.0, f"{conv.name}_pad")
    filters, size = conv.kernel.shape[3], conv.kernel.shape[:2]
    layer = tf.keras.layers.Conv2D(filters, size, conv.strides, padding, name=conv.name)
    return _apply(layer, x, conv.kernel, conv.bias)


def _padded(x, pads: Pads | None, value: float, name: str):
    return (x, "same") if pads is None else (Pad(pads, value, name=name)(x), "valid")


def _apply(layer, x, *weights):
    """layer(x), with the layer's weights set."""
    y = layer(x)
    layer.set_weights(list(weights))
    return y
