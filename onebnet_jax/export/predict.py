"""Predictions of a file for devices, .tflite or .onb, by the file and its card alone."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export import card
from onebnet_jax.native.runtime import Engine


class Prediction(NamedTuple):
    """What a network says of one image."""

    label: str  # the class with the highest probability, by its name, or number where it has none
    probability: float
    probabilities: np.ndarray  # of every class, [classes]


def facts(model: str | Path) -> dict:
    """The card of a file, which lies beside a .tflite file and within a .onb file.

    Raises UserError where the file or its card is missing or broken, or does not say how images become its input.
    """
    model = Path(model)
    if model.suffix not in (".onb", ".tflite"):
        raise UserError(f"{model} is no .tflite or .onb file; the model comes first, then the images.")
    result = Engine(model).card if model.suffix == ".onb" else card.read(model)[1]
    if not isinstance(result.get("input"), dict):
        raise UserError(f"{model} does not say how images become its input: convert the network again.")
    return result


def predict(
    model: str | Path, images: np.ndarray | str | Path | Iterable[str | Path], threads: int = 1
) -> list[Prediction]:
    """Classifies images with a file for devices: a .onb file by the native engine, a .tflite file by LCE.

    images: an image file or several, of any size and format, or uint8 [N, H, W, C] with pixels of 0..255. threads: for
    the engine, images side by side; for LCE, within an image. Raises UserError for arrays of another size or type than
    the file takes, for what is no image, where there are none, and where the file or its card is missing.
    """
    model = Path(os.path.expanduser(model))
    if not isinstance(threads, int):
        raise UserError(f"threads={threads!r} must be a whole number.")
    if not isinstance(images, np.ndarray):
        if not isinstance(images, str | Path | Iterable):
            raise UserError(f"images={images!r} must be image files or an array.")
        images = [images] if isinstance(images, str | Path) else list(images)
        if not images:
            raise UserError(f"There are no images for {model}.")
        if all(isinstance(image, str | Path) for image in images):
            taken = facts(model)
            images = [card.pixels(Path(os.path.expanduser(image)), taken) for image in images]
        if any(np.shape(image) != np.shape(images[0]) for image in images):
            raise UserError("images must be all image files, or all arrays of one size.")
    return (_by_engine if model.suffix == ".onb" else _by_lce)(model, np.asarray(images), threads)


def _by_engine(model, images, threads):
    engine = Engine(model, threads)
    _check(model, images, engine.shape)
    names = engine.card.get("classes")
    return _predictions(engine.logits(images), names if names and len(names) == engine.classes else [])


def _by_lce(model, images, threads):
    tflite, taken = card.read(model)
    _check(model, images, tuple(taken["input"]["shape"][1:]))
    from onebnet_jax.export import lce  # TensorFlow takes seconds to import

    inputs = card.taken(images, taken["input"]["mean"], taken["input"]["std"], taken["raw_input"])
    return _predictions(lce.executable(tflite, num_threads=threads)(images=inputs)["head"], taken["classes"])


def _check(model, images, shape):
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise UserError(f"{model} takes uint8 images [N, {str(shape)[1:-1]}], not {images.dtype} {images.shape}.")


def _predictions(logits, classes):
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    names, shares = classes or range(logits.shape[-1]), powers / powers.sum(-1, keepdims=True)
    return [Prediction(str(names[i]), float(share[i]), share) for i, share in zip(logits.argmax(-1), shares)]
