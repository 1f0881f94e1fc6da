"""The commands convert and agree: from a run's directory to a file, its card and the report."""

import dataclasses
import errno
import json
from pathlib import Path

import numpy as np
import pytest
from onebnet_jax.export.untrained import random_variables

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.commands import agree, convert
from onebnet_jax.errors import UserError
from onebnet_jax.export import card, source
from onebnet_jax.runs import checkpoint, config

CONFIG = ["configs/quickstart.py", "--config.model.depth=8", "--config.model.width_multiplier=0.5"]


def make_run(
    workdir: Path, step: int = 7, seed: int = 0, stage: str = "train", stages: tuple = ("train",), dtype="float32"
) -> Path:
    """A work directory as a training run leaves it, its parameters random."""
    settings = config.load(CONFIG[0], CONFIG[1:])
    settings.stages, settings.model.dtype = stages, dtype
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
    with pytest.raises(UserError, match="of stage train in .* is of step 9, but .* from step 7"):
        source.from_card({"source": network.origin})


def test_source_of_a_two_stage_run_is_its_latest_stage_or_the_one_asked_for(tmp_path):
    stages = ("step1", "step2")
    first = source.from_run(make_run(tmp_path, stage="step1", stages=stages), checkpoint.BEST)
    assert first.binarization.activations and not first.binarization.weights
    second = source.from_run(make_run(tmp_path, stage="step2", stages=stages), checkpoint.BEST)
    assert second.binarization.activations and second.binarization.weights
    again = source.from_run(tmp_path, checkpoint.BEST, "step1")
    assert again.origin == first.origin == source.from_card({"source": first.origin}).origin
    assert again.notes == ["float weights: an ordinary network, no convolution of it is binarized"]
    assert not second.notes
    with pytest.raises(UserError, match="has no stage 'train'; its stages are step1, step2"):
        source.from_run(tmp_path, checkpoint.BEST, "train")
    with pytest.raises(UserError, match="has no 'last' checkpoint of stage step1 yet"):
        source.from_run(tmp_path, checkpoint.LAST, "step1")


@pytest.mark.parametrize(
    ("options", "stage", "words"),
    [
        ([], "step2", ["trained in bfloat16, in which its Top-1 was measured too"]),
        (
            ["--stage=step1", "--checkpoint=best"],
            "step1",
            ["float weights: an ordinary network", "trained in bfloat16"],
        ),
    ],
)
def test_convert_says_what_the_file_is(options, stage, words, tmp_path, monkeypatch, capsys):
    for each in ("step1", "step2"):
        make_run(tmp_path / "run", stage=each, stages=("step1", "step2"), dtype="bfloat16")
    made = []

    def without_tensorflow(network, output, *_):
        made.append(card.make(network, b"content", {"ADD": 1}, True, False))
        return made[0]

    monkeypatch.setattr(convert, "convert", without_tensorflow)
    convert.main(
        [f"--workdir={tmp_path}/run", f"--output={tmp_path}/m.tflite", f"--keras={tmp_path}/m.keras", *options]
    )
    printed = capsys.readouterr().out
    assert f"(stage {stage}, best checkpoint, step 7)" in printed
    assert "import onebnet_jax.export.keras before loading it" in printed
    assert made[0]["source"]["stage"] == stage and len(made[0]["notes"]) == len(words)
    for word, note in zip(words, made[0]["notes"], strict=True):
        assert word in note and f"note: {note}" in printed


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
    card.write(model, b"old", {"sha256": "old"})
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match="^Cannot write .*m.json: No space left on device.$"):
        card.write(model, b"new", {"sha256": "new"})
    assert model.read_bytes() == b"old" and len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_fills_up_between_a_card_and_its_model_leaves_the_old_ones(tmp_path, monkeypatch):
    write_bytes, written = Path.write_bytes, []

    def nearly_full(self, content):
        written.append(self)
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_bytes(self, content)

    model = tmp_path / "m.tflite"
    card.write(model, b"old", {"sha256": "old"})
    monkeypatch.setattr(Path, "write_bytes", nearly_full)
    with pytest.raises(UserError, match="No space left on device"):
        card.write(model, b"new", {"sha256": "new"})
    assert len(written) == 2 and sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.tflite"]
    assert model.read_bytes() == b"old" and json.loads(card.path_of(model).read_text()) == {"sha256": "old"}


