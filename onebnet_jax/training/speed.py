"""How fast a network trains here, and how fast matrix products are here, with which to compare."""

import tempfile
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from onebnet_jax.networks import cost
from onebnet_jax.runs.experiment import Experiment
from onebnet_jax.runs.trained import Trained
from onebnet_jax.training import steps, trace
from onebnet_jax.training.feed import pmap, replicate
from onebnet_jax.training.stage import Learner

SECONDS = 0.2  # of timing at least, beside which starting and waiting do not count
STEPS_PER_CALL = 4


def per_second(step: Callable, first) -> float:
    """How often a second `step` turns a result into the next, beginning with `first`."""
    count = 1
    while True:
        result = first
        begun = time.perf_counter()
        for _ in range(count):
            result = step(result)
        jax.block_until_ready(result)
        seconds = time.perf_counter() - begun
        if seconds >= SECONDS:
            return count / seconds
        count *= 2


def gemm_flops_per_second(dtype: str, size: int) -> float:
    """The rate of [size, size] matrix products on one device, in FLOP/s (2 per multiply-accumulate)."""
    # Random, as the power that a GPU draws, and so its clock, depends on the entries.
    matrix = jax.random.normal(jax.random.key(0), (size, size), dtype) / size**0.5  # its powers stay in range
    product = jax.jit(jnp.matmul)
    product(matrix, matrix).block_until_ready()
    return per_second(lambda result: product(result, matrix), matrix) * 2 * size**3


def forward_flops(network: Experiment | Trained) -> int:
    """Floating-point operations of a network for one image, 2 per multiply-accumulate."""
    counted = cost.total(cost.layers(network.structure, network.data.info.shape))
    return 2 * (counted.float_macs + counted.binary_macs)


class Trainer:
    """Training steps of an experiment's last stage on random images, ready to be timed."""

    def __init__(self, experiment: Experiment, teacher: Trained | None):
        stage, info = experiment.stages[-1], experiment.data.info
        # The two gradients of a product cost as much as the product each.
        self.flops_per_image = 3 * forward_flops(experiment) + (forward_flops(teacher) if teacher else 0)
        self._count = STEPS_PER_CALL * stage.batch_size
        learner = Learner(experiment, stage, self._count, teacher)
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (self._count, *info.shape), np.uint8)
        labels = rng.integers(0, info.num_classes, self._count).astype(np.int32)
        places = jnp.int32(0), jnp.int32(0), jnp.int32(STEPS_PER_CALL)
        state = learner.first_state(info.shape, jax.random.key(0))
        self._arguments = (state, learner.constants, *replicate((images, labels)), *places)
        run = pmap(steps.many(learner.step, learner.batch, jax.random.key(0)), (None, 0, 0, 0, None, None, None))
        begun = time.perf_counter()
        self._run = run.lower(*self._arguments).compile()
        self.compile_seconds = time.perf_counter() - begun
        self.temporary_bytes = self._run.memory_analysis().temp_size_in_bytes  # beside arguments and result
        self.run()  # the first call is not typical

    def run(self, state: steps.TrainState | None = None) -> steps.TrainState:
        """The state after one more pass over the images, waited for as in `feed.pmap`."""
        first, *others = self._arguments
        return jax.block_until_ready(self._run(first if state is None else state, *others))

    def images_per_second(self) -> float:
        return self._count * per_second(self.run, None)

    def account(self) -> dict[str, float]:
        """Seconds of one step on a CPU by what they were spent on: see `trace.spent`."""
        with tempfile.TemporaryDirectory() as folder:
            trace.start(folder)
            self.run()
            trace.stop()
            spent = trace.spent(folder, self._run.as_text())
        return {name: seconds / STEPS_PER_CALL for name, seconds in spent.items()}
