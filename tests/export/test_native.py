"""The native engine gives the answers of a plan, whatever the network: by JAX, and by the program for packed bits."""

import dataclasses

import bits_program
import deployed
import dyadic
import engines
import numpy as np
import pytest
import reference

from onebnet_jax.errors import UserError
from onebnet_jax.export import bits, fold, native
from onebnet_jax.native.runtime import Engine
from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.paper import numbers

pytestmark = pytest.mark.usefixtures("quick_compilation")

# Name -> family, fields, image size. All end with a map of 2^n pixels, whose mean is exact; all widths are even, with
# which the scale of weights is exact too.
CASES = {
    "1-D": ("onebnet", dict(conv_1d=(16, 32), ds_1d=(32,), stem_relu=True, width_multiplier=2.125), (7, 8)),
    "ImageNet stem": ("onebnet", dict(ds_1d=(32,), stem="imagenet"), (29, 31)),
    "Bi-Real Net": ("birealnet", dict(stem="imagenet", width_multiplier=1.5), (15, 16)),
    "XNOR-Net": ("xnornet", dict(width_multiplier=0.875), (7, 8)),
    "Real-to-Bin": ("realtobin", dict(stem="imagenet", width_multiplier=2.125), (15, 16)),
    "ReActNet-A": ("reactnet_a", dict(width_multiplier=1.0), (7, 8)),
    "ReActNet-A, half a block": ("reactnet_a", dict(stem="imagenet"), (15, 16)),
}
DEFAULT = ("1-D", "XNOR-Net", "Real-to-Bin")


@engines.needs_engine
@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=[pytest.mark.slow] * (case not in DEFAULT)) for case in CASES]
)
def test_equal_where_float32_is_exact(case, pad_value):
    family, fields, size = CASES[case]
    structure, shape = dyadic.structure(family, **fields, pad_value=pad_value), (*size, 3)
    variables, images = dyadic.variables(structure), deployed.images(shape)
    plan = fold.deployment_plan(structure, Binarization(), variables, shape)
    expected = np.asarray(reference.run(plan, images))
    assert np.ptp(expected) > 1
    for folded in (True, False):
        plan = fold.deployment_plan(structure, Binarization(), variables, shape, folded)
        engine = Engine(engines.pack(plan, (np.zeros(3), np.ones(3))))
        np.testing.assert_array_equal(engine.logits(images), expected)
    # The same images as pixels of which 2 is the mean; pixels as floats, and as bytes.
    plan = fold.deployment_plan(
        structure, Binarization(), variables, shape, normalization=(np.full(3, 2 / 255), np.full(3, 1 / 255))
    )
    engine = Engine(engines.pack(plan))
    for kind in (np.float32, np.uint8):
        np.testing.assert_array_equal(engine.logits((images + 2).astype(kind)), expected)


@engines.needs_engine
@pytest.mark.parametrize("number", range(len(numbers.TABLE1)))
def test_every_row_of_table_1(number):
    """With widths of which no block of 32 channels is full, and odd maps; each row another mix of the options."""
    row, pad_value, folded, raw = numbers.TABLE1[number], number % 2, number // 2 % 2, number % 3 == 0
    fields = dict(conv_1d=row.conv_1d, ds_1d=row.ds_1d, stem="imagenet", stem_relu=number % 5 == 0, pad_value=pad_value)
    structure = families.build("onebnet", depth=10, width_multiplier=0.3, num_classes=37, **fields)
    check_units(structure, (37, 43, 3), folded, raw)


@engines.needs_engine
@pytest.mark.parametrize("pad_value", [0, 1])
@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("family", ["birealnet", "xnornet", "onebnet", "reactnet_a", "realtobin"])
def test_small_images_of_one_channel(family, folded, pad_value):
    fields = dict(conv_1d=(16,), ds_1d=(32,)) if family == "onebnet" else {}
    fields |= dict(width_multiplier=1.3, stem="cifar", pad_value=pad_value, num_classes=5, channels=1)
    structure = dyadic.structure(family, **fields)
    check_units(structure, (13, 10, 1), folded, raw=False)


