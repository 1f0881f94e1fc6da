"""Every unit of a converted network alone, on the trained network's own inputs: where does a difference come from?"""

import dataclasses
import functools

import jax
import numpy as np

from onebnet_jax.export import larq_model, lce
from onebnet_jax.export.agreement import positive, trained_units
from onebnet_jax.export.plan import Plan
from onebnet_jax.layers import Binarization
from onebnet_jax.structure import Structure


@dataclasses.dataclass
class UnitParity:
    """One unit in LCE against JAX.

    Attributes:
      name: of the unit.
      flips: of its signs; folding moves the inputs by their rounding, so there can be some.
      max_difference: of its outputs, absolute, over images without flips.
      max_output: the largest absolute output.
    """

    name: str
    flips: int
    max_difference: float
    max_output: float


def compare_units(
    structure: Structure, binarization: Binarization, variables: dict, plan: Plan, images: np.ndarray
) -> list[UnitParity]:
    """Compares all units of a OneBNet, in order; none for a network of FP32 blocks.

    Args:
      structure, binarization, variables: the trained network.
      plan: its deployment plan.
      images: normalized, [N, H, W, C]; a few are enough. What units take from each other comes from them.
    """
    if not plan.units:
        return []
    trained = jax.jit(functools.partial(trained_units, structure, binarization))
    _, calls = jax.device_get(trained(variables, images.astype(np.float32)))
    # A folded unit's input lacks zeta of the unit before it, as its output lacks its own.
    inputs = {unit.name: calls[unit.name][0] - unit.offset for unit in plan.units}
    separate = lce.executable(lce.convert(larq_model.separate_units(plan)))
    outputs = separate(**{f"{name}_input": x for name, x in inputs.items()})
    result = []
    for unit in plan.units:
        x, expected = calls[unit.name]
        params = variables["params"][unit.name]
        if unit.zeta is None:
            output = outputs[f"{unit.name}_prelu"] + np.asarray(params["rprelu"]["zeta"])
        else:
            output = outputs[f"{unit.name}_zeta"]
        flipped = np.zeros(x.shape, bool)
        if unit.sign:
            distance = inputs[unit.name] - unit.threshold
            pre_sign = -distance if unit.reverse else distance
            flipped = positive(unit, pre_sign) != (x - np.asarray(params["rsign"]["alpha"]) > 0)
        whole = ~flipped.any(axis=(1, 2, 3))
        difference = np.abs(output - expected)[whole].max(initial=0)
        result.append(UnitParity(unit.name, int(flipped.sum()), float(difference), float(np.abs(expected).max())))
    return result
