"""A run from torchvision's weights: the same answers as PyTorch's network, and only from the right files."""

import dataclasses
import hashlib
import importlib.util
import json
import os
import pickle
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import torch_tensors

from onebnet_jax.errors import UserError
from onebnet_jax.networks import families
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.runs import checkpoint, config, torch_weights, trained

pytestmark = pytest.mark.usefixtures("quick_compilation")

RECORD = Path(__file__).with_name("torch_logits.json")  # written with RECORD_TORCH_LOGITS=1 in the environment
TEACHER = "configs/imagenet_teacher.py"
# Of a network of 4, 8 and 16 channels, in three stages of one block, for FashionMNIST.
SMALL = ["model.depth=8", "model.width_multiplier=0.25", "data.name=fashion_mnist_mini", "data.flip=False"]


def make_run(tmp_path, weights, *fields):
    output = tmp_path / "teacher"
    torch_weights.make_run(weights, config.load(TEACHER, [f"--config.{field}" for field in fields]), output)
    return trained.load(output)


def small_tensors():
    return torch_tensors.random((4, 8, 16), (1, 1, 1), 10, channels=1)


def torch_logits(name, tensors, widths, counts, images):
    """Of PyTorch's network on images [N, H, W, 3]: those on record, which are made anew where PyTorch is installed."""
    recorded = json.loads(RECORD.read_text())
    if importlib.util.find_spec("torch") is not None:
        made = run_torch(tensors, widths, counts, images)
        if os.environ.get("RECORD_TORCH_LOGITS"):
            recorded[name] = np.round(made.astype(float), 6).tolist()
            RECORD.write_text(json.dumps(recorded).replace("]], ", "]],\n") + "\n")
        np.testing.assert_allclose(recorded[name], made, rtol=0, atol=2e-5)
    return np.array(recorded[name], np.float32)


