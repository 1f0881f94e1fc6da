"""All commands under one name: onebnet COMMAND ..., or python -m onebnet_jax COMMAND ..."""

import difflib
import importlib

import onebnet_jax
from onebnet_jax.errors import UserError, cli

COMMANDS = {  # name: (module, what it does)
    "train": ("main", "trains a network: onebnet train --config=quickstart"),
    "evaluate": ("main", "scores a trained network on the test images"),
    "convert": ("commands.convert", "makes files for devices: .tflite, and .onb of the native engine"),
    "predict": ("commands.predict", "classifies images with a .tflite or .onb file"),
    "agree": ("commands.agree", "proves that a .tflite file gives the trained network's answers"),
    "benchmark": ("commands.benchmark", "times .tflite files here, or reads the times of a Raspberry Pi"),
    "contenders": ("commands.contenders", "times the native engine against LCE and TensorFlow Lite"),
    "cost": ("commands.cost", "counts operations and storage, and estimates latency on a Raspberry Pi 4"),
    "compare": ("commands.compare", "prints a table of runs, and draws their curves"),
    "figure": ("commands.figure", "draws one of the paper's figures of any network or run"),
    "report": ("commands.report", "regenerates the paper's tables and figures, each beside its own numbers"),
    "teacher": ("commands.teacher", "makes a teacher from torchvision's weights"),
    "data_benchmark": ("commands.data_benchmark", "measures how fast ImageNet's input is"),
    "train_benchmark": ("commands.train_benchmark", "measures how fast training steps are"),
    "table1": ("commands.table1", "converts and checks the networks of the paper's Table 1"),
}


def main(argv: list[str]) -> None:
    """Runs the command that the first word names on the other words, and imports no other command.

    Raises UserError for an unknown command, and what the command raises.
    """
    name, *words = argv or ["--help"]
    if name in ("-h", "--help"):
        print("usage: onebnet COMMAND [option ...]\n\nonebnet COMMAND --help shows a command's options.\n")
        for command, (_, line) in COMMANDS.items():
            print(f"  {command:16}{line}")
    elif name == "--version":
        print(f"onebnet-jax {onebnet_jax.__version__}")
    elif name not in COMMANDS:
        close = difflib.get_close_matches(name, COMMANDS, 1, cutoff=0)[0]
        raise UserError(f"There is no command {name!r}; the closest is {close}, and onebnet --help lists all.")
    else:
        module = importlib.import_module(f"onebnet_jax.{COMMANDS[name][0]}")
        module.main([*words, "--mode=eval"] if name == "evaluate" else words)


def onebnet() -> None:
    """The console script."""
    cli(main)


if __name__ == "__main__":
    onebnet()
