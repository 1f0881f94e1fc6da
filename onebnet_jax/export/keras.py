"""The Keras model of a deployment plan, made of Larq layers; `larq.models.summary` understands it."""

from pathlib import Path

import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export.keras2 import larq, tf
from onebnet_jax.export.plan import Conv, Pads, Plan, ResNetBlock, Unit

LOWEST = float(np.finfo(np.float32).min)


@tf.keras.utils.register_keras_serializable(package="onebnet_jax")
class RSign(tf.keras.layers.Layer):
    """x - threshold or threshold - x, per channel. The sign itself is the quantizer of the convolution that follows."""

    def __init__(self, reverse: bool, **kwargs):
        super().__init__(**kwargs)
        self.reverse = reverse

    def build(self, input_shape):
        self.threshold = self.add_weight("threshold", (input_shape[-1],))

    def call(self, x):
        return self.threshold - x if self.reverse else x - self.threshold

    def get_config(self):
        return {**super().get_config(), "reverse": self.reverse}


@tf.keras.utils.register_keras_serializable(package="onebnet_jax")
class ChannelShift(tf.keras.layers.Layer):
    """x - shift or x + shift, per channel."""

    def __init__(self, subtract: bool, **kwargs):
        super().__init__(**kwargs)
        self.subtract = subtract

    def build(self, input_shape):
        self.shift = self.add_weight("shift", (input_shape[-1],))

    def call(self, x):
        return x - self.shift if self.subtract else x + self.shift

    def get_config(self):
        return {**super().get_config(), "subtract": self.subtract}


@tf.keras.utils.register_keras_serializable(package="onebnet_jax")
class ChannelAffine(tf.keras.layers.Layer):
    """multiplier * x + bias, per channel: a batch normalization at inference. LCE fuses it into its convolution."""

    def build(self, input_shape):
        self.multiplier = self.add_weight("multiplier", (input_shape[-1],))
        self.bias = self.add_weight("bias", (input_shape[-1],))

    def call(self, x):
        return x * self.multiplier + self.bias


@tf.keras.utils.register_keras_serializable(package="onebnet_jax")
class Pad(tf.keras.layers.Layer):
    """Explicit padding ((top, bottom), (left, right)) with one value."""

    def __init__(self, pads: Pads, value: float, **kwargs):
        super().__init__(**kwargs)
        self.pads, self.value = pads, value

    def call(self, x):
        return tf.pad(x, ((0, 0), *self.pads, (0, 0)), constant_values=self.value)

    def get_config(self):
        return {**super().get_config(), "pads": self.pads, "value": self.value}


def keras_model(plan: Plan) -> tf.keras.Model:
    """Images [N, H, W, C] -> logits [N, num_classes]; layers are named after the network's parameters."""
    layers = tf.keras.layers
    images = x = layers.Input(plan.image_shape, name="images")
    if plan.pixel_mean is not None:
        x = _apply(ChannelShift(subtract=True, name="stem_pixel_mean"), x, plan.pixel_mean)
    x = _float_conv(plan.stem, x)
    if plan.stem_relu:
        x = layers.ReLU(name="stem_relu")(x)
    if plan.max_pool is not None:
        padding = "same"
        if plan.max_pool.pads is not None:
            x, padding = Pad(plan.max_pool.pads, LOWEST, name="stem_max_pool_pad")(x), "valid"
        x = layers.MaxPooling2D(3, 2, padding, name="stem_max_pool")(x)
    for layer in plan.body:
        x = unit(layer, x) if isinstance(layer, Unit) else _resnet_block(layer, x)
    return tf.keras.Model(images, _head(plan, x), name="onebnet")


def with_pre_signs(model: tf.keras.Model, plan: Plan) -> tf.keras.Model:
    """Images -> [logits, and the input of each unit's sign in order]. Shares the layers of `model`."""
    return tf.keras.Model(model.input, [model.output, *(model.get_layer(f"{u.name}_rsign").output for u in plan.units)])


def predict(model: tf.keras.Model, images: np.ndarray) -> dict[str, np.ndarray]:
    """What a model with any number of outputs gives for a batch, by the names of its output layers."""
    outputs = model.predict_on_batch(images)
    return dict(zip(model.output_names, outputs if len(model.outputs) > 1 else [outputs], strict=True))


