"""The Python in README runs as it stands there, in a process of its own; with small networks on few images."""

import os
import re
import subprocess
import sys

import pytest
from small_runs import ROOT

BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)

# Before the block: the second stage of each network alone, and the first of the images. Imports neither Keras nor
# TensorFlow: whether the block's own calls find the right Keras is part of what is tested.
SMALL = """
import dataclasses
import small_runs
from onebnet_jax.data import load
from onebnet_jax.networks import families

whole = load.open("fashion_mnist_mini")
names = "train_images", "train_labels", "test_images", "test_labels"
few = dataclasses.replace(whole, **{name: getattr(whole, name)[:192] for name in names})
load.open = lambda *_, **__: few
families.FAMILIES = small_runs.SHORT
"""


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_a_python_block_of_the_readme_runs(number, tmp_path):
    if "convert(" in BLOCKS[number]:
        pytest.importorskip("larq_compute_engine")
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers"))), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", SMALL + BLOCKS[number]]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_the_readme_has_python():
    assert len(BLOCKS) >= 2
