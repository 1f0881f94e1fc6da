"""Every section of a converted network alone, on the trained network's own inputs: where does a difference come from?

A flip hides all that comes after it from `agreement`; nothing is hidden here. A section is a unit with its shortcut, or
the units that share one.
"""

import dataclasses

import numpy as np

from onebnet_jax.export import keras, lce
from onebnet_jax.export.agreement import ROUNDING, flip_margins, intermediates, positive
from onebnet_jax.export.plan import Plan
from onebnet_jax.runs.trained import Trained


@dataclasses.dataclass
class Parity:
    """One section, or the head, in LCE against JAX.

    Attributes:
      name: of the section, or "head".
      flips: of its signs; folding moves the inputs by their rounding, so there can be some.
      margin: the largest |value| of a flip, divided by the RMS of the values that the sign is taken of.
      images: how many have no flip here.
      max_difference: of the outputs of these, absolute.
      max_output: the largest absolute output.
    """

    name: str
    flips: int
    margin: float
    images: int
    max_difference: float
    max_output: float

    @property
    def explained(self) -> bool:
        """Whether rounding explains every difference, and there was an image to tell by."""
        return self.images > 0 and self.margin <= ROUNDING and self.max_difference <= ROUNDING * self.max_output


def compare(trained: Trained, plan: Plan, images: np.ndarray) -> list[Parity]:
    """Compares all sections of a network with signs, in order, and its head; nothing for a network without.

    Args:
      trained: the network.
      plan: its deployment plan.
      images: normalized, [N, H, W, C]; a few are enough.
    """
    if not plan.signs:
        return []
    logits, kept = intermediates(trained)(images)
    units = {unit.name: unit for unit in trained.structure.units}
    lacking, outputs, inputs, x = np.float32(0), {}, {}, kept["stem_output"]
    sections = keras.sections(plan)
    for name, section in sections:
        inputs[name] = x - lacking
        last = section[-1]
        # Where folding has left out zeta, the output lacks it, and so does the input of the next section.
        left_out = last.beta is not None and last.zeta is None
        lacking = _parameter(trained, units[last.name], "rprelu", "zeta") if left_out else np.float32(0)
        x = kept[f"{name}_output"]
        outputs[name] = x, lacking
    inputs["head"] = x - lacking
    separate = lce.executable(lce.convert(keras.separate_sections(plan)))
    found = separate(**{f"{name}_input": x for name, x in inputs.items()})
    layers, result = dict(zip((unit.name for unit in plan.signs), keras.sign_inputs(plan))), []
    for name, section in sections:
        expected, lacking = outputs[name]
        flipped, margin = np.zeros((len(images), 1), bool), 0.0
        for unit in section:
            if unit.sign:
                distance = kept[units[unit.name].module][units[unit.name].at("sign_input")[-1]]
                differs = positive(unit, found[layers[unit.name]]) != (distance > 0)
                margin = max(margin, float(flip_margins(distance, differs).max()))
                flipped = np.concatenate([flipped, differs.reshape(len(images), -1)], axis=1)
        output = found[keras.last_layer(section[-1])] + lacking
        result.append(_parity(name, flipped, margin, output, expected))
    return [*result, _parity("head", np.zeros((len(logits), 1), bool), 0.0, found["head"], logits)]


def _parameter(trained: Trained, unit, part: str, name: str) -> np.ndarray:
    tree = trained.variables["params"]
    for key in unit.at(part):
        tree = tree[key]
    return np.asarray(tree[name])


def _parity(name, flipped, margin, output, expected) -> Parity:
    whole = ~flipped.any(axis=1)
    difference = np.abs(output - expected)[whole].max(initial=0)
    return Parity(name, int(flipped.sum()), margin, int(whole.sum()), float(difference), float(np.abs(expected).max()))
