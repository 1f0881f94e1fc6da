"""The lint of a converted file: it holds the operators that its plan asks for, layer by layer, and no others.

LCE's converter has no errors for what it does not recognize: a binarized convolution silently becomes a float one, and
some paddings and small maps silently give wrong results. Nothing here imports TensorFlow.
"""

import collections

from onebnet_jax.errors import UserError
from onebnet_jax.export.plan import Conv, Plan

MERGED = dict.fromkeys(("ADD", "SUB"), "ADD or SUB")  # x - c may come back as x + (-c)
SHOWN = 6  # findings in a message
PADDING_SAME = 0  # of an LceBconv2d operator


def check_file(operators: list, plan: Plan) -> None:
    """Raises UserError with the layers in which `lce.operators` of a file are not those of its plan."""
    expected, findings = plan.operators(), []
    found = {section: collections.Counter() for section in expected}
    binary = [unit for unit in plan.units if unit.conv.binary]
    convs = {section: iter([unit.conv for unit in binary if unit.section == section]) for section in expected}
    for operator in operators:
        section = _section(operator.tensor, expected)
        found[section][MERGED.get(operator.kind, operator.kind)] += 1
        if operator.kind == "LceBconv2d" and (conv := next(convs[section], None)):
            findings += _check_convolution(operator, conv)
    for section, count in expected.items():
        there, asked = found[section], collections.Counter(MERGED.get(kind, kind) for kind in count.elements())
        kinds = sorted(kind for kind in {*asked, *there} if asked[kind] != there[kind])
        findings += [f"{section} has {there[kind]} {kind} and not {asked[kind]}" for kind in kinds]
    if findings:
        rest = [f"and {len(findings) - SHOWN} more"] * (len(findings) > SHOWN)
        raise UserError(f"The converted file is not what the network asks for: {'; '.join(findings[:SHOWN] + rest)}.")


def _check_convolution(operator, conv: Conv) -> list[str]:
    """A binarized convolution of the file against the plan's: shapes, strides and padding."""
    (image, kernel), options = operator.shapes[:2], operator.options
    pairs = {
        "map": (image[1:3], conv.input_size),
        "kernel": (kernel[1:3], conv.kernel.shape[:2]),
        "input channels": (options["channels_in"], conv.kernel.shape[2]),
        "strides": ((options["stride_height"], options["stride_width"]), conv.strides),
        "padding": (options["padding"], PADDING_SAME),
        "pad value": (options["pad_values"], conv.pad_value),
    }
    wrong = ((name, there, asked) for name, (there, asked) in pairs.items() if there != asked)
    return [f"{conv.name} has {name} {there} and not {asked}" for name, there, asked in wrong]


def _section(tensor: str, sections) -> str:
    """The section of an operator, from its output's name, such as "onebnet/stage1_block1_conv1_prelu/add;..."."""
    layer = tensor.split(";")[0].split("/")[1:2]
    matches = [section for section in sections if layer and layer[0].startswith(section)]
    return max(matches, key=len, default="head")  # the logits' name is the signature's
