"""The lint of converted files, on lists of operators as a file would have them. Without TensorFlow and LCE."""

from types import SimpleNamespace

import dyadic
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.export import fold, lint
from onebnet_jax.networks.structure import Binarization


def make_plan(shape=(16, 16, 3), family="onebnet", **fields):
    structure = dyadic.structure(family, **fields)
    return fold.deployment_plan(structure, Binarization(), dyadic.variables(structure), shape)


def make_operators(plan):
    """What a faithful conversion gives."""
    operators = []
    for section, count in plan.operators().items():
        for kind in count.elements():
            operators.append(SimpleNamespace(kind=kind, tensor=f"onebnet/{section}_x/y;z", shapes=(), options={}))
    operators[-1].tensor = "StatefulPartitionedCall:0"
    convs = [unit.conv for unit in plan.units if unit.conv.binary]
    for operator, conv in zip(of_kind(operators, "LceBconv2d"), convs, strict=True):
        operator.shapes = ((1, *conv.input_size, 1), (8, *conv.kernel.shape[:2], 1))
        names = ("stride_height", "stride_width", "channels_in", "padding", "pad_values")
        operator.options = dict(zip(names, (*conv.strides, conv.kernel.shape[2], 0, conv.pad_value)))
    return operators


def of_kind(operators, kind):
    return [operator for operator in operators if operator.kind == kind]


@pytest.mark.parametrize("family", ["onebnet", "birealnet", "xnornet", "reactnet_a", "realtobin", "resnet"])
def test_accepts_what_the_plan_asks_for(family):
    plan = make_plan(family=family)
    operators = make_operators(plan)
    lint.check_file(operators, plan)
    for operator in of_kind(operators, "SUB"):
        operator.kind = "ADD"  # x - c as x + (-c)
    lint.check_file(operators, plan)


@pytest.mark.parametrize("kind", ["LceDequantize", "LceQuantize", "QUANTIZE", "ADD", "CONV_2D", "NEG"])
def test_names_the_layer_of_a_stray_operator(kind):
    plan = make_plan(ds_1d=(32,))
    stray = SimpleNamespace(kind=kind, tensor="onebnet/stage2_block1_conv1_1x3_conv/a;b", shapes=(), options={})
    with pytest.raises(UserError, match=": stage2_block1_conv1_1x3 has [^;]*$"):
        lint.check_file([*make_operators(plan), stray], plan)


def test_names_the_layer_of_a_missing_operator():
    plan = make_plan()
    operators = make_operators(plan)
    operators.remove(of_kind(operators, "LceBconv2d")[2])
    with pytest.raises(UserError, match=f"{plan.units[3].name} has 0 LceBconv2d and not 1"):
        lint.check_file(operators, plan)


@pytest.mark.parametrize("family", ["onebnet", "xnornet"])
@pytest.mark.parametrize("option", ["stride_height", "stride_width", "pad_values", "padding", "channels_in"])
def test_finds_a_convolution_with_other_options(option, family):
    """Also where two convolutions belong to one section."""
    plan = make_plan(family=family)
    operators = make_operators(plan)
    of_kind(operators, "LceBconv2d")[2].options[option] += 1
    with pytest.raises(UserError, match=plan.units[3].conv.name):
        lint.check_file(operators, plan)
