"""From a trained network to the bytes of a file, and from a file to predictions."""

import collections
import dataclasses
import hashlib
import json
from pathlib import Path

import deployed
import dyadic
import engines
import numpy as np
import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.data import load
from onebnet_jax.errors import UserError
from onebnet_jax.export import card, convert, native, predict
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families
from onebnet_jax.runs import trained
from onebnet_jax.runs.trained import random_variables

RESULTS = Path(__file__).parents[2] / "results"
needs_lce = pytest.mark.usefixtures("lce")


@pytest.fixture
def lce():
    return pytest.importorskip("onebnet_jax.export.lce", exc_type=(UserError, ImportError))


def network(**fields):
    structure = dyadic.structure(**fields)
    return deployed.trained(structure, dyadic.variables(structure))


@pytest.mark.parametrize("raw_input", [False, True])
def test_a_file_its_card_and_its_predictions(raw_input, lce, tmp_path):
    made = convert.convert(network(ds_1d=(32,)), folded=not raw_input, raw_input=raw_input)
    assert hashlib.sha256(made.tflite).hexdigest() == made.card["sha256"]
    assert (made.card["folded"], made.card["raw_input"]) == (not raw_input, raw_input)
    assert made.card["operators"] == collections.Counter(operator.kind for operator in lce.operators(made.tflite))
    assert made.card["input"]["shape"] == [1, 20, 20, 3] and made.card["bytes"] == len(made.tflite)
    asked = sum(
        convert.make_plan(network(ds_1d=(32,)), not raw_input, raw_input).operators().values(), collections.Counter()
    )
    assert sum(made.card["operators"].values()) == asked.total()

    made.save(tmp_path / "m.tflite")
    pixels = np.random.default_rng(0).integers(0, 256, (3, 20, 20, 3), np.uint8)
    found = predict.predict(tmp_path / "m.tflite", pixels)
    images = card.normalize(pixels, made.card["input"]["mean"], made.card["input"]["std"])
    logits = np.float64(lce.executable(made.tflite)(images=pixels if raw_input else images)["head"])
    np.testing.assert_allclose(
        np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), [p.probabilities for p in found], atol=1e-6
    )
    names = network().info.class_names
    assert [names.index(p.label) for p in found] == logits.argmax(-1).tolist()
    assert [p.probability for p in found] == [p.probabilities.max() for p in found]
    for wrong in (pixels[:, :-1], pixels.astype(np.float32), pixels[0]):
        with pytest.raises(UserError, match="20, 20, 3"):
            predict.predict(tmp_path / "m.tflite", wrong)


@pytest.mark.parametrize(
    ("images", "options", "words"),
    [
        (None, {}, "images=None must be image files or an array"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)], {}, "or all arrays of one size"),
        ([np.zeros((4, 4, 3), np.uint8), "a.png"], {}, "must be all image files"),
        (np.zeros((1, 4, 4, 3), np.uint8), {"threads": 1.5}, "threads=1.5 must be a whole number"),
    ],
)
def test_what_cannot_be_classified_is_refused_before_the_file_is_read(images, options, words):
    with pytest.raises(UserError, match=words):
        predict.predict("nowhere.onb", images, **options)


@pytest.mark.parametrize("fields", [{}, dict(folded=False, raw_input=True)])
def test_the_name_says_which_file_is_saved(fields, tmp_path):
    made = convert.convert(network(), **fields)
    made.save(str(tmp_path / "m.onb"))
    assert (tmp_path / "m.onb").read_bytes() == made.onb == native.pack(*native.convert(network(), **fields))
    assert [path.name for path in tmp_path.iterdir()] == ["m.onb"]


def test_what_cannot_be_saved_leaves_nothing(tmp_path):
    float_network = families.build("resnet", depth=8, num_classes=4)
    float_network = deployed.trained(float_network, random_variables(float_network, (20, 20, 3)))
    for trained_network, name, words in (
        (network(), "m.bin", r"m.bin must end in \.onb.* or \.tflite"),
        (network(), "none/m.onb", "Cannot write .*none/m.onb"),
        (float_network, "m.onb", "runs binarized networks only"),
    ):
        with pytest.raises(UserError, match=words):
            convert.convert(trained_network).save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@needs_lce
def test_the_kept_file_is_what_its_checkpoint_becomes():
    """To the byte. Its card lacks fields that configs got later."""
    kept = RESULTS / "fashionmnist_ds32_64"
    made = convert.convert(trained.load(kept))
    tflite, facts = card.read(kept / "model.tflite")
    assert hashlib.sha256(made.tflite).hexdigest() == facts["sha256"]
    apart = {"versions": {}, "source": {}}  # of these packages, and of this place
    made = json.loads(json.dumps(made.card)) | apart
    for part in ("config", "binarization"):
        made[part] = known(made[part], facts[part])
    assert made == facts | apart


def known(made, kept):
    """The fields of `made` that `kept` has, in dicts of dicts."""
    if not isinstance(kept, dict):
        return made
    return {name: known(made[name], value) for name, value in kept.items()}


@pytest.mark.parametrize("file", ["model.tflite", "model.onb"])
@pytest.mark.parametrize(
    "name", ["fashionmnist_ds32_64", pytest.param("fashionmnist_conv64_ds64", marks=pytest.mark.slow)]
)
@engines.needs_engine
def test_the_kept_files_predict_what_their_networks_did(name, file, request):
    if file == "model.tflite":
        request.getfixturevalue("lce")
    logits = json.loads((RESULTS.parent / "tests" / "runs" / "kept_logits.json").read_text())[name]
    found = predict.predict(RESULTS / name / file, load.open("fashion_mnist_mini").test_images[: len(logits)])
    names = trained.load(RESULTS / name).info.class_names
    assert [p.label for p in found] == [names[i] for i in np.argmax(logits, axis=-1)]


@engines.needs_engine
@pytest.mark.parametrize("file", sorted(RESULTS.glob("**/*.onb")), ids=lambda file: str(file.relative_to(RESULTS)))
def test_kept_native_files_are_of_the_format_of_today(file):
    engine = Engine(file)
    assert engine.card["classes"] and np.isfinite(engine.logits(np.zeros((1, *engine.shape), np.uint8))).all()


def test_small_maps_are_refused():
    structure = families.build("xnornet", depth=8, stem="imagenet")
    with pytest.raises(UserError, match="^stage3_block1_conv2"):
        convert.convert(deployed.trained(structure, random_variables(structure, (20, 20, 3)))).tflite  # noqa: B018


@needs_lce
def test_a_file_that_the_lint_finds_fault_with_is_not_given(monkeypatch):
    from onebnet_jax.export import keras

    def with_a_smaller_weight(unit, *inputs):
        """A converter's fault as it happens: the convolution is not recognized as binarized."""
        if unit.conv.binary:
            kernel = unit.conv.kernel * np.where(np.arange(unit.conv.kernel.size) == 0, 0.5, 1).reshape(
                unit.conv.kernel.shape
            )
            unit = dataclasses.replace(unit, conv=dataclasses.replace(unit.conv, kernel=kernel, multiplier=None))
        return make(unit, *inputs)

    make = keras._unit
    monkeypatch.setattr(keras, "_unit", with_a_smaller_weight)
    with pytest.raises(UserError, match="stage1_block1_conv1 has "):
        convert.convert(network()).tflite  # noqa: B018
