"""A folder of images as a data set: each subfolder is a class."""

import dataclasses
import hashlib
import os
import unicodedata
from collections.abc import Iterable

import numpy as np

from onebnet_jax.data import formats, photos
from onebnet_jax.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".gif")
FEW = 100  # images, of which one more or less is at least a point of Top-1
HELD_OUT = 0.2  # of each class for testing, where the folder has no split of its own
_SYSTEM = ("@eaDir", "__MACOSX")  # folders that network storage and macOS make beside the images
# Names of folders, in small letters, that are for one purpose.
_SPLITS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
Files = dict[str, tuple[np.ndarray, np.ndarray]]  # split -> paths [N] and labels int32 [N]
_SHOWN = 12  # names in a sentence
ANNOTATIONS = "val_annotations.txt"  # Tiny ImageNet's labels of its validation images; its test images have none


@dataclasses.dataclass
class Listing:
    """The image files of one split by class, and what was passed over."""

    root: str
    classes: dict[str, list[str]]  # name -> paths, sorted
    hidden: int = 0
    others: list[str] = dataclasses.field(default_factory=list)  # what is no image by its name


def list_splits(directory: str) -> dict[str, Listing]:
    """What DIR holds as "train", "test" and perhaps "validation".

    DIR/train/CLASS/... beside DIR/val or DIR/test (of both, val is for validation), or DIR/CLASS/... alone, of which
    every class gives the share `HELD_OUT` for testing: always the same files, by a hash of their names. Capital letters
    do not matter in the names of splits. Files may lie deeper, also behind symbolic links. Raises UserError for less
    than two classes, a class without images, a class that only some of the splits have, and two folders for one split.
    """
    folders = [
        entry for entry in sorted(os.scandir(directory), key=_name) if entry.is_dir() and not _hidden(entry.name)
    ]
    of_splits = {name: [x.path for x in folders if x.name.lower() in names] for name, names in _SPLITS.items()}
    named = {split: paths[0] if paths else None for split, paths in of_splits.items()}
    if named["train"] and (named["validation"] or named["test"]):
        for split, paths in of_splits.items():
            if len(paths) > 1:
                raise UserError(f"{paths[0]} and {paths[1]} are both for {split}; keep one of them.")
        annotated = named["validation"] and os.path.isfile(os.path.join(named["validation"], ANNOTATIONS))
        if annotated or not named["test"]:
            named["test"], named["validation"] = named["validation"], None
        found = {split: _two_or_more(list_classes(root)) for split, root in named.items() if root}
        for listing in found.values():
            if differing := sorted(found["train"].classes.keys() ^ listing.classes.keys()):
                one, other = found["train"].root, listing.root
                has, lacks = (one, other) if differing[0] in found["train"].classes else (other, one)
                raise UserError(f"{has} has a class folder {differing[0]!r} and {lacks} has none; add or remove it.")
        roots = {listing.root for listing in found.values()}
        found["train"].others += [entry.path for entry in os.scandir(directory) if entry.path not in roots]
        return found
    if folders and len(folders) == sum(map(len, of_splits.values())):
        one = folders[0].path
        remedy = f"add train and val, or name {one} by data.dir, of which {HELD_OUT:.0%} are then for testing"
        raise UserError(f"{directory} has only {_some(x.name for x in folders)} and no class folders; {remedy}.")
    listing = _two_or_more(list_classes(directory))
    train, test = (dataclasses.replace(listing, classes={}) for _ in range(2))
    test.hidden, test.others = 0, []
    for name, paths in listing.classes.items():
        if len(paths) < 2:
            raise UserError(f"{directory}/{name} holds one image, but one is for training and another for testing.")
        held = set(held_out([os.path.relpath(path, directory) for path in paths], HELD_OUT))
        train.classes[name] = [path for index, path in enumerate(paths) if index not in held]
        test.classes[name] = [path for index, path in enumerate(paths) if index in held]
    return {"train": train, "test": test}


def held_out(names: Iterable[str], share: float) -> list[int]:
    """The places of a share of the names, one at least and not all: those whose hashes come first."""
    hashes = [hashlib.sha256(name.encode(errors="surrogateescape")).digest() for name in names]
    return sorted(sorted(range(len(hashes)), key=hashes.__getitem__)[: portion(share, len(hashes))])


def for_validation(labels: np.ndarray, share: float, seed: int) -> tuple[np.ndarray, str]:
    """Which of the training images [N] a share of each class is, chosen by the seed; and in words, for the log.

    Raises UserError where that is none, as no class has two images.
    """
    rng, held = np.random.default_rng(seed), np.zeros(len(labels), bool)
    classes, counts = np.unique(labels, return_counts=True)
    for label in classes:
        places = rng.permutation(np.flatnonzero(labels == label))
        held[places[: portion(share, len(places))]] = True
    if not held.any():
        raise UserError(f"data.validation={share} must be 0: no class has two images for training.")
    words = f"; {held.sum()} of the training images held out for validation"
    if single := np.sum(counts == 1):
        words += f", none of {single} classes, which have only one"
    if held.sum() < FEW:
        words += " (few to choose the best epoch by: --checkpoint=last evaluates and converts the last)"
    return held, words


def split(files: Files, held: np.ndarray) -> Files:
    """The same with the training files held [N] for validation."""
    train = files["train"]
    return files | {"train": tuple(x[~held] for x in train), "validation": tuple(x[held] for x in train)}


