"""Training and evaluation on one device of many, as pure functions for pmap over the axis "devices".

A step is a function step(state, constants, images, labels, mask) -> state of this device's part of a batch: images
[N, H, W, C] uint8, labels [N], and mask [N], 0 for images that fill up a batch or cannot be decoded.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

from onebnet_jax.data import augment
from onebnet_jax.networks.layers import BN_MOMENTUM
from onebnet_jax.networks.network import EXACT
from onebnet_jax.ops.losses import cross_entropy, in_top_k

AXIS = "devices"


@flax.struct.dataclass
class Sums:
    """Sums over images, from which means are taken once, at the end."""

    # Zeros of NumPy, so that no two share a buffer on a device, which newer pmaps would donate twice.
    loss: jax.Array = np.float32(0)
    top1: jax.Array = np.int32(0)
    top5: jax.Array = np.int32(0)
    count: jax.Array = np.int32(0)

    @classmethod
    def of(cls, logits: jax.Array, labels: jax.Array, losses: jax.Array, mask: jax.Array) -> "Sums":
        """Over the images of a batch that count: logits [N, K]; labels, losses and mask [N]."""
        count = mask.astype(jnp.int32)
        top1, top5 = (jnp.sum(in_top_k(logits, labels, k) * count) for k in (1, 5))
        return cls(jnp.sum(losses * mask), top1, top5, jnp.sum(count))

    def means(self) -> dict[str, float]:
        """Loss and accuracies in percent."""
        count = max(int(self.count), 1)
        top1, top5 = (100 * int(top) / count for top in (self.top1, self.top5))
        return {"loss": float(self.loss) / count, "top1": top1, "top5": top5}


@flax.struct.dataclass
class TrainState:
    """All that changes during training, so all that a checkpoint has to hold.

    `bad_step` is the first whose loss is not finite, or the last of the first call that ends with a state which is not.
    """

    step: jax.Array  # steps taken since the beginning of the stage
    params: Any
    batch_stats: Any
    opt_state: Any
    sums: Sums = Sums()  # over the current epoch so far
    bad_step: jax.Array = np.int32(-1)  # while all is well

    @classmethod
    def first(cls, variables: dict, optimizer: optax.GradientTransformation) -> "TrainState":
        """The state before the first step; variables: {"params", "batch_stats"}."""
        # Copied, as an optimizer may keep the parameters themselves: devices are given no buffer twice.
        opt_state = jax.tree.map(jnp.copy, optimizer.init(variables["params"]))
        return cls(np.int32(0), **variables, opt_state=opt_state)

    @property
    def variables(self) -> dict:
        return {"params": self.params, "batch_stats": self.batch_stats}


@dataclasses.dataclass(frozen=True)
class Input:
    """How batches are made of the data set."""

    batch_size: int  # global, over all devices
    devices: int  # that share a batch
    mean: tuple[float, ...]  # per channel, of pixels in 0..1
    std: tuple[float, ...]
    crop_padding: int = 0  # of training images, as what follows; see `augment`
    flip: bool = False
    rotate: float = 0.0
    brightness: float = 0.0

    def steps(self, size: int) -> int:
        """Batches that it takes to see `size` images once, the last one perhaps filled up."""
        return -(-size // self.batch_size)


def train_step(
    apply, optimizer, loss, batch: Input, total: int, state: TrainState, constants, images, labels, mask, kept=()
):
    """The step of training, one of `total` in a stage; loss(logits, labels, normalized images, params,
    constants) -> [N].

    kept: names of collections of the network's, such as "intermediates", that the loss takes too.
    """
    images = augment.normalize(images, batch.mean, batch.std)
    progress = state.step.astype(jnp.float32) / total  # by which estimators may change
    count = lax.psum(jnp.sum(mask), AXIS)

    def loss_fn(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        logits, updates = apply(variables, images, True, mask, progress, mutable=["batch_stats", *kept])
        losses = loss(logits, labels, images, params, constants, *(updates[name] for name in kept))
        return jnp.sum(losses * mask) / count, (updates["batch_stats"], Sums.of(logits, labels, losses, mask))

    grads, (batch_stats, sums) = jax.grad(loss_fn, has_aux=True)(state.params)
    grads, sums = lax.psum((grads, sums), AXIS)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    bad_step = jnp.where((state.bad_step < 0) & ~jnp.isfinite(sums.loss), state.step, state.bad_step)
    sums = jax.tree.map(jnp.add, state.sums, sums)
    return TrainState(state.step + 1, params, batch_stats, opt_state, sums, bad_step)


def check_finite(state: TrainState) -> TrainState:
    """Marks the step behind a state that is not finite, where the loss was: the sign of a NaN hides it from losses."""
    checked = state.params, state.batch_stats, state.opt_state
    finite = jax.tree.reduce(jnp.logical_and, jax.tree.map(lambda x: jnp.all(jnp.isfinite(x)), checked))
    return state.replace(bad_step=jnp.where((state.bad_step < 0) & ~finite, state.step - 1, state.bad_step))


@flax.struct.dataclass
class Statistics:
    """BN's statistics as the mean over `count` batches."""

    batch_stats: Any
    count: jax.Array = np.int32(0)


