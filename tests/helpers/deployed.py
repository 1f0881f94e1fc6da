"""What the tests of deployment share: a trained network's answers, and a `Trained` of any structure and variables."""

import dataclasses
import functools

import jax
import numpy as np

from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs import config
from onebnet_jax.runs import trained as trained_lib


def answers(structure, variables, images, binarization=Binarization()):  # noqa: B008
    """Logits, and what the sign of each binary unit is taken of, by its name."""
    network = Network(structure, binarization)
    logits, kept = jax.jit(lambda *args: network.apply(*args, mutable=["intermediates"]))(variables, images)
    kept = kept["intermediates"]
    values = {unit.name: kept[unit.module][unit.at("sign_input")[-1]][0] for unit in structure.units if unit.binary}
    return np.asarray(logits), {name: np.asarray(value) for name, value in values.items()}


def images(shape, count=8, seed=1):
    """Images of -2, -1, 0, 1 and 2, [count, H, W, C], which float32 computes with exactly; the first is all zero."""
    result = np.random.default_rng(seed).integers(-2, 3, (count, *shape)).astype(np.float32)
    result[0] = 0
    return result


@functools.cache
def _untrained():
    return trained_lib.untrained(config.load("configs/quickstart.py", ["--config.model.depth=8"]))


def trained(structure, variables, binarization=Binarization()):  # noqa: B008
    """A `Trained`, for what asks it for no more than these."""
    return dataclasses.replace(_untrained(), structure=structure, variables=variables, binarization=binarization)
