"""One stage of training, from its first or last state to its end."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp

from onebnet_jax.errors import Interrupted, UserError
from onebnet_jax.networks.network import Network
from onebnet_jax.runs import optim
from onebnet_jax.runs.experiment import Data, Experiment, Stage
from onebnet_jax.runs.trained import Trained, check_same_tree
from onebnet_jax.training import hosts, losses
from onebnet_jax.training.feed import Feed, replicate
from onebnet_jax.training.record import Record, Silent
from onebnet_jax.training.steps import AXIS, Input, Sums, TrainState, check_finite, make_train_step

DISPATCH_SECONDS = 2.0  # how long one call to the devices should take: long enough to keep them busy


def make_input(data: Data, batch_size: int) -> Input:
    return Input(batch_size, jax.device_count(), data.info.mean, data.info.std, data.crop_padding, data.flip)


def make_loss(stage: Stage, teacher: Network | None) -> Callable:
    """The training loss of a stage for `steps.make_train_step`; its constants are the teacher's variables."""

    def loss(logits, labels, images, teacher_variables):
        total = 0.0
        if stage.label_weight:
            total += stage.label_weight * losses.cross_entropy(logits, labels, stage.label_smoothing)
        if stage.teacher_weight:
            teacher_logits = teacher.apply(teacher_variables, images)
            total += stage.teacher_weight * losses.distribution(logits, teacher_logits, stage.temperature)
        return total

    return loss


class Learner:
    """What learns in a stage of `total` steps: `step` takes one, with `constants`, the teacher's variables."""

    def __init__(self, experiment: Experiment, stage: Stage, train_size: int, teacher: Trained | None):
        self.network = Network(experiment.structure, stage.binarization, AXIS, jnp.dtype(experiment.dtype))
        self.batch = make_input(experiment.data, stage.batch_size)
        self.steps_per_epoch = self.batch.steps(train_size)
        self.total = stage.epochs * self.steps_per_epoch
        self.optimizer, self.schedule = optim.make(stage.optimizer, stage.epochs, self.steps_per_epoch)
        loss = make_loss(stage, teacher and teacher.network())
        self.step = make_train_step(self.network.apply, self.optimizer, loss, self.batch, self.total)
        self.constants = replicate(teacher.variables if teacher else {})

    def first_state(self, image_shape: tuple[int, int, int], key: jax.Array) -> TrainState:
        return TrainState.first(jax.jit(self.network.init)(key, jnp.zeros((1, *image_shape))), self.optimizer)


def train(
    experiment: Experiment,
    stage: Stage,
    folder: Path | None,
    feed: Feed,
    teacher: Trained | None,
    variables: dict | None,
    stopping: Callable[[], bool],
) -> tuple[dict, dict[str, float]]:
    """Trains a stage of an experiment, or goes on training it, in a folder; only the leader's is not None.

    Begins with the `variables`, {"params", "batch_stats"}, of the stage before, if any. Returns those after the last
    epoch, and their evaluation, of which the leader's counts. Raises UserError if the loss is not finite, or the folder
    cannot be used; Interrupted after a checkpoint, when any process is to stop.
    """
    learner = Learner(experiment, stage, feed.train_size, teacher)
    # Stages of one run see the images in different orders.
    key = jax.random.fold_in(jax.random.key(experiment.seed), experiment.stages.index(stage))
    init_key, batch_key = jax.random.split(key)
    state = learner.first_state(experiment.data.info.shape, init_key)
    if variables is not None:
        state = state.replace(**check_same_tree(variables, state.variables, "The stage before", "this one"))
    take = feed.trainer(learner.step, learner.batch, batch_key, check_finite)
    score = feed.scorer(learner.network.apply, learner.batch)
    with Silent() if folder is None else Record(folder, experiment.checkpoint_seconds) as record:
        parameters = f"{sum(x.size for x in jax.tree.leaves(state.params)):,} parameters"
        record.say(f"stage {stage.name}: {parameters}, {stage.epochs} epochs of {learner.steps_per_epoch} steps")
        state = hosts.from_leader(record.restore(state))
        loop = _Loop(stage, learner, experiment.eval_every_epochs, take, score, record, stopping)
        record.start(stage.name, state, learner.total, stage.batch_size, loop.epoch_ended(state))
        state = loop.run(state)
        return jax.device_get(state.variables), record.result


@dataclasses.dataclass
class _Loop:
    """Trains, scores and saves in turn, the same in all processes; only the leader's record is more than silent."""

    stage: Stage
    learner: Learner
    eval_every_epochs: int
    take: Callable
    score: Callable
    record: Record | Silent
    stopping: Callable[[], bool]

    def run(self, state: TrainState) -> TrainState:
        """The state at the end of the stage, from any state on."""
        length = 1  # of the next call to the devices, in steps
        while int(state.step) < self.learner.total or self.epoch_ended(state):
            step, ended = int(state.step), self.epoch_ended(state)
            # Agreed, else one process would wait for another.
            stop, save, length = hosts.agree(self.stopping(), not ended and self.record.due(step), length)
            if stop or save:
                self.record.save(step, state, pending=ended)
            if stop:
                at = f"stage {self.stage.name} at step {step} of {self.learner.total}"
                raise Interrupted(f"{at}; the same command goes on from there.")
            if ended:
                state = self.end_epoch(state)
            else:
                state, length = self.take_steps(state, length)
        return state

    def epoch_ended(self, state: TrainState) -> bool:
        """Whether an epoch has ended, and its sums are still to be written down."""
        return int(state.step) % self.learner.steps_per_epoch == 0 and int(state.sums.count) > 0

    def end_epoch(self, state: TrainState) -> TrainState:
        """Scores the test images where it is time to, writes all down, and saves; nothing of it if asked to stop."""
        step = int(state.step)
        epoch, result = step // self.learner.steps_per_epoch, {}
        if epoch % self.eval_every_epochs == 0 or step >= self.learner.total:
            sums = self.score(state.variables, lambda: bool(hosts.agree(self.stopping())[0]))
            if sums is None:
                return state
            result = {"epoch": epoch, **sums.means()}
        rate = {"learning_rate": float(self.learner.schedule(step - 1)), "epoch": epoch}
        self.record.trained(step, jax.device_get(state.sums).means() | rate)
        if result:
            self.record.evaluated(step, state.variables, result)
        state = state.replace(sums=Sums.zero())
        self.record.save(step, state, pending=False)
        return state

    def take_steps(self, state: TrainState, length: int) -> tuple[TrainState, int]:
        """The state after so many steps, or fewer where the epoch ends before; and how many should come next."""
        epoch, first = divmod(int(state.step), self.learner.steps_per_epoch)
        last = min(first + length, self.learner.steps_per_epoch)
        begun = time.monotonic()
        state = self.take(state, self.learner.constants, epoch, first, last)
        bad_step = int(state.bad_step)  # waits for the devices
        seconds = time.monotonic() - begun
        if bad_step >= 0:
            checkpoint = self.record.last_checkpoint()
            where = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint was saved yet"
            remedy = f"Lower {self.stage.name}.learning_rate in a new --workdir"
            raise UserError(f"The loss or the network is not finite at step {bad_step}; {where}. {remedy}.")
        self.record.advance((last - first) * self.stage.batch_size, seconds)
        # The first call also compiles; after it the length follows the speed.
        return state, 2 if length == 1 else max(2, round(DISPATCH_SECONDS / seconds * (last - first)))
