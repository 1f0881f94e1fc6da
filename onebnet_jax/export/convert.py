"""From a trained network to the bytes of a .tflite file with its card."""

import collections
import dataclasses
from pathlib import Path
from typing import Any

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
