"""Makes a teacher from torchvision's weights: onebnet teacher --weights=resnet34-b627a593.pth

The result is a work directory as a run leaves it, for `teacher` of a config or --mode=eval; its weights.json says where
the weights are from.
"""

from pathlib import Path

from onebnet_jax.commands import arguments
from onebnet_jax.errors import cli

EXAMPLES = """examples:
  onebnet teacher --weights=resnet34-b627a593.pth
  onebnet train --config=imagenet_typeII --config.data.dir=DIR         uses it
"""


def main(argv: list[str]) -> None:
    parser = arguments.parser("teacher", __doc__, EXAMPLES)
    parser.add_argument("--weights", type=arguments.path, required=True, help=".pth (with PyTorch) or .safetensors")
    words = "the network that they are of (default: %(default)s); --config.field=value changes a field of it"
    parser.add_argument("--config", default="configs/imagenet_teacher.py", help=words)
    parser.add_argument("--output", type=arguments.path, help="the teacher's folder (default: runs/NAME_OF_CONFIG)")
    args, overrides = parser.parse_known_args(argv)

    from onebnet_jax.runs import config as config_lib
    from onebnet_jax.runs import torch_weights

    config = config_lib.load(args.config, overrides)
    output = args.output or Path("runs") / config_lib.name(args.config)
    facts = torch_weights.make_run(args.weights, config, output)
    title = config_lib.experiment(config).structure.title
    print(f"{output}: {title} from {facts['weights']} (SHA-256 {facts['sha256']})")


if __name__ == "__main__":
    cli(main)
