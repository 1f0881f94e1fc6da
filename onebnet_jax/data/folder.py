"""A folder of images as a data set: each subfolder is a class. Decoded into memory by Pillow, on all cores."""

import contextlib
import dataclasses
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

from onebnet_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")  # by content, not by suffix
RESIZES = ("crop", "pad", "stretch")
HELD_OUT = 0.2  # of each class for testing, where the folder has no split of its own
_SYSTEM = ("@eaDir", "__MACOSX")  # folders that network storage and macOS make beside the images
_SPLITS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
_SHOWN = 12  # names in a sentence


@dataclasses.dataclass
class Listing:
    """The image files of one split by class, and what was passed over."""

    root: str
    classes: dict[str, list[str]]  # name -> paths, sorted
    hidden: int = 0
    others: list[str] = dataclasses.field(default_factory=list)  # files that are no images by their names


def decode(path: str | Path, size: tuple[int, int], channels: int, resize: str = "crop", zoom: float = 1.0):
    """One image file as uint8 [H, W, C], C 1 (grey) or 3 (RGB), upright by its EXIF data, on white if transparent.

    resize: "crop" scales the image until it covers `zoom` times (H, W) and takes the centre, "pad" until it fits and
    surrounds it with black, "stretch" does not keep its shape. Of an animation the first picture is taken. Raises
    OSError, ValueError, SyntaxError or Image.DecompressionBombError for a file that is no such image.
    """
    from PIL import Image, ImageOps

    height, width = size
    with warnings.catch_warnings(), Image.open(path, formats=FORMATS) as image:
        warnings.simplefilter("ignore")  # large images, odd metadata: what matters raises
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


def list_splits(directory: str) -> dict[str, Listing]:
    """What DIR holds as "train", "test" and perhaps "validation".

    DIR/train/CLASS/... beside DIR/val or DIR/test (of both, val is for validation), or DIR/CLASS/... alone, of which
    every class gives the share `HELD_OUT` for testing: always the same files, by a hash of their names. Files may lie
    deeper, also behind symbolic links. Raises UserError for less than two classes, a class without images, and a class
    that only some of the splits have.
    """
    named = {
        split: next(filter(os.path.isdir, (os.path.join(directory, name) for name in names)), None)
        for split, names in _SPLITS.items()
    }
    if named["train"] and (named["validation"] or named["test"]):
        if not named["test"]:
            named["test"], named["validation"] = named["validation"], None
        found = {split: _list(root) for split, root in named.items() if root}
        for listing in found.values():
            if differing := sorted(found["train"].classes.keys() ^ listing.classes.keys()):
                one, other = found["train"].root, listing.root
                has, lacks = (one, other) if differing[0] in found["train"].classes else (other, one)
                raise UserError(f"{has} has a class folder {differing[0]!r} and {lacks} has none; add or remove it.")
        return found
    listing = _list(directory)
    train, test = (dataclasses.replace(listing, classes={}) for _ in range(2))
    test.hidden, test.others = 0, []
    for name, paths in listing.classes.items():
        if len(paths) < 2:
            raise UserError(f"{directory}/{name} holds one image, but one is for training and another for testing.")
        held = set(held_out([os.path.relpath(path, directory) for path in paths], HELD_OUT))
        train.classes[name] = [path for index, path in enumerate(paths) if index not in held]
        test.classes[name] = [path for index, path in enumerate(paths) if index in held]
    return {"train": train, "test": test}


def held_out(names: Iterable[str], share: float, salt: str = "") -> list[int]:
    """The places of a share of the names, one at least and not all: those whose hashes come first."""
    hashes = [hashlib.sha256(f"{salt}{name}".encode(errors="surrogateescape")).digest() for name in names]
    count = min(max(round(share * len(hashes)), 1), len(hashes) - 1)
    return sorted(sorted(range(len(hashes)), key=hashes.__getitem__)[:count])


def _list(root: str) -> Listing:
    listing = Listing(root, {})
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if _hidden(entry.name):
            listing.hidden += 1
        elif entry.is_dir():
            paths = listing.classes.setdefault(unicodedata.normalize("NFC", entry.name), [])
            paths += _images(entry.path, listing)
        else:
            listing.others.append(entry.path)
    if len(listing.classes) < 2:
        found = f"only the class folder {min(listing.classes)!r}" if listing.classes else "no class folders"
        layout = "DIR/train/CLASS/* and DIR/val/CLASS/*, or DIR/CLASS/*"
        raise UserError(f"{root} has {found}, where two classes or more are needed; data.dir=DIR must hold {layout}.")
    if not any(listing.classes.values()):
        raise UserError(f"{root} holds no image; what can be read ends in {', '.join(SUFFIXES)}.")
    for name, paths in listing.classes.items():
        if not paths:
            raise UserError(f"The class folder {os.path.join(root, name)} holds no image; fill or remove it.")
    return listing


def _images(folder: str, listing: Listing) -> list[str]:
    """All images below a folder, sorted; each folder once, however many links lead to it."""
    paths, entered = [], set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        visible = [name for name in folders if not _hidden(name)]
        listing.hidden += len(folders) - len(visible)
        folders[:] = sorted(visible)
        for name in files:
            path = os.path.join(place, name)
            if _hidden(name):
                listing.hidden += 1
            elif name.lower().endswith(SUFFIXES):
                paths.append(path)
            else:
                listing.others.append(path)
    return sorted(paths)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM


