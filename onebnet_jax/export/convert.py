"""From a trained network to the bytes of a .tflite file with its card, and from such a file to predictions."""

import collections
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from onebnet_jax.errors import UserError
from onebnet_jax.export import card, fold, lint
from onebnet_jax.export.plan import Plan
from onebnet_jax.networks.structure import check_deployable
from onebnet_jax.runs.trained import Trained


@dataclasses.dataclass(frozen=True)
class Converted:
    """A converted network."""

    tflite: bytes  # the file
    card: dict  # config, checkpoint, classes, mean and std, sizes, operators, versions, checksum: JSON values
    model: Any  # the Keras model of Larq layers that it was made from

    def save(self, path: str | Path) -> None:
        """Writes PATH.tflite and its card, PATH.json, both or neither. Raises UserError if that fails."""
        card.write(Path(path), self.tflite, self.card)


def make_plan(trained: Trained, folded: bool = True, raw_input: bool = False) -> Plan:
    """The deployment plan of a trained network; arguments as in `convert`."""
    info, network = trained.info, (trained.structure, trained.binarization, trained.variables)
    return fold.deployment_plan(*network, info.shape, folded, (info.mean, info.std) if raw_input else None)


def convert(trained: Trained, folded: bool = True, raw_input: bool = False) -> Converted:
    """Converts a network for Larq Compute Engine. The file takes float32 [1, H, W, C] and gives logits [1, classes].

    folded: two additions per unit instead of four, see `fold`. raw_input: the file takes pixels of 0..255 and
    normalizes them itself; otherwise (pixels / 255 - mean) / std. Raises UserError, with the layer's name, if the
    network cannot be converted faithfully, or if TensorFlow, Larq or LCE is missing.
    """
    check_deployable(trained.structure, trained.info.shape, trained.binarization)
    plan = make_plan(trained, folded, raw_input)
    from onebnet_jax.export import keras, lce  # TensorFlow takes seconds to import

    model = keras.keras_model(plan)
    tflite = lce.convert(model)
    operators = lce.operators(tflite)
    lint.check_file(operators, plan)
    counts = dict(sorted(collections.Counter(operator.kind for operator in operators).items()))
    return Converted(tflite, card.make(trained, tflite, counts, folded, raw_input), model)


class Prediction(NamedTuple):
    """What a network says of one image."""

    label: str  # the class with the highest probability, by its name, or number where it has none
    probability: float
    probabilities: np.ndarray  # of every class, [classes]


def predict(model: str | Path, images: np.ndarray | Sequence[str | Path]) -> list[Prediction]:
    """Classifies images with a `.tflite` file, by Larq Compute Engine and the card beside the file alone.

    images: image files of any size and format, or uint8 [N, H, W, C] with pixels of 0..255. Raises UserError for arrays
    of another size or type than the file takes, for what is no image, and where the file or its card is missing.
    """
    tflite, facts = card.read(Path(model))
    if not isinstance(images, np.ndarray) and all(isinstance(image, str | Path) for image in images):
        images = [card.pixels(Path(image), facts) for image in images]
    images = np.asarray(images)
    shape = tuple(facts["input"]["shape"][1:])
    if images.dtype != np.uint8 or images.shape[1:] != shape:
        raise UserError(f"{model} takes uint8 images [N, {str(shape)[1:-1]}], not {images.dtype} {images.shape}.")
    from onebnet_jax.export import lce

    inputs = images if facts["raw_input"] else card.normalize(images, facts["input"]["mean"], facts["input"]["std"])
    logits = lce.executable(tflite)(images=inputs)["head"]
    return predictions(logits, facts["classes"])


def predictions(logits: np.ndarray, classes: list[str]) -> list[Prediction]:
    """What logits, [N, num_classes], say; classes: their names, if any."""
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    names, shares = classes or range(logits.shape[-1]), powers / powers.sum(-1, keepdims=True)
    return [Prediction(str(names[i]), float(share[i]), share) for i, share in zip(logits.argmax(-1), shares)]
