"""Random variables for a structure: to convert and time a network before it is trained, and to test with."""

import jax
import numpy as np

from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.networks.structure import Structure


def random_variables(structure: Structure, image_shape: tuple[int, int, int], seed: int = 0) -> dict:
    """{"params", "batch_stats"} of a `models.Network`, all of it random, as NumPy arrays.

    The values that training starts from would not do: a converter drops an addition of zeros. Kernels are He normal,
    and all else spreads around its usual size, so that activations neither vanish nor grow.
    """
    tree = variable_shapes(Network(structure), image_shape)
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        name = path[-1].key
        values = rng.standard_normal(leaf.shape)
        if name == "kernel":
            values *= np.sqrt(2 / np.prod(leaf.shape[:-1]))
        elif name == "var":
            values = np.exp(values / 4)
        else:
            values = {"scale": 1.0, "beta": 0.25}.get(name, 0.0) + 0.25 * values
        return values.astype(np.float32)

    return jax.tree_util.tree_map_with_path(draw, tree)
