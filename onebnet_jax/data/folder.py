"""A folder of images as a data set: each subfolder is a class."""

import dataclasses
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from onebnet_jax.data import formats, listing, parts, photos
from onebnet_jax.data.listing import Listing
from onebnet_jax.errors import UserError

HELD_OUT = 0.2  # of each class for testing, where the folder has no split of its own
# Names of folders, in small letters, that are for one purpose.
_SPLITS = {"train": ("train", "training"), "validation": ("val", "valid", "validation"), "test": ("test", "testing")}
_SHOWN = 12  # names in a sentence


def list_splits(directory: str) -> dict[str, Listing]:
    """What DIR holds as "train", "test" and perhaps "validation".

    DIR/train/CLASS/... beside DIR/val or DIR/test (of both, val is for validation), or DIR/CLASS/... alone, of which
    every class gives about the share `HELD_OUT` for testing, by name: see `parts.by_name`. Capital letters do not
    matter in the names of splits. Files may lie deeper, also behind symbolic links. Raises UserError for less than two
    classes, a class without images, a class that only some of the splits have, and two folders for one split.
    """
    folders, of_splits = _folders(directory)
    named = {split: paths[0] if paths else None for split, paths in of_splits.items()}
    if named["train"] and (named["validation"] or named["test"]):
        for split, paths in of_splits.items():
            if len(paths) > 1:
                raise UserError(f"{paths[0]} and {paths[1]} are both for {split}; keep one of them.")
        annotated = named["validation"] and os.path.isfile(os.path.join(named["validation"], listing.ANNOTATIONS))
        if annotated or not named["test"]:
            named["test"], named["validation"] = named["validation"], None
        found = {split: _two_or_more(listing.list_classes(root)) for split, root in named.items() if root}
        for each in found.values():
            if differing := sorted(found["train"].classes.keys() ^ each.classes.keys()):
                one, other = found["train"].root, each.root
                has, lacks = (one, other) if differing[0] in found["train"].classes else (other, one)
                raise UserError(f"{has} has a class folder {differing[0]!r} and {lacks} has none; add or remove it.")
        roots = {each.root for each in found.values()}
        found["train"].others += [entry.path for entry in os.scandir(directory) if entry.path not in roots]
        return found
    if folders and len(folders) == sum(map(len, of_splits.values())):
        one = folders[0].path
        remedy = f"add train and val, or name {one} by data.dir, of which {HELD_OUT:.0%} are then for testing"
        raise UserError(f"{directory} has only {_some(x.name for x in folders)} and no class folders; {remedy}.")
    whole = _two_or_more(listing.list_classes(directory))
    train, test = dataclasses.replace(whole, classes={}), Listing(directory, {})
    for name, paths in whole.classes.items():
        if len(paths) < 2:
            raise UserError(
                f"{directory}/{name} holds one image, but one is for training and another for testing: add some."
            )
        held = parts.by_name([_within_class(path, directory) for path in paths], HELD_OUT, "test")
        train.classes[name], test.classes[name] = (list(itertools.compress(paths, x)) for x in (~held, held))
    return {"train": train, "test": test}


def _two_or_more(found: Listing) -> Listing:
    if len(found.classes) < 2:
        fault = f"only the class folder {min(found.classes)!r}" if found.classes else "no class folders"
        needed = "DIR must hold DIR/train/CLASS/* and DIR/val/CLASS/*, or DIR/CLASS/*"
        raise UserError(f"{found.root} has {fault}, but two classes or more are needed; data.dir={needed}.")
    return found


