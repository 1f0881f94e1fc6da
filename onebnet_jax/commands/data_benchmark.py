"""How fast ImageNet's input is, and whether it keeps up with the training step.

Reads, decodes and augments training images as a run does; train_benchmark prints what the step takes. Without ImageNet,
--generate first makes JPEGs; few of them make many epochs, whose beginnings cost time.
"""

import io
import itertools
import os
import time
from pathlib import Path

import numpy as np
from PIL import Image

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli

EXAMPLES = """examples:
  onebnet data_benchmark --dir=DIR --step-images-per-second=2000
  onebnet data_benchmark --dir=NEW_DIR --generate=4096
"""
WARM_UP = 4  # batches, so that every buffer is full when the clock starts
OPTIONS = {  # default, lowest and highest value, help
    "--batch-size": (128, 1, 2**16, "of this process"),
    "--image-size": (224, 1, 1024, "height and width"),
    "--batches": (20, 1, 10**6, "how many are timed"),
    "--threads": (0, 0, 1024, "0: one per core"),
    "--step-images-per-second": (0.0, 0.0, 1e9, "what the training step takes"),
    "--generate": (0, 0, 10**6, "first make so many JPEGs in --dir"),
}
DISTINCT = 32  # generated images; more files are links to them


def generated_jpeg(seed: int) -> bytes:
    """A JPEG of ImageNet's usual size, 500x375 and about 110 kB, with structure at all scales."""
    rng = np.random.default_rng(seed)
    image = np.full((375, 500, 3), 128.0, np.float32)
    for cells, channel in itertools.product((4, 12, 36, 108), range(3)):
        noise = Image.fromarray(rng.normal(size=(cells * 3 // 4, cells)).astype(np.float32))
        image[..., channel] += 60 / np.sqrt(cells / 4) * np.asarray(noise.resize((500, 375), Image.BICUBIC))
    image += rng.normal(size=(375, 500, 1)) * 9
    file = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=94)
    return file.getvalue()


def generate(folder: Path, count: int) -> None:
    """Writes `count` training images of one class, and one for validation, to a new folder; raises UserError if not."""
    train, val = (folder / split / "n01440764" for split in ("train", "val"))
    try:
        if folder.exists() and any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; leave out --generate to read it, or choose another --dir.")
        train.mkdir(parents=True)
        val.mkdir(parents=True)
        for index in range(count):
            path = train / f"{index:06}.JPEG"
            if index < DISTINCT:
                path.write_bytes(generated_jpeg(index))
            else:
                path.hardlink_to(train / f"{index % DISTINCT:06}.JPEG")
        (val / "0.JPEG").write_bytes(generated_jpeg(0))
    except OSError as error:
        raise UserError(f"No images can be written to {folder}: {error.strerror}.") from error


def measure(dataset, batch_size: int, batches: int) -> tuple[float, float]:
    """Images/s of a streamed data set, and images per second of processor time: what one core would give."""
    from onebnet_jax.data.imagenet.reader import Share

    epochs = (dataset.train_batches(Share(batch_size), 0, epoch) for epoch in itertools.count())
    stream = itertools.chain.from_iterable(epochs)
    for _ in itertools.islice(stream, WARM_UP):
        pass
    begun, cpu_begun = time.perf_counter(), time.process_time()
    images = sum(int(batch["mask"].sum()) for batch in itertools.islice(stream, batches))
    return images / (time.perf_counter() - begun), images / (time.process_time() - cpu_begun)


def verdict(input_rate: float, per_core: float, step_rate: float) -> str:
    """Says which of the two limits training, and what would change that."""
    limit = "input" if input_rate < step_rate else "step"
    needed = f"{step_rate / per_core:.1f} cores at {per_core:.0f} images/s each would keep up"
    return f"the {limit} is the limit: the step takes {step_rate:.0f} images/s; {needed}"


def main(argv: list[str]) -> None:
    parser = arguments.parser("data_benchmark", __doc__, EXAMPLES)
    parser.add_argument("--dir", default="", help="as data.dir")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--source", default="auto", help="as data.source")
    for name, (default, _, _, text) in OPTIONS.items():
        place = group if name == "--generate" else parser
        place.add_argument(name, type=type(default), default=default, metavar="N", help=f"{text} (default: {default})")
    args = parser.parse_args(argv)
    for name, (_, low, high, _) in OPTIONS.items():
        if not low <= getattr(args, name[2:].replace("-", "_")) <= high:
            parser.error(f"{name} must lie between {low} and {high}")
    from onebnet_jax.data import load

    if args.generate:
        if not args.dir:
            parser.error("--generate needs --dir, a new folder for the images")
        generate(arguments.path(args.dir), args.generate)
    dataset = load.open("imagenet2012", args.source, args.dir, image_size=args.image_size, threads=args.threads)
    print(dataset.source)
    rate, per_core = measure(dataset, args.batch_size, args.batches)
    threads = args.threads or len(os.sched_getaffinity(0))
    print(f"input alone: {rate:.0f} images/s with {threads} threads; {per_core:.0f} images/s per core")
    if args.step_images_per_second:
        print(verdict(rate, per_core, args.step_images_per_second))


if __name__ == "__main__":
    cli(main)
