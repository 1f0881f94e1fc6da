"""Training speed and memory: images/s, the share of this machine's matrix-product rate, and the peak of memory.

    python -m onebnet_jax.train_benchmark configs/fashionmnist_ds32_64.py configs/cifar10_typeII.py

Each round times matrix products and some training steps of each config in turn, so that a machine whose speed drifts
does not favour either; medians over the rounds are printed. The steps are those of a config's last stage, with its
teacher if it has one; the images are random. The products are of the config's type, on an accelerator of float32 and
bfloat16, at JAX's default precision: on GPUs that have it, TF32 in place of float32, as in training.
"""

import argparse
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from onebnet_jax.errors import cli
from onebnet_jax.networks import cost
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.checkpoint import Run
from onebnet_jax.training import feed, optim, stage, steps
from onebnet_jax.training import run as train

GEMM_SIZE = 2048
GEMM_SIZE_ON_ACCELERATORS = 8192  # which keeps all of a large one busy
GEMM_SECONDS = 0.2  # of timing at least, beside which starting and waiting do not count
FORWARD_AND_BACKWARD = 3  # the two gradients of a product cost as much as the product each
STEPS_PER_CALL = 4


def on_accelerator() -> bool:
    """Whether JAX uses something else than the CPU."""
    return jax.default_backend() != "cpu"


def gemm_flops_per_second(dtype: str, size: int) -> float:
    """The rate of [size, size] matrix products on one device, in FLOP/s (2 per multiply-accumulate).

    The entries are random: the power that a GPU draws, and so its clock, depends on them.
    """
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype) / size**0.5  # its powers stay in range
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    count, seconds = 1, 0.0
    while seconds < GEMM_SECONDS:
        count *= 2
        result = matrix
        begun = time.perf_counter()
        for _ in range(count):
            result = product(result, matrix)
        result.block_until_ready()
        seconds = time.perf_counter() - begun
    return count * 2 * size**3 / seconds


def macs(config: ConfigDict, shape: tuple[int, int, int]) -> int:
    """Multiply-accumulates of a config's network for one image of a shape (H, W, C)."""
    counted = cost.total(cost.layers(config_lib.structure(config), shape))
    return counted.float_macs + counted.binary_macs


class Trainer:
    """Training steps of a config's last stage on random images, ready to be timed."""

    def __init__(self, config: ConfigDict, teacher: Run | None):
        self.name = config.stages[-1]
        fields, shape = config[self.name], config_lib.input_shape(config)
        self.devices = jax.local_device_count()
        self.dtype = config.model.dtype
        self.gemm_dtypes = ("float32", "bfloat16") if on_accelerator() else (self.dtype,)
        batch = stage.make_input(config, fields.batch_size, self.devices)
        network = stage.make_network(config, self.name)
        optimizer = optim.adam(optim.poly_schedule(fields.learning_rate, 1, 1), fields.weight_decay)
        teacher_network = None if teacher is None else stage.make_network(teacher.config, teacher.stage, axis_name=None)
        loss = stage.make_loss(fields, teacher_network)

        self.flops_per_image = 2 * FORWARD_AND_BACKWARD * macs(config, shape)
        if teacher is not None:
            self.flops_per_image += 2 * macs(teacher.config, shape)
        self._state = stage.initial_state(network, optimizer, shape, jax.random.key(0))
        rng = np.random.default_rng(0)
        self._images_per_call = STEPS_PER_CALL * fields.batch_size
        images = rng.integers(0, 256, (self._images_per_call, *shape), np.uint8)
        labels = rng.integers(0, config_lib.structure(config).num_classes, self._images_per_call).astype(np.int32)
        self._data = feed.replicate(({} if teacher is None else teacher.variables, images, labels))
        steps_fn = steps.make_train_steps(
            steps.make_train_step(network.apply, optimizer, loss), batch, jax.random.key(0)
        )
        pmapped = jax.pmap(steps_fn, steps.AXIS, in_axes=(None, 0, 0, 0, None, None), out_axes=None)
        begun = time.perf_counter()
        self._run = pmapped.lower(self._state, *self._data, 0, STEPS_PER_CALL).compile()
        self.compile_seconds = time.perf_counter() - begun
        self.temporary_bytes = self._run.memory_analysis().temp_size_in_bytes
        self.run()  # the first call is not typical

    def run(self) -> steps.TrainState:
        """Takes the steps of one pass over the images, and waits for the state after them."""
        return jax.block_until_ready(self._run(self._state, *self._data, jnp.int32(0), jnp.int32(STEPS_PER_CALL)))

    def images_per_second(self) -> float:
        """The rate of one pass over the images."""
        begun = time.perf_counter()
        self.run()
        return self._images_per_call / (time.perf_counter() - begun)


def report(path: str, trainer: Trainer, rates: list[list[float]]) -> str:
    """A line on a config, given for each round images/s and the FLOP/s of each of the trainer's `gemm_dtypes`."""
    images, *gemms = np.array(rates).T
    parts = [f"{np.median(images):.1f} images/s"]
    for dtype, gemm in zip(trainer.gemm_dtypes, gemms, strict=True):
        share = np.median(images * trainer.flops_per_image / (gemm * trainer.devices))
        parts.append(f"{100 * share:.1f} % of {np.median(gemm) / 1e9:.0f} GFLOP/s in {dtype}")
    parts += [
        f"{trainer.flops_per_image / 1e6:.0f} MFLOP/image",
        f"temporary memory {trainer.temporary_bytes / 2**20:.0f} MiB",
        f"compiled in {trainer.compile_seconds:.0f} s",
    ]
    return f"{path} {trainer.name} {trainer.dtype}: {', '.join(parts)}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m onebnet_jax.train_benchmark", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("configs", nargs="+", metavar="CONFIG")
    parser.add_argument("--rounds", type=int, default=5)
    args, overrides = parser.parse_known_args(argv)
    if args.rounds < 1:
        parser.error("--rounds must be at least 1")
    configs = {path: config_lib.load(path, overrides) for path in args.configs}
    for config in configs.values():
        train.check_batch_sizes(config)
    teachers = {path: train.load_teacher(config) for path, config in configs.items()}
    trainers = {path: Trainer(config, teachers[path]) for path, config in configs.items()}
    memory = jax.local_devices()[0].memory_stats() or {}  # before the large matrices
    peak = memory.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    size = GEMM_SIZE_ON_ACCELERATORS if on_accelerator() else GEMM_SIZE
    rates = {path: [] for path in trainers}
    for _ in range(args.rounds):
        for path, trainer in trainers.items():
            gemms = [gemm_flops_per_second(dtype, size) for dtype in trainer.gemm_dtypes]
            rates[path].append([trainer.images_per_second(), *gemms])
    print(f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, {args.rounds} rounds")
    for path, trainer in trainers.items():
        print(report(path, trainer, rates[path]))
    print(f"peak memory of the process{' on the device' if memory else ''}: {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    cli(main)
