"""How fast ImageNet's input is, and whether it keeps up with the training step.

    python -m onebnet_jax.data_benchmark --dir=DIR --step-images-per-second=2000
    python -m onebnet_jax.data_benchmark --dir=NEW_DIR --generate=4096

Reads, decodes and augments training images as a run does. What the step takes is printed by `python -m
onebnet_jax.train_benchmark CONFIG`. Without ImageNet, the second command first makes JPEGs, which training takes as
well; where they are few, beginning an epoch again and again costs time.
"""

import io
import itertools
import os
import time
from pathlib import Path

from onebnet_jax.commands import arguments
from onebnet_jax.errors import UserError, cli

WARM_UP = 4  # batches, so that every buffer is full when the clock starts
RANGES = {"batch_size": (1, 2**16), "image_size": (1, 1024), "batches": (1, 10**6)}
RANGES |= {"threads": (0, 1024), "step_images_per_second": (0.0, 1e9), "generate": (0, 10**6)}
DISTINCT = 32  # generated images; more files are links to them


def generated_jpeg(seed: int) -> bytes:
    """A JPEG of ImageNet's usual size, 500x375 and about 110 kB, with structure at all scales."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(seed)
    image = np.full((375, 500, 3), 128.0, np.float32)
    for cells in (4, 12, 36, 108):
        for channel in range(3):
            noise = Image.fromarray(rng.normal(size=(cells * 3 // 4, cells)).astype(np.float32))
            image[..., channel] += 60 / np.sqrt(cells / 4) * np.asarray(noise.resize((500, 375), Image.BICUBIC))
    image += rng.normal(size=(375, 500, 1)) * 9
    file = io.BytesIO()
    Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=94)
    return file.getvalue()


def generate(folder: Path, count: int) -> None:
    """Writes `count` training images of one class, and one for validation. Raises UserError if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise UserError(f"{folder} is not empty; leave out --generate to read it, or choose another --dir.")
        train, val = (folder / split / "class" for split in ("train", "val"))
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
    """Images/s of a streamed data set, and per second of processor time: what one core would give."""
    from onebnet_jax.data.imagenet.sources import Share

    epochs = (dataset.train_batches(Share(batch_size), 0, epoch) for epoch in itertools.count())
    stream = itertools.chain.from_iterable(epochs)
    for _ in itertools.islice(stream, WARM_UP):
        pass
    begun, cpu_begun = time.perf_counter(), time.process_time()
    images = sum(int(batch["mask"].sum()) for batch in itertools.islice(stream, batches))
    return images / (time.perf_counter() - begun), images / (time.process_time() - cpu_begun)


def verdict(input_rate: float, per_core: float, step_rate: float) -> str:
    """Says which of the two limits training, and what would change that."""
    limit = "input is the limit: the step" if input_rate < step_rate else "step is the limit: it"
    needed = f"{step_rate / per_core:.1f} cores at {per_core:.0f} images/s each would keep up"
    return f"the {limit} takes {step_rate:.0f} images/s; {needed}"


def main(argv: list[str]) -> None:
    parser = arguments.parser("data_benchmark", __doc__)
    parser.add_argument("--dir", default="", help="as data.dir")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--source", default="auto", help="as data.source")
    group.add_argument("--generate", type=int, default=0, metavar="N", help="first make N JPEGs in --dir")
    parser.add_argument("--batch-size", type=int, default=128, help="of this process (default: 128)")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batches", type=int, default=20, help="how many are timed (default: 20)")
    parser.add_argument("--threads", type=int, default=0, help="default: one per core")
    parser.add_argument("--step-images-per-second", type=float, default=0.0, help="what the training step takes")
    args = parser.parse_args(argv)
    for name, (low, high) in RANGES.items():
        if not low <= getattr(args, name) <= high:
            parser.error(f"--{name.replace('_', '-')} must lie between {low} and {high}")
    if args.generate and not args.dir:
        parser.error("--generate needs --dir, a new folder for the images")
    if args.generate:
        generate(arguments.path(args.dir), args.generate)
    from onebnet_jax.data import load

    dataset = load.open("imagenet2012", args.source, args.dir, image_size=args.image_size, threads=args.threads)
    print(dataset.source)
    rate, per_core = measure(dataset, args.batch_size, args.batches)
    threads = args.threads or len(os.sched_getaffinity(0))
    print(f"input alone: {rate:.0f} images/s with {threads} threads; {per_core:.0f} images/s per core")
    if args.step_images_per_second:
        print(verdict(rate, per_core, args.step_images_per_second))


if __name__ == "__main__":
    cli(main)
