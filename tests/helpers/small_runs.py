"""What the tests of whole runs share: a stand-in for the network, quick compilation, and comparing two runs."""

import contextlib
import random
import socket

import jax
import numpy as np
from flax import linen as nn
from jax.experimental.compilation_cache import compilation_cache

from onebnet_jax.networks.layers import BatchNorm
from onebnet_jax.runs import metrics
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints
from onebnet_jax.training import steps

# The command itself with a small network, and few steps to a call; tests/helpers must be on the path.
PROGRAM = """
from small_runs import Tiny
from onebnet_jax import errors
from onebnet_jax import main
from onebnet_jax.training import stage
stage.make_network = lambda *_: Tiny()
stage.DISPATCH_SECONDS = 0.0
errors.cli(main.main)
"""


class Tiny(nn.Module):
    """Logits linear in a 4x4 map of a FashionMNIST image, after batch normalization: 172 parameters."""

    @nn.compact
    def __call__(self, images, mask=None):
        x = BatchNorm(steps.AXIS, name="bn")(nn.avg_pool(images, (7, 7), (7, 7)), mask)
        return nn.Dense(10, name="head")(x.reshape(len(x), -1))


def free_port():
    """A port that nothing listens at, and that the system gives to nobody who does not ask for this one."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)  # Linux gives out those from 32768 on
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port


@contextlib.contextmanager
def cached_compilation(folder):
    """What is compiled within is read from the folder the next time: most runs of a module are the same program."""
    options = {
        "jax_compilation_cache_dir": str(folder),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for values in (options, before):
        for name, value in values.items():
            jax.config.update(name, value)
        compilation_cache.reset_cache()  # JAX looks at its options once
        if values is options:
            yield


def lines(folder):
    """The lines of a stage's metrics.jsonl, without what depends on the clock and the machine."""
    return [
        {k: v for k, v in line.items() if k not in ("seconds", "host_mib", "device_mib")}
        for line in metrics.read(folder / "metrics.jsonl")
    ]


def final(folder):
    """(step, tree, metadata) of a stage's newest `last` and `best` checkpoints."""
    checkpoints = Checkpoints(folder)
    result = [checkpoints.restore(name) for name in (LAST, BEST)]
    checkpoints.close()
    return result


def assert_same_run(workdir, other, stages=("train",)):
    """Two runs left the same metrics and, bit for bit, the same checkpoints."""
    for stage in stages:
        assert lines(workdir / stage) == lines(other / stage)
        for (step, tree, info), (other_step, other_tree, other_info) in zip(
            final(workdir / stage), final(other / stage), strict=True
        ):
            assert (step, info) == (other_step, other_info)
            assert jax.tree.structure(tree) == jax.tree.structure(other_tree)
            for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(other_tree)):
                assert (a.dtype, a.shape) == (b.dtype, b.shape)
                differing = np.sum(np.frombuffer(a.tobytes(), np.uint8) != np.frombuffer(b.tobytes(), np.uint8))
                assert not differing, f"{jax.tree_util.keystr(path)} differs in {differing} bytes"