@engines.needs_engine
def test_a_map_that_grows_where_it_is_halved():
    """From one block of channels to three: in place, its rows are then replaced from below."""
    fields = dict(depth=8, width_multiplier=2.03, ds_1d=(32, 64), channels=1)
    check_units(families.build("onebnet", **fields), (40, 60, 1), folded=True, raw=False)


def check_units(structure, shape, folded, raw):
    """Every unit by itself, on what the engine gives it: signs are equal, and floats within rounding."""
    file, arrays = engines.random_plan(structure, shape, folded, raw)
    engine, image = Engine(file), np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    inputs, names = [next(bits_program.maps(arrays, image[None]))], arrays["units"]
    for number, (name, after) in enumerate(zip(names, [*names[1:], None])):
        unit = bits_program.of(arrays, name)
        x = bits_program.unit(unit, inputs)
        if unit.get("span", 1):  # else only its signs are kept
            expected, x = x, engine.look(image, number, signs=False)[1][None]
            np.testing.assert_allclose(x, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
        if after:
            signs = engine.look(image, number, values=False)[0]
            np.testing.assert_array_equal(signs > 0, x[0] > arrays[f"{after}/threshold"])
        inputs.append(x)
    logits = bits_program.head(arrays, inputs[-1])
    np.testing.assert_allclose(engine.logits(image[None]), logits, rtol=0, atol=1e-5 * np.abs(logits).max())


@engines.needs_engine
@pytest.mark.parametrize("family", ["xnornet", "reactnet_a", "realtobin"])
def test_the_program_for_packed_bits(family, tmp_path):
    structure = dyadic.structure(family, stem="imagenet", pad_value=1)
    variables, images = dyadic.variables(structure), deployed.images((16, 15, 3))
    expected, _ = deployed.answers(structure, variables, images)
    plan = fold.deployment_plan(
        structure, Binarization(), variables, (16, 15, 3), normalization=(np.full(3, 2 / 255), np.full(3, 1 / 255))
    )
    path = tmp_path / "bits.npz"
    path.write_bytes(bits.pack(plan, native.pixel_table(plan, None), {"classes": []}))
    with np.load(path) as file:
        np.testing.assert_array_equal(bits_program.run(file, np.uint8(images + 2)), expected)


@pytest.mark.parametrize("binarization", [Binarization(weights=False), Binarization(activations=False)])
def test_refuses_float_convolutions(binarization):
    structure = dyadic.structure()
    plan = fold.deployment_plan(structure, binarization, dyadic.variables(structure), dyadic.IMAGE_SHAPE)
    with pytest.raises(UserError, match="stage1_block1_conv1"):
        engines.pack(plan)


def test_refuses_an_average_whose_border_it_lacks():
    """Beyond 2x2 the network's windows begin before the map, where its size is no multiple; the engine's do not."""
    structure = dyadic.structure()
    *others, unit = structure.units
    structure = dataclasses.replace(structure, units=(*others, dataclasses.replace(unit, strides=(3, 3))))
    plan = fold.deployment_plan(structure, Binarization(), dyadic.variables(structure), dyadic.IMAGE_SHAPE)
    for pack in (engines.pack, lambda plan: bits.pack(plan, native.pixel_table(plan, None), {})):
        with pytest.raises(UserError, match=f"not 3x3 as {unit.name} does"):
            pack(plan)


def test_refuses_a_shortcut_whose_input_is_gone():
    structure = dyadic.structure()
    plan = fold.deployment_plan(structure, Binarization(), dyadic.variables(structure), dyadic.IMAGE_SHAPE)
    *others, unit = plan.units
    longer = dataclasses.replace(unit, shortcut=dataclasses.replace(unit.shortcut, span=3))
    with pytest.raises(UserError, match=unit.name):
        engines.pack(dataclasses.replace(plan, units=(*others, longer)))
