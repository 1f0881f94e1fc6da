"""The benchmark of training steps: what it times, and the rates that it prints."""

import re
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_runs import Tiny

from onebnet_jax.commands import train_benchmark
from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import workdir
from onebnet_jax.runs.checkpoint import LAST, Checkpoints
from onebnet_jax.training import run as train
from onebnet_jax.training import stage

pytestmark = pytest.mark.usefixtures("quick_compilation")

STUDENT, TEACHER = "configs/fashionmnist_two_stage.py", "configs/fashionmnist_fp32.py"
BATCH = 8


@pytest.fixture
def tiny(monkeypatch):
    """A stand-in for every network; what is counted is still that of the config."""
    monkeypatch.setattr(stage, "make_network", lambda *_, **__: Tiny())
    monkeypatch.setattr(train_benchmark, "GEMM_SIZE", 64)


@pytest.fixture
def teacher(tiny, tmp_path):
    """Writes the work directory of a teacher with random variables; returns where it is."""

    def write(seed):
        folder = tmp_path / f"teacher{seed}"
        folder.mkdir()
        workdir.prepare(config_lib.load(TEACHER), folder, change_config=False)
        checkpoints = Checkpoints(folder / "train")
        checkpoints.save(LAST, 1, Tiny().init(jax.random.key(seed), jnp.zeros((1, 28, 28, 1))), {})
        checkpoints.close()
        return folder

    return write


def student(folder):
    return config_lib.load(STUDENT, [f"--config.step2.batch_size={BATCH}", f"--config.teacher={folder}"])


def macs(path):
    counted = cost.total(cost.layers(config_lib.structure(config_lib.load(path)), (28, 28, 1)))
    return counted.float_macs + counted.binary_macs


def test_prints_rates_shares_and_memory(tiny, capsys):
    train_benchmark.main(["configs/fashionmnist_ds32_64.py", f"--config.train.batch_size={BATCH}", "--rounds=2"])
    out = capsys.readouterr().out
    found = re.search(
        r"^configs/fashionmnist_ds32_64.py train float32: ([\d.]+) images/s, ([\d.]+) % of (\d+) GFLOP/s in float32, "
        r"(\d+) MFLOP/image, temporary memory \d+ MiB, compiled in \d+ s\npeak memory of the process: (\d+) MiB$",
        out,
        re.MULTILINE,
    )
    assert found, out
    rate, share, gemm, flops, peak = map(float, found.groups())
    assert rate > 0 and share > 0 and gemm > 0 and 50 < peak < 2**20
    assert flops == round(6 * macs("configs/fashionmnist_ds32_64.py") / 1e6)


def test_the_step_has_the_teacher_of_its_stage(teacher, monkeypatch):
    monkeypatch.setattr(train_benchmark, "on_accelerator", lambda: True)
    configs = [student(teacher(seed)) for seed in (1, 2)]
    trainers = [train_benchmark.Trainer(config, train.load_teacher(config)) for config in configs]
    states = [trainer.run() for trainer in trainers]
    again = trainers[0].run()
    kernels = [np.asarray(state.params["head"]["kernel"]) for state in (*states, again)]
    assert int(states[0].step) == train_benchmark.STEPS_PER_CALL and int(states[0].bad_step) == -1
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-4  # they learned other answers

    trainer = trainers[0]
    assert trainer.flops_per_image == 6 * macs(STUDENT) + 2 * macs(TEACHER)
    flops = trainer.flops_per_image * 100 / trainer.devices  # at 100 images/s, on each device
    rounds = [[90.0, flops, flops], [100.0, 4 * flops, 8 * flops], [110.0, 5.5 * flops, 11 * flops]]
    line = train_benchmark.report("x.py", trainer, rounds)
    assert line.startswith("x.py step2 float32: 100.0 images/s, 25.0 % of ")
    assert f"25.0 % of {4 * flops / 1e9:.0f} GFLOP/s in float32, 12.5 % of " in line
    assert f"12.5 % of {8 * flops / 1e9:.0f} GFLOP/s in bfloat16, " in line


def test_a_missing_teacher_is_named_before_any_work(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(train_benchmark, "Trainer", None)  # would fail
    words = [f"--config.step2.batch_size={BATCH}", f"--config.teacher={tmp_path / 'none'}"]
    with pytest.raises(UserError, match="none/config.json is missing"):
        train_benchmark.main([STUDENT, *words])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_are_timed_for_long_enough(dtype, monkeypatch):
    times = []

    def clock(now=time.perf_counter):
        times.append(now())
        return times[-1]

    monkeypatch.setattr(time, "perf_counter", clock)
    rate = train_benchmark.gemm_flops_per_second(dtype, 64)
    begins, ends = np.array(times[::2]), np.array(times[1::2])
    seconds = (ends - begins)[-1]
    assert seconds >= train_benchmark.GEMM_SECONDS
    assert (ends - begins)[:-1].max() < train_benchmark.GEMM_SECONDS
    # The products doubled from 2 on.
    assert rate == pytest.approx(2 ** len(ends) * 2 * 64**3 / seconds)


def test_products_cost_what_their_size_says():
    """64 times the work at four times the size: the rate would rise so if only the calls were timed."""
    small, large = (train_benchmark.gemm_flops_per_second("float32", size) for size in (256, 1024))
    assert 1 / 10 < large / small < 10
