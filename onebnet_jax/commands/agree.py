"""Proves that a converted file gives the trained network's answers: onebnet agree model.tflite"""

import dataclasses
import itertools
import sys

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli

BATCH_SIZE = 16  # what all units compute for a batch is in memory
PARITY_IMAGES = 4
EXAMPLES = """examples:
  onebnet agree model.tflite --images=0                                 all test images
  onebnet agree model.tflite --config.data.dir=FOLDER                   where the test images are now
  onebnet agree model.tflite --random-images --report=agreement.json
"""


def main(argv: list[str]) -> None:
    """Parses the command line, compares, prints the report; exits with 1 if a difference is not explained."""
    parser = arguments.parser("agree", __doc__, EXAMPLES)
    parser.add_argument(
        "model", type=arguments.path, help="a .tflite file made by `onebnet convert`, its card beside it"
    )
    parser.add_argument("--images", type=int, default=1000, help="how many test images (default 1000; 0 for all)")
    parser.add_argument("--random-images", action="store_true", help="random pixels instead of test images")
    parser.add_argument("--workdir", type=arguments.path, help="folder of the run, if it is no longer where it was")
    parser.add_argument("--report", type=arguments.path, metavar="FILE.json", help="write the report as JSON too")
    args, overrides = parser.parse_known_args(argv)
    if args.images < 0:
        parser.error(f"--images={args.images} must be 0 or more")
    if args.random_images and overrides:
        parser.error(f"{overrides[0]!r} has no place beside --random-images")

    from tqdm import tqdm

    from onebnet_jax.export import agreement_text, card
    from onebnet_jax.runs import trained

    if args.report is not None:
        card.check_writable(args.report, ".json", "conversion_difference", "a report of this command")
    tflite, facts = card.read(args.model)
    if args.workdir:
        if "workdir" not in facts["source"]:
            raise UserError(f"--workdir has no place here: {args.model} was made from an untrained network.")
        facts["source"]["workdir"] = str(args.workdir)
    network = trained.from_origin(facts["source"], facts["config"]).with_data(overrides)
    make = _random_pixels if args.random_images else _stored_pixels
    count, pixels = make(network, args.images)
    with tqdm(total=count, unit="image", desc="JAX, Keras, LCE", mininterval=1.0) as bar:
        report, parity = compare(network, facts, tflite, pixels, bar.update)
    for note in network.notes:
        print(f"note: {note}")
    print(agreement_text.describe(report, parity, f"{args.model} against {network.title}"))
    if args.report is not None:
        content = {**dataclasses.asdict(report), "parity": [dataclasses.asdict(section) for section in parity]}
        card.save({args.report: card.to_json(content)})
    if not (report.explained and all(section.explained for section in parity)):
        sys.exit(1)


def compare(network, facts: dict, tflite: bytes, pixels, advance=lambda count: None):
    """The (`agreement.Report`, list of `parity.Parity`) of a file with its card.

    Args:
      network, facts, tflite: what the file was made from, its card, and the file.
      pixels: batches of (uint8 [N, H, W, C], labels int [N] or None), one or more.
      advance: is told after each batch how many images it had.
    """
    from onebnet_jax.export import card, convert

    plan = convert.make_plan(network, facts["folded"], facts["raw_input"])
    first = next(pixels, None)  # before TensorFlow, which takes seconds to import
    if first is None:
        raise UserError("There is no test image that can be read.")
    from onebnet_jax.export import agreement, parity

    def normalized(batch):
        return card.normalize(batch, network.info.mean, network.info.std)

    def batches():
        for batch, labels in itertools.chain([first], pixels):
            images = normalized(batch)
            yield images, batch if facts["raw_input"] else images, labels
            advance(len(batch))

    sections = parity.compare(network, plan, normalized(first[0][:PARITY_IMAGES]))
    return agreement.compare(network, plan, tflite, batches()), sections


def _stored_pixels(network, count: int):
    """How many test images there are, of at most `count` (0 for all), and these in batches.

    Raises UserError where the images are missing.
    """
    import numpy as np

    from onebnet_jax.data import load
    from onebnet_jax.data.imagenet import reader

    fields = network.data
    try:
        if network.info.streamed:
            stored = reader.ImageNet(
                fields.source,
                fields.dir,
                batch_size=BATCH_SIZE,
                image_size=network.info.shape[0],
                max_unreadable=fields.max_unreadable,
            )
            size = min(count or stored.test_size, stored.test_size)

            def readable():
                left = size
                for batch in stored.test_batches():
                    whole = np.flatnonzero(batch["mask"])[:left]
                    if len(whole):
                        yield batch["images"][whole], batch["labels"][whole]
                    left -= len(whole)
                    if not left:
                        return

            return size, readable()
        dataset = load.load(fields.name, fields.source, fields.dir)
    except UserError as error:
        raise UserError(f"{error} (--config.data.dir=FOLDER names it here; --random-images needs none.)") from error
    images, labels = (array[: count or None] for array in (dataset.test_images, dataset.test_labels))
    starts = range(0, len(images), BATCH_SIZE)
    return len(images), ((images[i : i + BATCH_SIZE], labels[i : i + BATCH_SIZE]) for i in starts)


def _random_pixels(network, count: int):
    """Random images instead, 1000 where `count` is 0."""
    import numpy as np

    rng = np.random.default_rng(0)
    count = count or 1000
    sizes = [min(BATCH_SIZE, count - first) for first in range(0, count, BATCH_SIZE)]
    return count, ((rng.integers(0, 256, (size, *network.info.shape)).astype(np.uint8), None) for size in sizes)


if __name__ == "__main__":
    cli(main)
