"""The Keras model and the file that LCE makes of it give the trained network's answers, and the lint reads the file."""

import collections
import dataclasses

import deployed
import dyadic
import numpy as np
import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.errors import UserError
from onebnet_jax.export import fold, lint
from onebnet_jax.networks.structure import Binarization

pytest.importorskip("larq_compute_engine")

from onebnet_jax.export import keras, lce

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Family, fields, image size, folded. Maps are large enough for LCE's zero padding.
CASES = {
    "1-D, pad 0, folded, ImageNet stem": (
        "onebnet",
        dict(conv_1d=(16, 32), ds_1d=(32,), stem="imagenet", pad_value=0),
        (29, 31),
        True,
    ),
    "2-D and 1-D, pad 1, naive": ("onebnet", dict(ds_1d=(32,), pad_value=1, stem_relu=True), (8, 8), False),
    "Bi-Real Net, pad 0": ("birealnet", dict(pad_value=0), (8, 8), True),
    "Bi-Real Net, pad 1": ("birealnet", dict(pad_value=1), (7, 8), True),
    "ReActNet-A, folded": ("reactnet_a", dict(pad_value=0), (15, 16), True),
    "ReActNet-A, naive": ("reactnet_a", dict(stem="imagenet", pad_value=1), (29, 31), False),
    "Real-to-Bin, folded": ("realtobin", dict(pad_value=0), (8, 8), True),
    "Real-to-Bin, naive": ("realtobin", dict(stem="imagenet", pad_value=1), (32, 31), False),
    "XNOR-Net, pad 0, folded": ("xnornet", dict(pad_value=0), (8, 8), True),
    "XNOR-Net, pad 0, naive": ("xnornet", dict(pad_value=0), (8, 8), False),
    "XNOR-Net, pad 1": ("xnornet", dict(pad_value=1), (8, 8), True),
    "ResNet as torchvision's": ("resnet", dict(stem="imagenet", padding="torch"), (15, 14), True),
}


def convert(plan):
    """(Keras model, file), linted as the command does it."""
    model = keras.keras_model(plan)
    tflite = lce.convert(model)
    lint.check_file(lce.operators(tflite), plan)
    return model, tflite


# By default a OneBNet, and a network in float.
DEFAULT = (*tuple(CASES)[:1], "ResNet as torchvision's")


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case not in DEFAULT)) for case in CASES]
)
def test_exact_on_dyadic_values(case):
    family, fields, size, folded = CASES[case]
    structure, shape = dyadic.structure(family, **fields), (*size, 3)
    variables, images = dyadic.variables(structure), deployed.images(shape)
    expected, sign_inputs = deployed.answers(structure, variables, images)
    assert np.ptp(expected) > 1 and all(np.sum(value == 0) > 3 for value in sign_inputs.values())
    plan = fold.deployment_plan(structure, Binarization(), variables, shape, folded)
    model, tflite = convert(plan)
    np.testing.assert_array_equal(model.predict_on_batch(images), expected)
    for kernel in ({}, {"use_reference_bconv": True}, {"use_indirect_bgemm": True}):
        np.testing.assert_array_equal(lce.executable(tflite, **kernel)(images=images)["head"], expected)
    # Not the kinds alone that the lint compares by section: the whole file, with x - c as x + (-c).
    asked = sum(plan.operators().values(), collections.Counter())
    found = collections.Counter(operator.kind for operator in lce.operators(tflite))
    for count in (asked, found):
        count["ADD"] += count.pop("SUB", 0)
    assert found == asked


@pytest.mark.parametrize("family", ["onebnet", "xnornet"])
def test_exact_with_float_weights_and_padding_one(family):
    structure = dyadic.structure(family, pad_value=1)
    variables, images = dyadic.variables(structure), dyadic.images(8)
    expected, _ = deployed.answers(structure, variables, images, Binarization(weights=False))
    plan = fold.deployment_plan(structure, Binarization(weights=False), variables, dyadic.IMAGE_SHAPE)
    model, tflite = convert(plan)
    np.testing.assert_array_equal(model.predict_on_batch(images), expected)
    if family == "onebnet":  # XNNPACK begins a sum with the bias, whose last bit says which sign XNOR-Net's zeros have
        np.testing.assert_array_equal(lce.executable(tflite)(images=images)["head"], expected)


def test_one_pixel_maps_convert_with_padding_one():
    structure, shape = dyadic.structure(stem="imagenet", pad_value=1), (8, 4, 3)  # down to 1x1
    variables, images = dyadic.variables(structure), deployed.images(shape)
    expected, _ = deployed.answers(structure, variables, images)
    _, tflite = convert(fold.deployment_plan(structure, Binarization(), variables, shape))
    np.testing.assert_array_equal(lce.executable(tflite)(images=images)["head"], expected)


def test_lint_finds_a_convolution_that_stayed_float():
    structure = dyadic.structure()
    plan = fold.deployment_plan(structure, Binarization(), dyadic.variables(structure), dyadic.IMAGE_SHAPE)
    index, unit = 3, plan.units[3]
    kernel = unit.conv.kernel.copy()
    kernel[0, 0, 0, 0] = 0.5  # a weight that is not +-1: LCE's converter says nothing and leaves the layer float
    conv = dataclasses.replace(unit.conv, kernel=kernel * unit.conv.multiplier, multiplier=None)
    units = (*plan.units[:index], dataclasses.replace(unit, conv=conv), *plan.units[index + 1 :])
    operators = lce.operators(lce.convert(keras.keras_model(dataclasses.replace(plan, units=units))))
    with pytest.raises(UserError, match=f"{unit.name} has 0 LceBconv2d and not 1") as error:
        lint.check_file(operators, plan)
    assert f"{unit.name} has 1 LceDequantize and not 0" in str(error.value)
    assert plan.units[1].name not in str(error.value)


def test_lint_finds_padding_that_the_converter_swallowed():
    """Symmetric padding at stride 2, as torch has it, is silently taken for SAME: this is why plans pad (3, 2)."""
    structure, shape = dyadic.structure("resnet", stem="imagenet", padding="torch"), (20, 18, 3)
    plan = fold.deployment_plan(structure, Binarization(), dyadic.variables(structure), shape)
    stem = plan.units[0]
    assert stem.conv.pads == ((3, 2), (3, 2))
    stem = dataclasses.replace(stem, conv=dataclasses.replace(stem.conv, pads=((3, 3), (3, 3))))
    symmetric = dataclasses.replace(plan, units=(stem, *plan.units[1:]))
    with pytest.raises(UserError, match="stem has 0 PAD and not 1"):
        lint.check_file(lce.operators(lce.convert(keras.keras_model(symmetric))), symmetric)
