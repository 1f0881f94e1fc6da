"""Converts a trained network for Larq Compute Engine, or for the native engine:

onebnet convert --workdir=RUN --output=model.tflite --native=model.onb

Or makes int8 of an FP32 one, to compare with.
"""

import argparse
from collections.abc import Callable

from tqdm import tqdm

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli, quietly

CALIBRATION = 500  # training images from which int8's ranges are taken

EXAMPLES = """examples:
  onebnet convert --workdir=runs/quickstart --output=model.tflite
  onebnet convert --workdir=runs/quickstart --native=model.onb          for any CPU, without TensorFlow
  onebnet convert --workdir=runs/fp32 --int8=int8.tflite                an FP32 network as int8, scored, to compare with
  onebnet convert --config=cifar10_typeII --output=untrained.tflite    to time a structure before it is trained
"""


def main(argv: list[str]) -> None:
    parser = arguments.parser("convert", __doc__, EXAMPLES)
    parser.add_argument("--workdir", type=arguments.run, help="folder of a run, or gs://BUCKET/DIR")
    parser.add_argument("--stage", help="of the run, such as step1 (default: the latest that has a checkpoint)")
    parser.add_argument("--checkpoint", choices=("best", "last"), help="of the stage (default: best)")
    parser.add_argument("--config", help="for an untrained network instead; --config.field=value changes a field")
    parser.add_argument("--output", type=arguments.path, help="the .tflite file, its card beside it")
    parser.add_argument("--native", type=arguments.path, metavar="FILE.onb", help="the file of the native engine")
    parser.add_argument("--bits", type=arguments.path, metavar="FILE.npz", help="packed weights and all else as arrays")
    parser.add_argument("--int8", type=arguments.path, metavar="FILE.tflite", help="an FP32 network quantized, scored")
    parser.add_argument("--fold", action=argparse.BooleanOptionalAction, default=True, help="merge element-wise layers")
    parser.add_argument("--raw-input", action="store_true", help="the file takes pixels of 0..255 and normalizes them")
    parser.add_argument("--keras", type=arguments.path, metavar="FILE.keras", help="save the Keras model as well")
    parser.add_argument("--summary", action="store_true", help="print larq.models.summary of it")
    arguments.imports(parser)
    args, overrides = parser.parse_known_args(argv)
    if args.config is None and overrides and not args.int8:
        parser.error(f"{overrides[0]!r} is not an option; fields can be set beside --config, and data.* beside --int8")
    if (args.workdir is None) == (args.config is None):
        parser.error("give one of --workdir and --config")
    if not (args.output or args.native or args.bits or args.int8):
        parser.error("give at least one of --output, --native, --bits and --int8")
    if args.int8 and args.workdir is None:
        parser.error("--int8 is for a trained network: give --workdir")
    if args.int8 and args.output and args.int8.absolute() == args.output.absolute():
        parser.error(f"--int8 and --output are the same file, {args.int8}: give two names")
    if not args.output and (args.keras or args.summary):
        parser.error("--keras and --summary need --output")
    if args.config is not None and (args.stage or args.checkpoint):
        parser.error("--stage and --checkpoint are for --workdir; --config makes an untrained network")

    from onebnet_jax.export import card
    from onebnet_jax.runs import config, trained

    for path in (args.output, args.int8):
        if path is not None:
            card.check_place(path)
    for path, suffix in ((args.keras, ".keras"), (args.native, ".onb"), (args.bits, ".npz")):
        if path is not None:
            card.check_writable(path, suffix)
    if args.workdir is not None:
        network = trained.load(args.workdir, args.checkpoint or "best", args.stage)
    else:
        network = trained.untrained(config.load(args.config, overrides))
    finish = _as_int8(network, overrides, args) if args.int8 else None  # what can fail comes before the work
    if args.output or args.native or args.bits:
        from onebnet_jax.export import convert

        result = convert.convert(network, args.fold, args.raw_input)
        for path, form in ((args.native, "onb"), (args.bits, "bits")):
            if path is not None:
                content = getattr(result, form)
                card.save({path: content})
                print(f"{path}: {len(content) / 2**20:.3f} MiB, made from {network.title}")
        if args.output is not None:
            _for_lce(result, args)
    if finish:
        finish()
    if network.metrics:
        which = network.origin["checkpoint"]
        print(f"{which}: {trained.score(network.metrics, which == 'best')}")
    for note in network.notes:
        print(f"note: {note}")


def _for_lce(result, args) -> None:
    if args.summary:
        from onebnet_jax.export.keras2 import larq

        larq.models.summary(result.model)
    if args.keras is not None:
        try:
            result.model.save(args.keras)
        except OSError as error:
            raise UserError(f"Cannot save the Keras model to {args.keras}: {error}") from error
    result.save(args.output)
    operators = ", ".join(f"{count} {kind}" for kind, count in result.card["operators"].items())
    print(f"{args.output}: {result.card['mib']:.3f} MiB, made from {result.trained.title}\n{operators}")
    if args.keras is not None:
        print(f"{args.keras}: the Keras model; import onebnet_jax.export.keras before loading it, for its layers")


def _as_int8(network, overrides, args) -> Callable[[], None]:
    """Opens the network's images; what it returns quantizes by some of training, scores on all of test, and writes."""
    from onebnet_jax.commands import images
    from onebnet_jax.export import card, int8, lce

    int8.check(network)
    stored = images.opened(network.with_data(overrides) if overrides else network)
    print(stored.source)
    if note := network.of_other_photos(stored.photos):
        print(f"note: {note}")

    def finish():
        sample, (count, batches) = images.of_training(network, stored, CALIBRATION), images.of_test(stored, 0)
        with quietly():  # TensorFlow's converter says much of how
            file = int8.quantize(network, sample, args.fold, args.raw_input)
        with tqdm(total=count, unit="image", desc="scoring int8", mininterval=1.0) as bar:
            top1, count = int8.score(network, file, args.raw_input, batches, bar.update)
        facts = card.make(network, file, lce.histogram(lce.operators(file)), args.fold, args.raw_input)
        facts["int8"] = {"top1": top1, "images": count, "calibration": len(sample)}
        facts["notes"] = [network.terms] if network.terms else []
        card.write(args.int8, file, facts)
        words = f"int8 by {len(sample)} training images, Top-1 {top1:.2f} % of {count} test images"
        print(f"{args.int8}: {len(file) / 2**20:.3f} MiB, made from {network.title}, {words}")

    return finish


if __name__ == "__main__":
    cli(main)
