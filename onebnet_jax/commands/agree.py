"""Proves that a converted file gives the trained network's answers: python -m onebnet_jax.agree model.tflite"""

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence

import numpy as np
from tqdm import tqdm

from onebnet_jax.commands import arguments
from onebnet_jax.data import load as data
from onebnet_jax.data.imagenet import reader as imagenet
from onebnet_jax.data.imagenet.sources import Share
from onebnet_jax.errors import UserError, cli
from onebnet_jax.export import agreement_text, card, fold, source
from onebnet_jax.export.source import Source
from onebnet_jax.training import run as train

BATCH_SIZE = 16  # what all units compute for a batch is in memory
PARITY_IMAGES = 4

PixelBatch = tuple[np.ndarray, np.ndarray | None]  # uint8 [N, H, W, C]; labels int [N], or None


def main(argv: list[str]) -> None:
    """Parses the command line, compares, prints the report; exits with 1 if a difference is not explained."""
    parser = argparse.ArgumentParser(prog="python -m onebnet_jax.agree", description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "model", type=arguments.path, help="a .tflite file made by onebnet_jax.convert, its card beside it"
    )
    parser.add_argument("--images", type=int, default=1000, help="how many test images (default 1000; 0 for all)")
    parser.add_argument("--random-images", action="store_true", help="random pixels instead of test images")
    parser.add_argument("--workdir", type=arguments.path, help="folder of the run, if it is no longer where it was")
    parser.add_argument("--report", type=arguments.path, metavar="FILE.json", help="write the report as JSON too")
    parser.epilog = "--config.data.dir=FOLDER, and other fields of data: where the test images are now."
    args, overrides = parser.parse_known_args(argv)
    if args.images < 0:
        raise UserError(f"--images={args.images} must be 0 or more.")
    if args.random_images and overrides:
        raise UserError(f"{overrides[0]!r} has no place beside --random-images.")
    if args.report is not None:
        card.check_writable(args.report, ".json", "conversion_difference", "a report of this command")
    tflite, facts = card.read(args.model)
    if args.workdir:
        if "workdir" not in facts["source"]:
            raise UserError(f"--workdir has no place here: {args.model} was made from an untrained network.")
        facts["source"]["workdir"] = str(args.workdir)
    network = with_data(source.from_card(facts), overrides)
    if args.random_images:
        count, pixels = random_pixels(network, args.images)
    else:
        count, pixels = stored_pixels(network, args.images)
    with tqdm(total=count, unit="image", desc="JAX, Keras, LCE", mininterval=1.0) as bar:
        report, parity = compare(network, facts, tflite, pixels, bar.update)
    for note in network.notes:
        print(f"note: {note}")
    print(agreement_text.describe(report, parity, f"{args.model} against {network.title}"))
    if args.report is not None:
        content = {**dataclasses.asdict(report), "parity": [dataclasses.asdict(unit) for unit in parity]}
        card.save({args.report: card.to_json(content)})
    if not (report.explained and all(unit.explained for unit in parity)):
        sys.exit(1)


def compare(network: Source, facts: dict, tflite: bytes, pixels: Iterator[PixelBatch], advance=lambda count: None):
    """The (`agreement.Report`, list of `unit_parity.UnitParity`) of a file with its card.

    Args:
      network, facts, tflite: what the file was made from, its card, and the file.
      pixels: one batch or more.
      advance: is told after each batch how many images it had.
    """
    info = network.info
    normalization = (info.mean, info.std) if facts["raw_input"] else None
    plan = fold.deployment_plan(
        network.structure, network.binarization, network.variables, info.shape, facts["folded"], normalization
    )
    first = next(pixels, None)  # before TensorFlow, which takes seconds to import
    if first is None:
        raise UserError("There is no test image that can be read.")
    from onebnet_jax.export import agreement, unit_parity

    def batches():
        for batch, labels in itertools.chain([first], pixels):
            images = source.normalize(batch, info)
            yield images, batch if facts["raw_input"] else images, labels
            advance(len(batch))

    trained = network.structure, network.binarization, network.variables
    parity = unit_parity.compare_units(*trained, plan, source.normalize(first[0][:PARITY_IMAGES], info))
    return agreement.compare(*trained, plan, tflite, batches()), parity


def with_data(network: Source, overrides: Sequence[str]) -> Source:
    """The network with overrides of where its test images are, as an evaluation takes them.

    Raises UserError for overrides of anything else, and for images unlike those of training.
    """
    moved = dataclasses.replace(network, config=train.with_data(network.config, overrides))
    if moved.info.shape != network.info.shape:
        raise UserError(f"The file takes images of {network.info.shape}, not of {moved.info.shape}.")
    return moved


def stored_pixels(network: Source, count: int) -> tuple[int, Iterator[PixelBatch]]:
    """How many test images there are, of at most `count` (0 for all), and these in batches.

    Raises UserError where the images are missing.
    """
    fields = network.config.data
    try:
        dataset = data.open(
            fields.name,
            fields.source,
            fields.dir,
            image_size=fields.image_size,
            max_unreadable=fields.max_unreadable,
        )
    except UserError as error:
        raise UserError(f"{error} (--config.data.dir=FOLDER names it here; --random-images needs none.)") from error
    if dataset.info.streamed:
        size = min(count or dataset.test_size, dataset.test_size)
        return size, _first_of(dataset.test_batches(Share(BATCH_SIZE)), size)
    images, labels = (array[: count or None] for array in (dataset.test_images, dataset.test_labels))
    starts = range(0, len(images), BATCH_SIZE)
    return len(images), ((images[i : i + BATCH_SIZE], labels[i : i + BATCH_SIZE]) for i in starts)


def random_pixels(network: Source, count: int) -> tuple[int, Iterator[PixelBatch]]:
    """Random images instead, 1000 where `count` is 0."""
    rng = np.random.default_rng(0)
    count = count or 1000
    sizes = [min(BATCH_SIZE, count - first) for first in range(0, count, BATCH_SIZE)]
    return count, ((rng.integers(0, 256, (size, *network.info.shape)).astype(np.uint8), None) for size in sizes)


def _first_of(batches: Iterator[imagenet.Batch], count: int) -> Iterator[PixelBatch]:
    """The first `count` images of ImageNet that can be decoded."""
    for batch in batches:
        whole = np.flatnonzero(batch["mask"])[:count]
        if len(whole):
            yield batch["images"][whole], batch["labels"][whole]
        count -= len(whole)
        if not count:
            return


if __name__ == "__main__":
    cli(main)
