"""A run killed with SIGKILL at random moments, and started again until it is done, equals the quiet run to the bit."""

import math
import random
import signal
import subprocess
import sys
import time

import pytest
from small_runs import ROOT, assert_same_run, environment

# The command itself, with a call to the device for every two steps, and so as many checkpoints. The process is killed
# $KILL_SECONDS after it has begun to save $KILL_AT_STEP or a later step: it does not end before.
PROGRAM = """
import os, signal, threading
import small_runs
from onebnet_jax import errors, main
from onebnet_jax.networks import families
from onebnet_jax.training import record, stage
families.FAMILIES = {name: small_runs.shrunken(family, small_runs.BODY) for name, family in families.FAMILIES.items()}
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

    def __init__(self, workdir, epochs, kill_at_step=math.inf, kill_seconds=0.0, cached=True):
        fields = {
            "data.crop_padding": 2,
            "data.flip": True,
            "data.rotate": 10.0,
            "train.batch_size": 192,  # 21 steps an epoch, the last of 160 images
            "train.epochs": epochs,
            "checkpoint_seconds": 0.0,
        }
        arguments = [f"--config.{name}={value}" for name, value in fields.items()]
        env = environment(devices=1, KILL_AT_STEP=str(kill_at_step), KILL_SECONDS=str(kill_seconds))
        if not cached:
            del env["JAX_COMPILATION_CACHE_DIR"]
        command = [sys.executable, "-c", PROGRAM, "--config=configs/quickstart.py", f"--workdir={workdir}", *arguments]
        pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.process = subprocess.Popen(command, cwd=ROOT, env=env, **pipes)

    def finish(self, status=0):
        """Waits for the end, and returns what was printed."""
        out, err = self.process.communicate()
        assert self.process.returncode == status, err
        return out


def check(tmp_path, epochs, kills, seed, **options):
    quiet, killed = tmp_path / "quiet", tmp_path / "killed"
    undisturbed = Process(quiet, epochs, **options)
    chance = random.Random(seed)
    for step in sorted(chance.sample(range(1, 21 * epochs - 2), kills)):
        Process(killed, epochs, step, chance.uniform(0.0, 0.3), **options).finish(-signal.SIGKILL)
    out = Process(killed, epochs, **options).finish()
    assert out.splitlines()[-1] == undisturbed.finish().splitlines()[-1]
    assert "resumed from the checkpoint of step " in out
    assert_same_run(killed, quiet)


@pytest.mark.slow
def test_a_killed_run_ends_as_the_quiet_run(tmp_path):
    check(tmp_path, epochs=2, kills=2, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_run_killed_often_ends_as_the_quiet_run(tmp_path, seed):
    """Each start compiles anew; kills without any regard to progress, so also while starting, come on top."""
    chance = random.Random(seed)
    for _ in range(3):
        starting = Process(tmp_path / "killed", epochs=10, cached=False)
        time.sleep(chance.uniform(1.0, 6.0))  # shorter than the run takes
        starting.process.kill()
        starting.finish(-signal.SIGKILL)
    check(tmp_path, epochs=10, kills=7, seed=seed, cached=False)
