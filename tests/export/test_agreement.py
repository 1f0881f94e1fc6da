"""The comparison of whole networks: what a faithful file gives, and that no planted fault is taken for rounding."""

import dataclasses

import deployed
import engines
import numpy as np
import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported

pytest.importorskip("larq_compute_engine")

from onebnet_jax.export import agreement, keras, lce, native
from onebnet_jax.native.runtime import Engine

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def converted():
    return deployed.converted()


def logits(network, images):
    return deployed.answers(network.structure, network.variables, images, network.binarization)[0]


def test_a_faithful_file(converted):
    network, plan, tflite, pixels, images = converted
    expected = logits(network, images)
    labels = expected.argmax(-1)
    batches = ((images[part], pixels[part], labels[part]) for part in (slice(10), slice(10, 24)))
    report = agreement.compare(network, plan, tflite, batches)
    assert report.explained and report.images == report.correct == 24
    assert report.max_logit == pytest.approx(np.abs(expected).max(), rel=1e-5)
    difference = np.abs(lce.executable(tflite)(images=pixels)["head"] - expected)
    np.testing.assert_allclose(report.lce.max_difference, difference.max(), atol=1e-6)
    np.testing.assert_allclose(report.lce.mean_difference, difference.mean(), atol=1e-6)
    sizes = [21 * 18 * 14, 21 * 18 * 14, 21 * 18 * 14, 11 * 18 * 27, 11 * 9 * 27]
    for other in report.others.values():
        assert other.correct == other.equal_predictions == 24
        assert [unit.signs for unit in other.units] == [24 * size for size in sizes]


def test_a_moved_threshold_is_named(converted):
    """It flips signs that lie further from it than rounding."""
    network, plan, tflite, pixels, images = converted
    first, unit = plan.signs[0].name, plan.signs[1].name
    other = deployed.moved(network, (f"{unit}/rsign/alpha", lambda alpha: alpha + 0.01))
    report = agreement.compare(other, plan, tflite, [(images, pixels, None)])
    assert not report.explained and report.lce.unexplained
    flips = {flips.name: flips for flips in report.lce.units}
    assert engines.missing() or report.engine.units == report.lce.units
    assert flips[first].flips == 0 and flips[unit].first_flips == flips[unit].flips > 0
    assert 1e-3 < flips[unit].first_margin < 0.02
    predictions = logits(other, images).argmax(-1), lce.executable(tflite)(images=pixels)["head"].argmax(-1)
    changed = np.flatnonzero(predictions[0] != predictions[1])
    assert [(index, name) for index, name, _ in report.lce.differing] == [(index, unit) for index in changed]
    assert report.correct is None and report.conversion_difference == 0


@pytest.mark.slow
def test_other_logits_without_any_flip_are_found(converted):
    network, plan, tflite, pixels, images = converted
    other = deployed.moved(network, ("head/bias", lambda bias: bias + [1e-2, *[0] * 9]))
    report = agreement.compare(other, plan, tflite, [(images[:3], pixels[:3], None), (images[3:5], pixels[3:5], None)])
    assert not report.explained and report.conversion_difference == 0
    for found in report.others.values():
        assert found.images_with_flips == 0 and found.unexplained == [0, 1, 2, 3, 4]
        assert found.max_difference == pytest.approx(1e-2, rel=0.05)


def test_the_file_of_another_checkpoint_is_found(converted):
    network, plan, _, pixels, images = converted
    bias = plan.head_bias + np.float32(1e-3)
    tflite = lce.convert(keras.keras_model(dataclasses.replace(plan, head_bias=bias)))
    report = agreement.compare(network, plan, tflite, [(images[:2], pixels[:2], None)])
    assert not report.explained and report.conversion_difference == pytest.approx(1e-3, rel=0.05)


@pytest.mark.slow
@engines.needs_engine
def test_the_engines_own_file_of_another_checkpoint_is_found(converted):
    network, plan, tflite, pixels, images = converted
    changed = dataclasses.replace(plan, head_bias=plan.head_bias + np.float32(1e-3))
    engine = Engine(native.pack(changed, native.pixel_table(plan, None), {}))
    report = agreement.compare(network, plan, tflite, [(images[:2], pixels[:2], None)], engine)
    assert not report.explained and not report.lce.unexplained and report.engine.unexplained == [0, 1]


def test_an_honest_flip_is_explained(converted):
    """Thresholds are moved just past the nearest value: what follows from these flips is no fault."""
    network, plan, tflite, pixels, images = converted
    unit = plan.signs[0].name
    _, values = deployed.answers(network.structure, network.variables, images)
    values = values[unit].reshape(-1, values[unit].shape[-1])
    step = np.take_along_axis(values, np.abs(values).argmin(axis=0)[None], axis=0)[0] * np.float32(1.001)
    other = deployed.moved(network, (f"{unit}/rsign/alpha", lambda alpha: alpha + step))
    report = agreement.compare(other, plan, tflite, [(images, pixels, None)])
    assert report.explained and {other.images_with_flips for other in report.others.values()} == {
        report.lce.images_with_flips
    }
    assert report.lce.images_with_flips >= 5
    assert report.lce.max_difference > 1e-2 and 0 < report.lce.units[0].first_margin < agreement.ROUNDING
