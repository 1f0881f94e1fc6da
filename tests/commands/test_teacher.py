"""The command teacher: which folder it makes, and what it says of it."""

import hashlib
import os

import torch_tensors

from onebnet_jax.commands import teacher
from onebnet_jax.runs import trained


def test_the_folder_is_named_after_the_config(tmp_path, monkeypatch, capsys):
    config = os.path.abspath("configs/imagenet_teacher.py")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    weights = torch_tensors.save(
        tmp_path / "w.safetensors", torch_tensors.random((4, 8, 16), (1, 1, 1), 10, channels=1)
    )
    fields = ["model.depth=8", "model.width_multiplier=0.25", "data.name=fashion_mnist_mini", "data.flip=False"]
    options = [f"--config={config}", *(f"--config.{field}" for field in fields)]
    teacher.main(["--weights=~/w.safetensors", *options])
    printed = capsys.readouterr().out
    for word in (
        "runs/imagenet_teacher",
        "FP32 ResNet8",
        "w.safetensors",
        hashlib.sha256(weights.read_bytes()).hexdigest(),
    ):
        assert word in printed
    assert trained.load("runs/imagenet_teacher").structure.title == "FP32 ResNet8"
    teacher.main(["--weights=w.safetensors", "--output=~/mine", *options])
    assert (tmp_path / "mine" / "weights.json").exists()
