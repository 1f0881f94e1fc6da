"""Trains or evaluates: python -m onebnet_jax.main --config=configs/quickstart.py [--config.field=value ...]"""

import argparse
from pathlib import Path

from onebnet_jax import checkpoint, config, train
from onebnet_jax.errors import UserError, cli


def main(argv: list[str]) -> None:
    """Parses the command line and calls `train.run` or `train.evaluate`."""
    parser = argparse.ArgumentParser(prog="python -m onebnet_jax.main", description=__doc__, allow_abbrev=False)
    parser.add_argument("--config", help="config file; --config.field=value changes a field of it")
    parser.add_argument("--workdir", type=Path, help="folder of the run (default: runs/NAME_OF_CONFIG)")
    parser.add_argument("--mode", choices=("train", "eval"), default="train")
    parser.add_argument("--checkpoint", choices=(checkpoint.BEST, checkpoint.LAST), default=checkpoint.BEST)
    args, overrides = parser.parse_known_args(argv)
    if not (args.config or (args.mode == "eval" and args.workdir)):
        parser.error("--config is required, such as --config=configs/quickstart.py")
    workdir = args.workdir or Path("runs") / Path(args.config).stem
    print(f"work directory: {workdir}", flush=True)
    if args.mode == "eval":
        if overrides:
            raise UserError(f"{overrides[0]!r} has no place in --mode=eval, which takes its config from {workdir}.")
        run = checkpoint.load_run(workdir, args.checkpoint)
        result = train.evaluate(run)
        print(f"{args.checkpoint} checkpoint, step {run.step}: {describe(result)}")
    else:
        result = train.run(config.load(args.config, overrides), workdir)
        print(f"epoch {result['epoch']}: {describe(result)}")


def describe(result: dict[str, float]) -> str:
    """An evaluation in words."""
    return f"test Top-1 {result['top1']:.2f} %, Top-5 {result['top5']:.2f} %, loss {result['loss']:.4f}"


if __name__ == "__main__":
    cli(main)
