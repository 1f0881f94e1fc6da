"""Every unit of a converted network alone, on the trained network's own inputs: where does a difference come from?

A flip hides all that comes after it from `agreement`; nothing is hidden here.
"""

import dataclasses
import functools

import jax
import numpy as np

from onebnet_jax.export import keras as larq_model
from onebnet_jax.export import lce
from onebnet_jax.export.agreement import ROUNDING, flip_margins, positive, trained_units
from onebnet_jax.export.plan import Plan, Unit
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.networks.structure import Structure


@dataclasses.dataclass
class UnitParity:
    """One unit, or the head, in LCE against JAX.

    Attributes:
      name: of the unit, or "head".
      flips: of its signs; folding moves the inputs by their rounding, so there can be some.
      margin: the largest |x - alpha| of a flip, divided by the RMS of x - alpha.
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


def compare_units(
    structure: Structure, binarization: Binarization, variables: dict, plan: Plan, images: np.ndarray
) -> list[UnitParity]:
    """Compares all units of a OneBNet, in order, and its head; nothing for a network of FP32 blocks.

    Args:
      structure, binarization, variables: the trained network.
      plan: its deployment plan.
      images: normalized, [N, H, W, C]; a few are enough. What units take from each other comes from them.
    """
    if not plan.units:
        return []
    trained = jax.jit(functools.partial(trained_units, structure, binarization))
    logits, calls = jax.device_get(trained(variables, images.astype(np.float32)))
    # A folded unit's input lacks zeta of the unit before it, as its output lacks its own, and so does the head's input.
    zetas = {unit.name: np.float32(0) if unit.zeta is not None else _zeta(variables, unit) for unit in plan.units}
    inputs = {unit.name: calls[unit.name][0] - unit.offset for unit in plan.units}
    last = plan.units[-1].name
    inputs["head"] = calls[last][1] - zetas[last]
    separate = lce.executable(lce.convert(larq_model.separate_units(plan)))
    outputs = separate(**{f"{name}_input": x for name, x in inputs.items()})
    result = []
    for unit in plan.units:
        x, expected = calls[unit.name]
        output = outputs[f"{unit.name}_{'prelu' if unit.zeta is None else 'zeta'}"] + zetas[unit.name]
        flipped, margins = np.zeros(x.shape, bool), np.zeros(x.shape)
        if unit.sign:
            from_threshold = inputs[unit.name] - unit.threshold
            distance = x - np.asarray(variables["params"][unit.name]["rsign"]["alpha"])
            flipped = positive(unit, -from_threshold if unit.reverse else from_threshold) != (distance > 0)
            margins = flip_margins(distance, flipped)
        result.append(_parity(unit.name, flipped, float(margins.max()), output, expected))
    return [*result, _parity("head", np.zeros((len(logits), 1), bool), 0.0, outputs["head"], logits)]


def _zeta(variables: dict, unit: Unit) -> np.ndarray:
    return np.asarray(variables["params"][unit.name]["rprelu"]["zeta"])


def _parity(name, flipped, margin, output, expected) -> UnitParity:
    whole = ~flipped.reshape(len(flipped), -1).any(axis=1)
    difference = np.abs(output - expected)[whole].max(initial=0)
    return UnitParity(
        name, int(flipped.sum()), margin, int(whole.sum()), float(difference), float(np.abs(expected).max())
    )
