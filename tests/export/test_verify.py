"""The proof as a whole, of every family, and its report in words."""

import dataclasses
import json

import deployed
import dyadic
import engines
import numpy as np
import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.errors import UserError
from onebnet_jax.export import verify
from onebnet_jax.export.convert import make_plan
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs.trained import random_variables

pytest.importorskip("larq_compute_engine")

from onebnet_jax.export import keras, lce
from onebnet_jax.export.agreement import Comparison, Report, UnitFlips
from onebnet_jax.export.parity import Parity

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Family, fields, what is binarized, raw input, sections with signs.
KINDS = {
    "Bi-Real Net": ("birealnet", dict(pad_value=1), Binarization(), False, 4),
    "XNOR-Net": ("xnornet", dict(pad_value=0), Binarization(), True, 2),
    "XNOR-Net, pad 1": ("xnornet", dict(pad_value=1), Binarization(), True, 2),
    "XNOR-Net, float weights": ("xnornet", dict(pad_value=1), Binarization(weights=False), False, 2),
    "1-D, float activations": ("onebnet", dict(conv_1d=(32,)), Binarization(activations=False), True, 0),
    "ResNet": ("resnet", dict(stem="imagenet", padding="torch"), Binarization(), False, 0),
}


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=[pytest.mark.slow] * kind.startswith(("XNOR", "ResNet"))) for kind in KINDS],
)
def test_networks_with_random_values_agree(kind):
    family, fields, binarization, raw_input, sections = KINDS[kind]
    structure = dyadic.structure(family, **fields)
    network = deployed.trained(structure, random_variables(structure, (20, 20, 3)), binarization)
    plan = make_plan(network, folded=True, raw_input=raw_input)
    tflite, facts = lce.convert(keras.keras_model(plan)), {"folded": True, "raw_input": raw_input}
    pixels, told = np.random.default_rng(1).integers(0, 256, (18, 20, 20, 3), np.uint8), []
    result = verify.agree(network, tflite, facts, [(pixels, None)], told.append)
    assert result.explained and told == [16, 2] and result.images == 18
    assert result.lce.equal_predictions >= 17 and result.lce.images_with_flips <= 2
    assert len(result.sections) == sections + bool(sections)
    if not engines.missing():
        assert (
            (result.engine is None)
            == bool(result.engine_missing)
            == (family == "resnet" or binarization != Binarization())
        )
    json.dumps(dataclasses.asdict(result))


FLIPS = [UnitFlips("stage1_block1_conv1", 100, 2, 0.5, 1, 0.25)]
GOOD = Comparison(0.1, 0.01, 3, 4, 0, [], [], FLIPS)
BAD = Comparison(2.0, 0.5, 2, 3, 1, [2], [(2, "stage1_block1_conv1", 0.25)], FLIPS)
SAME = Parity("stage1_block1_conv1", 1, 1e-7, 3, 1e-6, 5.0)


@pytest.mark.parametrize(
    ("lce", "difference", "section", "word"),
    [
        (BAD, 0.0, SAME, "images [2]"),
        (GOOD, 0.25, SAME, "2.50e-01"),
        (GOOD, 0.0, dataclasses.replace(SAME, max_difference=1e-3), "stage1_block1_conv1 alone"),
        (GOOD, 0.0, dataclasses.replace(SAME, margin=1e-3), "stage1_block1_conv1 alone"),
        (GOOD, 0.0, dataclasses.replace(SAME, images=0), "stage1_block1_conv1 alone"),
    ],
)
def test_the_last_line_says_what_is_not_explained(lce, difference, section, word):
    result = Report(4, 9.0, 3, GOOD, lce, difference, sections=[section])
    *lines, verdict = verify.describe(result)[-1].splitlines()
    assert not result.explained and word in verdict
    assert any("image 2" in line and "stage1_block1_conv1" in line for line in lines) == (lce is BAD)


def test_of_many_images_of_another_class_ten_have_a_line():
    many = dataclasses.replace(BAD, differing=[(index, "stage1_block1_conv1", 0.25) for index in range(109)])
    lines = verify.describe(Report(200, 9.0, 3, GOOD, many, 0.0, sections=[SAME]))[-1].splitlines()
    assert sum("another class for image" in line for line in lines) == 10
    assert "LCE predicts another class for 99 more images" in lines


def test_what_is_explained_and_what_is_too_long_to_list():
    assert Report(4, 9.0, 3, GOOD, GOOD, 0.0, GOOD, sections=[SAME]).explained
    assert not Report(4, 9.0, 3, GOOD, GOOD, 0.0, BAD).explained
    assert (
        "a compiler" in verify.describe(Report(4, 9.0, 3, GOOD, GOOD, 0.0, engine_missing="for want of a compiler"))[-1]
    )
    many = dataclasses.replace(BAD, unexplained=list(range(100)), differing=[])
    assert verify.describe(Report(100, 9.0, 3, many, many, 0.0))[-1].endswith("9] and 90 more")


def test_no_image_is_refused():
    with pytest.raises(UserError, match="no image"):
        verify.agree(None, b"", {}, [], print)
