"""A run from config to checkpoints: its data, its teacher, and its stages in turn."""

from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import optax
from ml_collections import ConfigDict

from onebnet_jax.data import catalog as data_info
from onebnet_jax.errors import UserError
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import workdir
from onebnet_jax.runs.checkpoint import LAST, PENDING, Run, load_run
from onebnet_jax.training import feed, hosts, losses, stage


def evaluate(run: Run, overrides: Sequence[str] = (), bn_batches: int = 0) -> dict[str, float]:
    """Scores a trained network on all test images of its data set, and prints what it is and what they are.

    Args:
      run: the network.
      overrides: may say where the images are.
      bn_batches: so many batches of training images first move BN's running statistics, as in a step of training that
        leaves the parameters alone. These lag behind a binarized network whose weights still change fast; by 0.9 a
        batch, what they were is gone after about 40.

    Raises UserError for overrides of anything but the data, where these are missing or unlike those of training, and
    for more batches than an epoch has.
    """
    config = with_data(run.config, overrides)
    opened = feed.open_data(config)
    if hosts.is_leader():
        print(f"{opened.source}\n{describe(run)}", flush=True)
    devices, fields = jax.device_count(), config[run.stage]
    # The score does not depend on the batch, so any number of devices will do.
    fields.batch_size = -(-fields.batch_size // devices) * devices
    steps_per_epoch = stage.make_input(config, fields.batch_size, devices).steps(opened.train_size)
    if bn_batches > steps_per_epoch:
        raise UserError(f"--bn-batches={bn_batches} is more than the {steps_per_epoch} batches of an epoch.")
    network, optimizer = stage.make_network(config, run.stage), optax.set_to_zero()
    scorer = stage.make_feed(config, run.stage, opened, network, optimizer, jax.random.key(config.seed), _label_loss)
    variables = run.variables
    if bn_batches:
        state = scorer.train(stage.state_of(variables, optimizer), feed.replicate({}), 0, 0, bn_batches)
        variables = stage.variables_of(state)
    return stage.means(scorer.evaluate(variables))


def _label_loss(logits, labels, *_):
    return losses.cross_entropy(logits, labels)


def run(
    config: ConfigDict, folder: Path, change_config: bool = False, stopping: Callable[[], bool] = lambda: False
) -> dict[str, float]:
    """Trains all stages, or goes on training, in a work directory; returns the last evaluation.

    Args:
      config: of the run.
      folder: the work directory; of several processes, the leader alone uses it.
      change_config: whether a run that is there may go on with another config.
      stopping: says when to stop; asked at least every few seconds.

    Raises:
      UserError: for missing data, an impossible batch size, a teacher that does not fit, a work directory of another
        config, of more epochs, or that cannot be written, or a loss that is not finite.
      Unavailable: if another run uses the work directory.
      Interrupted: after a checkpoint, when any process is asked to stop.
    """
    check_batch_sizes(config)
    check_images_for_a_batch(config, data_info.DATASETS[config.data.name].train_size)
    if hosts.is_leader():
        workdir.check(config, folder, change_config)
    teacher = load_teacher(config)
    opened = feed.open_data(config)
    size = opened.train_size
    check_images_for_a_batch(config, size)
    if not hosts.is_leader():
        return stages(config, None, opened, teacher, stopping)
    processes = "" if jax.process_count() == 1 else f" in {jax.process_count()} processes"
    print(f"{opened.source}\n{jax.device_count()} x {jax.devices()[0].device_kind}{processes}", flush=True)
    if teacher is not None:
        print(f"teacher: {config.teacher}, {describe(teacher)}", flush=True)
    with workdir.opened(folder):
        check_progress(config, folder, size)
        workdir.prepare(config, folder, change_config)
        return stages(config, folder, opened, teacher, stopping)


def stages(config, folder, opened, teacher, stopping) -> dict[str, float]:
    """Trains one stage after the other, see `run`; in the folder STAGE of the work directory, if there is one."""
    variables, result = None, {}
    for name in config.stages:
        place = None if folder is None else folder / name
        variables, result = stage.train(config, name, place, opened, teacher, variables, stopping)
    return result


def check_batch_sizes(config: ConfigDict) -> None:
    """Raises UserError for a batch that the devices cannot share equally."""
    devices = jax.device_count()
    for name in config.stages:
        if config[name].batch_size % devices:
            raise UserError(
                f"{name}.batch_size={config[name].batch_size} cannot be shared equally by {devices} devices; "
                f"choose a multiple of {devices}."
            )


def check_images_for_a_batch(config: ConfigDict, size: int) -> None:
    """Raises UserError for a batch of more than `size` images: those of the whole set, then of what was found of it."""
    for name in config.stages:
        if config[name].batch_size > size:
            raise UserError(f"{name}.batch_size={config[name].batch_size} is more than all {size} training images.")


def check_progress(config: ConfigDict, folder: Path, size: int) -> None:
    """Raises UserError where a run, on `size` images, cannot go on from what there is of it.

    That is where a stage has been trained further than the config says, or where only its best network was kept: to
    begin anew would overwrite it and its metrics.
    """
    for name in config.stages:
        steps_per_epoch = stage.make_input(config, config[name].batch_size, jax.device_count()).steps(size)
        epoch = -(-workdir.last_step(folder, name) // steps_per_epoch)
        if epoch > config[name].epochs:
            raise UserError(
                f"{name}.epochs={config[name].epochs} is less than the {epoch} that the run in {folder} has begun "
                f"already; set at least {epoch}, or choose another --workdir."
            )
        # After the first epoch a run that is killed may leave a best checkpoint alone.
        if epoch > 1 and not any(workdir.last_step(folder, name, kind) for kind in (LAST, PENDING)):
            raise UserError(
                f"{folder} keeps the best network of a run of at least {epoch} epochs, but no checkpoint to go on "
                "from; choose another --workdir."
            )


def load_teacher(config: ConfigDict) -> Run | None:
    """The teacher of a run's stages, or None if none needs one. Raises UserError if it is missing or does not fit."""
    if not any(config[name].teacher_weight for name in config.stages):
        return None
    if not config.teacher:
        raise UserError(
            "teacher is empty, but a stage has a teacher_weight; set it to the work directory of a network."
        )
    teacher = stage.check_run(load_run(config.teacher, LAST), config.teacher)
    check_same_images(config, teacher.config, f"teacher={config.teacher!r}")
    return teacher


def with_data(of_run: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A run's config with overrides of where its images are.

    Raises UserError for overrides of anything else, and for images unlike those of training.
    """
    others = [word for word in overrides if not word.startswith("--config.data.")]
    if others:
        raise UserError(f"{others[0]!r} is not an option; of the run's config, only --config.data.* can be set.")
    config = config_lib.override(of_run.copy_and_resolve_references(), overrides)
    check_same_images(config, of_run, "The network")
    return config


def check_same_images(config: ConfigDict, of_run: ConfigDict, run_name: str) -> None:
    """Raises UserError if a network was trained on images that are unlike those of a config."""
    for field in ("shape", "num_classes", "mean", "std"):
        mine, its = (getattr(data_info.DATASETS[c.data.name], field) for c in (config, of_run))
        if mine != its:
            raise UserError(f"{run_name} was trained on images of other {field}: {its}, not {mine}.")


def describe(run: Run) -> str:
    """A network in words: what it is, how far its training had come, and its last score then."""
    words = f"ResNet{run.structure.depth}"
    if run.structure.block == "resnet":
        words = f"FP32 {words}"
    else:
        binary = {"activations": run.binarization.activations, "weights": run.binarization.weights}
        words += "".join(f", {'binarized' if value else 'float'} {name}" for name, value in binary.items())
    stages, result = run.config.stages, run.metrics
    words += f", stage {run.stage} ({stages.index(run.stage) + 1} of {len(stages)}), step {run.step}"
    if not result:
        return f"{words}, not evaluated in training"
    return f"{words}, test Top-1 {result['top1']:.2f} % after epoch {result['epoch']} of {run.config[run.stage].epochs}"
