"""Weights of torchvision's ResNets: reading their files without running code, and giving them our names and layouts."""

import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

import jax
import numpy as np
import safetensors.numpy
from ml_collections import ConfigDict
from safetensors import SafetensorError

from onebnet_jax import surroundings
from onebnet_jax.errors import UserError
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints
from onebnet_jax.runs.workdir import Workdir

_MODULES = {"stem_conv": "conv1", "stem_bn": "bn1", "head": "fc"}
_MODULES |= {"shortcut_conv": "downsample.0", "shortcut_bn": "downsample.1"}
_TENSORS = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def make_run(weights: Path, config: ConfigDict, output: Path) -> dict[str, str]:
    """Writes the work directory of an FP32 network with the weights of a file, see `read`; complete or not at all.

    Returns what weights.json keeps: the name and the SHA-256 of the file. Raises UserError for a config that describes
    no network of torchvision's, a folder in use, or weights that do not fit.
    """
    run = config_lib.experiment(config)
    stem = run.structure.units[0]
    if run.structure.binary or not stem.symmetric or stem.activation != "relu":
        needed = "model.family='resnet', model.padding='torch' and model.stem_relu=True"
        raise UserError(f"torchvision's weights need {needed} in the config.")
    if os.path.exists(output) and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} is there already; choose another --output, or remove it.")
    tensors, content = read(weights)
    variables = to_variables(tensors, variable_shapes(Network(run.structure), run.data.info.shape))
    facts = {"weights": weights.name, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as partial:
            folder = Path(partial) / output.name
            folder.mkdir()
            Workdir(folder, config).write_config()
            (folder / "weights.json").write_text(json.dumps(facts, indent=2) + "\n")
            checkpoints = Checkpoints(folder / config.stages[-1])
            for name in (BEST, LAST):  # evaluation and conversion take the one, training with a teacher the other
                checkpoints.save(name, 0, variables, {})
            checkpoints.close()
            folder.rename(output)
    except OSError as error:
        raise UserError(f"The teacher cannot be written to {output}: {error.strerror}.") from error
    return facts


def read(path: Path) -> tuple[dict[str, np.ndarray], bytes]:
    """The tensors of a .safetensors file or of one that torch.save wrote, by their names, and the bytes of the file.

    Runs nothing that is in it. Raises UserError if it is missing, damaged, or holds anything but named tensors.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read: {error.strerror}.") from error
    if path.suffix != ".safetensors":
        return _read_torch(path, content), content
    try:
        return safetensors.numpy.load(content), content
    except KeyError as error:  # a number format that NumPy lacks, such as BF16
        raise UserError(f"{path} holds tensors of type {error.args[0]}; float32 is needed.") from error
    except SafetensorError as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}.") from error


def _read_torch(path: Path, content: bytes) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        fault = surroundings.import_fault(error, "pip install torch")
        raise UserError(f"Reading {path} needs PyTorch: {fault}, or give a .safetensors file.") from error
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for what it cannot or, with weights_only, will not unpickle
        fault = "is damaged, no file of torch.save, or holds more than tensors, which could run code when read"
        raise UserError(f"{path} {fault}: get it again, or as a .safetensors file.") from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):  # a checkpoint of a training script
        others = ", ".join(sorted(map(str, state.keys() - {"state_dict"})))
        print(f"of {path} only state_dict is taken{others and f', not {others}'}", flush=True)
        state = state["state_dict"]
    try:
        return {str(name): value.detach().numpy() for name, value in state.items()}
    except (AttributeError, TypeError, RuntimeError) as error:  # of no tensors; of bfloat16, sparse, quantized ones
        wanted = "a dictionary of tensors, such as model.state_dict()"
        raise UserError(f"{path} does not hold {wanted}, or of a type that NumPy lacks; float32 is needed.") from error


def to_variables(tensors: dict[str, np.ndarray], like: dict) -> dict:
    """The variables of an FP32 ResNet, in the structure of `like`, from the tensors of torchvision's network.

    Those have torchvision's names: conv1.weight [C_out, C_in, kh, kw], bn1.running_mean [C], layer1.0.conv1.weight,
    layer2.0.downsample.0.weight, fc.weight [classes, C] and so on. num_batches_tracked is not used: files from before
    PyTorch 0.4.1 have none. Raises UserError, naming the tensors that are missing, superfluous, of another shape or
    type, or not finite.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(like)
    names = [_torch_name([key.key for key in path]) for path, _ in leaves]
    tensors = _unwrapped(tensors, names[0])
    _check(tensors, {name: _torch_shape(leaf.shape) for name, (_, leaf) in zip(names, leaves)})
    return structure.unflatten(_our_layout(tensors[name]) for name in names)


def _unwrapped(tensors: dict[str, np.ndarray], known: str) -> dict[str, np.ndarray]:
    """Without what nn.DataParallel ("module."), torch.compile ("_orig_mod.") or a class of the user's puts before all.

    known: a name that one of them has behind it.
    """
    for name in tensors:
        prefix = name.removesuffix(known)
        if name.endswith(f".{known}") and all(other.startswith(prefix) for other in tensors):
            print(f"{prefix!r} before the name of every tensor is left away", flush=True)
            return {other.removeprefix(prefix): tensor for other, tensor in tensors.items()}
    return tensors


def _torch_name(path: list[str]) -> str:
    """["params", "stage2_block1", "shortcut_bn", "scale"] -> "layer2.0.downsample.1.weight"."""
    _, *modules, tensor = path
    names = []
    for module in modules:
        block = re.fullmatch(r"stage(\d+)_block(\d+)", module)
        names.append(f"layer{block[1]}.{int(block[2]) - 1}" if block else _MODULES.get(module, module))
    return ".".join([*names, _TENSORS[tensor]])


def _torch_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Kernels [kh, kw, C_in, C_out] are [C_out, C_in, kh, kw] there, the head's [C_in, C_out] is [C_out, C_in]."""
    return (shape[-1], shape[-2], *shape[:-2]) if len(shape) > 1 else shape


def _our_layout(tensor: np.ndarray) -> np.ndarray:
    """The reverse of `_torch_shape`, for the tensor itself."""
    return np.ascontiguousarray(tensor.transpose(*range(2, tensor.ndim), 1, 0) if tensor.ndim > 1 else tensor)


def _check(tensors: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises UserError unless the tensors are those of `shapes`, in float32, with finite values."""
    counters = {name.replace("running_mean", "num_batches_tracked") for name in shapes}
    wrong = {
        f"{name} is {tensors[name].dtype} {tensors[name].shape} instead of float32 {shape}"
        for name, shape in shapes.items()
        if name in tensors and (tensors[name].shape, tensors[name].dtype) != (shape, np.float32)
    }
    missing, superfluous = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys() - counters
    kinds = ((missing, " missing"), (superfluous, " superfluous"), (wrong, ""))
    if faults := [_some(names) + word for names, word in kinds if names]:
        raise UserError(f"The weights do not fit the network of the config: {'; '.join(faults)}.")
    if infinite := {name for name in shapes if not np.isfinite(tensors[name]).all()}:
        raise UserError(f"The weights hold values that are not finite: {_some(infinite)}.")


def _some(names: Iterable[str]) -> str:
    """The first names in words."""
    names = sorted(names)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