@dataclasses.dataclass
class Found:
    """A folder's images as they will be read."""

    directory: str
    classes: tuple[str, ...]  # in the order of the labels
    channels: int
    files: parts.Files
    words: list[str]  # what else is to be said of it
    photos: dict  # which they are, see `photos.fingerprint`

    def read(self, image_size: int, resize: str, max_unreadable: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """split -> uint8 [N, S, S, C] and labels int32 [N]; leaves out of `files` what could not be decoded.

        Raises UserError for more of that than `max_unreadable`, or all of a class.
        """
        arrays, broken = {}, {}
        for split, (paths, labels, _) in self.files.items():
            pixels, faults = photos.decode_all(tuple(map(photos.state, paths)), image_size, self.channels, resize)
            kept = np.array([path not in faults for path in paths])
            for label in np.unique(labels):
                if not kept[labels == label].any():
                    none = f"None of the images of {self.classes[label]!r} for {split}"
                    first = paths[labels == label][0]
                    raise UserError(f"{none} in {self.directory} can be decoded, such as {first}.")
            self.files[split] = tuple(x[kept] for x in self.files[split])
            arrays[split], broken = (pixels[kept] if faults else pixels, labels[kept]), broken | faults
        named = [f"{path} ({reason})" for path, reason in broken.items()]
        formats.tolerate(named, max_unreadable, f"images of {self.directory}")
        if broken:
            self.words.append(f"left out: {len(broken)} that cannot be decoded: {_some(sorted(broken), 10)}")
        return arrays

    def describe(self) -> str:
        """What it holds, for the log."""
        names = [self.classes[label] for label in np.unique(self.files["train"][1])]
        sizes = ", ".join(f"{len(labels)} for {split}" for split, (_, labels, _) in self.files.items())
        first = f"the folder {self.directory}: {len(names)} classes ({_some(names)}), images {sizes}"
        return "; ".join([first, *self.words])


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
    for split, each in splits.items():
        paths = [path for listed in each.classes.values() for path in listed]
        labels = [classes.index(name) for name, listed in each.classes.items() for _ in listed]
        names = [_within_class(path, each.root) for path in paths]
        files[split] = np.array(paths, object), np.array(labels, np.int32), np.array(names, object)
    words = []
    if splits["train"].root == splits["test"].root:
        words.append(f"those for test are about {HELD_OUT:.0%} of each class, as there is no folder val or test")
    if len(found) < len(classes):
        words.append(f"no images of {_some(sorted(set(classes) - set(found)))}")
    words += listing.left_out(splits.values())
    every = [path for paths, *_ in files.values() for path in paths]
    train, *others = ({os.path.realpath(path) for path in paths} for paths, *_ in files.values())
    if twice := sum(len(train & other) for other in others):
        words.append(f"WARNING: {twice} files are for training and for testing, by links")
    places = {(os.path.realpath(path), x) for paths, labels, _ in files.values() for path, x in zip(paths, labels)}
    if twice := len(places) - len({path for path, _ in places}):
        words.append(f"WARNING: {twice} files are in two classes, by links")
    which = photos.fingerprint(every, directory)
    return Found(directory, classes, channels or photos.channels_of(every), files, words, which)


def _folders(directory: str) -> tuple[list[os.DirEntry], dict[str, list[str]]]:
    """The folders in a directory that are not hidden, and the paths of those that are named as a split, by its name."""
    folders = [entry for entry in listing.entries(directory) if entry.is_dir() and not listing.is_hidden(entry.name)]
    return folders, {name: [x.path for x in folders if x.name.lower() in names] for name, names in _SPLITS.items()}


def among(directory: str, place: Path) -> bool:
    """Whether a place, which need not exist, is where `list_splits` looks for classes and images."""
    directory, place = os.path.realpath(os.path.expanduser(directory)), Path(os.path.realpath(place))
    if not place.is_relative_to(directory) or any(map(listing.is_hidden, place.relative_to(directory).parts)):
        return False
    of_splits = _folders(directory)[1]
    if of_splits["train"] and (of_splits["validation"] or of_splits["test"]):
        return any(place.is_relative_to(path) for paths in of_splits.values() for path in paths)
    return True


def _within_class(path: str, root: str) -> str:
    """What an image of ROOT/CLASS/... is called in its class."""
    return os.path.relpath(path, root).partition(os.sep)[2]


def _some(names: Iterable[str], most: int = _SHOWN) -> str:
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
