"""Losses and scores, image by image; who sums them decides which images count. Pure functions."""

import jax
import jax.numpy as jnp
import optax


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


def in_top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether the label is among the k largest logits, or all of them if there are fewer: [N] of 0 and 1."""
    _, best = jax.lax.top_k(logits, min(k, logits.shape[-1]))
    return jnp.any(best == labels[:, None], axis=-1).astype(jnp.int32)
