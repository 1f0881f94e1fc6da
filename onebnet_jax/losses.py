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


def in_top_k(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
    """Whether the label is among the k largest logits, [N] of 0 and 1; k beyond the number of classes counts them all."""
    _, best = jax.lax.top_k(logits, min(k, logits.shape[-1]))
    return jnp.any(best == labels[:, None], axis=-1).astype(jnp.int32)
