"""One stage of training, from its first or last state to its end."""

import contextlib
import dataclasses
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from onebnet_jax.errors import Interrupted, UserError
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Structure, blocks
from onebnet_jax.ops import losses
from onebnet_jax.runs import optim
from onebnet_jax.runs.experiment import AUGMENTATION, Data, Experiment, Stage
from onebnet_jax.runs.trained import Trained, check_same_tree
from onebnet_jax.training import diagnostics, hosts
from onebnet_jax.training.feed import Feed, renewer, replicate
from onebnet_jax.training.record import Record, Silent
from onebnet_jax.training.steps import AXIS, Input, Sums, TrainState, check_finite, train_step
from onebnet_jax.training.trace import Trace

DISPATCH_SECONDS = 2.0  # how long one call to the devices should take: long enough to keep them busy


def make_input(data: Data, batch_size: int) -> Input:
    changes = {name: getattr(data, name) for name in AUGMENTATION}
    return Input(batch_size, jax.device_count(), data.info.mean, data.info.std, **changes)


def loss_of(
    stage: Stage, teacher: Network | None, logits, labels, images, params, teacher_variables, kept=None, structure=None
) -> jax.Array:
    """The loss of a stage, for images as the networks take them: logits [N, K], labels [N] -> [N].

    kept: the intermediates of the network, of that structure, where the stage has an attention_weight.
    """
    total = 0.0
    if stage.label_weight:
        total += stage.label_weight * losses.cross_entropy(logits, labels, stage.label_smoothing)
    if stage.teacher_weight:
        if stage.attention_weight:
            teacher_logits, its = teacher.apply(teacher_variables, images, mutable=["intermediates"])
            maps = _block_maps(structure, kept, images), _block_maps(teacher.structure, its["intermediates"], images)
            total += stage.attention_weight * losses.attention(*maps)
        else:
            teacher_logits = teacher.apply(teacher_variables, images)
        total += stage.teacher_weight * losses.distribution(logits, teacher_logits, stage.temperature)
    if stage.other_weight:
        total += stage.other_weight * losses.LOSSES[stage.other_loss](logits, labels, params)
    return total


def _block_maps(structure: Structure, kept: dict, images) -> list[jax.Array]:
    return [kept[f"{section}_output"][0] for section in blocks(structure, images.shape[1:])]


class Learner:
    """What learns in a stage of `total` steps: `step` takes one, with `constants`, the teacher's variables."""

    def __init__(self, experiment: Experiment, stage: Stage, train_size: int, teacher: Trained | None):
        self.network = Network(experiment.structure, stage.binarization, AXIS, jnp.dtype(experiment.dtype))
        self.batch = make_input(experiment.data, stage.batch_size)
        self.steps_per_epoch = self.batch.steps(train_size)
        self.total = stage.epochs * self.steps_per_epoch
        self.optimizer, self.schedule = optim.make(stage.optimizer, stage.epochs, self.steps_per_epoch)
        self.loss, self.kept = partial(loss_of, stage, teacher and teacher.network()), ()
        if stage.attention_weight:
            self.loss, self.kept = partial(self.loss, structure=experiment.structure), ("intermediates",)
        self.step = partial(
            train_step, self.network.apply, self.optimizer, self.loss, self.batch, self.total, kept=self.kept
        )
        self.constants = replicate(teacher.variables if teacher else {})

    def first_state(self, image_shape: tuple[int, int, int], key: jax.Array) -> TrainState:
        return TrainState.first(jax.jit(self.network.init)(key, jnp.zeros((1, *image_shape))), self.optimizer)


