"""Makes a teacher from torchvision's weights: python -m onebnet_jax.teacher --weights=resnet34-b627a593.pth

The result is a work directory as a run leaves it, so whatever takes a run takes it: `teacher` of a config, --mode=eval.
Its weights.json says where the weights are from.
"""

import argparse
import hashlib
import json
import os
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli
from onebnet_jax.networks.network import Network, variable_shapes
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import torch_weights, workdir
from onebnet_jax.runs.checkpoint import BEST, LAST, Checkpoints


def main(argv: list[str]) -> None:
    """Parses the command line and calls `convert`."""
    parser = argparse.ArgumentParser(prog="python -m onebnet_jax.teacher", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--weights", type=arguments.path, required=True, help=".pth (needs PyTorch) or .safetensors file"
    )
    parser.add_argument(
        "--config",
        default="configs/imagenet_teacher.py",
        help="the network that they are of (default: %(default)s); --config.field=value changes a field of it",
    )
    parser.add_argument("--output", type=arguments.path, help="the teacher's folder (default: runs/NAME_OF_CONFIG)")
    args, overrides = parser.parse_known_args(argv)
    config = config_lib.load(args.config, overrides)
    output = args.output or Path("runs") / config_lib.name(args.config)
    facts = convert(args.weights, config, output)
    print(f"{output}: ResNet{config.model.depth} from {facts['weights']} (SHA-256 {facts['sha256']})")


def convert(weights: Path, config: ConfigDict, output: Path) -> dict[str, str]:
    """Writes the work directory of an FP32 network with torchvision's weights.

    Args:
      weights: a file of `torch_weights.read`.
      config: of the network, with torchvision's block, stem and padding.
      output: the new folder; it appears complete or not at all.

    Returns:
      The name and the SHA-256 of the file, which are kept in weights.json.

    Raises UserError for a config that describes no such network, a folder in use, or weights that do not fit.
    """
    structure = config_lib.structure(config)
    if (structure.block, structure.padding, structure.stem_relu) != ("resnet", "torch", True):
        raise UserError(
            "torchvision's weights need model.block='resnet', model.padding='torch' and model.stem_relu=True in the "
            "config; without them the network would give other answers."
        )
    if os.path.exists(output) and not (output.is_dir() and not any(output.iterdir())):
        raise UserError(f"{output} is there already; choose another --output, or remove it.")
    tensors, content = torch_weights.read(weights)
    shapes = variable_shapes(Network(structure), config_lib.input_shape(config))
    variables = torch_weights.to_variables(tensors, shapes)
    facts = {"weights": weights.name, "sha256": hashlib.sha256(content).hexdigest()}
    try:
        _write(variables, facts, config, output)
    except OSError as error:
        raise UserError(f"The teacher cannot be written to {output}: {error.strerror}.") from error
    return facts


def _write(variables: dict, facts: dict[str, str], config: ConfigDict, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as partial:
        folder = Path(partial) / output.name
        folder.mkdir()
        workdir.prepare(config, folder, change_config=False)
        (folder / "weights.json").write_text(json.dumps(facts, indent=2) + "\n")
        checkpoints = Checkpoints(folder / config.stages[-1])
        for name in (BEST, LAST):  # evaluation and conversion take the one, training with a teacher the other
            checkpoints.save(name, 0, variables, {})
        checkpoints.close()
        folder.rename(output)


if __name__ == "__main__":
    cli(main)
