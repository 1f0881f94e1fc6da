"""Training and evaluation on one device of many, as pure functions for pmap over the axis "devices".

The data set lies on every device as uint8. A call runs many steps, so that the host does not hold the device up, and
takes the range of steps as arguments: one compiled program serves any range, and how a run is cut into calls does not
change a bit of its result.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from onebnet_jax.data import augment
from onebnet_jax.training.losses import cross_entropy, in_top_k

AXIS = "devices"


@flax.struct.dataclass
class Sums:
    """Sums over images, from which means are taken once, at the end."""

    loss: jax.Array
    top1: jax.Array
    top5: jax.Array
    count: jax.Array

    @classmethod
    def zero(cls) -> "Sums":
        # NumPy's, so that no two share a buffer on a device, which newer pmaps would donate twice.
        return cls(np.float32(0), np.int32(0), np.int32(0), np.int32(0))


@flax.struct.dataclass
class TrainState:
    """All that changes during training, so all that a checkpoint has to hold.

    Attributes:
      step: steps taken since the beginning of the run.
      params, batch_stats, opt_state: of the network and the optimizer.
      sums: over the current epoch so far.
      bad_step: the first step whose loss was not finite, or the last step of the first call that ended with a state
        which is not finite; -1 while all is well.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: Any
    sums: Sums
    bad_step: jax.Array


@dataclasses.dataclass(frozen=True)
class Input:
    """How batches are made of the data set.

    Attributes:
      batch_size: global, over all devices.
      devices: number of devices that share a batch.
      mean, std: per channel, of pixels in 0..1.
      crop_padding, flip: the augmentation of training images, see `augment`.
    """

    batch_size: int
    devices: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_padding: int = 0
    flip: bool = False

    def steps(self, size: int) -> int:
        """Batches that it takes to see `size` images once, the last one perhaps filled up."""
        return -(-size // self.batch_size)


def _local_slice(batch: Input):
    """(first, size) of this device's part of a global batch."""
    size = batch.batch_size // batch.devices
    return lax.axis_index(AXIS) * size, size


def _sums(logits, labels, losses, mask) -> Sums:
    count = mask.astype(jnp.int32)
    return Sums(
        jnp.sum(losses * mask),
        jnp.sum(in_top_k(logits, labels, 1) * count),
        jnp.sum(in_top_k(logits, labels, 5) * count),
        jnp.sum(count),
    )


def make_train_step(apply: Callable, optimizer: optax.GradientTransformation, loss: Callable) -> Callable:
    """Returns train_step(state, constants, images, labels, mask) -> state, to be pmapped over `AXIS`.

    Args:
      apply: the network's apply, called with a mask.
      optimizer: of the parameters.
      loss: loss(logits, labels, images, constants) -> [N], of each image.

    The returned function takes one step, given the constants of the loss, such as a teacher's variables, and this
    device's part of the batch: normalized images [N, H, W, C], labels [N], and mask [N], 0 for images not to count.
    """

    def train_step(state, constants, images, labels, mask):
        count = lax.psum(jnp.sum(mask), AXIS)

        def loss_fn(params):
            variables = {"params": params, "batch_stats": state.batch_stats}
            logits, updates = apply(variables, images, mask, mutable=["batch_stats"])
            losses = loss(logits, labels, images, constants)
            return jnp.sum(losses * mask) / count, (updates["batch_stats"], _sums(logits, labels, losses, mask))

        grads, (batch_stats, sums) = jax.grad(loss_fn, has_aux=True)(state.params)
        grads, sums = lax.psum((grads, sums), AXIS)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        bad = (state.bad_step < 0) & ~jnp.isfinite(sums.loss)
        return TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
            sums=jax.tree.map(jnp.add, state.sums, sums),
            bad_step=jnp.where(bad, state.step, state.bad_step),
        )

    return train_step


def check_finite(state: TrainState) -> TrainState:
    """Marks the step behind a state that is not finite.

    An update can overflow where the loss did not, and the sign of a NaN hides it from all later losses.
    """
    checked = state.params, state.batch_stats, state.opt_state
    finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), checked))
    return state.replace(bad_step=jnp.where((state.bad_step < 0) & ~finite, state.step - 1, state.bad_step))


