"""The comparison of every section alone: faults are found one by one, also behind a flip, where logits tell nothing."""

import deployed
import dyadic
import numpy as np
import pytest

import onebnet_jax.export  # noqa: F401  asks for Keras 2, before TensorFlow is imported

pytest.importorskip("larq_compute_engine")

from onebnet_jax.export import agreement, fold, keras, lce, lint, parity
from onebnet_jax.runs import trained

pytestmark = pytest.mark.usefixtures("quick_compilation")


def test_a_faithful_plan():
    network, plan, _, _, images = deployed.converted()
    found = parity.compare(network, plan, images[:4])
    assert [section.name for section in found] == [*(unit.name for unit in plan.signs), "head"]
    for section in found:
        assert section.explained and section.flips <= 1 and section.images >= 3 and section.max_output > 1
        assert section.max_difference < 1e-5 * section.max_output


@pytest.mark.slow
@pytest.mark.parametrize("family", ["realtobin", "reactnet_a"])
def test_the_other_families(family):
    """All that `onebnet agree` compares."""
    structure, shape = dyadic.structure(family, pad_value=0), (13, 14, 3)
    network = deployed.trained(structure, trained.random_variables(structure, shape))
    plan = fold.deployment_plan(structure, network.binarization, network.variables, shape)
    tflite, images = lce.convert(keras.keras_model(plan)), np.random.default_rng(0).normal(size=(4, *shape))
    images = images.astype(np.float32)
    lint.check_file(lce.operators(tflite), plan)
    report = agreement.compare(network, plan, tflite, [(images, images, None)])
    assert report.explained and all(other.images_with_flips < 2 for other in report.others.values())
    found = parity.compare(network, plan, images)
    assert [section.name for section in found] == [*(unit.name for unit in plan.signs), "head"]
    assert all(section.explained for section in found)
    if family == "realtobin":
        gated = plan.signs[1].name
        other = deployed.moved(network, (f"{gated}/gate_out/kernel", lambda kernel: kernel * 1.01))
        assert [part.name for part in parity.compare(other, plan, images) if not part.explained] == [gated]


def test_a_gate_of_large_sums():
    """Its argument cancels: rounding of the sums moves the output by more than of its own values, a fault by far more.

    Sums of 1000 times the usual, the last of which is nearly that of the channel beside it: float64 tells the truth.
    """
    rng = np.random.default_rng(0)
    inner, outer = rng.normal(size=(64, 32)), rng.normal(size=(32, 16))
    means, y = 1000 * np.abs(rng.normal(size=(8, 64))), 200 * rng.normal(size=(8, 3, 3, 16))

    def gated(kind):
        hidden = np.maximum(means.astype(kind) @ inner.astype(kind), 0)
        outer[:, 0] -= hidden[0] * (hidden[0] @ outer[:, 0]) / (hidden[0] @ hidden[0])  # of the first image about 0
        argument = (hidden @ outer.astype(kind))[:, None, None]
        return argument, y.astype(kind) / (1 + np.exp(-np.clip(argument, -80, 80)))

    (_, exact), (argument, found) = gated(np.float64), gated(np.float32)
    moved = np.asarray(agreement.gate_rounding(argument, y.astype(np.float32)))
    difference = np.abs(found - exact).max(axis=(1, 2, 3))
    assert agreement.ROUNDING * np.abs(exact).max() < difference[0] < moved[0] < 0.2 * np.abs(exact).max()
    assert np.all(difference <= moved + agreement.ROUNDING * np.abs(exact).max())


def test_faults_are_found_where_they_are():
    """A threshold, a slope, a weight, and the head's bias."""
    network, plan, _, _, images = deployed.converted()
    threshold, slope, sound, kernel, other = (unit.name for unit in plan.signs)
    network = deployed.moved(
        network,
        (f"{threshold}/rsign/alpha", lambda alpha: alpha + 0.01),
        (f"{slope}/rprelu/beta", lambda beta: beta + 0.1),
        (
            f"{kernel}/conv/kernel",
            lambda weights: weights * np.sign(np.arange(weights.size) - 0.5).reshape(weights.shape),
        ),
        ("head/bias", lambda bias: bias + 1e-2),
    )
    found = {section.name: section for section in parity.compare(network, plan, images[:4])}
    assert {name for name, section in found.items() if section.explained} == {sound, other}
    assert found[threshold].margin > 1e-3
    assert min(found[slope].max_difference, found[kernel].max_difference) > 1e-2
    assert found["head"].max_difference == pytest.approx(1e-2, rel=0.05)
    assert max(found[sound].max_difference, found[other].max_difference) < 1e-4
