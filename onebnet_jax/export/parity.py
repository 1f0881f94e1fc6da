"""Every section of a converted network alone, on the trained network's own inputs: where does a difference come from?

A flip hides all that comes after it from `agreement`; nothing is hidden here. A section: units that share a shortcut.
"""

import dataclasses
import functools
import operator

import numpy as np

from onebnet_jax.export import keras, lce
from onebnet_jax.export.agreement import ROUNDING, flip_margins, intermediates, sign_input
from onebnet_jax.export.plan import Plan
from onebnet_jax.runs.trained import Trained


@dataclasses.dataclass(frozen=True)
class Parity:
    """One section, or the head, in LCE against JAX."""

    name: str  # of the section, or "head"
    flips: int  # of its signs; folding moves the inputs by their rounding, so there can be some
    margin: float  # the largest distance of a flip from its threshold, see `agreement.flip_margins`
    images: int  # how many have no flip here
    max_difference: float  # of the outputs of these, absolute
    max_output: float  # the largest absolute output

    @property
    def explained(self) -> bool:
        """Whether rounding explains every difference, and there was an image to tell by."""
        return self.images > 0 and self.margin <= ROUNDING and self.max_difference <= ROUNDING * self.max_output


def compare(trained: Trained, plan: Plan, images: np.ndarray) -> list[Parity]:
    """Compares all sections of a network with signs, in order, and its head; nothing for a network without.

    images: normalized, [N, H, W, C]; a few are enough.
    """
    if not plan.signs:
        return []
    logits, kept = intermediates(trained)(images)
    x, lacking, inputs, outputs = kept["stem_output"], np.float32(0), {}, {}
    for name, section in keras.sections(plan):
        inputs[f"{name}_input"] = x - lacking
        x, lacking = kept[f"{name}_output"], _left_out(trained, section[-1])
        outputs[name] = x, lacking
    inputs["head_input"] = x - lacking
    found = lce.executable(lce.convert(keras.separate_sections(plan)))(**inputs)
    result = []
    for name, section in keras.sections(plan):
        signs = (unit for unit in section if unit.sign)
        margins = [flip_margins(unit, sign_input(trained, unit.name, kept), found[unit.name]) for unit in signs]
        expected, lacking = outputs[name]
        result.append(_parity(name, margins, found[f"{name}_output"] + lacking, expected))
    return [*result, _parity("head", [], found["head"], logits)]


def _left_out(trained: Trained, last) -> np.ndarray:
    """What the output of a section lacks, and so the input of the next: zeta, [C], where folding has left it out."""
    if last.beta is None or last.zeta is not None:
        return np.float32(0)
    unit = next(unit for unit in trained.structure.units if unit.name == last.name)
    return np.asarray(functools.reduce(operator.getitem, unit.at("rprelu"), trained.variables["params"])["zeta"])


def _parity(name, margins, output, expected) -> Parity:
    margins = np.concatenate([np.full((len(output), 1), -1.0), *(part.reshape(len(output), -1) for part in margins)], 1)
    whole = (margins < 0).all(axis=1)
    difference, largest = np.abs(output - expected)[whole].max(initial=0), np.abs(expected).max()
    widest = np.maximum(margins, 0).max()
    return Parity(name, int((margins >= 0).sum()), float(widest), int(whole.sum()), float(difference), float(largest))
