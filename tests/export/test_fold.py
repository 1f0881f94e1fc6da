"""The deployment plan gives the trained network's answers, whatever the network. Without TensorFlow and LCE.

On values that float32 computes with exactly, and that hit the thresholds of the signs, they are equal to the bit.
"""

import dataclasses
import functools

import deployed
import dyadic
import numpy as np
import pytest
import reference
from hypothesis import example, given
from hypothesis import strategies as st

from onebnet_jax.errors import UserError
from onebnet_jax.export import fold
from onebnet_jax.networks.structure import Binarization

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Name -> family, fields, image size. All end with a map of 2^n pixels, whose mean is exact; half are odd on the way.
CASES = {
    "2-D": ("onebnet", {}, (8, 8)),
    "1-D": ("onebnet", dict(conv_1d=(16, 32), ds_1d=(32,)), (7, 8)),
    "1-D as in TypeII, ReLU in the stem": ("onebnet", dict(conv_1d=(32,), ds_1d=(32,), stem_relu=True), (8, 7)),
    "1-D downsampling, ImageNet stem": ("onebnet", dict(ds_1d=(32,), stem="imagenet"), (29, 31)),
    "Bi-Real Net": ("birealnet", {}, (7, 7)),
    "Bi-Real Net, ImageNet stem": ("birealnet", dict(stem="imagenet"), (15, 16)),
    "ReActNet-A": ("reactnet_a", {}, (15, 16)),
    "ReActNet-A, ImageNet stem": ("reactnet_a", dict(stem="imagenet"), (29, 31)),
    "Real-to-Bin": ("realtobin", {}, (7, 8)),
    "Real-to-Bin, ImageNet stem": ("realtobin", dict(stem="imagenet"), (32, 31)),
    "XNOR-Net": ("xnornet", {}, (7, 8)),
    "XNOR-Net, ImageNet stem": ("xnornet", dict(stem="imagenet"), (16, 15)),
    # As a network of a user's own may have it: sign(BN(x) - alpha).
    "XNOR-Net with shifts": ("xnornet", dict(shift=True), (7, 8)),
    "Real-to-Bin with shifts": ("realtobin", dict(shift=True), (7, 8)),
}
FLOAT = {
    "ResNet": ("resnet", {}, (7, 8)),
    "ResNet as torchvision's": ("resnet", dict(stem="imagenet", padding="torch"), (15, 14)),
    "ResNet without ReLU in the stem": ("resnet", dict(stem_relu=False), (8, 8)),
}


def check(family, fields, size, binarization=Binarization()):  # noqa: B008
    structure, shape = dyadic.structure(family, **{k: v for k, v in fields.items() if k != "shift"}), (*size, 3)
    if "shift" in fields:
        units = (dataclasses.replace(unit, shift=unit.binary and fields["shift"]) for unit in structure.units)
        structure = dataclasses.replace(structure, units=tuple(units))
    variables, images = dyadic.variables(structure), deployed.images(shape)
    expected, sign_inputs = deployed.answers(structure, variables, images, binarization)
    assert np.ptp(expected) > 1
    if binarization.activations:  # else the values soon need more bits than float32 has
        assert all(np.sum(value == 0) > 3 for value in sign_inputs.values())
        agree = np.testing.assert_array_equal
    else:
        agree = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5 * np.abs(expected).max())
    for folded in (True, False):
        plan = fold.deployment_plan(structure, binarization, variables, shape, folded)
        agree(reference.run(plan, images), expected)
    # The same images as pixels of which 2 is the mean.
    normalization = (np.full(3, 2 / 255), np.full(3, 1 / 255))
    plan = fold.deployment_plan(structure, binarization, variables, shape, normalization=normalization)
    agree(reference.run(plan, images + 2), expected)


# By default every kind of unit, with one padding or the other.
DEFAULT = (("2-D", 1), ("1-D", 0), ("XNOR-Net", 0), ("XNOR-Net with shifts", 0), ("XNOR-Net with shifts", 1))


@pytest.mark.parametrize(
    ("case", "pad_value"),
    [
        pytest.param(case, pad_value, marks=[pytest.mark.slow] * ((case, pad_value) not in DEFAULT))
        for case in CASES
        for pad_value in (0, 1)
    ],
)
def test_binarized_networks(case, pad_value):
    family, fields, size = CASES[case]
    check(family, fields | {"pad_value": pad_value}, size)


