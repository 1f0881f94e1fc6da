"""One stage of training, from its first or last state to its end. The effects are here: devices, disk, progress."""

import time
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from tqdm import tqdm

from onebnet_jax import config as config_lib
from onebnet_jax import data, losses, optim, steps
from onebnet_jax.checkpoint import BEST, LAST, Checkpoints, Run
from onebnet_jax.errors import UserError
from onebnet_jax.metrics import Metrics
from onebnet_jax.models import Network

DISPATCH_SECONDS = 2.0  # how long one call to the devices should take: long enough to keep them busy


def make_network(config: ConfigDict, stage: str, axis_name: str | None = steps.AXIS) -> Network:
    """The network that a stage of a config trains."""
    dtype = jnp.dtype(config.model.dtype)
    return Network(config_lib.structure(config), config_lib.binarization(config, stage), axis_name, dtype)


def make_input(config: ConfigDict, batch_size: int, devices: int) -> steps.Input:
    """How a config makes batches."""
    info = data.DATASETS[config.data.name]
    return steps.Input(batch_size, devices, info.mean, info.std, config.data.crop_padding, config.data.flip)


def make_loss(fields: ConfigDict, teacher: Network | None):
    """The training loss of a stage for `steps.make_train_steps`; its constants are the teacher's variables."""

    def loss(logits, labels, images, teacher_variables):
        total = 0.0
        if fields.label_weight:
            total += fields.label_weight * losses.cross_entropy(logits, labels, fields.label_smoothing)
        if fields.teacher_weight:
            teacher_logits = teacher.apply(teacher_variables, images)
            total += fields.teacher_weight * losses.distribution(logits, teacher_logits, fields.temperature)
        return total

    return loss


def initial_state(network: Network, optimizer, image_shape: tuple[int, int, int], key: jax.Array) -> steps.TrainState:
    """The state before the first step."""
    variables = jax.jit(network.init)(key, jnp.zeros((1, *image_shape)))
    params = variables["params"]
    return steps.TrainState(
        jnp.int32(0), params, variables["batch_stats"], optimizer.init(params), steps.Sums.zero(), jnp.int32(-1)
    )


def means(sums: steps.Sums) -> dict[str, float]:
    """Loss and accuracies in percent."""
    count = max(int(sums.count), 1)
    return {
        "loss": float(sums.loss) / count,
        "top1": 100 * int(sums.top1) / count,
        "top5": 100 * int(sums.top5) / count,
    }


class Evaluator:
    """Scores a network on the test images, which stay on the devices."""

    def __init__(self, network: Network, batch: steps.Input, dataset: data.Dataset):
        self._images, self._labels = replicate((dataset.test_images, dataset.test_labels))
        self._batches = batch.steps(len(dataset.test_labels))
        self._eval_steps = jax.pmap(
            steps.make_eval_steps(network.apply, batch), steps.AXIS, in_axes=(None, 0, 0, None, None), out_axes=None
        )

    def __call__(self, params, batch_stats) -> dict[str, float]:
        variables = {"params": params, "batch_stats": batch_stats}
        return means(jax.device_get(self._eval_steps(variables, self._images, self._labels, 0, self._batches)))


def replicate(tree):
    """Copies a tree of arrays to every local device, with a new leading axis."""
    devices = jnp.arange(jax.local_device_count())
    return jax.pmap(lambda _, x: x, in_axes=(0, None))(devices, tree)


