"""The command cost: what it counts of a config, its tables and its plot."""

import re
import subprocess
import sys

import pytest

from onebnet_jax.commands import cost
from onebnet_jax.errors import UserError


def summary(capsys, name, *overrides):
    """The command's row for a config: column -> number."""
    cost.main([f"configs/{name}.py", "--layers", *overrides])
    header, _, row, *layers = capsys.readouterr().out.splitlines()
    columns, cells = (re.split(r"\s{2,}", line)[2:7] for line in (header, row))
    result = {column: float(cell.replace(",", "")) for column, cell in zip(columns, cells, strict=True)}
    assert any("binary conv" in line for line in layers) == (result["binary MACs (M)"] > 0)
    return result


def test_what_the_last_stage_binarizes_is_counted_as_binary(capsys):
    binary = summary(capsys, "quickstart")
    assert binary["binary MACs (M)"] > binary["float MACs (M)"] > 0
    for field in ("train.binarize_weights", "train.binarize_activations"):
        row = summary(capsys, "quickstart", f"--config.{field}=False")
        assert row["binary MACs (M)"] == 0
        assert row["float MACs (M)"] == pytest.approx(binary["float MACs (M)"] + binary["binary MACs (M)"], abs=0.11)
        assert row["storage (MiB)"] > 10 * binary["storage (MiB)"]
    assert summary(capsys, "fashionmnist_two_stage")["binary MACs (M)"] == binary["binary MACs (M)"]
    assert summary(capsys, "fashionmnist_two_stage", "--config.stages=('step1',)")["binary MACs (M)"] == 0


@pytest.mark.parametrize(
    ("name", "mib", "mops"),
    [
        ("imagenet_birealnet", 3.995, 164.0),
        ("imagenet_xnornet", 3.999, 164.0),
        ("imagenet_reactnet", 4.052, 164.0),
        ("imagenet_reactnet_a", 7.528, 87.1),
        ("imagenet_realtobin", 5.13, 164.3),
        ("imagenet_fp32", 44.592, 1814.1),
    ],
)
def test_the_networks_that_the_paper_compares_with(name, mib, mops, capsys):
    row = summary(capsys, name)
    assert (row["storage (MiB)"], row["OPs (M)"]) == (mib, mops)


def test_a_folder_of_images_counts_with_ten_classes_where_none_is_named(capsys):
    cost.main(["configs/folder.py", "--config.data.dir=", "--config.model.depth=10"])
    assert "\nfolder (10 classes)  64x64x3 " in capsys.readouterr().out
    known = ["--config.data.classes=('a','b')", "--config.data.mean=(0.5,)"]
    cost.main(["configs/folder.py", *known])
    assert "\nfolder (2 classes)  64x64x1 " in capsys.readouterr().out


def test_every_table_and_the_plot(capsys, tmp_path):
    plot = tmp_path / "table1.png"
    cost.main(["--table1", "--fit", "--units", "--plot", str(plot), "--markdown"])
    output = capsys.readouterr().out
    assert len(re.findall(r"^\| TypeII ", output, re.MULTILINE)) == 2  # of all networks, and of the fit
    assert output.count("as a 2-D unit") == 12 and "not a measurement" in output
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--fit", "--plot", "x.png"], "nothing to draw"),
        (["--table1", "--plot", "no/such/folder/x.png"], "cannot be written"),
        (["--table1", "--plot", "x.nonsense"], "cannot be written"),
        (["configs/nothing.py"], "configs/nothing.py"),
        (["configs/fashionmnist_fp32.py", "--units"], "fashionmnist_fp32"),
        (["configs/quickstart.py", "--units", "--config.train.binarize_weights=False"], "quickstart"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_printed(arguments, words, capsys):
    with pytest.raises(UserError, match=words):
        cost.main(arguments)
    assert not capsys.readouterr().out


def test_it_ends_quietly_where_nobody_reads_on():
    """As behind `| head`."""
    command = [sys.executable, "-m", "onebnet_jax", "cost", "configs/quickstart.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1
