"""A whole run: its checks, its data, its teacher, and its stages in turn; and the score of a network."""

import contextlib
import math
from collections.abc import Callable

import jax

from onebnet_jax.errors import UserError
from onebnet_jax.native import library
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.networks.structure import blocks, check_deployable
from onebnet_jax.ops import binarize, losses
from onebnet_jax.runs import trained as trained_lib
from onebnet_jax.runs.checkpoint import BEST, LAST, PENDING
from onebnet_jax.runs.experiment import Experiment
from onebnet_jax.runs.trained import Trained
from onebnet_jax.runs.workdir import Workdir
from onebnet_jax.training import feed, hosts, stage, steps


def evaluate(trained: Trained, bn_batches: int = 0) -> dict[str, float]:
    """The score of `answers` alone."""
    return answers(trained, bn_batches)[0]


def answers(trained: Trained, bn_batches: int = 0) -> tuple[dict[str, float], feed.Answers]:
    """Scores a trained network on all test images of its data set, and prints what both are; and what it answers.

    Before that, the mean over `bn_batches` of training images takes the place of BN's running statistics, which lag
    behind a binarized network whose weights still change fast. Raises UserError for images that are missing, and for
    more batches than an epoch has.
    """
    hosts.check_devices()
    data = feed.open_data(trained.data, trained.config["seed"])
    if hosts.is_leader():
        print(f"{data.source}\n{trained.describe()}", flush=True)
        if note := trained.of_other_photos(data.photos):
            print(f"note: {note}", flush=True)
    # The score does not depend on the batch, so any number of devices will do.
    devices = jax.device_count()
    batch = stage.make_input(trained.data, math.ceil(trained.stage.batch_size / devices) * devices)
    check_bn_batches(bn_batches, batch.steps(data.train_size), "--bn-batches")
    apply, variables = trained.network(steps.AXIS).apply, trained.variables
    key = jax.random.key(trained.config["seed"])
    variables = feed.renewer(data, apply, batch, key, bn_batches)(variables)
    sums, found = feed.answers(data, apply, batch, variables)
    return sums.means(), found


def train(
    experiment: Experiment,
    workdir: Workdir,
    stopping: Callable[[], bool] = lambda: False,
    profile: tuple[int, int] | None = None,
) -> tuple[dict[str, float], dict[str, float]]:
    """Trains all stages, or goes on training, in a work directory that the leader alone uses.

    Returns in the leader the last score, and that of the last stage's `best` checkpoint; in the others nothing.

    `stopping` is asked at least every few seconds. profile is (first, last) of the steps to trace, see `trace.Trace`.
    Raises UserError for missing data, an impossible batch size, what `check_own` refuses, a teacher that does not fit,
    a work directory of another config, of other photos, of more epochs, or that cannot be written, or a loss that is
    not finite; Unavailable if another run uses it; Interrupted after a checkpoint, when any process is to stop.
    """
    check_batches(experiment, experiment.data.info.train_size or math.inf)  # 0 for a folder
    check_own(experiment)
    if hosts.is_leader():
        workdir.check()
    teacher = load_teacher(experiment)
    data = feed.open_data(experiment.data, experiment.seed)
    check_batches(experiment, data.train_size)
    if profile and profile[0] >= (most := max(total_steps(experiment, data.train_size).values())):
        raise UserError(
            f"--profile={profile[0]}:{profile[1]} begins behind the last step; a stage has {most}, from 0 on."
        )
    for each in experiment.stages:
        check_bn_batches(experiment.bn_batches, math.ceil(data.train_size / each.batch_size), "bn_batches")
    if data.absent:
        known = ", ".join(experiment.data.info.class_names)
        raise UserError(f"There are no training images of {', '.join(data.absent)}, where the classes are {known}.")
    if hosts.is_leader():
        workdir.check_photos(data.photos)
    variables, result, best = None, {}, {}
    with contextlib.ExitStack() as held:
        if hosts.is_leader():
            processes = "" if jax.process_count() == 1 else f" in {jax.process_count()} processes"
            devices = f"{jax.device_count()} x {jax.devices()[0].device_kind}{processes}"
            print(f"work directory: {workdir.title or workdir.folder}\n{data.source}", flush=True)
            print(f"{devices}, {library.in_use()}", flush=True)
            if jax.default_backend() == "cpu" and not library.available():
                print(library.reason(), flush=True)
            try:
                check_deployable(experiment.structure, experiment.data.info.shape, experiment.stages[-1].binarization)
            except UserError as error:
                print(f"note: what is trained here cannot be converted: {error}", flush=True)
            if teacher is not None:
                print(f"teacher: {experiment.teacher}, {teacher.describe()}", flush=True)
            held.enter_context(workdir.opened())
            check_progress(experiment, workdir, data.train_size)
            if is_complete(experiment, workdir, data.train_size):
                last = experiment.stages[-1]
                more = f"--config.{last.name}.epochs=MORE --change-config trains on"
                done = f"this run is complete: nothing is left of its {last.epochs} epochs"
                print(f"{done}; {more}, another --workdir trains anew", flush=True)
            if experiment.init and not any(workdir.last_step(each.name) for each in experiment.stages):
                variables = initial_variables(experiment, workdir)
            workdir.write_photos(data.photos)
            workdir.write_config()
        for each in experiment.stages:
            place = workdir.folder / each.name
            begin = each, place, data, teacher, variables
            variables, result, best = stage.train(experiment, *begin, stopping, profile)
    return result, best


