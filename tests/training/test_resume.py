"""A run killed with SIGKILL at random moments, and started again until it is done, equals the quiet run to the bit."""

import math
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from small_runs import assert_same_run

ROOT = pathlib.Path(__file__).parents[2]

# The command itself, with a call to the device for every two steps, and so as many checkpoints. The process is killed
# $KILL_SECONDS after it has begun to save $KILL_AT_STEP or a later step: it does not end before.
PROGRAM = """
import os, signal, threading
from onebnet_jax import errors
from onebnet_jax import main
from onebnet_jax.training import record
from onebnet_jax.training import stage
stage.DISPATCH_SECONDS = 0.0
at_step, seconds = (float(os.environ[name]) for name in ("KILL_AT_STEP", "KILL_SECONDS"))
end, save = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)), record.Record.save

def deadly_save(self, step, *arguments, **options):
    if step >= at_step and not end.is_alive():
        end.start()
    save(self, step, *arguments, **options)

record.Record.save = deadly_save
errors.cli(main.main)
"""


class Process:
    """One start of the training command on one CPU device."""

    def __init__(self, workdir, fields, compiled, kill_at_step=math.inf, kill_seconds=0.0):
        fields = {
            "model.depth": 8,
            "model.width_multiplier": 0.25,
            "data.crop_padding": 2,
            "data.flip": True,
            "train.batch_size": 192,  # 21 steps an epoch, the last of 160 images
            "checkpoint_seconds": 0.0,
            **fields,
        }
        arguments = [f"--config.{name}={value}" for name, value in fields.items()]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
        env |= {"KILL_AT_STEP": str(kill_at_step), "KILL_SECONDS": str(kill_seconds)}
        if compiled is not None:
            env |= {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        command = [sys.executable, "-c", PROGRAM, "--config=configs/quickstart.py", f"--workdir={workdir}", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def finish(self, status=0):
        """Waits for the end, and returns what was printed."""
        out, err = self.process.communicate()
        assert self.process.returncode == status, err
        return out


def check(tmp_path, fields, total, kills, compiled, seed):
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    expected = Process(quiet, fields, compiled).finish().splitlines()[-1]
    chance = random.Random(seed)
    steps = sorted(chance.sample(range(1, total - 2), kills))
    for step in steps:
        Process(killed, fields, compiled, step, chance.uniform(0.0, 0.3)).finish(-signal.SIGKILL)
    out = Process(killed, fields, compiled).finish()
    assert out.splitlines()[-1] == expected
    assert "resumed from the checkpoint of step " in out
    assert_same_run(killed, quiet)


def test_a_killed_run_ends_as_the_quiet_run(tmp_path):
    check(tmp_path, {"train.epochs": 2}, total=42, kills=2, compiled=tmp_path / "compiled", seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_often_ends_as_the_quiet_run(tmp_path, seed):
    """Each start compiles anew; kills without any regard to progress, so also while starting, come on top."""
    fields = {"train.epochs": 5}
    chance = random.Random(seed)
    for _ in range(3):
        starting = Process(tmp_path / "killed", fields, None)
        time.sleep(chance.uniform(2.0, 25.0))
        starting.process.kill()
        starting.finish(-signal.SIGKILL)
    check(tmp_path, fields, total=105, kills=7, compiled=None, seed=seed)
