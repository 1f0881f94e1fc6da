"""The configs of docs/extend.md and of README train, go on and are compared by the page's own commands.

Small networks, one epoch, and two seeds for the page's three.
"""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from small_runs import ROOT

PAGE = (ROOT / "docs" / "extend.md").read_text()
README = (ROOT / "README.md").read_text()
ONEBNET = f"{sys.executable} -m onebnet_jax"
SMALL = "--config.model.depth=8 --config.model.width_multiplier=0.25 --config.train.epochs"
# What the commands begin with; bash's $0 is the folder to run them in, and Python's environment is there already.
PRELUDE = 'set -e; cd "$0"; source() { :; }\n'
PRELUDE += f'onebnet() {{ {ONEBNET} "$@" $([[ $1 != train ]] || echo {SMALL}=1); }}\n'


def run(config, folder, *others, page=PAGE):
    """Runs the commands that follow a config of a page, and others, in a folder with it; returns what they print."""
    found = re.search(rf"`{config}`.*?^```python\n(.*?)^```$.*?^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (folder / config).write_text(found[1])
    commands = found[2].replace("seed in 0 1 2", "seed in 0 1")
    command = ["bash", "-c", "\n".join([PRELUDE + commands, *others]), folder]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": ""}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


def evaluation(module, workdir):
    """A command that scores a run in Python, where the module has made its parts known."""
    program = f"import {module}, onebnet_jax; print(onebnet_jax.evaluate(onebnet_jax.load('{workdir}')))"
    return f'{sys.executable} -c "{program}"'


@pytest.mark.slow  # minutes: launch/test.sh -m slow tests/system/test_extend.py
def test_an_estimator_is_compared_over_seeds(tmp_path):
    known = "\n".join(re.findall(r"^onebnet .* --import=.*steeper.*$", PAGE, re.MULTILINE))
    printed = run("steeper.py", tmp_path, evaluation("steeper", "runs/steeper_0"), known)
    rows = [line.split()[:5] for line in printed.splitlines() if line.startswith(("poly_*", "steeper_*"))]
    assert rows == [[f"{name}_*", name, "2", "1", "of"] for name in ("poly", "steeper")]
    assert "'top1': " in printed and "best checkpoint, step " in printed and "steeper.onb: " in printed


@pytest.mark.slow
def test_the_estimator_of_readme_is_compared(tmp_path):
    printed = run("mine.py", tmp_path, page=README)
    rows = [line.split()[:5] for line in printed.splitlines() if line.startswith(("mine_*", "poly_*"))]
    assert rows == [[f"{name}_*", name, "2", "1", "of"] for name in ("mine", "poly")]


@pytest.mark.slow
def test_an_estimator_with_a_number_trains(tmp_path):
    run("power.py", tmp_path)
    assert '"power_0.5"' in (tmp_path / "runs" / "power_0.5" / "config.json").read_text()


@pytest.mark.slow
def test_a_loss_is_compared(tmp_path):
    rows = [line.split()[:2] for line in run("pulled.py", tmp_path).splitlines() if line.startswith("pulled_0")]
    assert rows == [["pulled_0.1_0", "to_one"], ["pulled_0_0", "none"]]
    assert '"to_one"' in (tmp_path / "runs" / "pulled_0.1_0" / "config.json").read_text()


@pytest.mark.slow
def test_units_of_another_kind_train_and_go_on(tmp_path):
    longer = f"{ONEBNET} train --config=units.py --workdir=runs/two_branches_0 --change-config {SMALL}=2"
    printed = run("units.py", tmp_path, longer, evaluation("units", "runs/two_branches_0"))
    names = ["onebnet", "two_branches", "early", "ewgs", "standardized"]
    rows = [line.split()[:5] for line in printed.splitlines() if line.startswith(tuple(f"{name}_*" for name in names))]
    assert rows == [[f"{name}_*", name, "2", "1", "of"] for name in names]
    assert printed.count("what is trained here cannot be converted: stage1_block1_conv1 is computed by") == 4 * 2 + 1
    assert "resumed from the checkpoint of step 63" in printed and "'top1': " in printed


@pytest.mark.slow
def test_a_data_set_trains_and_is_converted(tmp_path):
    data, rng = tmp_path / "cifar-100-binary", np.random.default_rng(0)
    data.mkdir()
    for name, count in (("train.bin", 10300), ("test.bin", 100)):
        records = rng.integers(0, 256, (count, 2 + 3072), np.uint8)
        records[:, 0], records[:, 1] = np.arange(count) % 20, np.arange(count) % 100
        (data / name).write_bytes(records.tobytes())
    printed = run("cifar100.py", tmp_path)
    assert "CIFAR-100, 10300 training and 100 test images" in printed and "cifar100.onb: " in printed
    assert b'"class 99"' in (tmp_path / "cifar100.onb").read_bytes()
