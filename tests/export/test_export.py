"""JAX, Keras and LCE give the same answers, and the lint refuses a file that would not."""

import dataclasses

import dyadic
import jax
import numpy as np
import pytest
from onebnet_jax.export.untrained import random_variables

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported
from onebnet_jax.errors import UserError
from onebnet_jax.export import fold, lint
from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Structure

pytest.importorskip("larq_compute_engine")

from onebnet_jax.export import agreement, lce, unit_parity
from onebnet_jax.export import keras as larq_model

SHAPE = (21, 18, 3)  # odd sizes on the way, so that average pools stick out


@pytest.fixture(autouse=True, scope="module")
def tiny_depth():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(structure_lib.DEPTHS, 6, dyadic.TINY)
        yield


def logits(structure, binarization, variables, images):
    return np.asarray(jax.jit(Network(structure, binarization).apply)(variables, images))


def convert(structure, binarization, variables, shape, **options):
    """(plan, Keras model, file), linted as the command does it."""
    plan = fold.deployment_plan(structure, binarization, variables, shape, **options)
    lint.check_map_sizes(plan)
    model = larq_model.keras_model(plan)
    tflite = lce.convert(model)
    lint.check_file(lce.operators(tflite), plan)
    return plan, model, tflite


@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("folded", [True, False])
def test_exact_on_dyadic_values(pad_value, folded):
    structure = Structure(6, conv_1d=(8,), ds_1d=(16,), pad_value=pad_value)  # 3x1, 1x3 and 3x3, downsampling
    variables, images = dyadic.variables(structure), dyadic.images()
    expected = logits(structure, Binarization(), variables, images)
    _, model, tflite = convert(structure, Binarization(), variables, dyadic.IMAGE_SHAPE, fold=folded)
    np.testing.assert_array_equal(model.predict_on_batch(images), expected)
    for kernel in ({}, {"use_reference_bconv": True}, {"use_indirect_bgemm": True}):
        np.testing.assert_array_equal(lce.executable(tflite, **kernel)(images=images)["head"], expected)


@pytest.fixture(scope="module")
def converted():
    """A binarized network with random values that takes pixels, its data and its file."""
    structure = Structure(6, ds_1d=(16,), width_multiplier=1.7)
    variables = random_variables(structure, SHAPE)
    pixels = np.random.default_rng(1).integers(0, 256, (24, *SHAPE))
    mean, std = np.float32([0.5, 0.4, 0.3]), np.float32([0.2, 0.25, 0.3])
    images = (pixels.astype(np.float32) / 255 - mean) / std
    plan, _, tflite = convert(structure, Binarization(), variables, SHAPE, normalization=(mean, std))
    return structure, variables, plan, tflite, pixels, images


def test_report_of_a_faithful_file(converted):
    structure, variables, plan, tflite, pixels, images = converted
    expected = logits(structure, Binarization(), variables, images)
    batches = agreement.batches(images, pixels, expected.argmax(-1), size=10)
    report = agreement.compare(structure, Binarization(), variables, plan, tflite, batches)
    assert report.explained
    assert report.images == report.correct == 24
    assert report.max_logit == pytest.approx(np.abs(expected).max(), rel=1e-5)
    difference = np.abs(lce.executable(tflite)(images=pixels)["head"] - expected)
    np.testing.assert_allclose(report.lce.max_difference, difference.max(), atol=1e-6)
    np.testing.assert_allclose(report.lce.mean_difference, difference.mean(), atol=1e-6)
    sizes = [21 * 18 * 14, 21 * 18 * 14, 21 * 18 * 14, 11 * 18 * 27, 11 * 9 * 27]
    for other in (report.keras, report.lce):
        assert other.correct == other.equal_predictions == 24
        assert [unit.signs for unit in other.units] == [24 * size for size in sizes]


