"""From a trained network to the files for devices: .tflite with its card, and .onb."""

import dataclasses
import functools
import os
from pathlib import Path
from typing import Any

from onebnet_jax.errors import UserError
from onebnet_jax.export import bits, card, lint, native
from onebnet_jax.export.fold import make_plan
from onebnet_jax.networks.structure import check_convertible, check_deployable
from onebnet_jax.runs.trained import Trained


@dataclasses.dataclass(frozen=True, eq=False)
class Converted:
    """A network for devices. Each file is made when it is first asked for: only the .tflite file takes TensorFlow."""

    trained: Trained  # the network
    folded: bool = True  # as in `convert`
    raw_input: bool = False  # as in `convert`

    @property
    def tflite(self) -> bytes:
        """The file for Larq Compute Engine. Takes float32 [1, H, W, C] and gives logits [1, classes]."""
        return self._for_lce[0]

    @property
    def card(self) -> dict:
        """The .tflite file's: config, checkpoint, classes, mean and std, sizes, operators, versions and checksum."""
        return self._for_lce[1]

    @property
    def model(self) -> Any:
        """The Keras model of Larq layers that the .tflite file was made from."""
        return self._for_lce[2]

    @functools.cached_property
    def onb(self) -> bytes:
        """The file for the native engine, its card inside. Takes uint8 pixels [H, W, C]."""
        return native.pack(*self._packed)

    @property
    def bits(self) -> bytes:
        """A .npz file of packed weights and all else as arrays, for a runtime of one's own: see `bits`."""
        return bits.pack(*self._packed)

    def save(self, path: str | Path) -> None:
        """Writes PATH.onb or, by the name's end, PATH.tflite and its card, PATH.json, both or neither.

        Raises UserError if the network cannot be converted faithfully, if TensorFlow, Larq or LCE is missing for a
        .tflite file, and if the file cannot be written.
        """
        path = Path(os.path.expanduser(path))
        if path.suffix == ".onb":
            card.check_writable(path, ".onb")
            card.save({path: self.onb})
        elif path.suffix == ".tflite":
            card.check_place(path)
            card.write(path, self.tflite, self.card)
        else:
            raise UserError(f"{path} must end in .onb, for the native engine, or .tflite, for Larq Compute Engine.")

    @functools.cached_property
    def _packed(self) -> tuple:
        return native.convert(self.trained, self.folded, self.raw_input)

    @functools.cached_property
    def _for_lce(self) -> tuple[bytes, dict, Any]:
        trained = self.trained
        check_deployable(trained.structure, trained.info.shape, trained.binarization)
        plan = make_plan(trained, self.folded, self.raw_input)
        from onebnet_jax.export import keras, lce  # TensorFlow takes seconds to import

        model = keras.keras_model(plan)
        tflite = lce.convert(model)
        operators = lce.operators(tflite)
        lint.check_file(operators, plan)
        return tflite, card.make(trained, tflite, lce.histogram(operators), self.folded, self.raw_input), model


def convert(trained: Trained, folded: bool = True, raw_input: bool = False) -> Converted:
    """Converts a network for devices: `.save("model.onb")` for the native engine, `.save("model.tflite")` for LCE.

    folded: two additions per unit instead of four, see `fold`. raw_input: the .tflite file takes pixels of 0..255 and
    normalizes them itself; otherwise (pixels / 255 - mean) / std. Raises UserError, with the unit's name, for a network
    that no file can have; what one kind of file cannot have is refused when that file is asked for.
    """
    check_convertible(trained.structure)
    return Converted(trained, folded, raw_input)