def read(
    directory: str,
    image_size: int,
    resize: str = "crop",
    classes: tuple[str, ...] = (),
    channels: int = 0,
    max_unreadable: int = 10,
) -> tuple[tuple[str, ...], dict[str, tuple[np.ndarray, np.ndarray]], str]:
    """Classes in the order of the labels, uint8 [N, S, S, C] and int32 [N] of each split, and all this in words.

    `classes` are those of a run, whose labels the images then have by name, and () stands for the sorted names found;
    0 channels are 1 if all images are grey and 3 if not. At most `max_unreadable` files may be undecodable. Raises
    UserError as `list_splits`, for a class that is none of `classes`, and for more than fits into memory.
    """
    splits = list_splits(directory)
    found = tuple(splits["train"].classes)
    classes = classes or found
    if not set(found) <= set(classes):
        raise UserError(f"{directory} has the classes {_some(found)}, where the run's are {_some(classes)}.")
    files = {
        split: [(path, classes.index(name)) for name, paths in listing.classes.items() for path in paths]
        for split, listing in splits.items()
    }
    channels = channels or _channels(path for listed in files.values() for path, _ in listed)
    total = sum(map(len, files.values())) * image_size**2 * channels
    if 2 * total > (free := _free_memory()):  # once here and once where they are trained on
        sizes = f"{total / 2**30:.1f} GiB, twice, and {free / 2**30:.1f} GiB are free"
        raise UserError(f"The images of {directory} take {sizes}; lower data.image_size={image_size}, or use less.")
    arrays, broken, identities = {}, {}, {}
    for split, listed in files.items():
        stated = tuple((path, *_state(path)) for path, _ in listed)
        identities[split] = {each[1:] for each in stated}
        images, faults = _decoded(stated, image_size, channels, resize)
        kept = np.array([path not in faults for path, _ in listed])
        labels = np.array([label for _, label in listed], np.int32)[kept]
        for name in found:
            if not np.any(labels == classes.index(name)):
                first = next(iter(splits[split].classes[name]))
                raise UserError(
                    f"None of the images of {name!r} for {split} in {directory} can be decoded, as {first}."
                )
        arrays[split], broken = (images[kept] if faults else images, labels), broken | faults
    if len(broken) > max_unreadable:
        first = min(broken)
        raise UserError(
            f"{len(broken)} images of {directory} cannot be decoded, such as {first} ({broken[first]}), where "
            f"{max_unreadable} may be left out; get them again, or allow more by data.max_unreadable."
        )
    sizes = ", ".join(f"{len(labels)} for {split}" for split, (_, labels) in arrays.items())
    words = [f"the folder {directory}: {len(found)} classes ({_some(found)}), images {sizes}"]
    if splits["train"].root == splits["test"].root:
        words.append(f"those for test are {HELD_OUT:.0%} of each class, as there is no folder val or test")
    if len(found) < len(classes):
        words.append(f"no images of {_some(sorted(set(classes) - set(found)))}")
    others = [path for listing in splits.values() for path in listing.others]
    for kind, count in (
        ("hidden", sum(listing.hidden for listing in splits.values())),
        (f"of other suffixes, such as {min(others, default='')}", len(others)),
        (f"that cannot be decoded, such as {min(broken, default='')}", len(broken)),
    ):
        words += [f"left out: {count} {kind}"] if count else []
    if twice := len(identities["train"] & (identities["test"] | identities.get("validation", set()))):
        words.append(f"WARNING: {twice} files are for training and for testing, by links")
    return classes, arrays, "; ".join(words)


def statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of uint8 [N, H, W, C], scaled to 0..1, to four digits."""
    counts = np.zeros((images.shape[3], 256))
    for start in range(0, len(images), 256):
        for channel, count in enumerate(counts):
            count += np.bincount(images[start : start + 256, ..., channel].ravel(), minlength=256)
    shares, values = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = shares @ values
    std = np.sqrt(np.sum(shares * (values - mean[:, None]) ** 2, 1))
    return tuple(np.round(mean, 4).tolist()), tuple(np.maximum(np.round(std, 4), 1e-3).tolist())


def _channels(paths: Iterable[str]) -> int:
    """1 where every image is stored as grey, by the files' headers."""
    from PIL import Image

    for path in paths:
        try:
            with Image.open(path, formats=FORMATS) as image:
                if not image.mode.startswith(("1", "L", "I")):
                    return 3
        except Exception:  # `_decoded` says so
            continue
    return 1


@functools.lru_cache(maxsize=3)  # one a split: a config is checked, and its images are opened, more than once
def _decoded(files: tuple[tuple, ...], image_size: int, channels: int, resize: str):
    """uint8 [N, S, S, C] of (path, what tells whether it has changed), and path -> reason of those that failed."""
    images, faults = np.zeros((len(files), image_size, image_size, channels), np.uint8), {}

    def fill(index: int) -> None:
        path = files[index][0]
        try:
            images[index] = decode(path, (image_size, image_size), channels, resize)
        except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
            faults[path] = " ".join(f"{error or type(error).__name__}".split())[:100]

    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        style = dict(desc="decoding", unit="img", mininterval=1.0, total=len(files), file=sys.stderr, delay=1)
        for _ in tqdm(pool.map(fill, range(len(files))), **style):
            pass
    images.flags.writeable = False
    return images, faults


def _state(path: str) -> tuple[int, ...]:
    try:
        status = os.stat(path)
    except OSError:  # a link to nowhere, which decoding names
        return (hash(path),)
    return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size


def _free_memory() -> int:
    """Bytes that this process can still have, by Linux and by the limit of its control group."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    with contextlib.suppress(OSError, ValueError, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    with contextlib.suppress(OSError, ValueError):
        limit, used = (int(Path(f"/sys/fs/cgroup/memory.{name}").read_text()) for name in ("max", "current"))
        free = min(free, limit - used)
    return free


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
