"""Converts a trained network for Larq Compute Engine: python -m onebnet_jax.convert --workdir=RUN --output=M.tflite"""

import argparse
from pathlib import Path

from onebnet_jax.commands import arguments
from onebnet_jax.errors import cli
from onebnet_jax.export import card, fold, lint, source
from onebnet_jax.export.source import Source
from onebnet_jax.runs import checkpoint, config


def main(argv: list[str]) -> None:
    """Parses the command line and calls `convert`."""
    parser = argparse.ArgumentParser(prog="python -m onebnet_jax.convert", description=__doc__, allow_abbrev=False)
    parser.add_argument("--workdir", type=arguments.path, help="folder of a run")
    parser.add_argument("--stage", help="of the run, such as step1 (default: the latest that has a checkpoint)")
    parser.add_argument(
        "--checkpoint", choices=(checkpoint.BEST, checkpoint.LAST), help="of the stage (default: best, by test Top-1)"
    )
    parser.add_argument(
        "--config",
        help="instead of --workdir: an untrained network with random parameters, to time a structure before training "
        "it; --config.field=value changes a field",
    )
    parser.add_argument(
        "--output", type=arguments.path, required=True, help="the .tflite file; its card is written beside it"
    )
    parser.add_argument("--fold", action=argparse.BooleanOptionalAction, default=True, help="merge element-wise layers")
    parser.add_argument("--raw-input", action="store_true", help="the file takes pixels of 0..255 and normalizes them")
    parser.add_argument(
        "--keras", type=arguments.path, metavar="FILE.keras", help="save the Keras model of Larq layers as well"
    )
    parser.add_argument("--summary", action="store_true", help="print larq.models.summary of it")
    args, overrides = parser.parse_known_args(argv)
    if args.config is None:
        for word in overrides:
            if not word.startswith("--config."):
                parser.error(f"{word!r} is not an option")
    if (args.workdir is None) == (args.config is None) or (overrides and args.config is None):
        parser.error("give one of --workdir and --config; only with --config can fields be set")
    if args.config is not None and (args.stage or args.checkpoint):
        parser.error("--stage and --checkpoint are for --workdir; --config makes an untrained network")
    card.check_place(args.output)
    if args.keras is not None:
        card.check_writable(args.keras, ".keras")
    if args.workdir is not None:
        network = source.from_run(args.workdir, args.checkpoint or checkpoint.BEST, args.stage)
    else:
        network = source.from_config(config.load(args.config, overrides))
    result = convert(network, args.output, args.fold, args.raw_input, args.keras, args.summary)
    operators = ", ".join(f"{count} {kind}" for kind, count in result["operators"].items())
    print(f"{args.output}: {result['mib']:.3f} MiB, made from {network.title}\n{operators}")
    for note in network.notes:
        print(f"note: {note}")
    if args.keras is not None:
        print(f"{args.keras}: the Keras model; import onebnet_jax.export.keras before loading it, for its layers")


def convert(
    network: Source,
    output: Path,
    folded: bool = True,
    raw_input: bool = False,
    keras: Path | None = None,
    summary: bool = False,
) -> dict:
    """Writes the .tflite file of a network and its card; returns the card.

    Args:
      network: what to convert.
      output: the .tflite file.
      folded: two additions per unit instead of four, see `export.fold`.
      raw_input: whether the file takes pixels and normalizes them itself.
      keras: where to save the Keras model, if anywhere.
      summary: whether to print `larq.models.summary` of it.

    Raises UserError if the network cannot be converted faithfully, with the layer's name, or the file not written; no
    file is left behind then.
    """
    info = network.info
    normalization = (info.mean, info.std) if raw_input else None
    plan = fold.deployment_plan(
        network.structure, network.binarization, network.variables, info.shape, folded, normalization
    )
    lint.check_map_sizes(plan)
    # Not before: TensorFlow takes seconds to import, and tells in one sentence if it is missing.
    from onebnet_jax.export import keras as larq_model
    from onebnet_jax.export import lce

    model = larq_model.keras_model(plan)
    if summary:
        larq_model.print_summary(model)
    tflite = lce.convert(model)
    lint.check_file(lce.operators(tflite), plan)
    if keras is not None:
        larq_model.save(model, keras)
    result = card.make(network, tflite, lce.histogram(tflite), folded, raw_input)
    card.write(output, tflite, result)
    return result


if __name__ == "__main__":
    cli(main)