@pytest.mark.parametrize("content", ['{"seed": 1}', "[]", "sha256", "[" * 100_000, None])
def test_only_a_card_is_overwritten_by_a_card(content, tmp_path):
    """A run has its config.json where the card of RUN/config.tflite belongs."""
    place = tmp_path / "config.json"
    place.mkdir() if content is None else place.write_text(content)
    model = tmp_path / "config.tflite"
    for attempt in (
        lambda: convert.main([f"--config={CONFIG[0]}", f"--output={model}"]),
        lambda: card.write(model, b"new", {"sha256": "new"}),
        lambda: agree.main([str(model), f"--report={place}"]),
    ):
        with pytest.raises(UserError, match="config.json is (a folder|there and is not (the card|a report) of)"):
            attempt()
    assert list(tmp_path.iterdir()) == [place]
    assert content is None or place.read_text() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--workdir={}/none", "--output={}/m.tflite"], "none/config.json is missing"),
        (["--config=configs/quickstart.py", "--output={}/m.bin"], "must end in .tflite"),
        (["--config=configs/quickstart.py", "--output={}/m.tflite", "--keras={}/k.h5"], "must end in .keras"),
        (["--config=configs/quickstart.py", "--output={}/none/m.tflite"], "Cannot write .*none/m.tflite: No such file"),
        (["--config=configs/quickstart.py", "--config.model.depth=7", "--output={}/m.tflite"], "model.depth=7"),
        (
            [
                f"--config={CONFIG[0]}",
                "--config.model.stem=imagenet",
                "--config.model.pad_value=0",
                "--output={}/m.tflite",
            ],
            "^stage3_block1",
        ),
    ],
)
def test_refuses_in_one_sentence(arguments, message, tmp_path):
    with pytest.raises(UserError, match=message):
        convert.main([argument.format(tmp_path) for argument in arguments])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --workdir and --config"),
        (["--workdir=a", "--config=b"], "give one of --workdir and --config"),
        (["--workdir=a", "--config.seed=1"], "only with --config can fields be set"),
        (["--workdir=a", "--config.seed=1", "--nofold"], "'--nofold' is not an option"),
        (["--x=1"], "'--x=1' is not an option"),
        (["--config=b", "--stage=step1"], "--stage and --checkpoint are for --workdir"),
        (["--config=b", "--checkpoint=best"], "--stage and --checkpoint are for --workdir"),
    ],
)
def test_usage(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        convert.main([f"--output={tmp_path}/m.tflite", *arguments])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


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
    printed, progress = capsys.readouterr()
    assert "40/40 [" in progress and "image/s]" in progress
    assert "Every difference is explained" in printed and "stage2_block1_conv1_3x1" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == 40 and report["conversion_difference"] == 0
    assert report["lce"]["equal_predictions"] >= 39 and len(report["parity"]) == 8 + 1

    network = source.from_card(facts)
    pixels, _ = next(agree.stored_pixels(network, 8)[1])
    logits = keras2.tf.keras.models.load_model(keras).predict_on_batch(pixels.astype(np.float32))
    from onebnet_jax.export import lce

    np.testing.assert_allclose(logits, lce.executable(tflite)(images=pixels)["head"], rtol=0, atol=0.2)


def test_lint_failure_leaves_no_file(tmp_path, monkeypatch):
    pytest.importorskip("larq_compute_engine")
    from onebnet_jax.export import keras as larq_model

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