def make_train_steps(train_step: Callable, batch: Input, key: jax.Array) -> Callable:
    """Returns train_steps(state, constants, images, labels, first, last) -> state, to be pmapped over `AXIS`.

    Args:
      train_step: see `make_train_step`.
      batch: how batches are made.
      key: from which the order of the images and the augmentation of every epoch follow.

    The returned function takes the steps first, ..., last - 1 of the epoch that state.step lies in, given all images
    [size, H, W, C] uint8 and labels [size]. Every epoch sees every image once; its last batch is filled up with images
    that do not count.
    """
    order_key, augment_key = jax.random.split(key)

    def train_steps(state, constants, images, labels, first, last):
        size = images.shape[0]
        epoch = state.step // batch.steps(size)
        order = augment.epoch_order(jax.random.fold_in(order_key, epoch), size)

        def body(index, state):
            start, local = _local_slice(batch)
            positions = index * batch.batch_size + start + jnp.arange(local)
            chosen = order[jnp.minimum(positions, size - 1)]
            batch_images = images[chosen]
            if batch.crop_padding or batch.flip:
                # Drawn for the whole batch and then cut, so that the number of devices does not matter.
                key = jax.random.fold_in(augment_key, state.step)
                draws = augment.draw(key, batch.batch_size, batch.crop_padding, batch.flip)
                draws = jax.tree.map(lambda d: lax.dynamic_slice_in_dim(d, start, local), draws)
                batch_images = augment.apply(batch_images, draws, batch.crop_padding)
            batch_images = augment.normalize(batch_images, batch.mean, batch.std, jnp.float32)
            return train_step(state, constants, batch_images, labels[chosen], (positions < size).astype(jnp.float32))

        return check_finite(lax.fori_loop(first, last, body, state))

    return train_steps


def make_batch_step(train_step: Callable, batch: Input) -> Callable:
    """Returns batch_step(state, constants, images, labels, mask) -> state: `train_step` of uint8 images."""

    def batch_step(state, constants, images, labels, mask):
        images = augment.normalize(images, batch.mean, batch.std, jnp.float32)
        return check_finite(train_step(state, constants, images, labels, mask))

    return batch_step


def _make_score(apply: Callable, batch: Input) -> Callable:
    """Returns score(variables, images, labels, mask) -> Sums over this device's uint8 images that count."""

    def score(variables, images, labels, mask):
        logits = apply(variables, augment.normalize(images, batch.mean, batch.std, jnp.float32))
        return _sums(logits, labels, cross_entropy(logits, labels), mask)

    return score


def make_eval_batch(apply: Callable, batch: Input) -> Callable:
    """Returns eval_batch(variables, sums, images, labels, mask) -> Sums, to be pmapped over `AXIS`.

    To the sums of the batches before it adds those over all devices' uint8 images that count.
    """
    score = _make_score(apply, batch)

    def eval_batch(variables, sums, images, labels, mask):
        return jax.tree.map(jnp.add, sums, lax.psum(score(variables, images, labels, mask), AXIS))

    return eval_batch


def make_eval_steps(apply: Callable, batch: Input) -> Callable:
    """Returns eval_steps(variables, sums, images, labels, first, last) -> Sums, to be pmapped over `AXIS`.

    To the sums of the batches before it adds those of the batches first, ..., last - 1. Each image counts once,
    whatever the batch size and the number of devices. The loss is plain cross entropy.
    """
    score = _make_score(apply, batch)

    def eval_steps(variables, sums, images, labels, first, last):
        size = images.shape[0]

        def body(index, sums):
            start, local = _local_slice(batch)
            positions = index * batch.batch_size + start + jnp.arange(local)
            chosen = jnp.minimum(positions, size - 1)
            mask = (positions < size).astype(jnp.float32)
            return jax.tree.map(jnp.add, sums, lax.psum(score(variables, images[chosen], labels[chosen], mask), AXIS))

        return lax.fori_loop(first, last, body, sums)

    return eval_steps
