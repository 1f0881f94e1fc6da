"""What the tests of deployment share: a trained network's answers, and a `Trained` of any structure and variables."""

import dataclasses
import functools

import dyadic
import jax
import numpy as np

from onebnet_jax.export import card
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs import config
from onebnet_jax.runs import trained as trained_lib
from onebnet_jax.runs.experiment import Data


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


def with_gates(variables, seed=2):
    """The variables of Real-to-Bin with other matrices of the gates, whose factors then lie all over 0 to 1."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        gate = any(key.key in ("gate_in", "gate_out") for key in path)
        return rng.normal(size=leaf.shape).astype(np.float32) if gate else leaf

    return jax.tree_util.tree_map_with_path(draw, variables)


@functools.cache
def _untrained():
    return trained_lib.untrained(config.load("configs/quickstart.py", ["--config.model.depth=8"]))


def trained(structure, variables, binarization=Binarization()):  # noqa: B008
    """A `Trained` for images [N, 20, 20, 3]; its config is that of another network."""
    data = Data("imagenet2012", image_size=20)
    return dataclasses.replace(
        _untrained(), structure=structure, variables=variables, binarization=binarization, data=data
    )


@functools.cache
def converted():
    """A OneBNet with random values, its plan and file, which take pixels; 24 images of them, and the same normalized.

    (trained, plan, tflite, pixels uint8 [24, 21, 18, 3], images float32). The plan has 5 units with signs.
    """
    from onebnet_jax.export import fold, keras, lce

    shape, (mean, std) = (21, 18, 3), ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    structure = dyadic.structure(ds_1d=(32,), width_multiplier=0.85)
    network = trained(structure, trained_lib.random_variables(structure, shape))
    plan = fold.deployment_plan(structure, Binarization(), network.variables, shape, normalization=(mean, std))
    pixels = np.random.default_rng(1).integers(0, 256, (24, *shape), np.uint8)
    return network, plan, lce.convert(keras.keras_model(plan)), pixels, card.normalize(pixels, mean, std)


def moved(network, *changes):
    """A network with other values at (path in its parameters, function of the value)."""
    variables = jax.tree.map(np.copy, network.variables)
    for path, change in changes:
        *path, name = path.split("/")
        tree = functools.reduce(dict.__getitem__, path, variables["params"])
        tree[name] = change(tree[name])
    return dataclasses.replace(network, variables=variables)
