"""A training run from config to checkpoints. The effects are here: data, devices, disk, progress."""

import dataclasses
import time
from pathlib import Path

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict
from tqdm import tqdm

from onebnet_jax import config as config_lib
from onebnet_jax import data, optim, steps
from onebnet_jax.checkpoint import BEST, LAST, Checkpoints, Run
from onebnet_jax.errors import UserError
from onebnet_jax.metrics import Metrics
from onebnet_jax.models import Network

DISPATCH_SECONDS = 2.0  # how long one call to the devices should take: long enough to keep them busy


def make_network(config: ConfigDict, axis_name: str | None = steps.AXIS) -> Network:
    """The network that a config describes."""
    dtype = jnp.dtype(config.model.dtype)
    return Network(config_lib.structure(config), config_lib.binarization(config), axis_name, dtype)


def make_input(config: ConfigDict, devices: int) -> steps.Input:
    """How a config makes batches. Raises UserError for a batch that cannot be shared equally."""
    if config.train.batch_size % devices:
        raise UserError(
            f"train.batch_size={config.train.batch_size} cannot be shared equally by {devices} devices; "
            f"choose a multiple of {devices}."
        )
    info = data.DATASETS[config.data.name]
    return steps.Input(
        config.train.batch_size, devices, info.mean, info.std, config.data.crop_padding, config.data.flip
    )


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


def evaluate(run: Run) -> dict[str, float]:
    """Scores a trained network on all test images of its data set."""
    dataset = data.load(run.config.data.name, run.config.data.source, run.config.data.dir)
    devices = jax.local_device_count()
    batch = make_input(run.config, devices=1)
    # The result does not depend on the batch, so any number of devices will do.
    batch = dataclasses.replace(batch, batch_size=-(-batch.batch_size // devices) * devices, devices=devices)
    return Evaluator(make_network(run.config), batch, dataset)(run.variables["params"], run.variables["batch_stats"])


def run(config: ConfigDict, workdir: Path) -> dict[str, float]:
    """Trains, or goes on training, in a work directory; returns the last evaluation.

    Raises UserError for missing data, an impossible batch size, a work directory of another config, or a loss that is
    not finite.
    """
    devices = jax.local_device_count()
    batch = make_input(config, devices)
    dataset = data.load(config.data.name, config.data.source, config.data.dir)
    size = len(dataset.train_labels)
    if batch.batch_size > size:
        raise UserError(f"train.batch_size={batch.batch_size} is more than all {size} training images.")
    steps_per_epoch = batch.steps(size)
    prepare_workdir(config, workdir)

    network = make_network(config)
    schedule = optim.poly_schedule(config.train.learning_rate, config.train.epochs, steps_per_epoch)
    optimizer = optim.adam(schedule, config.train.weight_decay)
    init_key, batch_key = jax.random.split(jax.random.key(config.seed))
    state = initial_state(network, optimizer, dataset.info.shape, init_key)
    parameters = sum(x.size for x in jax.tree.leaves(state.params))
    print(f"{dataset.source}\n{parameters:,} parameters, {devices} x {jax.devices()[0].device_kind}")

    checkpoints = Checkpoints(workdir)
    best, result = {"top1": -1.0}, {}
    restored = checkpoints.restore(LAST, like=state)
    if restored is not None:
        step, state, info = restored
        best, result = info["best"], info["result"]
        print(f"resumed from the checkpoint of step {step}")
    metrics = Metrics(workdir, int(state.step))

    train_steps = jax.pmap(
        steps.make_train_steps(network.apply, optimizer, batch, batch_key, config.train.label_smoothing),
        steps.AXIS,
        in_axes=(None, 0, 0, None, None),
        out_axes=None,
        donate_argnums=0,
    )
    evaluator = Evaluator(network, batch, dataset)
    images, labels = replicate((dataset.train_images, dataset.train_labels))

    total, done = config.train.epochs * steps_per_epoch, int(state.step)
    bar = tqdm(total=total * batch.batch_size, initial=done * batch.batch_size, unit="img", unit_scale=True)
    saved_at, dispatch = time.monotonic(), 1
    epoch_seconds = 0.0
    while done < total:
        epoch, first = divmod(done, steps_per_epoch)
        last = min(first + dispatch, steps_per_epoch)
        begun = time.monotonic()
        state = train_steps(state, images, labels, first, last)
        done = int(state.step)
        seconds = time.monotonic() - begun
        if int(state.bad_step) >= 0:
            bar.close()
            raise non_finite(int(state.bad_step), checkpoints, workdir)
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
    return result


def prepare_workdir(config: ConfigDict, workdir: Path) -> None:
    """Creates the work directory with its config.json, or checks that it belongs to this config."""
    path = workdir / "config.json"
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        if path.exists():
            check_same(config, workdir)
        else:
            partial = path.with_suffix(".tmp")
            partial.write_text(config.to_json(indent=2) + "\n")
            partial.replace(path)
    except OSError as error:
        raise UserError(f"The work directory {workdir} cannot be used: {error.strerror}; choose another.") from error


def check_same(config: ConfigDict, workdir: Path) -> None:
    """Raises UserError that names the fields in which a work directory's config differs from the one asked for."""
    saved, asked = (config_lib.flat(c) for c in (config_lib.load_json(workdir / "config.json"), config))
    differing = [
        f"{name} ({saved.get(name)!r} there, {asked.get(name)!r} now)"
        for name in sorted(saved.keys() | asked.keys())
        if saved.get(name) != asked.get(name)
    ]
    if differing:
        raise UserError(
            f"{workdir} holds a run of another config: {', '.join(differing)}; choose another --workdir, or set these "
            "fields as they were."
        )


def non_finite(step: int, checkpoints: Checkpoints, workdir: Path) -> UserError:
    """The error for a loss that is not finite, naming the step and what there is to go back to."""
    checkpoints.wait()
    good = checkpoints.latest_step(LAST)
    path = workdir / "checkpoints" / LAST / str(good)
    where = "no checkpoint was saved yet" if good is None else f"the last good checkpoint is {path}"
    return UserError(
        f"The loss or the network is not finite at step {step}; {where}. Lower train.learning_rate in a new --workdir."
    )
