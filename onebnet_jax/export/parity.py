"""Every section of a converted network alone, on the trained network's own inputs: where does a difference come from?

A flip hides all that comes after it from `agreement`; nothing is hidden here. A section: units that share a shortcut.
"""

import dataclasses

import numpy as np

from onebnet_jax.export import keras, lce
from onebnet_jax.export.agreement import ROUNDING, flip_margins, intermediates
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
    rounding: float = ROUNDING  # what rounding can do, as a share of that: more where there is a gate

    @property
    def explained(self) -> bool:
        """Whether rounding explains every difference, and there was an image to tell by."""
        return self.images > 0 and self.margin <= ROUNDING and self.max_difference <= self.rounding * self.max_output


def compare(trained: Trained, plan: Plan, images: np.ndarray) -> list[Parity]:
    """Compares all sections, in order, and the head, on a few normalized images [N, H, W, C]; [] without any sign."""
    if not plan.signs:
        return []
    logits, signs, outputs, gates = intermediates(trained)(images)
    sections, x, inputs = keras.sections(plan), outputs["stem_output"], {}
    for name, section in sections:
        inputs[f"{name}_input"] = x
        x = outputs[f"{name}_output"] - section[-1].left_out
    found = lce.executable(lce.convert(keras.separate_sections(plan)))(**inputs, head_input=x)
    result = []
    for name, section in sections:
        margins = [flip_margins(unit, signs[unit.name], found[unit.name]) for unit in section if unit.sign]
        output = f"{name}_output"
        largest = max(gates[unit.name].max() for unit in section) if section[-1].gate else 0
        rounding = float(np.hypot(ROUNDING, largest))
        result.append(_parity(name, margins, found[output] + section[-1].left_out, outputs[output], rounding))
    return [*result, _parity("head", [], found["head"], logits)]


def _parity(name, margins, output, expected, rounding=ROUNDING) -> Parity:
    margins = np.concatenate([np.full((len(output), 1), -1.0), *(part.reshape(len(output), -1) for part in margins)], 1)
    whole = (margins < 0).all(axis=1)
    difference, largest = np.abs(output - expected)[whole].max(initial=0), np.abs(expected).max()
    widest = np.maximum(margins, 0).max()
    counts = int((margins >= 0).sum()), float(widest), int(whole.sum())
    return Parity(name, *counts, float(difference), float(largest), rounding)
