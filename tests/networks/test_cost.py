"""The cost model against the paper's figures, and against the Flax model that it describes."""

import math
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from jaxprs import equations

from onebnet_jax.commands import cost as cost_command
from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Structure, units
from onebnet_jax.paper import latency
from onebnet_jax.paper import numbers as paper
from onebnet_jax.runs import config as config_lib

ROOT = pathlib.Path(__file__).parents[2]
IMAGENET = (224, 224, 3)
FP32_RESNET18 = Structure(depth=18, block="resnet", num_classes=1000, stem="imagenet")
TABLE1 = {row.name: latency.table1_structure(row) for row in paper.TABLE1 if row.name}


@pytest.mark.parametrize(
    ("name", "mib"), [("ReActNet18", 4.052), ("TypeI", 5.392), ("TypeII", 5.027), ("TypeIII", 4.822)]
)
def test_storage_of_imagenet_networks(name, mib):
    storage = cost.total(cost.layers(TABLE1[name], IMAGENET)).storage_mib
    assert storage == pytest.approx(mib, abs=5e-4)
    assert round(storage, 2) == paper.TABLE3[name].storage_mib


def test_storage_without_learnable_biases_is_bi_real_nets():
    kept = [layer for layer in cost.layers(TABLE1["ReActNet18"], IMAGENET) if layer.kind not in ("rsign", "rprelu")]
    assert cost.total(kept).storage_mib == pytest.approx(3.995, abs=5e-4)
    assert cost.total(kept).storage_mib == pytest.approx(paper.TABLE3["Bi-RealNet"].storage_mib, abs=0.01)


def test_ops_of_reactnet18():
    counts = cost.total(cost.layers(TABLE1["ReActNet18"], IMAGENET))
    assert round(counts.float_macs / 1e6, 1) == 137.8
    assert round(counts.binary_macs / 1e6, 1) == 1676.3
    assert round(counts.ops / 1e6, 1) == 164.0


def test_fp32_resnet18():
    counts = cost.total(cost.layers(FP32_RESNET18, IMAGENET))
    assert round(counts.storage_mib, 2) == paper.TABLE3["FP32 ResNet18"].storage_mib == 44.59
    assert counts.parameters == 11_689_512  # torchvision's resnet18
    assert counts.binary_macs == 0


STRUCTURES = [
    (Structure(depth=20, ds_1d=(32, 64)), (28, 28, 1)),
    (Structure(depth=20, conv_1d=(64,), ds_1d=(64,), pad_value=1), (29, 31, 1)),
    (Structure(depth=20, conv_1d=(16, 32, 64), width_multiplier=0.7, num_classes=3), (13, 9, 2)),
    (Structure(depth=20, block="resnet", width_multiplier=1.4), (28, 28, 1)),
    (Structure(depth=18, conv_1d=(256, 512), ds_1d=(256, 512), width_multiplier=0.5), (32, 32, 3)),
    (Structure(depth=18, ds_1d=(128,), stem="imagenet", stem_relu=True, num_classes=7), (65, 47, 3)),
    (Structure(depth=34, conv_1d=(512,), ds_1d=(512,), width_multiplier=0.25), (17, 32, 3)),
    (Structure(depth=34, block="resnet", stem="imagenet", padding="torch"), (61, 64, 3)),
]


def _shapes(structure, input_shape):
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return images, jax.eval_shape(Network(structure).init, jax.random.key(0), images)


@pytest.mark.parametrize(("structure", "input_shape"), STRUCTURES)
def test_parameters_are_those_of_the_model_layer_by_layer(structure, input_shape):
    _, variables = _shapes(structure, input_shape)
    in_model = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        layer = "/".join(key.key for key in path[:-1])
        in_model[layer] = in_model.get(layer, 0) + math.prod(leaf.shape)
    counted = {layer.name: layer.parameters for layer in cost.layers(structure, input_shape) if layer.parameters}
    assert counted == in_model


@pytest.mark.parametrize(("structure", "input_shape"), STRUCTURES)
def test_macs_are_those_of_the_traced_model(structure, input_shape):
    images, variables = _shapes(structure, input_shape)
    jaxpr = jax.make_jaxpr(Network(structure).apply)(variables, images)
    counts = cost.total(cost.layers(structure, input_shape))
    assert counts.float_macs + counts.binary_macs == _macs(jaxpr.jaxpr)


def _macs(jaxpr):
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


def test_float_weights_make_a_float_network():
    binary = cost.total(cost.layers(TABLE1["TypeII"], IMAGENET))
    stage1 = cost.total(cost.layers(TABLE1["TypeII"], IMAGENET, binarized=False))
    assert stage1.binary_macs == 0
    assert stage1.float_macs == binary.float_macs + binary.binary_macs
    assert stage1.storage_bits == 32 * stage1.parameters
    assert stage1.parameters == binary.parameters