@pytest.mark.parametrize("case", FLOAT)
def test_float_networks(case):
    check(*FLOAT[case])


IN_PART = {
    "float weights": (Binarization(weights=False), 0),
    "float weights, padding 1": (Binarization(weights=False), 1),
    "float activations": (Binarization(activations=False), 1),
    "all float": (Binarization(activations=False, weights=False), 1),
    "no scale": (Binarization(weight_scale="none"), 1),
}


@pytest.mark.parametrize(
    "family",
    ["onebnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("birealnet", "xnornet", "realtobin"))],
)
@pytest.mark.parametrize("kind", IN_PART)
def test_networks_binarized_in_part(kind, family):
    binarization, pad_value = IN_PART[kind]
    fields = {"ds_1d": (32,)} if family == "onebnet" else {}
    check(family, fields | {"pad_value": pad_value}, (7, 8), binarization)


@pytest.mark.parametrize("folded", [True, False])
def test_gates_of_any_value(folded):
    """Which float32 does not compute with exactly."""
    structure, shape = dyadic.structure("realtobin"), (15, 16, 3)
    variables, images = deployed.with_gates(dyadic.variables(structure)), deployed.images(shape)
    expected, _ = deployed.answers(structure, variables, images)
    plan = fold.deployment_plan(structure, Binarization(), variables, shape, folded)
    np.testing.assert_allclose(reference.run(plan, images), expected, rtol=0, atol=1e-5 * np.abs(expected).max())


TINY = np.finfo(np.float32).tiny
FLOATS = st.floats(-1e4, 1e4, width=32, allow_subnormal=False)


@given(value=FLOATS, steps=st.integers(-2, 2))
@example(value=0.0, steps=0)
@example(value=float(TINY), steps=0)
@example(value=-float(TINY), steps=1)
def test_signs_at_a_threshold(value, steps):
    """Of values at and around a threshold, but for differences that processors may take for zero."""
    x = value = np.float32(value)
    for _ in range(abs(steps)):
        x = np.nextafter(x, np.float32(np.inf if steps > 0 else -np.inf))
    if 0 < abs(x - value) < TINY or 0 < abs(x) < TINY:
        return
    assert (x - fold.above(value) >= 0) == (x > value)
    assert (x + fold.below(-value) >= 0) == (x > value)


@given(
    multiplier=st.floats(-8, 8, width=32).filter(lambda x: x == 0 or abs(x) > 1e-6),
    whole=st.integers(-2100, 2100),
    fraction=st.sampled_from([0.0, 0.0, 0.01, 0.5, 0.99]),
    bias_alone=FLOATS,
)
def test_signs_of_sums_as_lce_forms_them(multiplier, whole, fraction, bias_alone):
    """multiplier * n + bias, which is 0 or changes its sign near n = whole, from counts of bits in float32."""
    terms = 2048
    bias = -multiplier * (whole + fraction) if multiplier else bias_alone
    decided = np.float32(fold.decided(np.float64(multiplier), np.float64(bias), terms))
    for n in {-terms, terms, *(min(max(whole + step, -terms), terms) for step in (-1, 0, 1, 2))}:
        count = np.float32((terms - n) / 2)
        sum_of_lce = (np.float32(multiplier) * terms + decided) - np.float32(2 * multiplier) * count
        assert (sum_of_lce >= 0) == (multiplier * n + bias > 0)


def test_refuses_a_tanh_in_place_of_the_signs():
    structure, soft = dyadic.structure("realtobin"), Binarization(activations=False, weights=False, soft_sign="tanh")
    with pytest.raises(UserError, match="tanh"):
        fold.deployment_plan(structure, soft, dyadic.variables(structure), dyadic.IMAGE_SHAPE)


def test_refuses_values_that_are_not_finite():
    structure = dyadic.structure()
    variables = dyadic.variables(structure)
    variables["params"]["stage1_block1_conv2"]["rprelu"]["zeta"][3] = np.nan
    with pytest.raises(UserError, match="stage1_block1_conv2/rprelu/zeta"):
        fold.deployment_plan(structure, Binarization(), variables, dyadic.IMAGE_SHAPE)
