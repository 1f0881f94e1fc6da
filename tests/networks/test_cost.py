"""The cost model against published figures, and against the Flax model that it describes."""

import math
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jaxprs import equations

from onebnet_jax.native import library
from onebnet_jax.networks import cost, families
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.networks.structure import Structure, Unit

SHAPE = (224, 224, 3)
IMAGENET = dict(stem="imagenet", num_classes=1000)
TYPE_I = IMAGENET | dict(ds_1d=(128, 256, 512))
TYPE_II = IMAGENET | dict(conv_1d=(256, 512), ds_1d=(256, 512))
TYPE_III = IMAGENET | dict(conv_1d=(512,), ds_1d=(512,))
# At 224x224 and 1000 classes: parameters, storage in MiB, float and binary MACs, OPs and element passes in millions.
# A new family needs its row. Storage is that of the paper's Table 3 where it names the network; the FP32 parameters are
# those of torchvision.
TABLE = {
    "FP32 ResNet18": ("resnet", IMAGENET, 11_689_512, 44.592, 1_814_073_344, 0, 1814.07, 1.58),
    "FP32 ResNet34": ("resnet", IMAGENET | dict(depth=34), 21_797_672, 83.152, 3_663_761_408, 0, 3663.76, 2.21),
    "Bi-RealNet18": ("birealnet", {}, 11_689_512, 3.995, 137_793_536, 1_676_279_808, 163.99, 2.68),
    "Bi-RealNet34": ("birealnet", dict(depth=34), 21_797_672, 5.228, 137_793_536, 3_525_967_872, 192.89, 3.94),
    "XNOR-Net ResNet18": ("xnornet", {}, 11_688_616, 3.999, 137_793_536, 1_676_279_808, 163.99, 3.44),
    "ReActNet-A": ("reactnet_a", {}, 29_343_592, 7.528, 11_862_016, 4_816_896_000, 87.13, 25.89),
    "Real-to-Bin ResNet18": ("realtobin", {}, 11_986_920, 5.13, 138_087_936, 1_676_279_808, 164.28, 11.54),
    "ReActNet18": ("onebnet", IMAGENET, 11_704_424, 4.052, 137_793_536, 1_676_279_808, 163.99, 8.88),
    "TypeI": ("onebnet", TYPE_I, 12_055_656, 5.392, 195_596_288, 1_734_082_560, 222.69, 10.99),
    "TypeII": ("onebnet", TYPE_II, 9_102_952, 5.027, 176_328_704, 1_483_603_968, 199.51, 10.91),
    "TypeIII": ("onebnet", TYPE_III, 9_620_584, 4.822, 157_061_120, 1_579_941_888, 181.75, 9.56),
}


@pytest.mark.parametrize("name", TABLE)
def test_counts_of_published_networks(name):
    family, fields, *row = TABLE[name]
    counts = cost.total(cost.layers(families.build(family, **fields), SHAPE))
    computed = [counts.parameters, round(counts.storage_mib, 3), counts.float_macs, counts.binary_macs]
    assert [*computed, round(counts.ops / 1e6, 2), round(counts.elements / 1e6, 2)] == row


def test_every_family_has_its_row():
    assert {family for family, *_ in TABLE.values()} == set(families.FAMILIES)


@pytest.mark.parametrize(("family", "scale", "mib"), [("realtobin", "mean", 5.1444), ("xnornet", "none", 3.9919)])
def test_what_scales_of_weights_take_where_no_norm_follows(family, scale, mib):
    structure = families.build(family)
    published, other = (cost.total(cost.layers(structure, SHAPE, weight_scale=kind)) for kind in ("", scale))
    assert round(other.storage_mib, 4) == mib != round(published.storage_mib, 4)


def small(family, shape, **fields):
    return families.build(family, num_classes=7, channels=shape[2], **fields), shape