def train(
    experiment: Experiment,
    stage: Stage,
    folder,
    feed: Feed,
    teacher: Trained | None,
    variables: dict | None,
    stopping,
    profile: tuple[int, int] | None = None,
):
    """Trains a stage of an experiment, or goes on training it, in a folder that only the leader uses.

    Begins with the `variables`, {"params", "batch_stats"}, of the stage before, if any; a head that they lack is new.
    Returns those after the last epoch, and in the leader their evaluation and that of the best. Raises as `run.train`
    does. profile: see `trace.Trace`; the leader's.
    """
    learner = Learner(experiment, stage, feed.train_size, teacher)
    # Stages of one run see the images in different orders.
    key = jax.random.fold_in(jax.random.key(experiment.seed), experiment.stages.index(stage))
    init_key, batch_key = jax.random.split(key)
    state = learner.first_state(experiment.data.info.shape, init_key)
    if variables is not None:
        whole = variables | {"params": {"head": state.params["head"]} | variables["params"]}
        begin = check_same_tree(whole, state.variables, "The stage before", "this one")
        state = TrainState.first(begin, learner.optimizer)
    take = feed.trainer(learner.step, learner.batch, batch_key, check_finite)
    scores = {"": feed.scorer(learner.network.apply, learner.batch)}
    if feed.validates:
        scores["validation_"] = feed.scorer(learner.network.apply, learner.batch, "validation")
    renew_key = jax.random.fold_in(key, 2)
    renew = renewer(feed, learner.network.apply, learner.batch, renew_key, experiment.bn_batches)
    record = Silent(state)
    if hosts.is_leader():
        parameters = f"{sum(x.size for x in jax.tree.leaves(state.params)):,} parameters"
        length = f"{stage.epochs} epochs of {learner.steps_per_epoch} steps"
        print(f"stage {stage.name}: {parameters}, {length}", flush=True)
        record = Record(folder, experiment.checkpoint_seconds, state, learner.total, stage.batch_size)
    trace, measure = Trace(folder, profile if hosts.is_leader() else None), None
    if experiment.diagnostics and hosts.is_leader():
        some = feed.some(stage.batch_size // jax.device_count())  # what one device can hold
        measure = diagnostics.measurer(
            learner.network, learner.loss, learner.batch, *some, teacher.variables if teacher else {}, learner.kept
        )
    with record, contextlib.closing(trace):
        state = hosts.from_leader(record.state)
        every = experiment.eval_every_epochs
        loop = _Loop(stage, learner, every, take, scores, record, stopping, trace, renew, measure)
        state = loop.run(state)
        return jax.device_get(state.variables), record.result, record.best


@dataclasses.dataclass
class _Loop:
    """Trains, scores and saves in turn, the same in all processes."""

    stage: Stage
    learner: Learner
    eval_every_epochs: int
    take: Callable
    scores: dict[str, Callable]  # by what the names of their results begin with
    record: Record | Silent
    stopping: Callable[[], bool]
    trace: Trace
    renew: Callable  # BN's statistics, before each evaluation
    measure: Callable | None = None  # diagnostics, in the leader
    length: int = 1  # of the next call to the devices, in steps

    def run(self, state: TrainState) -> TrainState:
        """The state at the end of the stage, from any state on."""
        if self.measure and int(state.step) == 0:
            self.diagnose(state)
        while int(state.step) < self.learner.total or self.epoch_ended(state):
            step, ended = int(state.step), self.epoch_ended(state)
            # Agreed, else one process would wait for another.
            stop, save, self.length = hosts.agree(self.stopping(), not ended and self.record.due(step), self.length)
            if stop or save:
                self.record.save(step, state, pending=ended)
            if stop:
                at = f"stage {self.stage.name} at step {step} of {self.learner.total}"
                raise Interrupted(f"{at}; the same command goes on from there.")
            state = self.end_epoch(state) if ended else self.take_steps(state)
        return state

    def epoch_ended(self, state: TrainState) -> bool:
        """Whether an epoch has ended, and its sums are still to be written down."""
        return int(state.step) % self.learner.steps_per_epoch == 0 and int(state.sums.count) > 0

    def end_epoch(self, state: TrainState) -> TrainState:
        """Scores where it is time to, writes all down, and saves; nothing of it if asked to stop."""
        step = int(state.step)
        epoch, result, variables = step // self.learner.steps_per_epoch, {}, state.variables
        if epoch % self.eval_every_epochs == 0 or step >= self.learner.total:
            result = {"epoch": epoch}
            stopping = lambda: bool(hosts.agree(self.stopping())[0])  # noqa: E731
            if (variables := self.renew(variables, stopping)) is None:
                return state
            for prefix, score in self.scores.items():
                if (sums := score(variables, stopping)) is None:
                    return state
                result |= {f"{prefix}{name}": value for name, value in sums.means().items()}
        rate = {"learning_rate": float(self.learner.schedule(step - 1)), "epoch": epoch}
        self.record.trained(step, jax.device_get(state.sums).means() | rate)
        if result:
            self.record.evaluated(step, variables, result)
        if self.measure:
            self.diagnose(state)
        state = state.replace(sums=Sums())
        if step >= self.learner.total:  # what a stage leaves is what was scored
            state = state.replace(batch_stats=variables["batch_stats"])
        self.record.save(step, state, pending=False)
        return state

    def diagnose(self, state: TrainState) -> None:
        """Writes down the diagnostics of the epoch that has ended, or at step 0 only what the first one needs."""
        step, length = int(state.step), self.learner.steps_per_epoch
        variables, values = jax.device_get(state.variables), {}
        if step:
            values = {"epoch": step // length} | self.measure(variables, step / self.learner.total)
        signs = diagnostics.signs(self.learner.network.structure, variables["params"])
        self.record.diagnosed(step, step - length, signs, values)

    def take_steps(self, state: TrainState) -> TrainState:
        """The state after `length` steps, or fewer where the epoch ends before."""
        epoch, first = divmod(int(state.step), self.learner.steps_per_epoch)
        length = self.trace.limit(int(state.step), self.length)
        last = min(first + length, self.learner.steps_per_epoch)
        self.trace.at(int(state.step))
        begun = time.monotonic()
        state = self.take(state, self.learner.constants, epoch, first, last)
        bad_step = int(state.bad_step)  # waits for the devices
        seconds = time.monotonic() - begun
        self.trace.at(int(state.step))
        if bad_step >= 0:
            checkpoint = self.record.last_checkpoint()
            where = f"the last good checkpoint is {checkpoint}" if checkpoint else "no checkpoint was saved yet"
            remedy = f"Lower {self.stage.name}.learning_rate in a new --workdir"
            raise UserError(f"The loss or the network is not finite at step {bad_step}; {where}. {remedy}.")
        self.record.advance((last - first) * self.stage.batch_size, seconds)
        # The first call also compiles; after it the length follows the speed.
        self.length = 2 if self.length == 1 else max(2, round(DISPATCH_SECONDS / seconds * (last - first)))
        return state