def test_report_finds_what_rounding_does_not_explain(converted):
    """A threshold moved by far more than rounding flips signs: the report names the unit, and is not content."""
    structure, variables, plan, tflite, pixels, images = converted
    unit = plan.units[1]
    moved = jax.tree.map(np.copy, variables)
    moved["params"][unit.name]["rsign"]["alpha"] += 0.01
    batches = agreement.batches(images, pixels)
    report = agreement.compare(structure, Binarization(), moved, plan, tflite, batches)
    assert not report.explained and report.lce.unexplained and report.lce.images_with_flips
    flips = {flips.name: flips for flips in report.lce.units}
    assert flips[plan.units[0].name].flips == 0
    assert flips[unit.name].first_flips == flips[unit.name].flips > 0
    assert 1e-3 < flips[unit.name].first_margin < 0.02
    predictions = (logits(structure, Binarization(), moved, images), lce.executable(tflite)(images=pixels)["head"])
    changed = np.flatnonzero(predictions[0].argmax(-1) != predictions[1].argmax(-1))
    assert [index for index, *_ in report.lce.differing] == changed.tolist()
    assert report.correct is None and report.conversion_difference == 0

    # A network that does the same, with another file, is found out as well.
    other = fold.deployment_plan(structure, Binarization(), moved, SHAPE, normalization=([0.5, 0.4, 0.3], [1, 1, 1]))
    batches = agreement.batches(images[:2], pixels[:2])
    report = agreement.compare(structure, Binarization(), moved, other, tflite, batches)
    assert report.conversion_difference > 0 and not report.explained


def test_report_finds_other_logits_without_any_flip(converted):
    structure, variables, plan, tflite, pixels, images = converted
    moved = jax.tree.map(np.copy, variables)
    moved["params"]["head"]["bias"][0] += 1e-2
    batches = agreement.batches(images[:5], pixels[:5], size=3)
    report = agreement.compare(structure, Binarization(), moved, plan, tflite, batches)
    assert not report.explained and report.conversion_difference == 0
    for other in (report.keras, report.lce):
        assert other.images_with_flips == 0 and other.unexplained == [0, 1, 2, 3, 4]
        assert other.max_difference == pytest.approx(1e-2, rel=0.05)


def test_units_alone_on_equal_inputs(converted):
    structure, variables, plan, _, _, images = converted
    parity = unit_parity.compare_units(structure, Binarization(), variables, plan, images[:4])
    assert [unit.name for unit in parity] == [*(unit.name for unit in structure_lib.units(structure)), "head"]
    for unit in parity:
        assert unit.explained and unit.flips <= 1 and unit.images >= 3 and unit.max_output > 1
        assert unit.max_difference < 1e-5 * unit.max_output


def test_units_that_compute_something_else_are_found_one_by_one(converted):
    """Also behind a flip, where the logits tell nothing: a threshold, a slope, a weight, and the head's bias."""
    structure, variables, plan, _, _, images = converted
    threshold, slope, sound, kernel, other = (unit.name for unit in plan.units)
    moved = jax.tree.map(np.copy, variables)
    moved["params"][threshold]["rsign"]["alpha"] += 0.01
    moved["params"][slope]["rprelu"]["beta"] += 0.1
    moved["params"][kernel]["conv"]["kernel"][0, 0, 0, 0] *= -1
    moved["params"]["head"]["bias"] += 1e-2
    parity = {unit.name: unit for unit in unit_parity.compare_units(structure, Binarization(), moved, plan, images[:4])}
    assert {name for name, unit in parity.items() if unit.explained} == {sound, other}
    assert parity[threshold].margin > 1e-3
    assert min(parity[slope].max_difference, parity[kernel].max_difference) > 1e-2
    assert parity["head"].max_difference == pytest.approx(1e-2, rel=0.05)
    assert max(parity[sound].max_difference, parity[other].max_difference) < 1e-4


OTHER_KINDS = {
    "stage 1, pad 1": (dict(ds_1d=(16,), pad_value=1), Binarization(weights=False)),
    "float activations": (dict(conv_1d=(16,)), Binarization(activations=False)),
    "FP32, torch's padding": (dict(block="resnet", stem="imagenet", padding="torch"), Binarization()),
}