STRUCTURES = {
    "2-D, ImageNet stem": small("onebnet", (65, 47, 3), depth=20, stem="imagenet", stem_relu=True),
    "1-D": small("onebnet", (29, 31, 1), depth=20, conv_1d=(16, 64), ds_1d=(32, 64), width_multiplier=0.7),
    "Bi-Real Net": small("birealnet", (32, 33, 3), depth=10),
    "XNOR-Net": small("xnornet", (13, 9, 2), depth=8),
    "Real-to-Bin": small("realtobin", (33, 35, 2), depth=10),
    "ReActNet-A": small("reactnet_a", (33, 35, 2), width_multiplier=0.17),
    "FP32": small("resnet", (28, 28, 1), depth=20, width_multiplier=1.4),
    "FP32, torch padding": small("resnet", (61, 64, 3), depth=34, stem="imagenet", padding="torch"),
    "made by hand": (
        Structure(
            (
                Unit("stem", (5, 5), (2, 2), 3, 8, binary=False, span=0, activation="relu", parts="stem_{}"),
                Unit("a", (3, 1), (1, 1), 8, 16, shift=True, norm="before", shortcut="strided", module="a"),
                Unit("b", (3, 3), (1, 2), 16, 16, norm="before", span=0, activation="rprelu", module="b", parts="{}1"),
                Unit("c", (1, 1), (1, 1), 16, 16, binary=False, span=2, max_pool=True, module="b", parts="{}2"),
            ),
            5,
        ),
        (11, 13, 3),
    ),
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * name.startswith(("Bi", "FP", "2-D"))) for name in STRUCTURES]
)
def test_parameters_and_macs_are_those_of_the_model(name, monkeypatch):
    """Parameters layer by layer, with their names."""
    monkeypatch.setenv(library.VARIABLE, "0")  # so that the convolutions are seen
    structure, shape = STRUCTURES[name]
    variables = variable_shapes(Network(structure), shape)
    in_model = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        layer = "/".join(key.key for key in path[:-1])
        in_model[layer] = in_model.get(layer, 0) + math.prod(leaf.shape)
    layers = cost.layers(structure, shape)
    assert {layer.name: layer.parameters for layer in layers if layer.parameters} == in_model

    images = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    jaxpr = jax.make_jaxpr(Network(structure).apply)(variables, images).jaxpr
    counts = cost.total(layers)
    assert counts.float_macs + counts.binary_macs == macs(jaxpr)


def macs(jaxpr):
    """Multiply-accumulates of the convolutions and matrix products of a jaxpr, nested ones included."""
    result = 0
    for equation in equations(jaxpr):
        size = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "conv_general_dilated":
            result += size * math.prod(equation.invars[1].aval.shape[:3])  # the kernel is HWIO
        elif equation.primitive.name == "dot_general":
            contracted = equation.params["dimension_numbers"][0][0]
            result += size * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return result


@pytest.mark.parametrize("name", ["1-D", "XNOR-Net"])
def test_float_weights_make_a_float_network(name):
    binary, stage1 = (cost.total(cost.layers(*STRUCTURES[name], binarized=binarized)) for binarized in (True, False))
    assert (stage1.binary_macs, stage1.float_macs) == (0, binary.float_macs + binary.binary_macs)
    assert stage1.parameters == binary.parameters
    assert stage1.storage_bits == 32 * stage1.parameters


@pytest.mark.parametrize(
    ("name", "kind", "passes", "count"), [("1-D", "rprelu", 2, 31), ("XNOR-Net", "batch norm", 1, 3)]
)
def test_folding_removes_passes_and_floats(name, kind, passes, count):
    """Of each RPReLU, and of each BN before a sign that is not a part of the convolution before it."""
    naive, folded = (cost.layers(*STRUCTURES[name], folded=folded) for folded in (False, True))
    changed = [(before, after) for before, after in zip(naive, folded, strict=True) if before != after]
    assert [before.kind for before, _ in changed] == [kind] * count
    for before, after in changed:
        assert before.elements - after.elements == passes * math.prod(before.output)
        assert before.storage_bits - after.storage_bits == passes * 32 * before.output[2]
        assert before.parameters == after.parameters


def test_counting_needs_no_jax():
    code = "import sys, onebnet_jax.networks.cost, onebnet_jax.networks.families; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