def run_torch(tensors, widths, counts, images):
    import torch
    import torch_resnet

    network = torch_resnet.ResNet(widths, counts, len(tensors["fc.bias"]))
    state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    if "bn1.num_batches_tracked" not in tensors:
        state |= {name: x for name, x in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()


# The same answers ----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_resnet34_answers_as_pytorch_does(tmp_path):
    size = (64, 128, 256, 512), (3, 4, 6, 3)
    tensors = torch_tensors.uncounted(torch_tensors.random(*size, 1000))
    suffix = "safetensors" if importlib.util.find_spec("torch") is None else "pth"
    run = make_run(tmp_path, torch_tensors.save(tmp_path / f"resnet34.{suffix}", tensors))
    rng = np.random.default_rng(1)
    images = np.kron(rng.normal(size=(2, 7, 7, 3)), np.ones((1, 32, 32, 1))) + rng.normal(size=(2, 224, 224, 3))
    images = images.astype(np.float32)
    wanted = torch_logits("ResNet34", tensors, *size, images)
    assert 1 < np.std(wanted) < 10 and np.std(wanted[0] - wanted[1]) > 0.1
    np.testing.assert_allclose(jax.jit(run.network().apply)(run.variables, images), wanted, rtol=0, atol=1e-4)
    # Each tensor is in its place.
    params, statistics = run.variables["params"], run.variables["batch_stats"]
    assert len(jax.tree.leaves(run.variables)) == len(tensors)
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 21_797_672  # torchvision's resnet34
    for ours, name in [
        (params["stem_conv"]["kernel"], "conv1.weight"),
        (params["stage2_block1"]["conv1"]["kernel"], "layer2.0.conv1.weight"),
        (params["stage4_block1"]["shortcut_conv"]["kernel"], "layer4.0.downsample.0.weight"),
        (params["stage3_block1"]["shortcut_bn"]["bias"], "layer3.0.downsample.1.bias"),
        (statistics["stage3_block2"]["bn1"]["mean"], "layer3.1.bn1.running_mean"),
        (statistics["stage4_block1"]["shortcut_bn"]["var"], "layer4.0.downsample.1.running_var"),
        (params["head"]["kernel"], "fc.weight"),
    ]:
        tensor = tensors[name]
        np.testing.assert_array_equal(ours, tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T, name)


def structure(padding):
    """Three stages of 4, 8 and 12 channels, of one block, two and one."""
    whole = families.build("resnet", depth=14, width_multiplier=0.25, stem="imagenet", padding=padding)
    units = [unit for unit in whole.units if unit.module not in ("stage1_block2", "stage3_block2")]
    twelve = {16: 12}
    return dataclasses.replace(
        whole,
        units=tuple(
            dataclasses.replace(
                unit,
                in_channels=twelve.get(unit.in_channels, unit.in_channels),
                out_channels=twelve.get(unit.out_channels, unit.out_channels),
            )
            for unit in units
        ),
    )


@pytest.mark.parametrize("size", [(224, 224), (97, 66), (35, 32), (5, 1)])
def test_any_image_size_is_padded_as_pytorch_does(size):
    widths, counts = (4, 8, 12), (1, 2, 1)
    tensors = torch_tensors.random(widths, counts, 10)
    images = np.random.default_rng(2).normal(size=(2, *size, 3)).astype(np.float32)
    wanted = torch_logits("{}x{}".format(*size), tensors, widths, counts, images)

    def logits(padding):
        network = Network(structure(padding))
        variables = torch_weights.to_variables(tensors, variable_shapes(network, images.shape[1:]))
        return jax.jit(network.apply)(variables, images)

    np.testing.assert_allclose(logits("torch"), wanted, rtol=0, atol=1e-4)
    if size == (224, 224):  # so the comparison does tell the two rules apart
        assert np.abs(logits("same") - wanted).max() > 1e-2


# The work directory --------------------------------------------------------------------------------------------


def test_a_teacher_is_a_run_that_names_its_source(tmp_path):
    path = torch_tensors.save(tmp_path / "w.safetensors", small_tensors())
    run = make_run(tmp_path, path, *SMALL)
    assert sorted(os.listdir(tmp_path)) == ["teacher", "w.safetensors"]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = json.loads((tmp_path / "teacher" / "weights.json").read_text())
    assert facts == {"weights": "w.safetensors", "sha256": digest} and run.metrics == {}
    last = trained.load(tmp_path / "teacher", "last")  # with which it teaches
    assert run.origin["step"] == last.origin["step"] == 0
    jax.tree.map(np.testing.assert_array_equal, run.variables, last.variables)


def test_the_output_is_complete_or_absent(tmp_path, monkeypatch):
    path = torch_tensors.save(tmp_path / "w.safetensors", small_tensors())

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.Checkpoints, "save", fail)
    with pytest.raises(UserError, match="teacher.*No space left"):
        make_run(tmp_path, path, *SMALL)
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path):
    path = torch_tensors.save(tmp_path / "w.safetensors", small_tensors())
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="teacher is there already"):
        make_run(tmp_path, path, *SMALL)
    assert os.listdir(tmp_path / "teacher") == ["notes.txt"]
    (tmp_path / "teacher" / "notes.txt").unlink()
    make_run(tmp_path, path, *SMALL)  # an empty one will do


# What is refused -----------------------------------------------------------------------------------------------


def without(tensors, *names):
    return {name: tensor for name, tensor in tensors.items() if name not in names}