def separate_units(plan: Plan) -> tf.keras.Model:
    """Every unit, and the head, on its own: [input of each] -> [its output], for comparing them on equal inputs."""
    inputs = []
    for layer in plan.units:
        channels = layer.threshold.size
        inputs.append(tf.keras.layers.Input((*layer.conv.input_size, channels), name=f"{layer.name}_input"))
    outputs = [unit(layer, x) for layer, x in zip(plan.units, inputs, strict=True)]
    inputs.append(tf.keras.layers.Input(outputs[-1].shape[1:], name="head_input"))
    return tf.keras.Model(inputs, [*outputs, _head(plan, inputs[-1])])


def print_summary(model: tf.keras.Model) -> None:
    """Prints Larq's table of layers, precisions and MACs."""
    larq.models.summary(model)


def save(model: tf.keras.Model, path: Path) -> None:
    """Saves a model as a .keras file. Raises UserError if that fails.

    `onebnet_jax.export.keras` has to be imported where it is loaded.
    """
    try:
        model.save(path)
    except OSError as error:
        raise UserError(f"Cannot save the Keras model to {path}: {error}") from error


def unit(layer: Unit, x):
    """One unit: [N, H, W, C_in] -> [N, H / rows, W / columns, C_out]."""
    layers, conv = tf.keras.layers, layer.conv
    y = _apply(RSign(layer.reverse, name=f"{layer.name}_rsign"), x, layer.threshold)
    if layer.sign:
        quant_conv = larq.layers.QuantConv2D(
            filters=conv.kernel.shape[3],
            kernel_size=conv.kernel.shape[:2],
            strides=conv.strides,
            padding="same",
            pad_values=conv.pad_value,
            use_bias=not conv.binary,
            input_quantizer="ste_sign",
            kernel_quantizer="ste_sign" if conv.binary else None,
            kernel_constraint="weight_clip" if conv.binary else None,
            name=conv.name,
        )
        if conv.binary:
            y = _apply(quant_conv, y, conv.kernel)
            y = _apply(ChannelAffine(name=f"{layer.name}_bn"), y, conv.multiplier, conv.bias)
        else:
            y = _apply(quant_conv, y, conv.kernel, conv.bias)
    else:
        y = _float_conv(conv, y)
    if layer.shortcut is not None:
        x = layers.AveragePooling2D(layer.pool, layer.pool, "same", name=f"{layer.name}_shortcut_pool")(x)
        x = _float_conv(layer.shortcut, x)
    y = layers.Add(name=f"{layer.name}_add")([y, x])
    if layer.gamma is not None:
        y = _apply(ChannelShift(subtract=True, name=f"{layer.name}_gamma"), y, layer.gamma)
    y = _apply(layers.PReLU(shared_axes=[1, 2], name=f"{layer.name}_prelu"), y, layer.beta.reshape(1, 1, -1))
    if layer.zeta is not None:
        y = _apply(ChannelShift(subtract=False, name=f"{layer.name}_zeta"), y, layer.zeta)
    return y


def _resnet_block(block: ResNetBlock, x):
    layers = tf.keras.layers
    y = x
    for index, conv in enumerate(block.convs):
        y = _float_conv(conv, layers.ReLU(name=f"{block.name}_relu{index}")(y) if index else y)
    if block.shortcut is not None:
        x = _float_conv(block.shortcut, x)
    return layers.ReLU(name=f"{block.name}_relu")(layers.Add(name=f"{block.name}_add")([y, x]))


def _head(plan: Plan, x):
    x = tf.keras.layers.GlobalAveragePooling2D(name="head_pool")(x)
    return _apply(tf.keras.layers.Dense(plan.head_bias.size, name="head"), x, plan.head_kernel, plan.head_bias)


def _float_conv(conv: Conv, x):
    padding = "same"
    if conv.pads is not None:
        x, padding = Pad(conv.pads, 0.0, name=f"{conv.name}_pad")(x), "valid"
    filters, size = conv.kernel.shape[3], conv.kernel.shape[:2]
    return _apply(
        tf.keras.layers.Conv2D(filters, size, conv.strides, padding, name=conv.name), x, conv.kernel, conv.bias
    )


def _apply(layer, x, *weights):
    """layer(x), with the layer's weights set."""
    y = layer(x)
    layer.set_weights(list(weights))
    return y
