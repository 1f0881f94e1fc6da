"""Compares runs: python -m onebnet_jax.compare runs/* prints what differs in their configs, and what came of it."""

import argparse
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from onebnet_jax import config as config_lib
from onebnet_jax import metrics
from onebnet_jax.cost_report import render
from onebnet_jax.errors import UserError, cli


def main(argv: list[str]) -> None:
    """Parses the command line and prints a table with a line for each run."""
    parser = argparse.ArgumentParser(prog="python -m onebnet_jax.compare", description=__doc__, allow_abbrev=False)
    parser.add_argument("workdir", nargs="+", type=Path, help="folder of a run")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    args = parser.parse_args(argv)
    print(render(table(args.workdir), args.markdown))


def table(workdirs: list[Path]) -> list[list[str]]:
    """A header and a row for each run: the fields in which the configs differ, epochs, Top-1 and training time."""
    configs = [config_lib.load_json(workdir / "config.json") for workdir in workdirs]
    flat = [used_fields(config) for config in configs]
    names = {name: None for fields in flat for name in fields}  # in order
    differing = [name for name in names if len({repr(fields.get(name)) for fields in flat}) > 1]
    header = ["run", *differing, "epochs", "Top-1 last", "Top-1 best", "train Top-1", "hours"]
    return [
        header,
        *(
            [workdir.name, *(str(fields.get(name, "")) for name in differing), *outcome(workdir, config)]
            for workdir, config, fields in zip(workdirs, configs, flat)
        ),
    ]


def used_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields of a config that have a part in its run, by their full names."""
    unused = [name for name, value in config.items() if isinstance(value, ConfigDict) and "epochs" in value]
    unused = tuple(f"{name}." for name in unused if name not in config.stages)
    return {name: value for name, value in config_lib.flat(config).items() if not name.startswith(unused)}


def outcome(workdir: Path, config: ConfigDict) -> list[str]:
    """Epochs trained of all stages so far, the last stage's Top-1 in percent, and the time of all training steps."""
    epochs, seconds, last = 0, 0.0, {}
    for stage in config.stages:
        path = workdir / stage / "metrics.jsonl"
        lines = metrics.read(path) if path.exists() else []
        last = {split: [line for line in lines if line["split"] == split] for split in ("train", "test")}
        epochs += max((line["epoch"] for line in last["train"]), default=0)
        seconds += sum(line["seconds"] for line in last["train"])
    if not last["test"]:
        raise UserError(f"{workdir} has not been evaluated yet.")
    total = sum(config[stage].epochs for stage in config.stages)
    top1 = [line["top1"] for line in last["test"]]
    trained = last["train"][-1]["top1"] if last["train"] else float("nan")
    return [f"{epochs} of {total}", f"{top1[-1]:.2f}", f"{max(top1):.2f}", f"{trained:.2f}", f"{seconds / 3600:.2f}"]


if __name__ == "__main__":
    cli(main)