NAMES_BN1 = [f"layer2.0.bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
WRONG = {
    "missing": (lambda t: without(t, "layer2.0.bn1.running_var"), "layer2.0.bn1.running_var missing"),
    "many missing": (lambda t: without(t, *NAMES_BN1), "layer2.0.bn1.bias, .*_mean, .*_var and 1 more missing"),
    "superfluous": (lambda t: t | {"layer9.0.conv1.weight": t["fc.bias"]}, "layer9.0.conv1.weight superfluous"),
    "a counter of nothing": (lambda t: t | {"layer9.0.bn1.num_batches_tracked": t["fc.bias"]}, "layer9.* superfluous"),
    "shape": (lambda t: t | {"fc.weight": t["fc.weight"].T.copy()}, r"fc.weight is float32 \(16, 10\) .* \(10, 16\)"),
    "a kernel's axes": (
        lambda t: t | {"conv1.weight": t["conv1.weight"].transpose(2, 3, 1, 0).copy()},
        r"conv1.weight is float32 \(7, 7, 1, 4\) instead of float32 \(4, 1, 7, 7\)",
    ),
    "type": (lambda t: t | {"bn1.bias": t["bn1.bias"].astype(np.float64)}, "bn1.bias is float64"),
    "not finite": (lambda t: t | {"bn1.bias": t["bn1.bias"] * np.float32(np.inf)}, "not finite: bn1.bias"),
    "another network": (
        lambda t: {f"encoder.{name}.x": tensor for name, tensor in t.items()},
        "bn1.bias, .* more missing; encoder.bn1.bias.x, .* more superfluous",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_tensors_that_do_not_fit_are_named(case, tmp_path):
    change, words = WRONG[case]
    path = torch_tensors.save(tmp_path / "w.safetensors", change(small_tensors()))
    with pytest.raises(UserError, match=words) as caught:
        make_run(tmp_path, path, *SMALL)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "teacher").exists()


def test_damaged_safetensors_are_refused(tmp_path):
    path = torch_tensors.save(tmp_path / "w.safetensors", small_tensors())
    content = path.read_bytes()
    header = json.dumps({"conv1.weight": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    for damaged in (b"", content[:-5], b"\xff" * 64, b"not a safetensors file", content + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="w.safetensors is damaged"):
            torch_weights.read(path)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(UserError, match="BF16"):
        torch_weights.read(path)


class Payload:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "beside tensors"])
def test_code_in_a_pth_file_does_not_run(form, tmp_path):
    torch = pytest.importorskip("torch")
    path, proof = tmp_path / "w.pth", tmp_path / "it ran"
    content = Payload(str(proof))
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))  # as torch writes it
    elif form == "beside tensors":
        torch.save({**{name: torch.from_numpy(x) for name, x in small_tensors().items()}, "epoch": content}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UserError, match="w.pth .*more than tensors"):
        torch_weights.read(path)
    assert not proof.exists()
    if form == "bare pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert proof.exists()  # so it would have run


def test_pth_files_of_other_content_are_refused(tmp_path):
    torch = pytest.importorskip("torch")
    path = torch_tensors.save(tmp_path / "w.pth", small_tensors())
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not a file of torch.save"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="w.pth is damaged"):
            torch_weights.read(path)
    for other in (torch.zeros(3), [torch.zeros(3)], {"state_dict": {"fc.bias": torch.zeros(3)}, "epoch": 3}):
        torch.save(other, path)
        with pytest.raises(UserError, match="w.pth does not hold a dictionary of tensors"):
            torch_weights.read(path)
    torch.save({"fc.bias": torch.zeros(3, dtype=torch.bfloat16)}, path)
    with pytest.raises(UserError, match="a type that NumPy lacks"):
        torch_weights.read(path)


def test_without_pytorch_a_pth_file_is_refused_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        UserError, match=r"w.pth needs PyTorch: torch is missing; pip install torch, or .* \.safetensors"
    ):
        torch_weights.read(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "fields", [["model.family=onebnet", "model.padding=same"], ["model.padding=same"], ["model.stem_relu=False"]]
)
def test_a_config_of_another_network_is_refused(fields, tmp_path):
    with pytest.raises(UserError, match="model.family='resnet', model.padding='torch' and model.stem_relu=True"):
        make_run(tmp_path, Path("nothing.pth"), *fields)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module.backbone."])
def test_what_a_wrapper_puts_before_every_name_is_left_away(prefix, tmp_path, capsys):
    tensors = small_tensors()
    torch_tensors.save(tmp_path / "plain.safetensors", tensors)
    torch_tensors.save(tmp_path / "wrapped.safetensors", {prefix + name: tensor for name, tensor in tensors.items()})
    made = []
    for name in ("plain", "wrapped"):
        (tmp_path / name).mkdir()
        made.append(make_run(tmp_path / name, tmp_path / f"{name}.safetensors", *SMALL).variables)
    jax.tree.map(np.testing.assert_array_equal, *made)
    assert capsys.readouterr().out == f"{prefix!r} before the name of every tensor is left away\n"
