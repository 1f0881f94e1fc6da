"""FP32 networks as ordinary .tflite files, as they are or as int8: what 1 bit is to be compared with."""

from collections.abc import Callable, Iterable

import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export import card, keras, lce
from onebnet_jax.export.fold import make_plan
from onebnet_jax.export.keras2 import tf
from onebnet_jax.runs.trained import Trained

PART = 64  # images at a time


def quantize(trained: Trained, pixels: np.ndarray, folded: bool = True, raw_input: bool = False) -> bytes:
    """An FP32 network as an int8 .tflite file that takes float32 [1, H, W, C] and gives logits [1, classes].

    pixels: uint8 [N, H, W, C] of some hundred training images, from which the ranges of the maps are taken. folded,
    raw_input: see `convert.convert`. Raises UserError for a binarized network.
    """
    check(trained)
    model = keras.keras_model(make_plan(trained, folded, raw_input))
    return tflite(model, card.taken(pixels, trained.info.mean, trained.info.std, raw_input), float_ends=True)


def score(
    trained: Trained, file: bytes, raw_input: bool, batches: Iterable, advance: Callable[[int], object]
) -> tuple[float, int]:
    """Top-1 in percent of `quantize`'s file, and on how many images.

    batches: of images, uint8 [N, H, W, C], and their labels, int [N]. `advance` is told how many were classified since
    it was told last.
    """
    run, right, count = lce.executable(file, num_threads=1, use_xnnpack=True), 0, 0
    for pixels, labels in batches:
        for start in range(0, len(pixels), PART):
            part = slice(start, start + PART)
            images = card.taken(pixels[part], trained.info.mean, trained.info.std, raw_input)
            logits = run(images=images)["head"]
            right, count = right + int(np.sum(logits.argmax(-1) == labels[part])), count + len(logits)
            advance(len(logits))
    return 100 * right / max(count, 1), count


def check(trained: Trained) -> None:
    """Raises UserError for a network that is not quantized: one with signs in it."""
    if trained.structure.binary:
        raise UserError(
            f"{trained.title} is a network for 1-bit layers and is not made int8; train an FP32 network of its shape "
            'to compare with, by config.model.family="resnet" or a config whose name ends in fp32.'
        )


def tflite(model: tf.keras.Model, calibration: np.ndarray | None = None, float_ends: bool = False) -> bytes:
    """A Keras model as a .tflite file for one image, as int8 where there are images to calibrate with.

    calibration: float32 [N, H, W, C], from which the ranges of the maps are taken. float_ends: whether an int8 file
    takes and gives float32 all the same.
    """
    with lce.saved(model) as folder:
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if calibration is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([image[None]] for image in calibration)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
            if not float_ends:
                converter.inference_input_type = converter.inference_output_type = tf.int8
        return converter.convert()


def mobilenet(name: str) -> tf.keras.Model:
    """One of Keras's MobileNets for ImageNet, such as "MobileNetV2", with random weights."""
    return getattr(tf.keras.applications, name)(input_shape=(224, 224, 3), weights=None)
