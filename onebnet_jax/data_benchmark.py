"""How fast ImageNet's input is, and whether it keeps up with the training step.

    python -m onebnet_jax.data_benchmark --dir=DIR --step-images-per-second=2000

Reads, decodes and augments training images as a run does, with nothing to use them. What the step takes is printed by
`python -m onebnet_jax.train_benchmark CONFIG`.
"""

import argparse
import io
import itertools
import os
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from onebnet_jax import imagenet
from onebnet_jax.errors import cli

WARM_UP = 4  # batches, so that every buffer is full when the clock starts
RANGES = {
    "batch_size": (1, 2**16),
    "image_size": (1, 1024),
    "batches": (1, 10**6),
    "threads": (0, 1024),
    "step_images_per_second": (0.0, 1e9),
}
DISTINCT = 32  # generated images; more files are links to them


def generated_jpeg(seed: int) -> bytes:
    """A JPEG of ImageNet's usual size, 500x375 and about 110 kB, with structure at all scales."""
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


def generate(folder: Path, count: int) -> float:
    """Writes `count` training images and one for validation, as folders; returns their mean size in bytes."""
    for split in ("train", "val"):
        (folder / split / "class").mkdir(parents=True)
    contents = [generated_jpeg(seed) for seed in range(min(count, DISTINCT))]
    for index in range(count):
        path = folder / "train" / "class" / f"{index:06}.JPEG"
        if index < DISTINCT:
            path.write_bytes(contents[index])
        else:
            path.hardlink_to(path.with_name(f"{index % DISTINCT:06}.JPEG"))
    (folder / "val" / "class" / "0.JPEG").write_bytes(contents[0])
    return float(np.mean([len(content) for content in contents]))


def measure(reader: imagenet.ImageNet, batches: int) -> tuple[float, float]:
    """Images/s of the whole input, and images per second of processor time, which is what one core would give."""
    stream = itertools.chain.from_iterable(map(reader.train_batches, itertools.count()))
    for _ in itertools.islice(stream, WARM_UP):
        pass
    begun, cpu_begun = time.perf_counter(), _cpu_seconds()
    images = 0
    for batch in itertools.islice(stream, batches):
        images += int(batch["mask"].sum())
    return images / (time.perf_counter() - begun), images / (_cpu_seconds() - cpu_begun)


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def verdict(input_rate: float, per_core: float, step_rate: float) -> str:
    """Says which of the two limits training, and what would change that."""
    needed = f"{step_rate / per_core:.1f} cores at {per_core:.0f} images/s each would keep up"
    if input_rate < step_rate:
        return f"the input is the limit: the step takes {step_rate:.0f} images/s; {needed}"
    return f"the step is the limit: it takes {step_rate:.0f} images/s; {needed}"


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m onebnet_jax.data_benchmark", description=__doc__.split("\n")[0], allow_abbrev=False
    )
    parser.add_argument("--source", default="auto", help="as data.source")
    parser.add_argument("--dir", default="", help="as data.dir")
    parser.add_argument("--generated", action="store_true", help="on JPEGs made on the spot instead")
    parser.add_argument("--batch-size", type=int, default=128, help="of this process (default: 128)")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--batches", type=int, default=20, help="how many are timed (default: 20)")
    parser.add_argument("--threads", type=int, default=0, help="default: one per core")
    parser.add_argument("--step-images-per-second", type=float, default=0.0, help="what the training step takes")
    args = parser.parse_args(argv)
    for name, (low, high) in RANGES.items():
        if not low <= getattr(args, name) <= high:
            parser.error(f"--{name.replace('_', '-')} must lie between {low} and {high}")
    with tempfile.TemporaryDirectory() as folder:
        fields = dict(batch_size=args.batch_size, image_size=args.image_size, threads=args.threads)
        if args.generated:
            size = generate(Path(folder), (WARM_UP + args.batches + 4) * args.batch_size)
            reader = imagenet.ImageNet("files", folder, **fields)
            print(f"generated JPEGs of 500x375, {size / 1000:.0f} kB on average")
        else:
            reader = imagenet.ImageNet(args.source, args.dir, **fields)
            print(reader.source)
        rate, per_core = measure(reader, args.batches)
    threads = args.threads or len(os.sched_getaffinity(0))
    print(f"input alone: {rate:.0f} images/s with {threads} threads; {per_core:.0f} images/s per core")
    if args.step_images_per_second:
        print(verdict(rate, per_core, args.step_images_per_second))


if __name__ == "__main__":
    cli(main)