@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_float_networks(kind):
    fields, binarization = OTHER_KINDS[kind]
    structure, shape = Structure(6, **fields), (20, 18, 3)
    variables = random_variables(structure, shape)
    images = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    expected = logits(structure, binarization, variables, images)
    plan, model, tflite = convert(structure, binarization, variables, shape)
    close = dict(rtol=0, atol=1e-5 * np.abs(expected).max())
    np.testing.assert_allclose(model.predict_on_batch(images), expected, **close)
    np.testing.assert_allclose(lce.executable(tflite)(images=images)["head"], expected, **close)
    batches = agreement.batches(images, size=3)
    report = agreement.compare(structure, binarization, variables, plan, tflite, batches)
    assert report.explained and report.images == report.lce.equal_predictions == 4
    parity = unit_parity.compare_units(structure, binarization, variables, plan, images)
    assert len(parity) == (6 if plan.units else 0) and all(unit.explained for unit in parity)


DEPTHS = {
    "18": (Structure(18, conv_1d=(512,), ds_1d=(128, 512), width_multiplier=0.1, num_classes=100), (32, 32, 3)),
    "20": (Structure(20, conv_1d=(32,), ds_1d=(64,), width_multiplier=0.3), (32, 32, 3)),
    "34": (Structure(34, conv_1d=(256,), ds_1d=(256,), width_multiplier=0.1, stem="imagenet"), (96, 96, 3)),
}


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_depth_converts(depth):
    structure, shape = DEPTHS[depth]
    plan, _, tflite = convert(structure, Binarization(), random_variables(structure, shape), shape)
    assert lce.histogram(tflite)["LceBconv2d"] == len(structure_lib.units(structure)) == len(plan.units)


def test_one_pixel_maps_convert_with_padding_one():
    structure, shape = Structure(6, stem="imagenet", pad_value=1), (8, 4, 1)  # down to 1x1
    variables = random_variables(structure, shape)
    images = np.random.default_rng(1).normal(size=(4, *shape)).astype(np.float32)
    _, _, tflite = convert(structure, Binarization(), variables, shape)
    expected = logits(structure, Binarization(), variables, images)
    np.testing.assert_allclose(lce.executable(tflite)(images=images)["head"], expected, rtol=0, atol=1e-4)


def test_lint_finds_a_convolution_that_stayed_float(converted):
    structure, variables, plan, tflite, *_ = converted
    unit = plan.units[3]
    kernel = unit.conv.kernel.copy()
    kernel[0, 0, 0, 0] = 0.5  # a weight that is not +-1: LCE's converter says nothing and leaves the layer float
    images = larq_model.tf.keras.Input((*unit.conv.input_size, kernel.shape[2]))
    conv = dataclasses.replace(unit.conv, kernel=kernel * unit.conv.multiplier, multiplier=None)
    model = larq_model.tf.keras.Model(images, larq_model.unit(dataclasses.replace(unit, conv=conv), images))
    found = [operator for operator in lce.operators(lce.convert(model)) if unit.name in operator.tensor]
    rest = [operator for operator in lce.operators(tflite) if unit.name not in operator.tensor]
    with pytest.raises(UserError, match=f"{unit.name} has 0 LceBconv2d and not 1") as error:
        lint.check_file(rest + found, plan)
    assert f"{unit.name} has 1 LceDequantize and not 0" in str(error.value)
    assert plan.units[0].name not in str(error.value)


def test_lint_finds_padding_that_the_converter_swallowed():
    """Symmetric padding at stride 2, as torch has it, is silently taken for SAME: this is why plans pad (3, 2)."""
    structure, shape = Structure(6, block="resnet", stem="imagenet", padding="torch"), (20, 18, 3)
    plan = fold.deployment_plan(structure, Binarization(), random_variables(structure, shape), shape)
    assert plan.stem.pads == ((3, 2), (3, 2))
    symmetric = dataclasses.replace(plan, stem=dataclasses.replace(plan.stem, pads=((3, 3), (3, 3))))
    tflite = lce.convert(larq_model.keras_model(symmetric))
    with pytest.raises(UserError, match="stem has 0 PAD and not 1"):
        lint.check_file(lce.operators(tflite), symmetric)
