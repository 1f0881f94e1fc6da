"""Training speed and memory: images/s, the share of this machine's matrix-product rate, and the peak of memory.

    python -m onebnet_jax.train_benchmark configs/fashionmnist_ds32_64.py configs/cifar10_typeII.py

Each round times a matrix product and some training steps of each config in turn, so that a machine whose speed drifts
does not favour either; medians over the rounds are printed. The images are random.
"""

import argparse
import resource
import time

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from onebnet_jax import config as config_lib
from onebnet_jax import cost, optim, stage, steps, train
from onebnet_jax.errors import cli

GEMM_SIZE = 2048
FORWARD_AND_BACKWARD = 3  # the two gradients of a product cost as much as the product each


def gemm_flops_per_second(dtype) -> float:
    """The rate of a square matrix product on one device, in FLOP/s (2 per multiply-accumulate)."""
    matrix = jnp.ones((GEMM_SIZE, GEMM_SIZE), dtype)
    product = jax.jit(lambda a: a @ a)
    product(matrix).block_until_ready()
    begun = time.perf_counter()
    for _ in range(3):
        result = product(matrix)
    result.block_until_ready()
    return 3 * 2 * GEMM_SIZE**3 / (time.perf_counter() - begun)


class Trainer:
    """Training steps of one config on random images, ready to be timed."""

    def __init__(self, config):
        devices = jax.local_device_count()
        name = config.stages[-1]
        batch = stage.make_input(config, config[name].batch_size, devices)
        network = stage.make_network(config, name)
        optimizer = optim.adam(optim.poly_schedule(config[name].learning_rate, 1, 1), config[name].weight_decay)
        shape = config_lib.input_shape(config)
        structure = config_lib.structure(config)
        counted = cost.total(cost.layers(structure, shape))
        self.flops_per_image = 2 * FORWARD_AND_BACKWARD * (counted.float_macs + counted.binary_macs)
        self.dtype, self.devices = jnp.dtype(config.model.dtype), devices
        self.state = stage.initial_state(network, optimizer, shape, jax.random.key(0))
        rng = np.random.default_rng(0)
        self._images_per_call = 4 * batch.batch_size
        images = rng.integers(0, 256, (self._images_per_call, *shape), np.uint8)
        labels = rng.integers(0, structure.num_classes, self._images_per_call).astype(np.int32)
        self._data = stage.replicate(({}, images, labels))
        loss = stage.make_loss(ConfigDict({**config[name], "label_weight": 1.0, "teacher_weight": 0.0}), None)
        steps_fn = steps.make_train_steps(
            steps.make_train_step(network.apply, optimizer, loss), batch, jax.random.key(0)
        )
        pmapped = jax.pmap(steps_fn, steps.AXIS, in_axes=(None, 0, 0, 0, None, None), out_axes=None)
        begun = time.perf_counter()
        self._run = pmapped.lower(self.state, *self._data, 0, 4).compile()
        self.compile_seconds = time.perf_counter() - begun
        self.temporary_bytes = self._run.memory_analysis().temp_size_in_bytes
        self.images_per_second()  # the first call is not typical

    def images_per_second(self) -> float:
        """Takes the steps of one pass over the images."""
        begun = time.perf_counter()
        state = jax.block_until_ready(self._run(self.state, *self._data, jnp.int32(0), jnp.int32(4)))
        seconds = time.perf_counter() - begun
        del state
        return self._images_per_call / seconds


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
    trainers = {path: Trainer(config) for path, config in configs.items()}
    rates = {path: [] for path in trainers}
    for _ in range(args.rounds):
        for path, trainer in trainers.items():
            gemm = gemm_flops_per_second(trainer.dtype)
            rates[path].append((trainer.images_per_second(), gemm))
    print(f"{jax.local_device_count()} x {jax.devices()[0].device_kind}, jax {jax.__version__}, {args.rounds} rounds")
    for path, trainer in trainers.items():
        images, gemms = np.array(rates[path]).T
        share = np.median(images * trainer.flops_per_image / (gemms * trainer.devices))
        print(
            f"{path} {trainer.dtype.name}: {np.median(images):.1f} images/s, {100 * share:.1f} % of "
            f"{np.median(gemms) / 1e9:.0f} GFLOP/s, {trainer.flops_per_image / 1e6:.0f} MFLOP/image, temporary memory "
            f"{trainer.temporary_bytes / 2**20:.0f} MiB, compiled in {trainer.compile_seconds:.0f} s"
        )
    memory = jax.local_devices()[0].memory_stats() or {}
    peak = memory.get("peak_bytes_in_use", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(f"peak memory of the process{' on the device' if memory else ''}: {peak / 2**20:.0f} MiB")


if __name__ == "__main__":
    cli(main)
