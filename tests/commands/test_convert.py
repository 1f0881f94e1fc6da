"""The command convert: what it converts, what it says of it, and what it refuses."""

import json

import numpy as np
import pytest
import workdirs

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.commands import agree, convert
from onebnet_jax.errors import UserError
from onebnet_jax.export import card
from onebnet_jax.export import convert as export

QUICKSTART = "--config=configs/quickstart.py"


def test_from_a_run_to_its_report(tmp_path, capsys):
    """The whole way, on real images: convert, save and load the Keras model, agree."""
    pytest.importorskip("larq_compute_engine")
    run, model, keras = workdirs.trained(tmp_path / "run"), tmp_path / "m.tflite", tmp_path / "m.keras"
    convert.main([f"--workdir={run}", f"--output={model}", "--raw-input", f"--keras={keras}", "--summary"])
    printed = capsys.readouterr().out
    assert f"made from {run} (stage train, best checkpoint, step 7)" in printed and "8 LceBconv2d" in printed
    assert "stage1_block1_conv1_conv" in printed and "Ratio of MACs that are binarized" in printed
    tflite, facts = card.read(model)
    assert facts["metrics"]["top1"] == 12.5 and facts["folded"] and facts["raw_input"]
    assert facts["operators"]["ADD"] + facts["operators"]["SUB"] == 2 * 8 + 1  # and the pixels' mean

    agree.main([str(model), "--images=20", f"--report={tmp_path}/report.json"])
    printed, progress = capsys.readouterr()
    assert "20/20 [" in progress and f"{model} against {run}" in printed and "stage2_block1_conv1_3x1" in printed
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["images"] == 20 and report["conversion_difference"] == 0 and len(report["sections"]) == 8 + 1
    assert report["correct"] is not None and report["lce"]["equal_predictions"] >= 19

    from onebnet_jax.export import keras2, lce

    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1)).astype(np.float32)
    logits = keras2.tf.keras.models.load_model(keras).predict_on_batch(pixels)
    np.testing.assert_allclose(logits, lce.executable(tflite)(images=pixels)["head"], rtol=0, atol=0.2)


@pytest.mark.parametrize(
    ("options", "stage", "notes"),
    [([], "step2", ["bfloat16"]), (["--stage=step1", "--checkpoint=best"], "step1", ["float weights", "bfloat16"])],
)
def test_it_says_what_the_file_is(options, stage, notes, tmp_path, monkeypatch, capsys):
    for each in ("step1", "step2"):
        workdirs.trained(tmp_path / "run", [*workdirs.IN_STAGES, "--config.model.dtype=bfloat16"], stage=each)

    def without_tensorflow(network, fold, raw_input):
        return export.Converted(b"content", card.make(network, b"content", {"ADD": 1}, fold, raw_input), None)

    monkeypatch.setattr(export, "convert", without_tensorflow)
    convert.main([f"--workdir={tmp_path}/run", f"--output={tmp_path}/m.tflite", "--no-fold", *options])
    printed = capsys.readouterr().out
    facts = json.loads((tmp_path / "m.json").read_text())
    assert f"(stage {stage}, best checkpoint, step 7)" in printed and facts["source"]["stage"] == stage
    assert len(facts["notes"]) == len(notes) and (facts["folded"], facts["raw_input"]) == (False, False)
    assert all(word in note and f"note: {note}" in printed for word, note in zip(notes, facts["notes"]))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workdir={}/none", "--output={}/m.tflite"], "none/config.json is missing"),
        ([QUICKSTART, "--output={}/m.bin"], "m.bin must end in .tflite"),
        ([QUICKSTART, "--output={}/m.tflite", "--keras={}/k.h5"], "k.h5 must end in .keras"),
        ([QUICKSTART, "--output={}/none/m.tflite"], "Cannot write .*none/m.tflite"),
        ([QUICKSTART, "--config.model.depth=7", "--output={}/m.tflite"], "model.depth=7"),
        (
            [QUICKSTART, "--config.model.stem=imagenet", "--config.model.pad_value=0", "--output={}/m.tflite"],
            "^stage3_block1",
        ),
    ],
)
def test_what_is_refused_leaves_nothing(arguments, words, tmp_path):
    with pytest.raises(UserError, match=words):
        convert.main([argument.format(tmp_path) for argument in arguments])
    assert not list(tmp_path.iterdir())


def test_a_run_keeps_its_config(tmp_path):
    """It lies where the card of RUN/config.tflite would, also as a report of agree."""
    config = workdirs.measured(tmp_path / "run") / "config.json"
    before = config.read_text()
    for command, arguments in (
        (convert, [QUICKSTART, f"--output={tmp_path}/run/config.tflite"]),
        (agree, ["m.tflite", f"--report={config}"]),
    ):
        with pytest.raises(UserError, match="config.json is there"):
            command.main(arguments)
    assert config.read_text() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--workdir and --config"),
        (["--workdir=a", "--config=b"], "--workdir and --config"),
        (["--workdir=a", "--config.seed=1"], "--config.seed=1"),
        (["--workdir=a", "--nofold"], "--nofold"),
        (["--x=1"], "--x=1"),
        (["--config=b", "--stage=step1"], "--stage"),
        (["--config=b", "--checkpoint=best"], "--checkpoint"),
    ],
)
def test_usage(arguments, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        convert.main([f"--output={tmp_path}/m.tflite", *arguments])
    assert end.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]
