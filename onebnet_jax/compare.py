"""Compares runs: python -m onebnet_jax.compare runs/* prints what differs in their configs, and what came of it."""

import argparse
import sys
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from onebnet_jax import arguments, config_check, metrics
from onebnet_jax import config as config_lib
from onebnet_jax.cost_report import render
from onebnet_jax.errors import UserError, cli

UNKNOWN = "-"


def main(argv: list[str]) -> None:
    """Parses the command line and prints a table with a line for each run; folders that hold none are named."""
    parser = argparse.ArgumentParser(prog="python -m onebnet_jax.compare", description=__doc__, allow_abbrev=False)
    parser.add_argument("workdir", nargs="+", type=arguments.path, help="folder of a run")
    parser.add_argument("--markdown", action="store_true", help="as a Markdown table")
    args = parser.parse_args(argv)
    print(render(table(args.workdir), args.markdown))


def table(workdirs: list[Path]) -> list[list[str]]:
    """A header and a row for each run: the fields in which the configs differ, epochs, Top-1 and training time.

    Folders in which nothing was trained are named on stderr and left out. Raises UserError if all are such.
    """
    runs, others = [], []
    for workdir in workdirs:
        try:
            config = config_lib.load_json(workdir / "config.json")
            runs.append((workdir.name, used_fields(config), outcome(workdir, config)))
        except UserError as error:
            others.append(error)
    if not runs:
        raise others[0]
    for error in others:
        print(f"left out: {error}", file=sys.stderr, flush=True)
    names = {name: None for _, fields, _ in runs for name in fields}  # in order
    differing = [name for name in names if len({repr(fields.get(name)) for _, fields, _ in runs}) > 1]
    return [
        ["run", *differing, "epochs", "Top-1 last", "Top-1 best", "train Top-1", "hours"],
        *([run, *(str(fields.get(name, "")) for name in differing), *result] for run, fields, result in runs),
    ]


def used_fields(config: ConfigDict) -> dict[str, Any]:
    """The fields of a config that have a part in its run, by their full names."""
    fields = config_lib.flat(config)
    unused = tuple(f"{name}." for name in config_check.stage_names(fields) if name not in config.stages)
    return {name: value for name, value in fields.items() if not name.startswith(unused)}


def outcome(workdir: Path, config: ConfigDict) -> list[str]:
    """Epochs trained of all stages so far, the last stage's Top-1 in percent, and the time of all training steps.

    Raises UserError if nothing was trained.
    """
    epochs, seconds, last = 0, 0.0, {}
    for stage in config.stages:
        path = workdir / stage / "metrics.jsonl"
        lines = metrics.read(path) if path.exists() else []
        last = {split: [line for line in lines if line["split"] == split] for split in ("train", "test")}
        epochs += max((line["epoch"] for line in last["train"]), default=0)
        seconds += sum(line["seconds"] for line in last["train"])
    if not epochs:
        raise UserError(f"{workdir} has not been trained yet.")
    total = sum(config[stage].epochs for stage in config.stages)
    top1, trained = ([line["top1"] for line in last[split]] for split in ("test", "train"))
    scores = (f"{x:.2f}" if x is not None else UNKNOWN for x in (_last(top1), max(top1, default=None), _last(trained)))
    return [f"{epochs} of {total}", *scores, f"{seconds / 3600:.2f}"]


def _last(values: list[float]) -> float | None:
    return values[-1] if values else None


if __name__ == "__main__":
    cli(main)
