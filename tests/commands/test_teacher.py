"""A teacher from torchvision's weights: the same answers as PyTorch's network, and only from the right files."""

import hashlib
import importlib.util
import json
import os
import pickle
import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from onebnet_jax import main
from onebnet_jax.commands import teacher
from onebnet_jax.errors import UserError
from onebnet_jax.networks import structure as structure_lib
from onebnet_jax.networks.network import Network
from onebnet_jax.networks.structure import Structure
from onebnet_jax.runs import checkpoint
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.torch_weights import to_variables
from onebnet_jax.training import run as train
from onebnet_jax.training import stage

pytestmark = pytest.mark.usefixtures("quick_compilation")

RECORD = Path(__file__).with_name("torch_logits.json")  # written with RECORD_TORCH_LOGITS=1 in the environment
TINY = ((4, 8, 12), (1, 2, 1))
# Of the teacher's config; the network has 10 classes then, and its images have one channel.
TINY_OPTIONS = ["--config.model.depth=8", "--config.data.name=fashion_mnist_mini"]


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setitem(structure_lib.DEPTHS, 8, TINY)


def random_tensors(widths, counts, classes, channels=3):
    """A state dictionary of torchvision's: names, shapes, and values for which logits are of order 1.

    The running variances reach down to where the epsilon counts.
    """
    rng = np.random.default_rng(0)
    tensors = {}

    def conv(name, outputs, inputs, size):
        deviation = np.sqrt(2 / (inputs * size**2))
        tensors[f"{name}.weight"] = rng.normal(0, deviation, (outputs, inputs, size, size)).astype(np.float32)

    def norm(name, channels):
        variance = 10 ** rng.uniform(-5, 1, channels)
        gain = rng.uniform(0.3, 0.9, channels) * rng.choice((-1, 1), channels)
        values = {
            "weight": gain * np.sqrt(variance),
            "bias": rng.normal(0, 0.3, channels),
            "running_mean": rng.normal(0, 0.3, channels),
            "running_var": variance,
        }
        tensors.update({f"{name}.{key}": value.astype(np.float32) for key, value in values.items()})
        tensors[f"{name}.num_batches_tracked"] = np.array(1000)

    conv("conv1", widths[0], channels, 7)
    norm("bn1", widths[0])
    inputs = widths[0]
    for layer, (width, count) in enumerate(zip(widths, counts, strict=True), start=1):
        for block in range(count):
            name = f"layer{layer}.{block}"
            conv(f"{name}.conv1", width, inputs, 3)
            norm(f"{name}.bn1", width)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn2", width)
            if layer > 1 and block == 0:
                conv(f"{name}.downsample.0", width, inputs, 1)
                norm(f"{name}.downsample.1", width)
            inputs = width
    tensors["fc.weight"] = rng.normal(0, np.sqrt(4 / inputs), (classes, inputs)).astype(np.float32)
    tensors["fc.bias"] = rng.normal(size=classes).astype(np.float32)
    return tensors


def tiny_tensors():
    """Those of TINY_OPTIONS."""
    return random_tensors(*TINY, 10, channels=1)


def uncounted(tensors):
    """As torchvision's files are."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def save(path, tensors):
    """In the form that the file's name tells."""
    if path.suffix == ".safetensors":
        safetensors.numpy.save_file(tensors, path)
    else:
        torch = pytest.importorskip("torch")
        state = {name: torch.nn.Parameter(torch.from_numpy(x), requires_grad=False) for name, x in tensors.items()}
        torch.save(state, path)
    return path


def convert(tmp_path, weights, *options):
    output = tmp_path / "teacher"
    teacher.main([f"--weights={weights}", f"--output={output}", *options])
    return checkpoint.load_run(output)


def torch_logits(name, tensors, structure, images):
    """Of PyTorch's network on images [N, H, W, 3]: those on record, which are made anew where PyTorch is installed."""
    recorded = json.loads(RECORD.read_text())
    if importlib.util.find_spec("torch") is not None:
        made = run_torch(tensors, structure, images)
        if os.environ.get("RECORD_TORCH_LOGITS"):
            recorded[name] = np.round(made.astype(float), 6).tolist()
            RECORD.write_text(json.dumps(recorded).replace("]], ", "]],\n") + "\n")
        np.testing.assert_allclose(recorded[name], made, rtol=0, atol=2e-5)
    return np.array(recorded[name], np.float32)


