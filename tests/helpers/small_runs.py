"""What the tests of whole runs share: networks of a single convolution, quick compilation, and comparing two runs."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import random
import socket
import tempfile

import jax
import numpy as np
from jax.experimental.compilation_cache import compilation_cache

from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Structure, Unit
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import metrics
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints
from onebnet_jax.runs.workdir import Workdir
from onebnet_jax.training import run

ROOT = pathlib.Path(__file__).parents[2]
COMPILED = tempfile.TemporaryDirectory(prefix="onebnet_compiled_")  # for all tests of this process; goes when it ends

# The command itself with small networks, and few steps to a call; tests/helpers must be on the path.
PROGRAM = """
import small_runs
from onebnet_jax import errors, main
from onebnet_jax.networks import families
from onebnet_jax.training import stage
families.FAMILIES = small_runs.TINY
stage.DISPATCH_SECONDS = 0.0
errors.cli(main.main)
"""

# With a head for ten classes 986 parameters.
STEM = Unit("stem", (7, 7), (7, 7), 1, 16, binary=False, activation="relu", span=0, parts="stem_{}")
BODY = Unit("body", (3, 3), (1, 1), 16, 16, shift=True, activation="rprelu", module="body")


def shrunken(family, *body):
    """A family that refuses what the given one refuses, and otherwise gives one network: `STEM`, and units if any."""

    @functools.wraps(family)
    def tiny(**fields):
        whole = family(**fields)
        stem = dataclasses.replace(STEM, in_channels=whole.units[0].in_channels)
        return Structure((stem, *body), whole.num_classes, whole.title)

    return tiny


TINY = {name: shrunken(family) for name, family in families.FAMILIES.items()}
# Of runs that need nothing else: their steps are one and the same program, however many epochs they take.
QUICK = {"train.batch_size": 500, "train.learning_rate": 0.02, "train.schedule": "constant"}


def shortened(family):
    """A family of which only the stem and the first block of the second stage are left."""

    @functools.wraps(family)
    def short(**fields):
        whole = family(**fields)
        units = [unit for unit in whole.units[1:] if unit.name.startswith("stage2_block1_")]
        stem = dataclasses.replace(whole.units[0], out_channels=units[0].in_channels)
        return dataclasses.replace(whole, units=(stem, *units))

    return short


SHORT = {name: shortened(family) for name, family in families.FAMILIES.items()}


def tiny_maps(params, images):
    """The convolution of `STEM` in plain JAX: images [N, 28, 28, 1] -> [N, 4 * 4, 16]."""
    patches = images.reshape(-1, 4, 7, 4, 7).swapaxes(2, 3).reshape(-1, 16, 49)
    return patches @ params["stem_conv"]["kernel"].reshape(49, 16)


def tiny_logits(variables, images, training=False):
    """What `STEM` with its head gives, with running statistics or those of all images given."""
    params, running = variables["params"], variables["batch_stats"]["stem_bn"]
    maps = tiny_maps(params, images)
    mean, variance = (maps.mean((0, 1)), maps.var((0, 1))) if training else (running["mean"], running["var"])
    maps = (maps - mean) / (variance + 1e-5) ** 0.5 * params["stem_bn"]["scale"] + params["stem_bn"]["bias"]
    return (maps * (maps > 0)).mean(1) @ params["head"]["kernel"] + params["head"]["bias"]


def train(config, folder, change_config=False, **options):
    """`run.train` for a config: the last score."""
    return run.train(config_lib.experiment(config), Workdir(folder, config, change_config), **options)[0]


def free_port():
    """A port that nothing listens at, and that the system gives to nobody who does not ask for this one."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)  # Linux gives out those from 32768 on
        with contextlib.suppress(OSError), socket.create_server(("", port)):
            return port


def environment(devices, **more):
    """For commands in processes of their own: so many fake devices, and what other runs have compiled."""
    own = {
        "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers"))),
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "JAX_COMPILATION_CACHE_DIR": COMPILED.name,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    return os.environ | own | more


@contextlib.contextmanager
def cached_compilation(folder=COMPILED.name):
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