def train(
    config: ConfigDict,
    name: str,
    folder: Path,
    dataset: data.Dataset,
    teacher: Run | None = None,
    initial: dict | None = None,
) -> tuple[dict, dict[str, float]]:
    """Trains a stage, or goes on training it, in a folder of its own.

    Args:
      config: of the run.
      name: of the stage, a field of the config.
      folder: where its checkpoints and metrics are.
      dataset: to learn.
      teacher: the FP32 network of the distribution loss.
      initial: {"params", "batch_stats"} to begin with, of the stage before; random parameters where None.

    Returns:
      (variables, evaluation) after the last epoch.

    Raises UserError if the loss is not finite.
    """
    fields, devices = config[name], jax.local_device_count()
    batch = make_input(config, fields.batch_size, devices)
    steps_per_epoch = batch.steps(len(dataset.train_labels))
    network = make_network(config, name)
    schedule = optim.poly_schedule(fields.learning_rate, fields.epochs, steps_per_epoch)
    optimizer = optim.adam(schedule, fields.weight_decay)
    # Stages of one run see the images in different orders.
    init_key, batch_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), config.stages.index(name)))
    state = initial_state(network, optimizer, dataset.info.shape, init_key)
    if initial is not None:
        state = state.replace(**check_same_tree(initial, {"params": state.params, "batch_stats": state.batch_stats}))

    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    print(f"stage {name}: {parameters:,} parameters, {fields.epochs} epochs of {steps_per_epoch} steps", flush=True)

    checkpoints = Checkpoints(folder)
    best, result = {"top1": -1.0}, {}
    restored = checkpoints.restore(LAST, like=state)
    if restored is not None:
        step, state, info = restored
        best, result = info["best"], info["result"]
        print(f"resumed from the checkpoint of step {step}")
    metrics = Metrics(folder, int(state.step))

    teacher_network = None if teacher is None else make_network(teacher.config, teacher.stage, axis_name=None)
    constants = replicate({} if teacher is None else teacher.variables)
    train_steps = jax.pmap(
        steps.make_train_steps(network.apply, optimizer, batch, batch_key, make_loss(fields, teacher_network)),
        steps.AXIS,
        in_axes=(None, 0, 0, 0, None, None),
        out_axes=None,
        donate_argnums=0,
    )
    evaluator = Evaluator(network, batch, dataset)
    images, labels = replicate((dataset.train_images, dataset.train_labels))

    total, done = fields.epochs * steps_per_epoch, int(state.step)
    bar = tqdm(total=total * batch.batch_size, initial=done * batch.batch_size, desc=name, unit="img", unit_scale=True)
    saved_at, dispatch = time.monotonic(), 1
    epoch_seconds = 0.0
    while done < total:
        epoch, first = divmod(done, steps_per_epoch)
        last = min(first + dispatch, steps_per_epoch)
        begun = time.monotonic()
        state = train_steps(state, constants, images, labels, first, last)
        done = int(state.step)
        seconds = time.monotonic() - begun
        if int(state.bad_step) >= 0:
            bar.close()
            raise non_finite(int(state.bad_step), checkpoints, folder)
        # The first call also compiles; after it the length follows the speed.
        dispatch = dispatch + 1 if dispatch == 1 else max(2, round(DISPATCH_SECONDS / seconds * (last - first)))
        bar.update((last - first) * batch.batch_size)
        epoch_seconds += seconds

        if last == steps_per_epoch:
            values = means(jax.device_get(state.sums))
            rate = {"learning_rate": float(schedule(done - 1)), "epoch": epoch + 1, "seconds": epoch_seconds}
            metrics.write(done, "train", values | rate)
            state, epoch_seconds = state.replace(sums=steps.Sums.zero()), 0.0
            if (epoch + 1) % config.eval_every_epochs == 0 or done == total:
                result = {"epoch": epoch + 1, **evaluator(state.params, state.batch_stats)}
                metrics.write(done, "test", result)
                if result["top1"] > best["top1"]:
                    best = result
                    variables = {"params": state.params, "batch_stats": state.batch_stats}
                    checkpoints.save(BEST, done, variables, result)
                bar.set_postfix_str(f"epoch {epoch + 1}, test Top-1 {result['top1']:.2f} % (best {best['top1']:.2f} %)")
        if last == steps_per_epoch or time.monotonic() - saved_at > config.checkpoint_seconds:
            checkpoints.save(LAST, done, state, {"best": best, "result": result})
            saved_at = time.monotonic()
    bar.close()
    checkpoints.close()
    metrics.close()
    return jax.device_get({"params": state.params, "batch_stats": state.batch_stats}), result


def check_same_tree(variables: dict, like: dict) -> dict:
    """The variables, if they have exactly the names and shapes of `like`; raises UserError otherwise."""
    found, wanted = (
        {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (variables, like)
    )
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        raise UserError(f"The stage before left other parameters than this one needs, first {differing[0]}.")
    return variables


def non_finite(step: int, checkpoints: Checkpoints, folder: Path) -> UserError:
    """The error for a loss that is not finite, naming the step and what there is to go back to."""
    checkpoints.wait()
    good = checkpoints.latest_step(LAST)
    path = folder / "checkpoints" / LAST / str(good)
    where = "no checkpoint was saved yet" if good is None else f"the last good checkpoint is {path}"
    return UserError(
        f"The loss or the network is not finite at step {step}; {where}. Lower train.learning_rate in a new --workdir."
    )
