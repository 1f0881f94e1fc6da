"""The lint of converted files, on lists of operators as a file would have them. Without TensorFlow and LCE."""

import dataclasses
from types import SimpleNamespace

import dyadic
import pytest
from onebnet_jax.export.untrained import random_variables

from onebnet_jax.errors import UserError
from onebnet_jax.export import fold, lint
from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.networks.structure import Structure


@pytest.fixture(autouse=True)
def tiny_depth(monkeypatch):
    monkeypatch.setitem(structure_lib.DEPTHS, 6, dyadic.TINY)


def make_plan(shape=(16, 16, 3), **fields):
    structure = Structure(6, **fields)
    return fold.deployment_plan(structure, Binarization(), random_variables(structure, shape), shape)


def make_operators(plan):
    """What a faithful conversion gives."""
    operators = []
    for section, count in plan.operators().items():
        for kind in count.elements():
            operators.append(SimpleNamespace(kind=kind, tensor=f"onebnet/{section}_x/y;z", shapes=(), options={}))
    operators[-1].tensor = "StatefulPartitionedCall:0"
    bconvs = [operator for operator in operators if operator.kind == "LceBconv2d"]
    for operator, unit in zip(bconvs, plan.units, strict=True):
        conv = unit.conv
        operator.shapes = ((1, *conv.input_size, 1), (8, *conv.kernel.shape[:2], 1))
        operator.options = dict(
            channels_in=conv.kernel.shape[2],
            stride_height=conv.strides[0],
            stride_width=conv.strides[1],
            padding=0,
            pad_values=conv.pad_value,
        )
    return operators


def test_accepts_what_the_plan_asks_for():
    plan = make_plan(ds_1d=(16,))
    operators = make_operators(plan)
    lint.check_file(operators, plan)
    next(operator for operator in operators if operator.kind == "SUB").kind = "ADD"  # x - c as x + (-c)
    lint.check_file(operators, plan)


@pytest.mark.parametrize("kind", ["LceDequantize", "LceQuantize", "QUANTIZE", "ADD", "CONV_2D", "NEG"])
def test_names_the_layer_of_a_stray_operator(kind):
    plan = make_plan(ds_1d=(16,))
    stray = SimpleNamespace(kind=kind, tensor="onebnet/stage2_block1_conv1_1x3_conv/a;b", shapes=(), options={})
    with pytest.raises(UserError, match="^The converted .*: stage2_block1_conv1_1x3 has [^;]*$"):
        lint.check_file([*make_operators(plan), stray], plan)


def test_names_the_layer_of_a_missing_operator():
    plan = make_plan()
    operators = make_operators(plan)
    missing = [operator for operator in operators if operator.kind == "LceBconv2d"][2]
    operators.remove(missing)
    with pytest.raises(UserError, match=f"{plan.units[2].name} has 0 LceBconv2d and not 1"):
        lint.check_file(operators, plan)


@pytest.mark.parametrize("option", ["stride_height", "stride_width", "pad_values", "padding", "channels_in"])
def test_finds_a_convolution_with_other_options(option):
    plan = make_plan()
    operators = make_operators(plan)
    operator = [operator for operator in operators if operator.kind == "LceBconv2d"][2]
    operator.options[option] += 1
    with pytest.raises(UserError, match=plan.units[2].name):
        lint.check_file(operators, plan)


def test_says_how_many_more_findings_there_are():
    plan = make_plan()
    with pytest.raises(UserError) as error:
        lint.check_file([], plan)
    assert len(str(error.value)) < 500
    assert " more" in str(error.value)


# Map sizes of the two stages for an image of this size: the first unit's is the image's, behind the ImageNet stem a
# quarter of it.
@pytest.mark.parametrize(
    ("shape", "fields", "unit"),
    [
        ((2, 16, 1), {}, "stage1_block1_conv1"),
        ((16, 2, 1), {}, "stage1_block1_conv1"),
        ((4, 4, 1), {}, "stage2_block1_conv2"),
        ((16, 16, 1), {"stem": "imagenet"}, "stage2_block1_conv2"),
        ((2, 16, 1), {"conv_1d": (8,)}, "stage1_block1_conv1_3x1"),
        ((16, 2, 1), {"conv_1d": (8,)}, "stage1_block1_conv1_1x3"),
        ((16, 4, 1), {"ds_1d": (16,), "conv_1d": (16,)}, "stage2_block1_conv2_1x3"),
    ],
)
def test_refuses_maps_too_small_for_zero_padding(shape, fields, unit):
    with pytest.raises(UserError, match=f"^{unit}: "):
        lint.check_map_sizes(make_plan(shape, **fields))
    lint.check_map_sizes(make_plan(shape, pad_value=1, **fields))
    plan = make_plan((shape[0] * 4, shape[1] * 4, 1), **fields)
    lint.check_map_sizes(plan)


def test_small_map_in_a_file_is_found_too():
    plan = make_plan()
    operators = make_operators(plan)
    small = dataclasses.replace(plan.units[0].conv, input_size=(2, 16))
    operator = next(operator for operator in operators if operator.kind == "LceBconv2d")
    operator.shapes = ((1, 2, 16, 1), operator.shapes[1])
    plan = dataclasses.replace(plan, body=(dataclasses.replace(plan.units[0], conv=small), *plan.body[1:]))
    with pytest.raises(UserError, match="stage1_block1_conv1 has a map of 2x16, too small"):
        lint.check_file(operators, plan)