def run_torch(tensors, structure, images):
    import torch
    import torch_resnet

    network = torch_resnet.ResNet(*structure_lib.DEPTHS[structure.depth], structure.num_classes)
    state = {name: torch.from_numpy(tensor) for name, tensor in tensors.items()}
    if "bn1.num_batches_tracked" not in tensors:
        state |= {name: x for name, x in network.state_dict().items() if name.endswith("num_batches_tracked")}
    network.load_state_dict(state, strict=True)
    with torch.no_grad():
        return network.eval()(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()


# The same answers ----------------------------------------------------------------------------------------------


def test_resnet34_answers_as_pytorch_does(tmp_path):
    tensors = uncounted(random_tensors(*structure_lib.DEPTHS[34], 1000))
    suffix = "safetensors" if importlib.util.find_spec("torch") is None else "pth"
    run = convert(tmp_path, save(tmp_path / f"resnet34.{suffix}", tensors))
    assert run.structure == Structure(34, "resnet", (), (), 1.0, 1000, "imagenet", True, 1, "torch")
    rng = np.random.default_rng(1)
    images = np.kron(rng.normal(size=(2, 7, 7, 3)), np.ones((1, 32, 32, 1))) + rng.normal(size=(2, 224, 224, 3))
    images = images.astype(np.float32)
    logits = jax.jit(stage.make_network(run.config, run.stage, axis_name=None).apply)(run.variables, images)
    wanted = torch_logits("ResNet34", tensors, run.structure, images)
    assert 1 < np.std(wanted) < 10 and np.std(wanted[0] - wanted[1]) > 0.1
    np.testing.assert_allclose(logits, wanted, rtol=0, atol=1e-4)


@pytest.mark.parametrize("size", [(224, 224), (97, 66), (35, 32), (5, 1)])
def test_any_image_size_is_padded_as_pytorch_does(size, tiny):
    structure = Structure(8, "resnet", stem="imagenet", stem_relu=True, padding="torch")
    tensors = random_tensors(*TINY, 10)
    images = np.random.default_rng(2).normal(size=(2, *size, 3)).astype(np.float32)
    wanted = torch_logits("{}x{}".format(*size), tensors, structure, images)

    def logits(structure):
        network = Network(structure)
        variables = to_variables(tensors, jax.eval_shape(network.init, jax.random.key(0), jnp.asarray(images)))
        return jax.jit(network.apply)(variables, images)

    np.testing.assert_allclose(logits(structure), wanted, rtol=0, atol=1e-4)
    if size == (224, 224):  # so the comparison does tell the two rules apart
        same = Structure(8, "resnet", stem="imagenet", stem_relu=True, padding="same")
        assert np.abs(logits(same) - wanted).max() > 1e-2


def test_resnet18_of_a_safetensors_file_has_each_tensor_in_its_place(tmp_path):
    tensors = random_tensors(*structure_lib.DEPTHS[18], 1000)
    path = save(tmp_path / "resnet18.safetensors", tensors)
    run = convert(tmp_path, path, "--config.model.depth=18")
    params, statistics = run.variables["params"], run.variables["batch_stats"]
    leaves = jax.tree.leaves(run.variables)
    assert len(leaves) == len(uncounted(tensors))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 11_689_512  # torchvision's resnet18
    for ours, name in [
        (params["stem_conv"]["kernel"], "conv1.weight"),
        (params["stage1_block2"]["conv2"]["kernel"], "layer1.1.conv2.weight"),
        (params["stage2_block1"]["conv1"]["kernel"], "layer2.0.conv1.weight"),
        (params["stage4_block1"]["shortcut_conv"]["kernel"], "layer4.0.downsample.0.weight"),
        (params["stem_bn"]["scale"], "bn1.weight"),
        (params["stage3_block1"]["shortcut_bn"]["bias"], "layer3.0.downsample.1.bias"),
        (statistics["stage3_block2"]["bn1"]["mean"], "layer3.1.bn1.running_mean"),
        (statistics["stage4_block1"]["shortcut_bn"]["var"], "layer4.0.downsample.1.running_var"),
        (params["head"]["kernel"], "fc.weight"),
        (params["head"]["bias"], "fc.bias"),
    ]:
        tensor = tensors[name]
        tensor = tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor.T
        np.testing.assert_array_equal(ours, tensor, err_msg=name)


# The work directory --------------------------------------------------------------------------------------------


def test_a_teacher_is_a_run_that_names_its_source(tmp_path, tiny, capsys):
    path = save(tmp_path / "w.safetensors", tiny_tensors())
    run = convert(tmp_path, path, *TINY_OPTIONS)
    assert sorted(os.listdir(tmp_path)) == ["teacher", "w.safetensors"]
    assert (run.config.model.depth, run.config.data.name) == (8, "fashion_mnist_mini")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = json.loads((tmp_path / "teacher" / "weights.json").read_text())
    assert facts == {"weights": "w.safetensors", "sha256": digest} and run.metrics == {}
    assert digest in capsys.readouterr().out

    main.main(["--mode=eval", f"--workdir={tmp_path / 'teacher'}"])
    assert re.search(r"best checkpoint, step 0: test Top-1 \d+\.\d\d %", capsys.readouterr().out)
    before = sorted(path for path in tmp_path.rglob("*") if path.name != "lock")
    with pytest.raises(UserError, match="teacher holds weights from elsewhere, which are used and never trained on"):
        main.main(["--config=configs/imagenet_teacher.py", f"--workdir={tmp_path / 'teacher'}", *TINY_OPTIONS])
    assert sorted(path for path in tmp_path.rglob("*") if path.name != "lock") == before

    taught = [f"--config.teacher={tmp_path / 'teacher'}", "--config.train.teacher_weight=1.0"]
    loaded = train.load_teacher(config_lib.load("configs/quickstart.py", taught))
    assert loaded.structure == run.structure
    jax.tree.map(np.testing.assert_array_equal, loaded.variables, run.variables)


def test_the_output_is_complete_or_absent(tmp_path, tiny, monkeypatch):
    path = save(tmp_path / "w.safetensors", tiny_tensors())

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.Checkpoints, "save", fail)
    with pytest.raises(UserError, match="teacher cannot be written to .*No space left"):
        convert(tmp_path, path, *TINY_OPTIONS)
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_folder_in_use_is_refused_and_left_alone(tmp_path, tiny):
    path = save(tmp_path / "w.safetensors", tiny_tensors())
    (tmp_path / "teacher").mkdir()
    (tmp_path / "teacher" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        convert(tmp_path, path, *TINY_OPTIONS)
    assert os.listdir(tmp_path / "teacher") == ["notes.txt"]
    (tmp_path / "teacher" / "notes.txt").unlink()
    convert(tmp_path, path, *TINY_OPTIONS)  # an empty one will do


# What is refused -----------------------------------------------------------------------------------------------


def without(tensors, *names):
    return {name: tensor for name, tensor in tensors.items() if name not in names}


NAMES_BN1 = [f"layer2.1.bn1.{name}" for name in ("weight", "bias", "running_mean", "running_var")]
WRONG = {
    "missing": (lambda t: without(t, "layer2.1.bn1.running_var"), "layer2.1.bn1.running_var missing"),
    "many missing": (lambda t: without(t, *NAMES_BN1), "layer2.1.bn1.bias, .*_mean, .*_var and 1 more missing"),
    "superfluous": (lambda t: t | {"layer9.0.conv1.weight": t["fc.bias"]}, "layer9.0.conv1.weight superfluous"),
    "a counter of nothing": (lambda t: t | {"layer9.0.bn1.num_batches_tracked": t["fc.bias"]}, "layer9.* superfluous"),
    "shape": (lambda t: t | {"fc.weight": t["fc.weight"].T.copy()}, r"fc.weight is float32 \(12, 10\) .* \(10, 12\)"),
    "a kernel's axes": (
        lambda t: t | {"conv1.weight": t["conv1.weight"].transpose(2, 3, 1, 0).copy()},
        r"conv1.weight is float32 \(7, 7, 1, 4\) instead of float32 \(4, 1, 7, 7\)",
    ),
    "type": (lambda t: t | {"bn1.bias": t["bn1.bias"].astype(np.float64)}, "bn1.bias is float64"),
    "not finite": (lambda t: t | {"bn1.bias": t["bn1.bias"] / np.float32(0)}, "not finite: bn1.bias"),
    "another network": (
        lambda t: {f"module.{name}": tensor for name, tensor in t.items()},
        "bn1.bias, .* more missing; module.bn1.bias, .* more superfluous",
    ),
}


@pytest.mark.filterwarnings("ignore:divide by zero")
@pytest.mark.parametrize("case", WRONG)
def test_tensors_that_do_not_fit_are_named(case, tmp_path, tiny):
    change, message = WRONG[case]
    path = save(tmp_path / "w.safetensors", change(tiny_tensors()))
    with pytest.raises(UserError, match=message) as caught:
        convert(tmp_path, path, *TINY_OPTIONS)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "teacher").exists()


