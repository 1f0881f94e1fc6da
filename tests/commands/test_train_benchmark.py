"""The benchmark of training steps: what it times, and the rates that it prints."""

import re
import time
import types

import numpy as np
import pytest
from small_runs import TINY, cached_compilation

from onebnet_jax.commands import train_benchmark
from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost, families
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import trained
from onebnet_jax.training import speed

STUDENT, TEACHER = "configs/fashionmnist_two_stage.py", "configs/fashionmnist_fp32.py"
BATCH = 8


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", TINY)
    monkeypatch.setitem(train_benchmark.GEMM_SIZES, "cpu", 64)
    with cached_compilation():
        yield


def macs(experiment):
    counted = cost.total(cost.layers(experiment.structure, (28, 28, 1)))
    return counted.float_macs + counted.binary_macs


def experiment_of(path, *overrides):
    return config_lib.experiment(config_lib.load(path, overrides))


def test_prints_rates_shares_and_memory(capsys):
    train_benchmark.main(["configs/fashionmnist_ds32_64.py", f"--config.train.batch_size={BATCH}", "--rounds=2"])
    out = capsys.readouterr().out
    found = re.search(
        r"^configs/fashionmnist_ds32_64.py train float32: ([\d.]+) images/s, ([\d.]+) % of (\d+) GFLOP/s in float32, "
        r"(\d+) MFLOP/image, temporary memory \d+ MiB, compiled in \d+ s\npeak memory of the process: (\d+) MiB$",
        out,
        re.MULTILINE,
    )
    assert found, out
    rate, share, gemm, _, peak = map(float, found.groups())
    assert rate > 0 and share >= 0 and gemm > 0 and 50 < peak < 2**20


@pytest.mark.slow
def test_the_step_has_the_teacher_of_its_stage():
    student = experiment_of(STUDENT, f"--config.step2.batch_size={BATCH}")
    teachers = [trained.untrained(config_lib.load(TEACHER, [f"--config.seed={seed}"])) for seed in (1, 2)]
    trainers = [speed.Trainer(student, teacher) for teacher in teachers]
    states = [trainer.run() for trainer in (*trainers, trainers[0])]
    kernels = [np.asarray(state.params["head"]["kernel"]) for state in states]
    assert int(states[0].step) == speed.STEPS_PER_CALL and int(states[0].bad_step) == -1
    np.testing.assert_array_equal(kernels[0], kernels[2])
    assert np.abs(kernels[0] - kernels[1]).max() > 1e-5  # they learned other answers
    assert trainers[0].flops_per_image == 6 * macs(student) + 2 * macs(teachers[0])


def test_rates_are_medians_over_the_rounds_and_shares_those_of_each_type():
    trainer = types.SimpleNamespace(flops_per_image=10**8, temporary_bytes=2**22, compile_seconds=3.2)
    flops = 1e8 * 100 / 4  # at 100 images/s, on each of four devices
    rounds = [
        (rate, {"float32": of_float * flops, "bfloat16": 2 * of_float * flops})
        for rate, of_float in ((90.0, 1), (100.0, 4), (110.0, 5.5))
    ]
    parts = train_benchmark.report(trainer, rounds, 4).split(", ")
    assert parts[0] == "100.0 images/s" and parts[3] == "100 MFLOP/image"
    assert parts[1:3] == ["25.0 % of 10 GFLOP/s in float32", "12.5 % of 20 GFLOP/s in bfloat16"]


def test_a_missing_teacher_is_named_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "Trainer", None)  # would fail
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
    rate = speed.gemm_flops_per_second(dtype, 64)
    begins, ends = np.array(times[::2]), np.array(times[1::2])
    seconds = (ends - begins)[-1]
    assert seconds >= speed.SECONDS
    assert (ends - begins)[:-1].max() < speed.SECONDS
    # The products doubled from 1 on.
    assert rate == pytest.approx(2 ** (len(ends) - 1) * 2 * 64**3 / seconds)


def test_products_cost_what_their_size_says():
    """64 times the work at four times the size: the rate would rise so if only the calls were timed."""
    small, large = (speed.gemm_flops_per_second("float32", size) for size in (256, 1024))
    assert 1 / 10 < large / small < 10


@pytest.mark.slow
def test_says_where_the_time_of_a_step_goes():
    """In seconds, from a trace that JAX writes."""
    stage = {"train.batch_size": BATCH, "train.epochs": 1}
    fields = [f"--config.{name}={value}" for name, value in stage.items()]
    trainer = speed.Trainer(experiment_of("configs/fashionmnist_ds32_64.py", *fields), None)
    spent = trainer.account()
    assert any(name.startswith("XLA") for name in spent)
    assert 0 < sum(spent.values()) < 60
