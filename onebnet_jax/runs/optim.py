"""The optimizer and the schedule of a stage, by name from optax."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

# Names of the parameters that weight decay applies to: convolutions, and RSign's and RPReLU's shifts as in ReActNet's
# code. Batch normalization, PReLU slopes and the fully connected layer are left alone.
DECAYED = ("kernel", "alpha", "gamma", "zeta")


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """How gradients become updates."""

    name: str = "adam"  # in `OPTIMIZERS`
    learning_rate: float = 1e-3  # at its highest
    schedule: str = "poly"  # in `SCHEDULES`
    warmup_epochs: int = 0  # in which the learning rate grows linearly to its highest, before the schedule begins
    weight_decay: float = 0.0  # of the parameters that `DECAYED` names
    momentum: float = 0.9  # of "sgd", which is Nesterov's
    centre_weights: bool = False  # see `_centred`


# Schedules: learning rate, epochs -> a function of the number of the epoch.
SCHEDULES: dict[str, Callable[[float, int], optax.Schedule]] = {
    # The paper's appendix A.2, with power 1: it prints lr_base * (1 - e_epochs) and leaves the division out.
    "poly": lambda rate, epochs: optax.polynomial_schedule(rate, 0.0, 1, epochs),
    "cosine": optax.cosine_decay_schedule,
    "constant": lambda rate, epochs: optax.constant_schedule(rate),
}

# Optimizers: (spec, schedule) -> optax's. Adam and SGD have L2 in the gradient, as PyTorch's; AdamW and Lion decay the
# parameters themselves.
OPTIMIZERS: dict[str, Callable[[Optimizer, optax.Schedule], optax.GradientTransformation]] = {
    "adam": lambda spec, rate: optax.chain(_l2(spec), optax.scale_by_adam(), optax.scale_by_learning_rate(rate)),
    "sgd": lambda spec, rate: optax.chain(_l2(spec), optax.sgd(rate, spec.momentum, nesterov=True)),
    "adamw": lambda spec, rate: optax.adamw(rate, weight_decay=spec.weight_decay, mask=decay_mask),
    "lion": lambda spec, rate: optax.lion(rate, weight_decay=spec.weight_decay, mask=decay_mask),
}


def make(spec: Optimizer, epochs: int, steps_per_epoch: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The optimizer of a stage, and its learning rate as a function of the step, which moves once an epoch.

    The first epoch has the highest rate itself, or with warm-up its first part. ReActNet's code advances its schedule
    before each epoch instead, so that its last epoch trains with 0.
    """
    after_warmup = SCHEDULES[spec.schedule](spec.learning_rate, max(epochs - spec.warmup_epochs, 1))

    def schedule(step):
        epoch = step // steps_per_epoch
        rate = after_warmup(epoch - spec.warmup_epochs)
        if spec.warmup_epochs:
            growing = spec.learning_rate * (epoch + 1) / (spec.warmup_epochs + 1)
            rate = jnp.where(epoch < spec.warmup_epochs, growing, rate)
        return rate

    optimizer = OPTIMIZERS[spec.name](spec, schedule)
    return (optax.chain(optimizer, _centred()) if spec.centre_weights else optimizer), schedule


def decay_mask(params) -> dict:
    """The tree of `params` with True where weight decay applies, by name: see `DECAYED`."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in DECAYED and path[0].key != "head", params)


def _l2(spec: Optimizer) -> optax.GradientTransformation:
    """Adds weight_decay * parameter to the gradients of the parameters that decay.

    Not optax.add_decayed_weights: with a mask it has a state, so that no checkpoint without decay fits one with it.
    """

    def decay(grad, param, decayed):
        return grad + spec.weight_decay * param if decayed else grad

    return optax.stateless(lambda grads, params: jax.tree.map(decay, grads, params, decay_mask(params)))


def _centred() -> optax.GradientTransformation:
    """Has each step end with kernels of the body, [kh, kw, C_in, C_out], whose mean over C_in is 0, within -1 and 1.

    As XNOR-Net's code does with the weights that it binarizes. They are so where they are kept: nothing else, not even
    a conversion, need know of it.
    """

    def centre(path, update, param):
        if param.ndim < 4 or not path[0].key.startswith("stage") or path[-2].key.startswith("shortcut"):
            return update
        moved = param + update
        return jnp.clip(moved - moved.mean(axis=2, keepdims=True), -1, 1) - param

    return optax.stateless(lambda updates, params: jax.tree_util.tree_map_with_path(centre, updates, params))
