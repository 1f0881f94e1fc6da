"""The optimizer of the paper's appendix A.2: Adam under a poly schedule that moves once an epoch."""

import jax
import optax

# Names of the parameters that weight decay applies to: convolutions, and RSign's and RPReLU's shifts as in ReActNet's
# code. Batch normalization, PReLU slopes and the fully connected layer are left alone.
DECAYED = ("kernel", "alpha", "gamma", "zeta")


def poly_schedule(learning_rate: float, epochs: int, steps_per_epoch: int) -> optax.Schedule:
    """lr(step) = learning_rate * (1 - epoch / epochs), epoch = step // steps_per_epoch (A.2, poly of power 1), until 0.

    The paper prints lr_base * (1 - e_epochs) and leaves the division out. ReActNet's code advances its schedule before
    each epoch, so that its last epoch trains with 0; here the first epoch has learning_rate itself.
    """

    def schedule(step):
        epoch = step // steps_per_epoch
        return learning_rate * (1 - epoch / epochs) * (epoch < epochs)

    return schedule


def decay_mask(params) -> dict:
    """The tree of `params` with True where weight decay applies, by name: see `DECAYED`."""

    def decayed(path, _):
        names = [key.key for key in path]
        return names[-1] in DECAYED and names[0] != "head"

    return jax.tree_util.tree_map_with_path(decayed, params)


def adam(schedule: optax.Schedule, weight_decay: float) -> optax.GradientTransformation:
    """Adam with beta = (0.9, 0.999) and epsilon 1e-8; weight decay is L2 in the gradient, before the moments."""

    def decay(grads, params):
        return jax.tree.map(
            lambda grad, param, decayed: grad + weight_decay * param if decayed else grad,
            grads,
            params,
            decay_mask(params),
        )

    # Not optax.add_decayed_weights: with a mask it has a state, so that no checkpoint without decay fits one with it.
    l2 = optax.stateless(decay)
    return optax.chain(l2, optax.scale_by_adam(0.9, 0.999, 1e-8), optax.scale_by_learning_rate(schedule))
