"""One stage of training, from its first or last state to its end."""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from onebnet_jax.data import catalog as data_info
from onebnet_jax.errors import Interrupted, UserError
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.checkpoint import Run
from onebnet_jax.training import hosts, losses, optim, steps
from onebnet_jax.training.feed import Feed, Opened, replicate
from onebnet_jax.training.record import Record, Silent

DISPATCH_SECONDS = 2.0  # how long one call to the devices should take: long enough to keep them busy


def make_network(config: ConfigDict, stage: str, axis_name: str | None = steps.AXIS) -> Network:
    """The network that a stage of a config trains."""
    dtype = jnp.dtype(config.model.dtype)
    return Network(config_lib.structure(config), config_lib.binarization(config, stage), axis_name, dtype)


def make_input(config: ConfigDict, batch_size: int, devices: int) -> steps.Input:
    """How a config makes batches."""
    info = data_info.DATASETS[config.data.name]
    return steps.Input(batch_size, devices, info.mean, info.std, config.data.crop_padding, config.data.flip)


def make_loss(fields: ConfigDict, teacher: Network | None):
    """The training loss of a stage for `steps.make_train_step`; its constants are the teacher's variables."""

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
    return state_of(jax.jit(network.init)(key, jnp.zeros((1, *image_shape))), optimizer)


def state_of(variables: dict, optimizer) -> steps.TrainState:
    """The state that begins with {"params", "batch_stats"}."""
    params = variables["params"]
    # NumPy's counters, as in Sums.zero.
    return steps.TrainState(
        np.int32(0), params, variables["batch_stats"], optimizer.init(params), steps.Sums.zero(), np.int32(-1)
    )


def means(sums: steps.Sums) -> dict[str, float]:
    """Loss and accuracies in percent."""
    count = max(int(sums.count), 1)
    return {
        "loss": float(sums.loss) / count,
        "top1": 100 * int(sums.top1) / count,
        "top5": 100 * int(sums.top5) / count,
    }


def make_feed(config: ConfigDict, name: str, opened: Opened, network: Network, optimizer, key: jax.Array, loss) -> Feed:
    """What runs the steps of a stage."""
    batch = make_input(config, config[name].batch_size, jax.device_count())
    return opened.feed(network.apply, steps.make_train_step(network.apply, optimizer, loss), batch, key)