def test_damaged_safetensors_are_refused(tmp_path, tiny):
    path = save(tmp_path / "w.safetensors", tiny_tensors())
    content = path.read_bytes()
    header = json.dumps({"conv1.weight": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    for damaged in (b"", content[:-5], b"\xff" * 64, b"not a safetensors file", content + b"\0"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="w.safetensors is damaged or no safetensors file"):
            convert(tmp_path, path, *TINY_OPTIONS)
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    with pytest.raises(UserError, match="tensors of type BF16; float32 is needed"):
        convert(tmp_path, path, *TINY_OPTIONS)


@pytest.mark.parametrize("path", ["nothing.pth", "."])
def test_a_file_that_cannot_be_read_is_named(path, tmp_path):
    with pytest.raises(UserError, match="The weights .* cannot be read: (No such file|Is a directory)"):
        convert(tmp_path, tmp_path / path)


class Payload:
    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle", "beside tensors"])
def test_code_in_a_pth_file_does_not_run(form, tmp_path, tiny):
    torch = pytest.importorskip("torch")
    path, proof = tmp_path / "w.pth", tmp_path / "it ran"
    content = Payload(str(proof))
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))  # as torch writes it
    elif form == "beside tensors":
        tensors = {name: torch.from_numpy(x) for name, x in tiny_tensors().items()}
        torch.save({**tensors, "epoch": content}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(UserError, match="holds more than tensors, which could run code"):
        convert(tmp_path, path, *TINY_OPTIONS)
    assert not proof.exists()
    if form == "bare pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert proof.exists()  # so it would have run


def test_pth_files_of_other_content_are_refused(tmp_path, tiny):
    torch = pytest.importorskip("torch")
    path = save(tmp_path / "w.pth", tiny_tensors())
    whole = path.read_bytes()
    for damaged in (b"", whole[: len(whole) // 2], b"not a file of torch.save"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="w.pth is damaged"):
            convert(tmp_path, path, *TINY_OPTIONS)
    for other in (torch.zeros(3), [torch.zeros(3)], {"state_dict": {"fc.bias": torch.zeros(3)}, "epoch": 3}):
        torch.save(other, path)
        with pytest.raises(UserError, match="does not hold a dictionary of tensors"):
            convert(tmp_path, path, *TINY_OPTIONS)
    torch.save({"fc.bias": torch.zeros(3, dtype=torch.bfloat16)}, path)
    with pytest.raises(UserError, match="a type that NumPy lacks"):
        convert(tmp_path, path, *TINY_OPTIONS)


def test_without_pytorch_a_pth_file_is_refused_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "w.pth").write_bytes(b"anything")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UserError, match=r"w.pth needs PyTorch: pip install torch, or .* \.safetensors"):
        convert(tmp_path, tmp_path / "w.pth")


@pytest.mark.parametrize("field", ["model.block=onebnet", "model.padding=same", "model.stem_relu=False"])
def test_a_config_of_another_network_is_refused(field, tmp_path):
    options = [f"--config.{field}"] + ["--config.model.padding=same"] * (field == "model.block=onebnet")
    with pytest.raises(UserError, match="need model.block='resnet'"):
        convert(tmp_path, Path("nothing.pth"), *options)
