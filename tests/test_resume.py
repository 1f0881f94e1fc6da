"""A run killed with SIGKILL at random moments, and started again until it is done, equals the quiet run to the bit."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest
from small_runs import assert_same_run

ROOT = pathlib.Path(__file__).parents[1]

# The command itself, with a call to the device for every two steps, and so as many checkpoints.
PROGRAM = """
from onebnet_jax import errors, main, stage
stage.DISPATCH_SECONDS = 0.0
errors.cli(main.main)
"""


class Process:
    """One start of the training command on one CPU device."""

    def __init__(self, workdir, fields, compiled):
        self.last = workdir / "train" / "checkpoints" / "last"
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
        if compiled is not None:
            env |= {"JAX_COMPILATION_CACHE_DIR": str(compiled), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        command = [sys.executable, "-c", PROGRAM, "--config=configs/quickstart.py", f"--workdir={workdir}", *arguments]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def checkpoint(self):
        """The step of the newest checkpoint that is complete."""
        names = [path.name for path in self.last.iterdir()] if self.last.is_dir() else []
        return max((int(name) for name in names if name.isdigit()), default=0)

    def kill_after(self, step, seconds):
        """Kills the process some time after it has saved a step; returns whether it was in time to do harm."""
        while self.checkpoint() < step and self.process.poll() is None:
            time.sleep(0.02)
        time.sleep(seconds)
        self.process.kill()
        self.process.communicate()
        return self.process.returncode == -signal.SIGKILL

    def finish(self):
        """Waits for the end, and returns what was printed."""
        out, err = self.process.communicate()
        assert self.process.returncode == 0, err
        return out


def check(tmp_path, fields, total, kills, compiled, seed):
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    expected = Process(quiet, fields, compiled).finish().splitlines()[-1]
    chance = random.Random(seed)
    steps = sorted(chance.sample(range(1, total - 2), kills))
    harmed = [Process(killed, fields, compiled).kill_after(step, chance.uniform(0.0, 0.3)) for step in steps]
    assert all(harmed)
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
        Process(tmp_path / "killed", fields, None).kill_after(0, chance.uniform(2.0, 25.0))
    check(tmp_path, fields, total=105, kills=7, compiled=None, seed=seed)
