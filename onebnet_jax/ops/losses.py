"""Losses and scores, image by image; who sums them decides which images count. Pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from onebnet_jax.errors import Parts, UserError
from onebnet_jax.ops.trial import fault

# Losses of a user's own, beside those that follow: functions of logits [N, K], labels [N] and the network's parameters
# that give [N], or one number for all images, such as a regularizer of the weights.
LOSSES = Parts("loss", none=lambda logits, labels, params: jnp.zeros(len(labels)))


def check_loss(name: str, params: dict, classes: int) -> None:
    """Raises UserError where a loss of LOSSES, or its gradient, is not finite, or the gradient 0 everywhere.

    Tried on random logits of one image more than there are classes, so that [K] is not taken for [N].
    """
    logits = jnp.asarray(np.random.default_rng(0).standard_normal((classes + 1, classes)), jnp.float32)
    labels = jnp.arange(len(logits)) % classes

    def loss(logits, params):
        value = LOSSES[name](logits, labels, params)
        number = isinstance(value, float) or getattr(value, "shape", None) == ()
        return jnp.broadcast_to(value, labels.shape) if number else value

    def gradient(*arguments):
        grads = jax.grad(lambda *arguments: jnp.sum(loss(*arguments)), (0, 1))(*arguments)
        return jnp.concatenate([x.ravel() for x in jax.tree.leaves(grads)])

    size = logits.size + sum(x.size for x in jax.tree.leaves(params))
    for words, function, shape in (("loss", loss, labels.shape), ("gradient of the loss", gradient, (size,))):
        if found := fault(function, shape, logits, params):
            raise UserError(f"The {words} {name!r} {found}, of logits {list(logits.shape)}.")
    if not np.any(jax.jit(gradient)(logits, params)):
        raise UserError(f"The loss {name!r} has no gradient: nothing would be learned by it.")


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """-sum_k q_k log softmax(logits)_k with q = (1 - smoothing) onehot(label) + smoothing / K (Szegedy et al. 2016).

    logits [N, K], labels [N] of integers -> [N].
    """
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def distribution(logits: jax.Array, teacher_logits: jax.Array, temperature: float = 1.0) -> jax.Array:
    """The distribution loss, -T^2 sum_k softmax(teacher / T)_k log softmax(logits / T)_k: [N, K] twice -> [N].

    ReActNet (Liu et al. 2020, eq. 5) at T = 1; the factor T^2 keeps the size of the gradient (Hinton et al. 2015). No
    gradient reaches the teacher.
    """
    targets = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits) / temperature)
    return temperature**2 * optax.softmax_cross_entropy(logits / temperature, targets)


def attention(maps: list[jax.Array], teacher_maps: list[jax.Array]) -> jax.Array:
    """How differently two networks look at an image, from the maps behind their blocks: twice [N, H, W, C] each -> [N].

    Of each map the squares' mean over channels, as shares of the largest; of two, the mean square difference; its mean
    over the blocks (Real-to-Bin, Martinez et al. 2020, section 4.2, as Larq Zoo has it). The channels may differ. No
    gradient reaches the teacher.
    """

    def shares(x):
        squares = jnp.mean(jnp.square(x.astype(jnp.promote_types(x.dtype, jnp.float32))), axis=-1)
        return squares / jnp.maximum(jnp.max(squares, axis=(1, 2), keepdims=True), jnp.finfo(squares.dtype).tiny)

    pairs = zip(maps, teacher_maps, strict=True)
    differences = [jnp.mean((shares(x) - jax.lax.stop_gradient(shares(y))) ** 2, axis=(1, 2)) for x, y in pairs]
    return sum(differences) / len(differences)


def in_top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether the label is among the k largest logits, or all of them if there are fewer: [N] of 0 and 1."""
    _, best = jax.lax.top_k(logits, min(k, logits.shape[-1]))
    return jnp.any(best == labels[:, None], axis=-1).astype(jnp.int32)
