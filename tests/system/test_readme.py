"""The Python in the pages of docs/ runs as it stands there, in a process of its own; with small networks on few images.
README's is a config, which test_extend.py trains.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from PIL import Image
from small_runs import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

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


def python_of(page):
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def blocks():
    """Each block of Python, by its page. By default those of getting_started.md are run."""
    for page in PAGES:
        for number, block in enumerate(python_of(page), start=1):
            if "def get_config" in block or "onnxruntime" in block:  # test_extend.py trains the one; the other is below
                continue
            first = page.name == "getting_started.md"
            yield pytest.param(block, id=f"{page.name}-{number}", marks=[] if first else [pytest.mark.slow])


@pytest.mark.parametrize("block", [*blocks()])
def test_a_block_of_python_runs(block, tmp_path):
    if ".tflite" in block:
        pytest.importorskip("larq_compute_engine")
    if '"model.onb"' in block and "convert(" not in block:  # the file that the page's commands made
        shutil.copy(ROOT / "results" / "fashionmnist_ds32_64" / "model.onb", tmp_path)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests" / "helpers"))), "XLA_FLAGS": ""}
    command = [sys.executable, "-c", SMALL + block]
    result = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout
    assert not re.search(r"^[IWEF]0000 ", result.stderr, re.MULTILINE)  # as TensorFlow writes of graphics drivers


def test_the_program_for_a_saved_mobile_network_names_kinds(tmp_path):
    """Of launch/finetune.sh --save; here with a network that looks for the brightest of three colours."""
    onnx, _ = (
        pytest.importorskip(name, reason="pip install -r requirements-onnx.txt") for name in ("onnx", "onnxruntime")
    )
    (block,) = (block for block in python_of(ROOT / "docs" / "your_images.md") if "onnxruntime" in block)
    images, scores = (
        onnx.helper.make_tensor_value_info(*of) for of in (("images", 1, [1, 3, 128, 128]), ("scores", 1, [1, 3]))
    )
    means = onnx.helper.make_node("ReduceMean", ["images"], ["scores"], axes=[2, 3], keepdims=0)
    graph = onnx.helper.make_graph([means], "colours", [images], [scores])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.helper.set_model_props(model, {"kinds": json.dumps(["red", "green", "blue"])})
    onnx.save(model, tmp_path / "phone.onnx")
    Image.new("RGB", (300, 200), (90, 200, 40)).save(tmp_path / "photo.jpg")
    command = [sys.executable, "-c", f"{block}\nprint(kind('photo.jpg'))"]
    assert subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "green\n"


def test_the_readme_has_python_and_is_short():
    text = PAGES[0].read_text()
    assert "```python\n" in text and len(text.split()) < 900
