"""The command convert: what it converts, what it says of it, and what it refuses."""

import json

import bits_program
import engines
import numpy as np
import pytest
import workdirs

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.commands import agree, convert
from onebnet_jax.errors import UserError
from onebnet_jax.export import card, predict
from onebnet_jax.export import convert as export
from onebnet_jax.runs import trained

QUICKSTART = "--config=configs/quickstart.py"


def test_a_run_becomes_a_file_and_a_keras_model(tmp_path, capsys):
    pytest.importorskip("larq_compute_engine")
    run, model, keras = workdirs.trained(tmp_path / "run"), tmp_path / "m.tflite", tmp_path / "m.keras"
    convert.main([f"--workdir={run}", f"--output={model}", "--raw-input", f"--keras={keras}", "--summary"])
    printed = capsys.readouterr().out
    assert f"made from {run} (stage train, best checkpoint, step 7)" in printed and "8 LceBconv2d" in printed
    assert "stage1_block1_conv1_conv" in printed and "Ratio of MACs that are binarized" in printed
    tflite, facts = card.read(model)
    assert facts["metrics"]["top1"] == 12.5 and facts["folded"] and facts["raw_input"]
    assert facts["operators"]["ADD"] + facts["operators"]["SUB"] == 2 * 8 + 1  # and the pixels' mean

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

    def without_tensorflow(made):
        return b"content", card.make(made.trained, b"content", {"ADD": 1}, made.folded, made.raw_input), None

    monkeypatch.setattr(export.Converted, "_for_lce", property(without_tensorflow))
    convert.main([f"--workdir={tmp_path}/run", f"--output={tmp_path}/m.tflite", "--no-fold", *options])
    printed = capsys.readouterr().out
    facts = json.loads((tmp_path / "m.json").read_text())
    assert f"(stage {stage}, best checkpoint, step 7)" in printed and facts["source"]["stage"] == stage
    assert len(facts["notes"]) == len(notes) and (facts["folded"], facts["raw_input"]) == (False, False)
    assert all(word in note and f"note: {note}" in printed for word, note in zip(notes, facts["notes"]))


@pytest.mark.slow
def test_an_fp32_network_becomes_int8_with_its_score(tmp_path, capsys):
    pytest.importorskip("larq_compute_engine")
    run = workdirs.trained(tmp_path / "run", ["--config.model.family=resnet", "--config.model.ds_1d=()"])
    for name, options in (("normalized", ["--config.data.source=auto", "--no-fold"]), ("raw", ["--raw-input"])):
        model = tmp_path / f"{name}.tflite"
        convert.main([f"--workdir={run}", f"--int8={model}", *options])
        facts = card.read(model)[1]
        assert facts["raw_input"] == (name == "raw") == facts["folded"] and "QUANTIZE" in facts["operators"]
        data = trained.load(run).data.open()
        answers = [each.label for each in predict.predict(model, data.test_images)]
        right = np.mean(np.array(answers) == np.array(facts["classes"])[data.test_labels])
        assert facts["int8"] == {"top1": pytest.approx(100 * right), "images": data.test_size, "calibration": 500}
        assert f"Top-1 {100 * right:.2f} % of {data.test_size} test images" in capsys.readouterr().out
    logits = [predict.predict(tmp_path / f"{name}.tflite", data.test_images[:20]) for name in ("normalized", "raw")]
    for one, other in zip(*logits):
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=0.1)
    with pytest.raises(UserError, match="is int8"):
        agree.main([str(model)])


def test_a_1_bit_network_is_not_made_int8(tmp_path):
    pytest.importorskip("larq_compute_engine")
    run = workdirs.trained(tmp_path / "run")
    with pytest.raises(UserError, match="1-bit layers"):
        convert.main([f"--workdir={run}", f"--int8={tmp_path}/m.tflite", f"--native={tmp_path}/m.onb"])
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    same = [f"--workdir={run}", f"--int8={tmp_path}/m.tflite", f"--output={tmp_path}/m.tflite"]
    for options in ([QUICKSTART, f"--int8={tmp_path}/m.tflite"], same):
        with pytest.raises(SystemExit):
            convert.main(options)


def test_a_network_that_lce_would_get_wrong_leaves_nothing(tmp_path):
    fields = ("--config.model.stem=imagenet", "--config.model.pad_value=0")
    with pytest.raises(UserError, match="^stage3_block1"):
        convert.main([QUICKSTART, *fields, f"--output={tmp_path}/m.tflite"])
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("any_numpy")
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
        ("", "--workdir and --config"),
        ("--workdir=a --config=b", "--workdir and --config"),
        ("--workdir=a --config.seed=1", "--config.seed=1"),
        ("--x=1", "--x=1"),
        ("--config=b --stage=step1", "--stage"),
        ("--config=b --checkpoint=best", "--checkpoint"),
    ],
)
def test_usage(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        convert.main(["--output=m.tflite", *arguments.split()])
    assert end.value.code == 2 and words in capsys.readouterr().err.splitlines()[-1]


def test_a_run_becomes_a_native_file_and_packed_bits(tmp_path, capsys):
    run, model, packed = workdirs.trained(tmp_path / "run"), tmp_path / "m.onb", tmp_path / "m.npz"
    convert.main([f"--workdir={run}", f"--native={model}", f"--bits={packed}"])
    assert "m.onb" in capsys.readouterr().out and not list(tmp_path.glob("*.json"))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28, 1), np.uint8)
    with np.load(packed) as arrays:
        logits = bits_program.run(arrays, pixels)
        assert json.loads(str(arrays["card"]))["metrics"]["top1"] == 12.5
    if not engines.missing():
        found = predict.predict(model, pixels, threads=2)
        assert [p.label for p in found] == [trained.load(run).info.class_names[i] for i in logits.argmax(-1)]
        with pytest.raises(UserError, match="m.onb"):
            predict.predict(model, pixels[:, 1:])


def test_somewhere_to_write_is_needed(capsys):
    for options, word in ([], "--native"), (["--native=m.onb", "--summary"], "--output"):
        with pytest.raises(SystemExit):
            convert.main([QUICKSTART, *options])
        assert word in capsys.readouterr().err
