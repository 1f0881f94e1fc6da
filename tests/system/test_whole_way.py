"""The whole way by the commands: two stages under a teacher, conversion, and the proof of agreement, on few images."""

import dataclasses
import functools

import pytest
from small_runs import cached_compilation

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax import main
from onebnet_jax.commands import agree, convert
from onebnet_jax.data import load as data
from onebnet_jax.networks import families
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import trained
from onebnet_jax.runs.checkpoint import LAST, Checkpoints
from onebnet_jax.runs.workdir import Workdir

pytestmark = pytest.mark.usefixtures("quick_compilation")
pytest.importorskip("larq_compute_engine")


def second_stage(family):
    """Networks of the stem and the second stage of those of a family."""

    @functools.wraps(family)
    def part(**fields):
        whole = family(**fields)
        return dataclasses.replace(whole, units=tuple(unit for unit in whole.units if unit.stage in (0, 32)))

    return part


@pytest.fixture(autouse=True)
def small(monkeypatch):
    whole = data.open("fashion_mnist_mini")
    few = {name: getattr(whole, name)[:100] for name in ("train_images", "train_labels", "test_images", "test_labels")}
    monkeypatch.setattr(data, "open", lambda *_, **__: dataclasses.replace(whole, **few))
    monkeypatch.setattr(families, "FAMILIES", {name: second_stage(one) for name, one in families.FAMILIES.items()})
    with cached_compilation():
        yield


def words(fields):
    """As on the command line."""
    small = {"data.name": "fashion_mnist_mini", "model.depth": 8, "model.width_multiplier": 0.5}
    return [f"--config.{name}={value}" for name, value in (small | fields).items()]


@pytest.mark.slow
def test_a_run_in_two_stages_is_converted_and_agrees(tmp_path, capsys):
    config = config_lib.load("configs/fashionmnist_fp32.py", words({}))
    with Workdir(tmp_path / "teacher", config).opened():
        Workdir(tmp_path / "teacher", config).write_config()
    checkpoints = Checkpoints(tmp_path / "teacher" / "train")
    checkpoints.save(LAST, 1, trained.untrained(config).variables, {})
    checkpoints.close()

    fields = {"model.ds_1d": (32,), "teacher": tmp_path / "teacher"}
    for name in ("step1", "step2"):
        fields |= {f"{name}.epochs": 2, f"{name}.batch_size": 40, f"{name}.learning_rate": 0.01}
    workdir, model = tmp_path / "run", tmp_path / "m.tflite"
    main.main(["--config=configs/fashionmnist_two_stage.py", f"--workdir={workdir}", *words(fields)])
    convert.main([f"--workdir={workdir}", f"--output={model}", "--checkpoint=last"])
    from onebnet_jax.export import card

    facts = card.read(model)[1]
    assert (facts["source"]["stage"], facts["source"]["step"]) == ("step2", 6)
    assert facts["operators"]["LceBconv2d"] == facts["operators"]["PRELU"] == 3  # 3x1, 1x3 and 3x3
    agree.main([str(model), "--images=40"])
    assert "Every difference is explained" in capsys.readouterr().out