def statistics_step(apply: Callable, batch: Input, state: Statistics, params, images, labels, mask) -> Statistics:
    """The mean with one more batch."""
    images = augment.normalize(images, batch.mean, batch.std)
    variables = {"params": params, "batch_stats": state.batch_stats}
    with jax.default_matmul_precision(EXACT):
        moved = apply(variables, images, True, mask, mutable=["batch_stats"])[1]["batch_stats"]
    # They have gone 1 - BN_MOMENTUM of the way to those of the batch.
    share = 1 / ((1 - BN_MOMENTUM) * (state.count + 1))
    return Statistics(
        jax.tree.map(lambda old, new: old + share * (new - old), state.batch_stats, moved), state.count + 1
    )


def score_step(apply: Callable, batch: Input, sums: Sums, variables: dict, images, labels, mask) -> Sums:
    """The step of an evaluation; its constants are {"params", "batch_stats"}."""
    return _scored(_logits(apply, batch, variables, images), sums, labels, mask)


def answer_step(apply: Callable, batch: Input, sums: Sums, variables: dict, images, labels, mask):
    """The same, and of the whole batch, all [batch_size]: labels, the classes named, their probabilities, and mask."""
    logits = _logits(apply, batch, variables, images)
    answers = labels, jnp.argmax(logits, -1), jnp.max(jax.nn.softmax(logits), -1), mask
    return _scored(logits, sums, labels, mask), lax.all_gather(answers, AXIS, tiled=True)


def _logits(apply, batch, variables, images):
    with jax.default_matmul_precision(EXACT):
        return apply(variables, augment.normalize(images, batch.mean, batch.std))


def _scored(logits, sums, labels, mask):
    scored = Sums.of(logits, labels, cross_entropy(logits, labels), mask)
    return jax.tree.map(jnp.add, sums, lax.psum(scored, AXIS))


def many(step: Callable, batch: Input, key: jax.Array | None = None, after: Callable = lambda state: state) -> Callable:
    """Returns run(state, constants, images, labels, epoch, first, last) -> state, to be pmapped over `AXIS`.

    It takes the steps first, ..., last - 1 of an epoch, given all images [size, H, W, C] uint8 and labels [size], and
    ends with `after` of the state. Order and augmentation follow from the key; None leaves the images as they are. One
    compiled program serves any range of steps, and how an epoch is cut into calls does not change a bit of the result.
    """
    order_key, augment_key = (None, None) if key is None else jax.random.split(key)

    def run(state, constants, images, labels, epoch, first, last):
        size = images.shape[0]
        order = jnp.arange(size) if key is None else jax.random.permutation(jax.random.fold_in(order_key, epoch), size)

        def body(index, state):
            local = batch.batch_size // batch.devices
            start = lax.axis_index(AXIS) * local
            positions = index * batch.batch_size + start + jnp.arange(local)
            chosen = order[jnp.minimum(positions, size - 1)]
            part = images[chosen]
            if key is not None:
                # Drawn for the whole batch and then cut, so that the number of devices does not matter.
                draw_key = jax.random.fold_in(augment_key, epoch * batch.steps(size) + index)
                cut = partial(lax.dynamic_slice_in_dim, start_index=start, slice_size=local)
                if batch.rotate or batch.brightness:
                    turn_key = jax.random.fold_in(draw_key, 1)  # another than that of `draw`
                    draws = augment.draw_turns(turn_key, batch.batch_size, batch.rotate, batch.brightness)
                    part = augment.turn(part, *map(cut, draws))
                if batch.crop_padding or batch.flip:
                    draws = augment.draw(draw_key, batch.batch_size, batch.crop_padding, batch.flip)
                    part = augment.apply(part, *map(cut, draws), batch.crop_padding)
            return step(state, constants, part, labels[chosen], (positions < size).astype(jnp.float32))

        return after(lax.fori_loop(first, last, body, state))

    return run
