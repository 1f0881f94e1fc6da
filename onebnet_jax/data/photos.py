"""Image files as arrays, by Pillow on all cores."""

import contextlib
import functools
import hashlib
import os
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from onebnet_jax.surroundings import in_short

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # by content, not by suffix
RESIZES = ("crop", "pad", "stretch")


def decode(path: str | Path, size: tuple[int, int], channels: int, resize: str = "crop", zoom: float = 1.0):
    """One image file as uint8 [H, W, C], C 1 (grey) or 3 (RGB), upright by its EXIF data, on white if transparent.

    resize: "crop" scales the image until it covers `zoom` times (H, W) and takes the centre, "pad" until it fits and
    surrounds it with black, "stretch" does not keep its shape. Of an animation the first picture is taken. Raises
    OSError, ValueError, SyntaxError or Image.DecompressionBombError for a file that is no such image.
    """
    from PIL import Image, ImageOps

    height, width = size
    # Pillow warns of large images and odd metadata; what matters raises.
    with warnings.catch_warnings(action="ignore"), Image.open(path, formats=FORMATS) as image:
        whole = image.size
        image.draft(None, (2 * max(size), 2 * max(size)))  # JPEG decodes to a fraction, never below this, in less time
        if max(whole) / min(whole) > 200:
            raise ValueError(f"{whole[0]}x{whole[1]} pixels is no photograph")
        image.load()
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits, of which Pillow would clip the upper ones
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("L" if channels == 1 else "RGB")
        if resize == "crop":
            scale = max(zoom * height / image.height, zoom * width / image.width)
            covering = max(round(image.width * scale), width), max(round(image.height * scale), height)
            left, top = (covering[0] - width) // 2, (covering[1] - height) // 2
            image = image.resize(covering, Image.BILINEAR).crop((left, top, left + width, top + height))
        elif resize == "pad":
            image = ImageOps.pad(image, (width, height), Image.BILINEAR)
        else:
            image = image.resize((width, height), Image.BILINEAR)
    return np.asarray(image).reshape(height, width, channels)


def turn(image: np.ndarray, angle: float, factor: float) -> np.ndarray:
    """As `augment.turn`, uint8 [H, W, C] -> uint8 [H, W, C], but without its blend into black at the edge."""
    from PIL import Image

    turned = np.stack(
        [Image.fromarray(channel).rotate(angle, Image.BILINEAR) for channel in np.moveaxis(image, 2, 0)], 2
    )
    return np.clip(np.round(factor * turned.astype(np.float32)), 0, 255).astype(np.uint8)


@functools.lru_cache(maxsize=3)  # one a split: a config is checked, and its images are opened, more than once
def decode_all(files: tuple[tuple, ...], image_size: int, channels: int, resize: str):
    """uint8 [N, S, S, C] of (path, what tells whether it has changed), and path -> reason of those that failed."""
    images, faults = np.zeros((len(files), image_size, image_size, channels), np.uint8), {}

    def fill(index: int) -> None:
        path = files[index][0]
        try:
            images[index] = decode(path, (image_size, image_size), channels, resize)
        except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
            faults[path] = in_short(error)

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        style = dict(desc="decoding", unit="img", mininterval=1.0, total=len(files), file=sys.stderr, delay=1)
        for _ in tqdm(pool.map(fill, range(len(files))), **style):
            pass
    images.flags.writeable = False
    return images, faults


def state(path: str) -> tuple:
    """A path, and what tells whether its file has changed; its size in bytes comes last."""
    try:
        status = os.stat(path)
    except OSError:  # a link to nowhere, which decoding names
        return path, 0
    return path, status.st_ino, status.st_mtime_ns, status.st_size


def fingerprint(paths: Iterable[str], directory: str) -> dict:
    """Which files these are: their "number", and a "sha256" over their names and sizes, wherever the directory lies."""
    files = sorted(f"{os.path.relpath(path, directory)}\0{state(path)[-1]}\n" for path in paths)
    text = unicodedata.normalize("NFC", "".join(files)).encode(errors="surrogateescape")
    return {"number": len(files), "sha256": hashlib.sha256(text).hexdigest()}


def channels_of(paths: Iterable[str]) -> int:
    """1 where every image is stored as grey, by the files' headers."""
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as image:
                if not image.mode.startswith(("1", "L", "I")):
                    return 3
        except Exception:  # `decode_all` says so
            continue
    return 1


def statistics(images: Iterable[np.ndarray]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 [H, W, C] each, scaled to 0..1, to four digits."""
    counts = None
    for image in images:
        pixels = image.reshape(-1, image.shape[-1])
        here = np.stack([np.bincount(channel, minlength=256) for channel in pixels.T])
        counts = here if counts is None else counts + here
    shares, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = shares @ values
    std = np.sqrt(np.sum(shares * (values - mean[:, None]) ** 2, 1))
    return tuple(np.round(mean, 4).tolist()), tuple(np.maximum(np.round(std, 4), 1e-3).tolist())


def memory() -> int:
    """Bytes that a process may have, by the machine and the limit of its control group."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no control group, or no limit
        most = min(most, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return most
