"""The command that prints costs, and the figures of every config."""

import pathlib
import re
import subprocess
import sys

import pytest

from onebnet_jax.commands import cost as cost_command
from onebnet_jax.errors import UserError
from onebnet_jax.networks import cost
from onebnet_jax.runs import config as config_lib

ROOT = pathlib.Path(__file__).parents[2]
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
CONFIG_FILES = sorted(path for path in ROOT.glob("configs/*.py") if path.stem not in ("__init__", "default"))


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
