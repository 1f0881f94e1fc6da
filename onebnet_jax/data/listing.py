"""The image files in a folder, by class."""

import dataclasses
import operator
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from onebnet_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
ANNOTATIONS = "val_annotations.txt"  # Tiny ImageNet's labels of its validation images; its test images have none
_SYSTEM = ("@eaDir", "__MACOSX")  # folders that network storage and macOS make beside the images


@dataclasses.dataclass
class Listing:
    """The image files of one split by class, and what was passed over."""

    root: str
    classes: dict[str, list[str]]  # name -> paths, sorted
    hidden: int = 0
    others: list[str] = dataclasses.field(default_factory=list)  # what is no image by its name


def entries(folder: str) -> list[os.DirEntry]:
    """What is in a folder, hidden too, by name."""
    return sorted(os.scandir(folder), key=operator.attrgetter("name"))


def list_classes(root: str) -> Listing:
    """The images of ROOT/CLASS/..., hidden files and folders left out. Raises UserError for a class without any.

    Or of ROOT/images/ by ROOT/val_annotations.txt, as Tiny ImageNet is unpacked.
    """
    listing = Listing(root, {})
    if os.path.isfile(table := os.path.join(root, ANNOTATIONS)):
        return _annotated(table, listing)
    for entry in entries(root):
        if is_hidden(entry.name):
            listing.hidden += 1
        elif entry.is_dir():
            paths = listing.classes.setdefault(unicodedata.normalize("NFC", entry.name), [])
            paths += _images(entry.path, listing)
        else:
            listing.others.append(entry.path)
    if listing.classes and not any(listing.classes.values()):
        raise UserError(f"{root} holds no image; what can be read ends in {', '.join(SUFFIXES)}.")
    for name, paths in listing.classes.items():
        if not paths:
            raise UserError(f"The class folder {os.path.join(root, name)} holds no image; fill or remove it.")
    return listing


def _annotated(table: str, listing: Listing) -> Listing:
    """The same by a file of lines "IMAGE CLASS ...", the images in the folder images beside it."""
    with open(table, encoding="utf-8", errors="surrogateescape") as file:
        pairs = [line.split()[:2] for line in file if line.strip()]
    if wrong := [pair for pair in pairs if len(pair) < 2]:
        raise UserError(f"{table} has a line {wrong[0]} without a class; get it again.")
    classes = {os.path.join(listing.root, "images", image): name for image, name in pairs}
    listing.others.append(table)
    for path in _images(os.path.join(listing.root, "images"), listing):
        if path in classes:
            listing.classes.setdefault(classes[path], []).append(path)
        else:
            listing.others.append(path)
    listing.classes = dict(sorted(listing.classes.items()))
    if lost := sorted(classes.keys() - {path for paths in listing.classes.values() for path in paths}):
        raise UserError(f"{table} names {len(lost)} images that are not there, such as {lost[0]}; get them again.")
    return listing


def images_in(folder: Path, listing: Listing | None = None) -> list[Path]:
    """All images below a folder, sorted; `listing` gets what was passed over. Raises UserError where there are none."""
    if not (found := _images(str(folder), listing or Listing(str(folder), {}))):
        raise UserError(f"{folder} holds no image; what can be read ends in {', '.join(SUFFIXES)}.")
    return [Path(path) for path in found]


def left_out(listings: Iterable[Listing]) -> list[str]:
    """How many files and folders were passed over, in words."""
    hidden, others = sum(listing.hidden for listing in listings), [path for each in listings for path in each.others]
    words = [f"left out: {hidden} hidden"] * bool(hidden)
    return words + ([f"left out: {len(others)} other files or folders, such as {min(others)}"] if others else [])


def _images(folder: str, listing: Listing) -> list[str]:
    """All images below a folder, sorted; each folder once, however many links lead to it."""
    paths, entered = [], set()
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in entered:
            folders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        visible = [name for name in folders if not is_hidden(name)]
        listing.hidden += len(folders) - len(visible)
        folders[:] = sorted(visible)
        for name in files:
            path = os.path.join(place, name)
            if is_hidden(name):
                listing.hidden += 1
            elif name.lower().endswith(SUFFIXES):
                paths.append(path)
            else:
                listing.others.append(path)
    return sorted(paths)


def _raise(error: OSError) -> None:  # which `os.walk` does not do by itself with a folder that cannot be read
    raise error


def is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM
