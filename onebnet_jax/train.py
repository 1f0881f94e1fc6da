"""A run from config to checkpoints: its data, its teacher, and its stages in turn."""

from pathlib import Path

import jax
from ml_collections import ConfigDict

from onebnet_jax import data, feed, stage, workdir
from onebnet_jax.checkpoint import LAST, Run, load_run
from onebnet_jax.errors import UserError


def evaluate(run: Run) -> dict[str, float]:
    """Scores a trained network on all test images of its data set."""
    opened = feed.open_data(run.config)
    devices = jax.local_device_count()
    # The result does not depend on the batch, so any number of devices will do.
    config = run.config.copy_and_resolve_references()
    config[run.stage].batch_size = -(-config[run.stage].batch_size // devices) * devices
    network = stage.make_network(config, run.stage)
    scorer = stage.make_feed(config, run.stage, opened, network, None, jax.random.key(0), None)
    return stage.means(scorer.evaluate(run.variables))


def run(config: ConfigDict, folder: Path) -> dict[str, float]:
    """Trains all stages, or goes on training, in a work directory; returns the last evaluation.

    Raises UserError for missing data, an impossible batch size, a teacher that does not fit, a work directory of
    another config, or a loss that is not finite.
    """
    check_batch_sizes(config)
    opened = feed.open_data(config)
    size = opened.train_size
    for name in config.stages:
        if config[name].batch_size > size:
            raise UserError(f"{name}.batch_size={config[name].batch_size} is more than all {size} training images.")
    teacher = load_teacher(config)
    workdir.prepare(config, folder)
    print(
        f"{opened.source}\n{jax.local_device_count()} x {jax.devices()[0].device_kind}",
        flush=True,
    )
    variables, result = None, {}
    for name in config.stages:
        variables, result = stage.train(config, name, folder / name, opened, teacher, variables)
    return result


def check_batch_sizes(config: ConfigDict) -> None:
    """Raises UserError for a batch that the devices cannot share equally."""
    devices = jax.local_device_count()
    for name in config.stages:
        if config[name].batch_size % devices:
            raise UserError(
                f"{name}.batch_size={config[name].batch_size} cannot be shared equally by {devices} devices; "
                f"choose a multiple of {devices}."
            )


def load_teacher(config: ConfigDict) -> Run | None:
    """The teacher of a run's stages, or None if none needs one. Raises UserError if it is missing or does not fit."""
    if not any(config[name].teacher_weight for name in config.stages):
        return None
    if not config.teacher:
        raise UserError(
            "teacher is empty, but a stage has a teacher_weight; set it to the work directory of a network."
        )
    teacher = load_run(config.teacher, LAST)
    for field in ("shape", "num_classes", "mean", "std"):
        mine, its = (getattr(data.DATASETS[c.data.name], field) for c in (config, teacher.config))
        if mine != its:
            raise UserError(f"teacher={config.teacher!r} was trained on images of other {field}: {its}, not {mine}.")
    return teacher
