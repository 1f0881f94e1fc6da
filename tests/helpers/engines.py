"""What the tests of the native engine share: whether there is one here, and a network's file and bits."""

import functools

import numpy as np
import pytest

from onebnet_jax.errors import UserError
from onebnet_jax.export import bits, fold, native
from onebnet_jax.export.plan import Conv, Plan, Unit
from onebnet_jax.native import build, runtime
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs import trained

NORMALIZATION = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


@functools.cache
def missing() -> str:
    """Why there is no engine: for want of a compiler; "" if there is one. Other failures are failures."""
    try:
        runtime.compiler()
    except build.BuildError as error:
        return str(error)
    return ""


needs_engine = pytest.mark.skipif(bool(missing()), reason=missing())


def sets() -> list[str]:
    """The instruction sets that this CPU has."""
    result, file = [], pack(signs_plan(np.ones((1, 1, 1, 1)), (1, 1)))
    for name in runtime.SETS:
        try:
            runtime.Engine(file, instruction_set=name)
        except UserError:
            continue
        result.append(name)
    return result


def pack(plan: Plan, normalization=None, facts=None) -> bytes:
    return native.pack(plan, native.pixel_table(plan, normalization), facts or {})


def random_plan(structure, shape, folded=True, raw=False, **facts):
    """A network of random values, more facts for its card: (its file, its arrays as `bits` gives them)."""
    variables = trained.random_variables(structure, shape)
    normalization = tuple(values[: shape[2]] for values in NORMALIZATION)
    plan = fold.deployment_plan(
        structure, Binarization(), variables, shape, folded, normalization=normalization if raw else None
    )
    table = native.pixel_table(plan, None if raw else normalization)
    return native.pack(plan, table, {"classes": ["a", "b"]} | facts), bits.arrays(plan, table, {})


def signs_plan(kernel, size, strides=(1, 1), pad_value=0, threshold=0.0) -> Plan:
    """A network whose first unit passes the image on and whose second is conv(sign(image - threshold), kernel)."""
    inputs, outputs = kernel.shape[2:]
    eye = np.eye(inputs, dtype=np.float32)[None, None]
    zeros, ones = (np.full(outputs, value, np.float32) for value in (0, 1))
    units = []
    for name, conv in (
        ("stem", Conv("stem_conv", eye, np.zeros(inputs, np.float32), (1, 1), size)),
        ("unit", Conv("unit_conv", np.float32(kernel), zeros, strides, size, ones, None, pad_value)),
    ):
        sign = name == "unit"
        limit = fold.above(np.full(inputs, threshold)) if sign else None
        options = dict(affine=None, threshold=limit, flips=np.ones(inputs, np.float32), sign=sign, conv=conv)
        options |= dict(shortcut=None, relu=False, gamma=None, beta=None, zeta=None, max_pool=False, pool_pads=None)
        options["left_out"] = zeros
        units.append(Unit(name=name, prefix=f"{name}_{{}}", section=name, **options))
    return Plan((*size, inputs), None, tuple(units), np.eye(outputs, dtype=np.float32), zeros)