def test_folding_removes_two_passes_and_two_floats_per_channel_of_each_unit():
    structure, input_shape = Structure(depth=20, conv_1d=(16,), ds_1d=(32, 64)), (28, 28, 1)
    naive = cost.layers(structure, input_shape)
    removed = [(math.prod(layer.output), layer.output[2]) for layer in naive if layer.kind == "rprelu"]
    assert len(removed) == len(units(structure))
    folded = cost.total(cost.layers(structure, input_shape, folded=True))
    naive = cost.total(naive)
    assert naive.elements - folded.elements == 2 * sum(elements for elements, _ in removed)
    assert naive.storage_bits - folded.storage_bits == 2 * 32 * sum(channels for _, channels in removed)
    assert (naive.parameters, naive.ops) == (folded.parameters, folded.ops)


def test_counting_needs_no_jax():
    code = "import sys, onebnet_jax.networks.cost, onebnet_jax.paper.latency; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# Parameters, storage in MiB and OPs in millions of every config: a new config needs its row.
CONFIGS = {
    "cifar10_fp32": (11_173_962, 42.625, 555.4),
    "cifar10_reactnet": (11_188_874, 2.085, 16.6),
    "cifar10_typeI": (11_540_106, 3.425, 35.8),
    "cifar10_typeII": (8_587_402, 3.06, 28.2),
    "cifar10_two_stage": (8_587_402, 3.06, 28.2),
    "fashionmnist_conv64_ds64": (219_914, 0.078, 1.1),
    "fashionmnist_ds32_64": (280_714, 0.083, 1.4),
    "fashionmnist_fp32": (272_186, 1.038, 31.0),
    "fashionmnist_two_stage": (280_714, 0.083, 1.4),
    "imagenet": (9_102_952, 5.027, 199.5),  # TypeII, where no row is named
    "imagenet_fp32": (11_689_512, 44.592, 1814.1),
    "imagenet_reactnet": (11_704_424, 4.052, 164.0),
    "imagenet_teacher": (21_797_672, 83.152, 3663.8),
    "imagenet_typeI": (12_055_656, 5.392, 222.7),
    "imagenet_typeII": (9_102_952, 5.027, 199.5),
    "imagenet_typeIII": (9_620_584, 4.822, 181.7),
    "imagenet_typeII_scratch": (9_102_952, 5.027, 199.5),
    "quickstart": (280_714, 0.083, 1.4),
}
CONFIG_FILES = sorted(path for path in ROOT.glob("configs/*.py") if path.stem != "default")


@pytest.mark.parametrize("path", CONFIG_FILES, ids=lambda path: path.stem)
def test_every_config_has_its_row(path):
    config = config_lib.load(str(path))
    counts = cost.total(cost.layers(config_lib.structure(config), config_lib.input_shape(config)))
    row = (counts.parameters, round(counts.storage_mib, 3), round(counts.ops / 1e6, 1))
    assert path.stem in CONFIGS, f"Add to CONFIGS, once the figures are what the config is meant to be: {row}"
    assert row == CONFIGS[path.stem]


def test_float_weights_or_activations_of_a_config_are_counted_as_float(capsys):
    """What the last stage binarizes counts."""
    binary = _summary(capsys, "quickstart")
    assert binary["binary MACs (M)"] > binary["float MACs (M)"] > 0
    for field in ("train.binarize_weights", "train.binarize_activations"):
        row = _summary(capsys, "quickstart", f"--config.{field}=False")
        assert row["binary MACs (M)"] == 0
        assert row["float MACs (M)"] == pytest.approx(binary["float MACs (M)"] + binary["binary MACs (M)"], abs=0.11)
        assert row["storage (MiB)"] > 10 * binary["storage (MiB)"]
    assert _summary(capsys, "fashionmnist_two_stage")["binary MACs (M)"] == binary["binary MACs (M)"]
    assert _summary(capsys, "fashionmnist_two_stage", "--config.stages=('step1',)")["binary MACs (M)"] == 0


def _summary(capsys, name, *overrides):
    """The command's row for a config: column -> number."""
    cost_command.main([str(ROOT / f"configs/{name}.py"), "--layers", *overrides])
    header, _, row, *layers = capsys.readouterr().out.splitlines()
    columns, cells = (re.split(r"\s{2,}", line)[2:7] for line in (header, row))
    result = {column: float(cell.replace(",", "")) for column, cell in zip(columns, cells, strict=True)}
    assert any("binary conv" in line for line in layers) == (result["binary MACs (M)"] > 0)
    return result


def test_units_are_not_compared_where_none_is_binarized(capsys):
    for name, *overrides in (["fashionmnist_fp32"], ["quickstart", "--config.train.binarize_weights=False"]):
        with pytest.raises(UserError, match=f"^--units compares binarized convolutions, and {name} has none"):
            cost_command.main([str(ROOT / f"configs/{name}.py"), "--units", *overrides])
    assert capsys.readouterr().out == ""


def test_a_user_error_is_told_as_by_the_other_commands():
    command = [sys.executable, "-m", "onebnet_jax.cost", "configs/nothing.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: There is no config file configs/nothing.py")


def test_it_ends_quietly_where_nobody_reads_on():
    """As behind `| head`."""
    command = [sys.executable, "-m", "onebnet_jax.cost", "configs/quickstart.py"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
