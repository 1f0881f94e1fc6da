"""The commands convert and agree: from a run's directory to a file, its card and the report."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax import agree, checkpoint, config, convert
from onebnet_jax.errors import UserError
from onebnet_jax.export import card, source
from onebnet_jax.export.untrained import random_variables

CONFIG = ["configs/quickstart.py", "--config.model.depth=8", "--config.model.width_multiplier=0.5"]


def make_run(workdir: Path, step: int = 7, seed: int = 0, stage: str = "train", stages: tuple = ("train",)) -> Path:
    """A work directory as a training run leaves it, its parameters random."""
    settings = config.load(CONFIG[0], CONFIG[1:])
    settings.stages = stages
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(settings.to_json())
    variables = random_variables(config.structure(settings), config.input_shape(settings), seed)
    checkpoints = checkpoint.Checkpoints(workdir / stage)
    checkpoints.save(checkpoint.BEST, step, variables, {"epoch": 1, "top1": 12.5})
    checkpoints.close()
    return workdir


def test_source_of_a_run(tmp_path):
    network = source.from_run(make_run(tmp_path / "run"), checkpoint.BEST)
    assert network.origin == {"workdir": str(tmp_path / "run"), "stage": "train", "checkpoint": "best", "step": 7}
    assert network.metrics["top1"] == 12.5
    assert source.from_card({"source": network.origin}).structure == network.structure
    make_run(tmp_path / "run", step=9, seed=1)
    with pytest.raises(UserError, match="is of step 9 of stage train, but .* from step 7 of stage train"):
        source.from_card({"source": network.origin})


def test_source_of_a_two_stage_run_is_its_latest_stage(tmp_path):
    stages = ("step1", "step2")
    first = source.from_run(make_run(tmp_path, stage="step1", stages=stages), checkpoint.BEST)
    assert first.binarization.activations and not first.binarization.weights
    second = source.from_run(make_run(tmp_path, stage="step2", stages=stages), checkpoint.BEST)
    assert second.binarization.activations and second.binarization.weights
    with pytest.raises(UserError, match="is of step 7 of stage step2, but .* from step 7 of stage step1"):
        source.from_card({"source": first.origin})


def test_source_of_a_config_is_the_same_every_time():
    network = source.from_config(config.load(CONFIG[0], CONFIG[1:]))
    facts = json.loads(json.dumps({"source": network.origin, "config": network.config.to_dict()}))
    again = source.from_card(facts)
    assert again.structure == network.structure and "untrained" in again.title
    kernel = network.variables["params"]["stem_conv"]["kernel"]
    np.testing.assert_array_equal(again.variables["params"]["stem_conv"]["kernel"], kernel)


def test_card_and_file_belong_together(tmp_path):
    model, network = tmp_path / "m.tflite", source.from_config(config.load(CONFIG[0], CONFIG[1:]))
    card.write(model, b"content", card.make(network, b"content", {"ADD": 1}, fold=True, raw_input=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.tflite"]
    assert card.read(model)[0] == b"content"
    model.write_bytes(b"another")
    with pytest.raises(UserError, match="is not the file that .*m.json describes"):
        card.read(model)
    card.path_of(model).write_text("{}")
    with pytest.raises(UserError, match="m.json is not the card"):
        card.read(model)
    card.path_of(model).unlink()
    with pytest.raises(UserError, match="m.json: No such file"):
        card.read(model)


def test_a_full_disk_leaves_the_old_model(tmp_path, monkeypatch):
    def full(self, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    model = tmp_path / "m.tflite"
    card.write(model, b"old", {})
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="^Cannot write .*m.tflite: No space left on device.$"):
        card.write(model, b"new", {})
    assert model.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir={}/none", "--output={}/m.tflite"], "none/config.json is missing"),
        (["--config=configs/quickstart.py", "--output={}/m.bin"], "must end in .tflite"),
        (["--config=configs/quickstart.py", "--output={}/m.tflite", "--keras={}/k.h5"], "must end in .keras"),
        (["--config=configs/quickstart.py", "--output={}/none/m.tflite"], "Cannot write .*none/m.tflite: No such file"),
        (["--config=configs/quickstart.py", "--config.model.depth=7", "--output={}/m.tflite"], "model.depth=7"),
        (["--config=configs/quickstart.py", "--config.model.stem=imagenet", "--output={}/m.tflite"], "^stage3_block1"),
    ],
)
def test_refuses_in_one_sentence(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        convert.main([argument.format(tmp_path) for argument in arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments", [[], ["--workdir=a", "--config=b"], ["--workdir=a", "--config.seed=1"], ["--x=1"]]
)
def test_usage(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        convert.main([f"--output={tmp_path}/m.tflite", *arguments])
    assert exit_.value.code == 2 and "give one of --workdir and --config" in capsys.readouterr().err


def test_from_run_to_report(tmp_path, capsys):
    """The whole way, on real images: convert, save and load the Keras model, agree."""
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export import keras2

    run, model, keras = make_run(tmp_path / "run"), tmp_path / "m.tflite", tmp_path / "m.keras"
    convert.main([f"--workdir={run}", f"--output={model}", "--raw-input", f"--keras={keras}", "--summary"])
    printed = capsys.readouterr().out
    assert f"made from {run} (stage train, best checkpoint, step 7)" in printed
    assert "stage1_block1_conv1_conv" in printed and "Ratio of MACs that are binarized" in printed

    tflite, facts = card.read(model)
    assert facts["bytes"] == len(tflite) == model.stat().st_size
    assert facts["metrics"]["top1"] == 12.5 and facts["folded"] and facts["raw_input"]
    assert facts["operators"]["LceBconv2d"] == facts["operators"]["PRELU"] == 8
    assert facts["operators"]["ADD"] + facts["operators"]["SUB"] == 2 * 8 + 1  # and the pixels' mean
    assert facts["structure"]["ds_1d"] == [32, 64] and facts["versions"]["larq-compute-engine"]

    agree.main([str(model), "--images=40", f"--report={tmp_path}/report.json"])
    printed = capsys.readouterr().out
    assert "Every difference is explained" in printed and "stage2_block1_conv1_3x1" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == 40 and report["conversion_difference"] == 0
    assert report["lce"]["equal_predictions"] >= 39 and len(report["parity"]) == 8

    network = source.from_card(facts)
    pixels, _ = agree._test_images(network, 8)
    logits = keras2.tf.keras.models.load_model(keras).predict_on_batch(pixels.astype(np.float32))
    from onebnet_jax.export import lce

    np.testing.assert_allclose(logits, lce.executable(tflite)(images=pixels)["head"], rtol=0, atol=0.2)


def test_an_unexplained_difference_ends_with_1(tmp_path, monkeypatch, capsys):
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export import agreement, unit_parity

    network = source.from_config(config.load(CONFIG[0], CONFIG[1:]))
    card.write(tmp_path / "m.tflite", b"content", card.make(network, b"content", {}, True, False))
    differs = [(2, "stage1_block1_conv1", 0.25)]
    flips = [agreement.UnitFlips("stage1_block1_conv1", 100, 2, 0.5, 1, 0.25)]
    good, bad = (
        agreement.Comparison(0.1, 0.01, 3, 4, 0, [], [], flips),
        agreement.Comparison(2.0, 0.5, 2, 3, 1, [2], differs, flips),
    )
    parity = [unit_parity.UnitParity("stage1_block1_conv1", 0, 1e-6, 5.0)]
    for lce, difference, verdict in (
        (good, 0.0, "Every difference is explained"),
        (bad, 0.0, "NOT explained by float rounding: images [2]"),
        (good, 0.25, "The file's logits differ by 2.50e-01"),
    ):
        report = agreement.Report(4, 9.0, 3, good, lce, difference)
        monkeypatch.setattr(agree, "compare", lambda *_, report=report: (report, parity))
        if verdict.startswith("Every"):
            agree.main([str(tmp_path / "m.tflite")])
        else:
            with pytest.raises(SystemExit) as exit_:
                agree.main([str(tmp_path / "m.tflite"), "--random-images"])
            assert exit_.value.code == 1
        printed = capsys.readouterr().out
        assert verdict in printed
        assert ("LCE predicts another class for image 2: first flip in stage1_block1_conv1" in printed) == (lce is bad)


def test_lint_failure_leaves_no_file(tmp_path, monkeypatch):
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export import larq_model

    def with_a_smaller_weight(layer, x):
        """A converter's fault as it happens: the convolution is not recognized as binarized."""
        kernel = layer.conv.kernel.copy()
        kernel[0, 0, 0] *= 0.5
        conv = dataclasses.replace(layer.conv, kernel=kernel, multiplier=None)
        return unit(dataclasses.replace(layer, conv=conv), x)

    unit = larq_model.unit
    monkeypatch.setattr(larq_model, "unit", with_a_smaller_weight)
    with pytest.raises(UserError, match="stage1_block1_conv1 has "):
        convert.main([f"--config={CONFIG[0]}", *CONFIG[1:], f"--output={tmp_path}/m.tflite"])
    assert not list(tmp_path.iterdir())


def test_a_model_and_its_run_can_be_moved_together(tmp_path, monkeypatch):
    network = source.from_run(make_run(tmp_path / "run"), "best")
    model = tmp_path / "run" / "m.tflite"
    card.write(model, b"content", card.make(network, b"content", {}, True, False))
    assert str(tmp_path) not in card.path_of(model).read_text()
    (tmp_path / "run").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    facts = card.read(Path("moved/m.tflite"))[1]
    assert facts["source"]["workdir"] == "moved"
    assert source.from_card(facts).title == "moved (stage train, best checkpoint, step 7)"