def portion(share: float, count: int) -> int:
    """How many of `count` a share of them is: one at least, and not all."""
    return min(max(round(share * count), 1), count - 1)


def list_classes(root: str) -> Listing:
    """The images of ROOT/CLASS/..., hidden files and folders left out. Raises UserError for a class without any.

    Or of ROOT/images/ by ROOT/val_annotations.txt, as Tiny ImageNet is unpacked.
    """
    listing = Listing(root, {})
    if os.path.isfile(table := os.path.join(root, ANNOTATIONS)):
        return _annotated(table, listing)
    for entry in sorted(os.scandir(root), key=_name):
        if _hidden(entry.name):
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


def _two_or_more(listing: Listing) -> Listing:
    if len(listing.classes) < 2:
        found = f"only the class folder {min(listing.classes)!r}" if listing.classes else "no class folders"
        needed = "DIR must hold DIR/train/CLASS/* and DIR/val/CLASS/*, or DIR/CLASS/*"
        raise UserError(f"{listing.root} has {found}, but two classes or more are needed; data.dir={needed}.")
    return listing


def _images(folder: str, listing: Listing) -> list[str]:
    """All images below a folder, sorted; each folder once, however many links lead to it."""
    paths, entered = [], set()
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
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


def _name(entry: os.DirEntry) -> str:
    return entry.name


def _raise(error: OSError) -> None:
    """What `os.walk` does not do by itself with a folder that cannot be read."""
    raise error


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _SYSTEM


@dataclasses.dataclass
class Found:
    """A folder's images as they will be read."""

    directory: str
    classes: tuple[str, ...]  # in the order of the labels
    channels: int
    files: Files
    words: str  # what it is, for the log

    def read(self, image_size: int, resize: str, max_unreadable: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """split -> uint8 [N, S, S, C] and labels int32 [N]; adds to `words` what could not be decoded.

        Raises UserError for more of that than `max_unreadable`, or all of a class.
        """
        arrays, broken = {}, {}
        for split, (paths, labels) in self.files.items():
            pixels, faults = photos.decode_all(tuple(map(_state, paths)), image_size, self.channels, resize)
            kept = np.array([path not in faults for path in paths])
            for label in np.unique(labels):
                if not kept[labels == label].any():
                    none = f"None of the images of {self.classes[label]!r} for {split}"
                    first = paths[labels == label][0]
                    raise UserError(f"{none} in {self.directory} can be decoded, such as {first}.")
            arrays[split], broken = (pixels[kept] if faults else pixels, labels[kept]), broken | faults
        named = [f"{path} ({reason})" for path, reason in broken.items()]
        formats.tolerate(named, max_unreadable, f"images of {self.directory}")
        if broken:
            self.words += f"; left out: {len(broken)} that cannot be decoded, such as {min(broken)}"
        return arrays


def find(directory: str, classes: tuple[str, ...] = (), channels: int = 0) -> Found:
    """What a folder holds, undecoded.

    `classes` are those of a run, whose labels the images then have by name, and () stands for the sorted names found;
    0 channels are 1 if all images are grey and 3 if not. Raises UserError as `list_splits`, and for a class that is not
    one of `classes`.
    """
    splits = list_splits(directory)
    found = tuple(splits["train"].classes)
    classes = classes or found
    if not set(found) <= set(classes):
        raise UserError(f"{directory} has the classes {_some(found)}, where the run's are {_some(classes)}.")
    files = {}
    for split, listing in splits.items():
        paths = [path for listed in listing.classes.values() for path in listed]
        labels = [classes.index(name) for name, listed in listing.classes.items() for _ in listed]
        files[split] = np.array(paths, object), np.array(labels, np.int32)
    sizes = ", ".join(f"{len(labels)} for {split}" for split, (_, labels) in files.items())
    words = [f"the folder {directory}: {len(found)} classes ({_some(found)}), images {sizes}"]
    if splits["train"].root == splits["test"].root:
        words.append(f"those for test are {HELD_OUT:.0%} of each class, as there is no folder val or test")
    if len(found) < len(classes):
        words.append(f"no images of {_some(sorted(set(classes) - set(found)))}")
    words += left_out(splits.values())
    train, *others = ({os.path.realpath(path) for path in paths} for paths, _ in files.values())
    if twice := sum(len(train & other) for other in others):
        words.append(f"WARNING: {twice} files are for training and for testing, by links")
    labels = {(os.path.realpath(path), label) for paths, labels in files.values() for path, label in zip(paths, labels)}
    if twice := len(labels) - len({path for path, _ in labels}):
        words.append(f"WARNING: {twice} files are in two classes, by links")
    channels = channels or photos.channels_of(path for paths, _ in files.values() for path in paths)
    return Found(directory, classes, channels, files, "; ".join(words))


def left_out(listings: Iterable[Listing]) -> list[str]:
    """How many files and folders were passed over, in words."""
    hidden, others = sum(listing.hidden for listing in listings), [path for each in listings for path in each.others]
    words = [f"left out: {hidden} hidden"] if hidden else []
    return words + ([f"left out: {len(others)} other files or folders, such as {min(others)}"] if others else [])


def _state(path: str) -> tuple:
    """A path, and what tells whether its file has changed."""
    try:
        status = os.stat(path)
    except OSError:  # a link to nowhere, which decoding names
        return (path,)
    return path, status.st_ino, status.st_mtime_ns, status.st_size


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