def train(
    config: ConfigDict,
    name: str,
    folder: Path | None,
    opened: Opened,
    teacher: Run | None = None,
    initial: dict | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> tuple[dict, dict[str, float]]:
    """Trains a stage, or goes on training it, in a folder of its own.

    Args:
      config: of the run.
      name: of the stage, a field of the config.
      folder: where its checkpoints and metrics are; None in processes other than the leader.
      opened: the data set to learn.
      teacher: the FP32 network of the distribution loss.
      initial: {"params", "batch_stats"} to begin with, of the stage before; random parameters where None.
      stopping: says when to stop.

    Returns:
      (variables, evaluation) after the last epoch; the leader's evaluation counts.

    Raises:
      UserError: if the loss is not finite, or nothing can be read from or written to the folder.
      Interrupted: after a checkpoint, when any process is to stop.
    """
    fields = config[name]
    steps_per_epoch = make_input(config, fields.batch_size, jax.device_count()).steps(opened.train_size)
    total = fields.epochs * steps_per_epoch
    network = make_network(config, name)
    schedule = optim.poly_schedule(fields.learning_rate, fields.epochs, steps_per_epoch)
    optimizer = optim.adam(schedule, fields.weight_decay)
    # Stages of one run see the images in different orders.
    init_key, batch_key = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), config.stages.index(name)))
    state = initial_state(network, optimizer, config_lib.input_shape(config), init_key)
    if initial is not None:
        state = state.replace(**check_same_tree(initial, variables_of(state)))
    teacher_network = None if teacher is None else make_network(teacher.config, teacher.stage, axis_name=None)
    constants = replicate({} if teacher is None else teacher.variables)
    feed = make_feed(config, name, opened, network, optimizer, batch_key, make_loss(fields, teacher_network))

    def epoch_ended(state):  # and its sums are still to be written down
        return int(state.step) % steps_per_epoch == 0 and int(state.sums.count) > 0

    with Silent() if folder is None else Record(folder) as record:
        parameters = sum(x.size for x in jax.tree.leaves(state.params))
        record.say(f"stage {name}: {parameters:,} parameters, {fields.epochs} epochs of {steps_per_epoch} steps")
        state = hosts.from_leader(record.restore(state))
        record.start(name, state, total, fields.batch_size, epoch_ended(state))
        saved_at, saved_step, dispatch = time.monotonic(), int(state.step), 1

        while True:
            done, ended = int(state.step), epoch_ended(state)
            due = done > saved_step and time.monotonic() - saved_at > config.checkpoint_seconds
            # Agreed, else one process would wait for another.
            stop, save, dispatch = hosts.agree(stopping(), due and not ended, dispatch)
            if stop or save:
                record.save(done, state, pending=ended)
                saved_at, saved_step = time.monotonic(), done
            if stop:
                raise Interrupted(f"stage {name} at step {done} of {total}; the same command goes on from there.")

            if ended:
                epoch, result = done // steps_per_epoch, None
                if epoch % config.eval_every_epochs == 0 or done >= total:
                    sums = feed.evaluate(variables_of(state), lambda: bool(hosts.agree(stopping())[0]))
                    if sums is None:
                        continue
                    result = {"epoch": epoch, **means(sums)}
                rate = {"learning_rate": float(schedule(done - 1)), "epoch": epoch}
                record.trained(done, means(jax.device_get(state.sums)) | rate)
                if result:
                    record.evaluated(done, variables_of(state), result)
                state = state.replace(sums=steps.Sums.zero())
                record.save(done, state, pending=False)
                saved_at, saved_step = time.monotonic(), done
            if done >= total:
                return jax.device_get(variables_of(state)), record.result

            epoch, first = divmod(done, steps_per_epoch)
            last = min(first + dispatch, steps_per_epoch)
            begun = time.monotonic()
            state = feed.train(state, constants, epoch, first, last)
            bad_step = int(state.bad_step)  # waits for the devices
            seconds = time.monotonic() - begun
            if bad_step >= 0:
                raise non_finite(name, bad_step, record.last_checkpoint())
            # The first call also compiles; after it the length follows the speed.
            dispatch = dispatch + 1 if dispatch == 1 else max(2, round(DISPATCH_SECONDS / seconds * (last - first)))
            record.advance((last - first) * fields.batch_size, seconds)


def non_finite(name: str, step: int, checkpoint: Path | None) -> UserError:
    """The error for a loss that is not finite, naming the step and what there is to go back to."""
    where = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint was saved yet"
    return UserError(
        f"The loss or the network is not finite at step {step}; {where}. Lower {name}.learning_rate in a new --workdir."
    )


def variables_of(state: steps.TrainState) -> dict:
    """What the network needs of a state."""
    return {"params": state.params, "batch_stats": state.batch_stats}


def check_run(run: Run, workdir: str | Path) -> Run:
    """The run, if its variables are of the network that its config names; raises UserError otherwise."""
    network = make_network(run.config, run.stage, None)
    shapes = variable_shapes(network, config_lib.input_shape(run.config))
    check_same_tree(run.variables, shapes, f"The checkpoint in {workdir}", "its config.json")
    return run


def check_same_tree(variables: dict, like: dict, source: str = "The stage before", user: str = "this one") -> dict:
    """The variables, if they have exactly the names and shapes of `like`; raises UserError otherwise."""
    found, wanted = (
        {jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (variables, like)
    )
    differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
    if differing:
        raise UserError(f"{source} has other parameters than {user} needs, first {differing[0]}.")
    return variables