def check_batches(experiment: Experiment, images: float = math.inf) -> None:
    """Raises UserError for a batch that the devices cannot share equally, or of more than all the training images.

    And for devices that are not those asked for: see `hosts.check_devices`.
    """
    hosts.check_devices()
    devices = jax.device_count()
    for each in experiment.stages:
        given = f"{each.name}.batch_size={each.batch_size}"
        if each.batch_size % devices:
            raise UserError(f"{given} cannot be shared equally by {devices} devices; choose a multiple of {devices}.")
        if each.batch_size > images:
            most = images - images % devices  # 0 where there are more devices than images
            remedy = f"choose at most {most}" if most else "use fewer devices"
            raise UserError(f"{given} is more than all {images} training images; {remedy}.")


def check_own(experiment: Experiment) -> None:
    """Raises UserError for an estimator, a scale of weights or a loss of a user's own that gives what it should not."""
    for name in {each.other_loss for each in experiment.stages} - losses.LOSSES.given:
        variables = trained_lib.random_variables(experiment.structure, experiment.data.info.shape)
        losses.check_loss(name, variables["params"], experiment.structure.num_classes)
    for signs in [each.binarization for each in experiment.stages if experiment.structure.binary]:
        asked = [(signs.estimator, signs.window)] * signs.activations + [(signs.weight_estimator, 1.0)] * signs.weights
        for name, window in asked:
            if name not in binarize.ESTIMATORS.given:
                binarize.check_estimator(name, window)
        if signs.weights and signs.weight_scale not in binarize.SCALES.given:
            binarize.check_scale(signs.weight_scale)


def check_bn_batches(batches: int, steps_per_epoch: int, name: str) -> None:
    """Raises UserError for more batches than an epoch has, or fewer than none, for BN's statistics."""
    if batches < 0:
        raise UserError(f"{name}={batches} must not be negative; 0 leaves the statistics as they are.")
    if batches > steps_per_epoch:
        raise UserError(f"{name}={batches} is more than the {steps_per_epoch} batches of an epoch.")


def check_progress(experiment: Experiment, workdir: Workdir, images: int) -> None:
    """Raises UserError where a stage was trained further than the config says, or only its best network was kept."""
    for each in experiment.stages:
        epoch = math.ceil(workdir.last_step(each.name) / math.ceil(images / each.batch_size))
        if epoch > each.epochs:
            fault = f"is less than the {epoch} that the run in {workdir.folder} has begun already"
            remedy = f"set at least {epoch}, or choose another --workdir"
            raise UserError(f"{each.name}.epochs={each.epochs} {fault}; {remedy}.")
        # Which to begin anew would overwrite; after the first epoch a run that is killed may leave it alone.
        if epoch > 1 and not any(workdir.last_step(each.name, kind) for kind in (LAST, PENDING)):
            kept = f"keeps the best network of a run of at least {epoch} epochs, but no checkpoint to go on from"
            raise UserError(f"{workdir.folder} {kept}; choose another --workdir.")


def total_steps(experiment: Experiment, images: int) -> dict[str, int]:
    """The steps of each stage, by its name, for so many training images."""
    return {each.name: each.epochs * math.ceil(images / each.batch_size) for each in experiment.stages}


def is_complete(experiment: Experiment, workdir: Workdir, images: int) -> bool:
    """Whether all stages have been trained to their end."""
    ends = total_steps(experiment, images)
    return all(workdir.last_step(name, LAST) >= end for name, end in ends.items())


def load_teacher(experiment: Experiment) -> Trained | None:
    """The teacher of a run's stages, or None if none needs one. Raises UserError if it is missing or does not fit."""
    if not any(each.teacher_weight for each in experiment.stages):
        return None
    if not experiment.teacher:
        raise UserError("teacher is empty, but a stage has a teacher_weight; name the work directory of a network.")
    teacher = trained_lib.load(experiment.teacher, LAST, otherwise=BEST)  # such as of those in results/
    trained_lib.check_same_images(experiment.data, teacher, f"teacher={experiment.teacher!r}")
    mine, its = (tuple(blocks(each.structure, experiment.data.info.shape).values()) for each in (experiment, teacher))
    if mine != its and any(each.attention_weight for each in experiment.stages):
        words = "maps of other sizes behind its blocks than this network, which an attention_weight compares"
        raise UserError(f"teacher={experiment.teacher!r} has {words}; name one with as many stages and blocks.")
    return teacher.with_order_of(experiment.data.info.class_names)


def initial_variables(experiment: Experiment, workdir: Workdir) -> dict:
    """Those of the network `init` of a run, without its head where that is for other classes. Prints what they are.

    What limits the use of that network limits this one's too, and is kept in the work directory. Raises UserError if
    that network is missing or has another body.
    """
    other, info = trained_lib.load(experiment.init), experiment.data.info
    words = f"init={experiment.init!r}"
    shapes = variable_shapes(Network(experiment.structure), info.shape)
    shapes["params"].pop("head")
    trained_lib.check_same_tree(other.body(), shapes, words, "the body of this network")
    known, found = info.class_names, other.info.class_names
    same = sorted(known) == sorted(found) if known and found else info.num_classes == other.info.num_classes
    head = "its head too" if same else f"a new head for {info.num_classes} classes, as it knows other classes"
    print(f"{words}: {other.describe()}; {head}", flush=True)
    if other.terms:
        print(f"note: {other.terms}", flush=True)
        (workdir.folder / trained_lib.TERMS).write_text(f"{other.terms}\n")
    return other.with_order_of(known).variables if same else other.body()
