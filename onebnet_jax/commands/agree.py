"""Proves that converted files give the trained network's answers: onebnet agree model.onb"""

import dataclasses
import io
import os
import sys

import numpy as np
from tqdm import tqdm

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, check_numpy, cli
from onebnet_jax.export import card
from onebnet_jax.tables import show

EXAMPLES = """examples:
  onebnet agree model.onb                                               by the native engine alone, without TensorFlow
  onebnet agree model.tflite --native=model.onb --images=0 --units      all test images, and the signs of every unit
  onebnet agree model.tflite --config.data.dir=FOLDER                   where the test images are now
  onebnet agree model.tflite --random-images --report=agreement.json
  onebnet agree model.tflite --images=10 --dump=signs.npz               to check a runtime of your own, unit by unit
"""


def main(argv: list[str]) -> None:
    """Exits with 1 if a difference is not explained."""
    parser = arguments.parser("agree", __doc__, EXAMPLES)
    parser.add_argument(
        "model", type=arguments.path, help="a .tflite file by `onebnet convert`, beside its card, or a .onb file"
    )
    parser.add_argument("--images", type=int, default=1000, help="how many test images (default 1000; 0 for all)")
    parser.add_argument("--random-images", action="store_true", help="random pixels instead of test images")
    parser.add_argument("--workdir", type=arguments.run, help="folder of the run, if it is no longer where it was")
    parser.add_argument("--units", action="store_true", help="also compare the signs of every unit, in two tables")
    parser.add_argument("--report", type=arguments.path, metavar="FILE.json", help="write the report as JSON too")
    text = "write the images and the trained network's logits and signs: UNIT is [N, h, w, C / 8], 8 channels a byte"
    parser.add_argument("--dump", type=arguments.path, metavar="FILE.npz", help=text)
    text = "the native engine's file; without it the engine is compared with the network packed anew"
    parser.add_argument("--native", type=arguments.path, metavar="FILE.onb", help=text)
    arguments.imports(parser)
    args, overrides = parser.parse_known_args(argv)
    if args.native and args.model.suffix == ".onb":
        parser.error(f"--native={args.native} belongs beside a .tflite file, and {args.model} is none")
    if args.images < 0:
        parser.error(f"--images={args.images} must be 0 or more")
    if args.random_images and overrides:
        parser.error(f"{overrides[0]!r} has no place beside --random-images")

    from onebnet_jax.commands import images
    from onebnet_jax.export import verify
    from onebnet_jax.native import runtime
    from onebnet_jax.runs import trained

    if args.report is not None:
        card.check_writable(args.report, ".json", "conversion_difference")
    if args.dump is not None:
        card.check_writable(args.dump, ".npz")
    if args.model.suffix == ".onb":
        tflite, engine = None, runtime.Engine(args.model)
        if not {"source", "config", "folded", "raw_input"} <= (facts := engine.card).keys():
            raise UserError(f"{args.model} does not say which network it was made from: convert that again.")
    else:
        check_numpy()
        tflite, facts = card.read(args.model)
        if "int8" in facts:
            raise UserError(
                f"{args.model} is int8, whose answers differ by more than rounding; its card has its Top-1."
            )
        engine = verify.same_source(args.native, facts) if args.native else None
    if args.workdir:
        if "workdir" not in facts["source"]:
            raise UserError(f"--workdir has no place here: {args.model} was made from an untrained network.")
        facts["source"]["workdir"] = str(args.workdir)
    elif (run := card.workdir_of(facts)) and not os.path.exists(run):
        raise UserError(f"{args.model} was made from {run}, which is not there; --workdir=RUN says where it is now.")
    network = trained.from_origin(facts["source"], facts["config"]).with_data(overrides)
    if args.random_images:
        count, batches = images.of_noise(network, args.images)
    else:
        count, batches = images.of_test(images.opened(network, "; --random-images needs none"), args.images)
    seen = []
    if args.dump is not None:
        batches = (seen.append(batch[0]) or batch for batch in batches)
    with tqdm(total=count, unit="image", desc="comparing", mininterval=1.0) as bar:
        result = verify.agree(network, tflite, facts, batches, bar.update, engine)
    for note in network.notes:
        print(f"note: {note}")
    first, *parts = verify.describe(result, args.units)
    show(f"{args.model} against {network.title}, {first}", *parts)
    if args.report is not None:
        card.save({args.report: dataclasses.asdict(result)})
    if args.dump is not None:
        from onebnet_jax.export import agreement

        buffer = io.BytesIO()
        np.savez_compressed(buffer, **agreement.signs(network, np.concatenate(seen)))
        card.save({args.dump: buffer.getvalue()})
    if not result.explained:
        sys.exit(1)


if __name__ == "__main__":
    cli(main)
