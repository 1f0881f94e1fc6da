"""What those who train binarized networks look at: signs of weights that flip, and signs that gradients cannot pass.

Off by default (`config.diagnostics`). Once an epoch, on one batch of test images computed as in training, these shares
from 0 to 1 of each binarized unit:

- flipped/UNIT: weights whose sign is another one than at the end of the epoch before;
- in_window/UNIT: values x - alpha, of which signs are taken, within the window, where most estimators pass gradients;
- plus/UNIT: signs that are +1;
- zero_gradient/UNIT: weights whose gradient is exactly 0, and which so learn nothing from this batch.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from onebnet_jax.data import augment
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Structure, check_formulas
from onebnet_jax.training.steps import Input


def _kernel(params: dict, unit) -> jax.Array:
    module, part = unit.at("conv")
    return params[module][part]["kernel"]


def signs(structure: Structure, params: dict) -> dict[str, np.ndarray]:
    """Where the weights of each binarized unit are above 0: unit -> bool [kh, kw, C_in, C_out]."""
    return {unit.name: np.asarray(_kernel(params, unit)) > 0 for unit in structure.units if unit.binary}


def flipped(before: dict[str, np.ndarray], now: dict[str, np.ndarray]) -> dict[str, float]:
    """The shares of weights that differ in sign between two of `signs`."""
    return {f"flipped/{name}": float(np.mean(before[name] != positive)) for name, positive in now.items()}


def measurer(network: Network, loss: Callable, batch: Input, images, labels, constants, kept=()) -> Callable:
    """Returns measure(variables, progress) -> the other three shares of each unit.

    images are uint8 [N, H, W, C], labels [N]; loss, constants and kept are as in `steps.train_step`. Raises UserError
    for a network that `check_formulas` refuses.
    """
    check_formulas(network.structure)
    network = network.clone(axis_name=None)
    units = [unit for unit in network.structure.units if unit.binary]
    window, mask = network.binarization.window, jnp.ones(len(images))

    @jax.jit
    def run(variables, progress, images, labels, constants):
        x = augment.normalize(images, batch.mean, batch.std)

        def loss_fn(params):
            given = {"params": params, "batch_stats": variables["batch_stats"]}
            logits, updates = network.apply(given, x, True, mask, progress, mutable=["batch_stats", "intermediates"])
            losses = loss(logits, labels, x, params, constants, *(updates[name] for name in kept))
            return jnp.mean(losses), updates["intermediates"]

        grads, values = jax.grad(loss_fn, has_aux=True)(variables["params"])
        shares = {}
        for unit in units:
            shifted = values[unit.module][unit.at("sign_input")[-1]][0]
            shares[f"in_window/{unit.name}"] = jnp.mean(jnp.abs(shifted) <= window)
            shares[f"plus/{unit.name}"] = jnp.mean(shifted > 0)
            shares[f"zero_gradient/{unit.name}"] = jnp.mean(_kernel(grads, unit) == 0)
        return shares

    def measure(variables: dict, progress: float) -> dict[str, float]:
        found = run(variables, jnp.float32(progress), images, labels, constants)
        return {name: float(share) for name, share in sorted(jax.device_get(found).items())}

    return measure
