"""What a plan says of itself: the operators of each unit, the layers that signs read, and its size."""

import collections

import dyadic
import pytest

from onebnet_jax.export import fold
from onebnet_jax.networks.structure import Binarization

BINARY = dict(LceQuantize=1, LceBconv2d=1)
GATE = dict(MEAN=1, FULLY_CONNECTED=2, LOGISTIC=1, MUL=1)
# Family, padding, folded -> the operators of the two units of stage 1, which keep the shape.
STAGE1 = {
    ("onebnet", 0, True): [dict(BINARY, SUB=1, ADD=1, PRELU=1)] * 2,
    ("onebnet", 1, False): [dict(BINARY, SUB=2, ADD=2, PRELU=1)] * 2,
    ("birealnet", 0, True): [dict(BINARY, SUB=1, ADD=1)] * 2,
    ("birealnet", 1, False): [dict(BINARY, SUB=1, ADD=1)] * 2,
    ("xnornet", 0, True): [dict(BINARY, SUB=1), dict(BINARY, ADD=1)],
    ("xnornet", 0, False): [dict(BINARY, MUL=1, ADD=1), dict(BINARY, ADD=1)],
    ("xnornet", 1, True): [dict(BINARY, MUL=1, ADD=1), dict(BINARY, ADD=1)],
    ("reactnet_a", 0, True): [
        dict(BINARY, SUB=1, ADD=1, PRELU=1),
        dict(BINARY, SUB=1, ADD=1, PRELU=1, CONCATENATION=1),
    ],
    ("realtobin", 0, True): [dict(BINARY, **GATE, SUB=1, ADD=1, PRELU=1)] * 2,
    ("realtobin", 0, False): [dict(BINARY, **GATE, ADD=2, PRELU=1) | {"MUL": 2}] * 2,
    ("resnet", None, True): [dict(CONV_2D=1), dict(CONV_2D=1, ADD=1)],
}


@pytest.mark.parametrize("case", STAGE1, ids=str)
def test_operators_of_units(case):
    family, pad_value, folded = case
    structure = dyadic.structure(family, **({} if pad_value is None else {"pad_value": pad_value}))
    plan = fold.deployment_plan(structure, Binarization(), dyadic.variables(structure), dyadic.IMAGE_SHAPE, folded)
    assert [dict(unit.operators()) for unit in plan.units[1:3]] == STAGE1[case]
    whole = plan.operators()
    assert whole["head"] == {"MEAN": 1, "FULLY_CONNECTED": 1}
    assert whole["stem"] == {"CONV_2D": 1} | ({"PRELU": 1} if family == "realtobin" else {})
    total = sum((unit.operators() for unit in plan.units), collections.Counter()) + whole["head"]
    # With a padding of 1, a convolution whose output is compared with 0 at once writes bits itself.
    total["LceQuantize"] -= 2 * (family == "xnornet" and pad_value == 1)
    assert sum(whole.values(), collections.Counter()) == +total


def test_a_downsampling_unit_and_raw_input_have_more_operators():
    structure = dyadic.structure(ds_1d=(32,))
    variables, normalization = dyadic.variables(structure), ((0.5,) * 3, (0.25,) * 3)
    plan = fold.deployment_plan(
        structure, Binarization(), variables, dyadic.IMAGE_SHAPE, normalization=normalization
    ).operators()
    for half in ("3x1", "1x3"):
        extra = plan[f"stage2_block1_conv1_{half}"] - plan["stage1_block1_conv1"]
        assert extra == {"AVERAGE_POOL_2D": 1, "CONV_2D": 1}
    assert plan["stem"] == {"CONV_2D": 1, "SUB": 1}
