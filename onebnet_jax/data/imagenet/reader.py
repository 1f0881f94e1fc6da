"""A data set too large for memory, as batches of NumPy arrays. TensorFlow is imported when a `Streamed` is made.

Folders are shuffled as a whole, so that a global batch does not depend on the number of processes. Of records, which
can only be read in turn, each process shuffles its own part, by file and then in windows of `WINDOW`.
"""

import copy
import dataclasses
import functools
import os
import re
import sys
from collections.abc import Iterator

import numpy as np

from onebnet_jax import surroundings
from onebnet_jax.data import listing, parts, tfds
from onebnet_jax.data.catalog import Info
from onebnet_jax.data.formats import Missing, naming, tolerate
from onebnet_jax.errors import UserError, quietly

Batch = dict[str, np.ndarray]
WINDOW = 4096  # records that are shuffled among themselves, about 0.45 GB of JPEGs
# As the splits are called where they are stored: ImageNet's validation images are for testing here.
_RECORDS = {"train": "train", "test": "validation"}
_FOLDERS = {"train": "train", "test": "val"}


@dataclasses.dataclass(frozen=True)
class Share:
    """One process's part of every global batch."""

    batch_size: int  # of this process, whose images begin at process_index * batch_size
    process_index: int = 0
    process_count: int = 1

    def steps(self, size: int) -> int:
        """Global batches in an epoch of `size` images, the last one perhaps filled up."""
        return -(-size // (self.batch_size * self.process_count))

    def begin(self, step: int) -> int:
        """This process's first place of a global batch, in the order of an epoch."""
        return (step * self.process_count + self.process_index) * self.batch_size

    def positions(self, size: int, first_step: int = 0) -> np.ndarray:
        """This process's places in the order of an epoch, from a step on: int64, ascending, all below `size`."""
        places = np.arange(first_step * self.batch_size * self.process_count, size)
        return places[places // self.batch_size % self.process_count == self.process_index]


def _labelled(info: Info, found: listing.Listing) -> tuple[np.ndarray, np.ndarray]:
    """Paths [N] of images, and labels int32 [N]: the places of their class folders in `info`."""
    root, names = found.root, info.class_folders
    if not found.classes:
        raise UserError(f"{root} has no class folders with images such as {root}/n01440764/*.JPEG.")
    if foreign := sorted(found.classes.keys() - {*names}):
        raise UserError(f"{root}/{foreign[0]} is no class of {info.title}; data.name='folder' reads other classes.")
    labels = {name: label for label, name in enumerate(names)}
    counts = [len(paths) for paths in found.classes.values()]
    paths = np.array([path for paths in found.classes.values() for path in paths], object)
    return paths, np.repeat(np.array([labels[name] for name in found.classes], np.int32), counts)


class Folders:
    """Image files in train/CLASS and val/CLASS, as torchvision's ImageFolder has them."""

    def __init__(self, info: Info, directory: str):
        roots = {split: os.path.join(directory, name) for split, name in _FOLDERS.items()}
        if not directory or not all(map(os.path.isdir, roots.values())):
            raise Missing(f"no folders train and val in {directory or 'data.dir, which is empty'}")
        listings = {split: listing.list_classes(root) for split, root in roots.items()}
        self._files = {split: _labelled(info, each) for split, each in listings.items()}
        classes, others = (each.classes.keys() for each in listings.values())
        if classes != others:
            raise UserError(f"{directory} has a class folder {min(classes ^ others)} in only one of train and val.")
        few = [f"{len(classes)} of {info.num_classes} classes"] * (len(classes) < info.num_classes)
        said = "; ".join([*few, *listing.left_out(listings.values())])
        self.origin = f"from the folders train and val in {directory}{said and f' ({said})'}"

    def size(self, split: str) -> int:
        return len(self._files[split][1]) if split in self._files else 0

    def held_out(self, part: float, seed: int) -> tuple["Folders", str]:
        """The same with a part of the training images for validation, and in words: see `load.with_validation`."""
        held, words = parts.for_validation(self._files["train"][1], part, seed)
        other = copy.copy(self)
        other._files = parts.split(self._files, held)
        return other, words

    def examples(self, pipeline, split: str, key, share: Share, first_step: int, threads: int):
        """A process's undecoded images, from a step on, by a key (seed, epoch), or as they are stored for None."""
        paths, labels = self._files[split]
        chosen = share.positions(len(labels), first_step)
        if key is not None:
            chosen = np.random.default_rng(key).permutation(len(labels))[chosen]
        return pipeline.read_files(paths[chosen], labels[chosen], threads)


class Records:
    """TFRecord files of a prepared TFDS data directory."""

    def __init__(self, info: Info, directory: str):
        folder = tfds.find(directory, info.name)
        builder = tfds.open_directory(folder)
        with naming(folder):
            splits = {split: builder.info.splits[name] for split, name in _RECORDS.items()}
            self._files = {
                split: (np.array([str(path) for path in found.filepaths], object), np.array(found.shard_lengths))
                for split, found in splits.items()
            }
            self._features, file_format = builder.info.features, builder.info.file_format.value
        if file_format != "tfrecord":
            raise UserError(f"{folder} is in {file_format} format, but only tfrecord, TFDS's default, can be read.")
        self.origin = f"from the TFDS directory {folder}"

    def size(self, split: str) -> int:
        return int(self._files[split][1].sum()) if split in self._files else 0

    def held_out(self, part: float, seed: int) -> tuple["Records", str]:
        """The same with whole files of training records for validation: see `load.with_validation`."""
        files = len(self._files["train"][0])
        if files < 2:
            raise UserError(
                f"data.validation={part} takes whole files of records, of which there is one {self.origin}."
            )
        held, _ = parts.for_validation(np.zeros(files), part, seed)
        other = copy.copy(self)
        other._files = parts.split(self._files, held)
        count = other.size("validation")
        return other, f"; {count} of the training images, {held.sum()} whole files, held out for validation"

    def examples(self, pipeline, split: str, key, share: Share, first_step: int, threads: int):
        shares = (dataclasses.replace(share, process_index=index) for index in range(share.process_index + 1))
        *before, count = [len(each.positions(self.size(split))) for each in shares]
        start = sum(before)
        first = start + first_step * share.batch_size
        paths, lengths = self._files[split]
        if key is not None:
            order = np.random.default_rng(key).permutation(len(paths))
            paths, lengths = paths[order], lengths[order]
        windows = functools.partial(windows_of, paths, lengths, key, start, start + count, first, WINDOW)
        return pipeline.read_records(windows, self._features)


def windows_of(paths: np.ndarray, lengths: np.ndarray, key, start: int, stop: int, first: int, size: int):
    """Cuts the records start, ..., stop - 1 of a row of files into windows of `size`, and shuffles each by the key.

    Records are counted over all files, of which `lengths` has the numbers; those before `first` are left out. Yields
    (paths, first records, numbers of records), all [P], of the stretches that make up a window, and the places in it
    [M] of the records in the order in which they are wanted.
    """
    ends = np.cumsum(lengths)
    begins = ends - lengths
    for begin in range(start + (first - start) // size * size, stop, size):
        end = min(begin + size, stop)
        low, high = np.maximum(begins, begin), np.minimum(ends, end)
        shards = np.flatnonzero(low < high)
        order = np.arange(end - begin)
        if key is not None:  # one more than begin, as trailing zeros of a seed do not count
            order = np.random.default_rng((*key, begin + 1)).permutation(end - begin)
        yield paths[shards], (low - begins)[shards], (high - low)[shards], order[max(first - begin, 0) :]


class Streamed:
    """Training and test images that are decoded and augmented when their batch is asked for.

    Every epoch has every image once, in an order and with random choices that follow from the seed, the epoch and the
    position of an image in it. Training: torchvision's RandomResizedCrop (scale 0.08 to 1, ratio 3/4 to 4/3) and a
    horizontal flip, as ReActNet does. Test: torchvision's Resize and CenterCrop, 256 and 224 or in that ratio. Both
    resize as torchvision does with Pillow's images.

    A batch is a dict: "images" uint8 [N, H, W, 3], "labels" int32 [N] and "mask" float32 [N], which is 0 where the last
    batch is filled up and where an image cannot be decoded. `info.shape` is that of the images here.
    """

    files, photos = None, None  # as of a `load.Dataset` that is no folder

    def __init__(self, info: Info, stored: Folders | Records, image_size=0, lighting=0.0, max_unreadable=10, threads=0):
        """Reads no image before the first batch is asked for. Raises UserError where TensorFlow is not installed.

        An `image_size` of 0 stands for that of `info`, and 0 `threads` for one a core. `lighting` is the standard
        deviation of AlexNet's colour noise, 0.1 in its paper; 0 stands for ReActNet's code, which adds it to pixels of
        0..255 as if they were 0..1. Each process may leave out `max_unreadable` images since it was started.
        """
        surroundings.hush_tensorflow()
        try:
            with quietly():
                from onebnet_jax.data.imagenet import pipeline
        except ModuleNotFoundError as error:
            if error.name != "tensorflow":
                raise
            remedy = "pip install tensorflow==2.21.0"
            raise UserError(f"Images are streamed by TensorFlow, which is not installed: {remedy}") from error
        self._stored, self._pipeline = stored, pipeline
        self._lighting, self._max_unreadable = lighting, max_unreadable
        self._threads = threads or len(os.sched_getaffinity(0))
        size = image_size or info.shape[0]
        self.info = dataclasses.replace(info, shape=(size, size, 3))
        self.source = info.describe(self.train_size, self.test_size, stored.origin)
        self.unreadable: set[str] = set()  # names of the images that could not be decoded so far

    @property
    def train_size(self) -> int:
        return self._stored.size("train")

    @property
    def test_size(self) -> int:
        return self._stored.size("test")

    @property
    def validates(self) -> bool:
        return self._stored.size("validation") > 0

    def held_out(self, part: float, seed: int) -> "Streamed":
        """See `load.with_validation`."""
        other = copy.copy(self)
        other._stored, words = self._stored.held_out(part, seed)
        other.source += words
        return other

    def train_batches(self, share: Share, seed: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """A process's batches of an epoch from a step on. Raises UserError, with a name, where files cannot be read."""
        return self._batches("train", share, (seed, epoch), first_step)

    def test_batches(self, share: Share, split: str = "test") -> Iterator[Batch]:
        """The images of a split in their stored order, each in one batch of one process. Raises as `train_batches`."""
        return self._batches(split, share, None, 0)

    def _batches(self, split: str, share: Share, key: tuple[int, int] | None, first_step: int) -> Iterator[Batch]:
        stored, size = self._stored, self._stored.size(split)
        examples = stored.examples(self._pipeline, split, key, share, first_step, self._threads)
        shape = share.batch_size, self.info.shape[0]
        order = share.positions(size, first_step), key
        batches = self._pipeline.batches(examples, *order, *shape, self._lighting, self._threads)
        none = {"labels": np.zeros(0, np.int32), "mask": np.zeros(0, np.float32), "names": np.zeros(0, object)}
        none["images"] = np.zeros((0, *self.info.shape), np.uint8)
        for _ in range(first_step, share.steps(size)):
            try:
                batch = next(batches, none)  # there is none where only other processes have images left
            except self._pipeline.tf.errors.OpError as error:
                operations = r"\{\{.*?\}\} |\[Op:.*|Error in .* iterator: Iterator::\S+: "  # that it came through
                cause = re.sub(operations, "", error.message.splitlines()[0]).strip()
                raise UserError(f"{self.info.title} {stored.origin} cannot be read: {cause}.") from error
            self._report(batch["names"][batch["mask"] == 0])
            lacking = share.batch_size - len(batch["labels"])
            fields = {name: batch[name] for name in ("images", "labels", "mask")}
            yield {name: np.pad(field, [(0, lacking)] + [(0, 0)] * (field.ndim - 1)) for name, field in fields.items()}

    def _report(self, names: np.ndarray) -> None:
        """Says which images could not be decoded, each once however often it comes."""
        for name in sorted({name.decode() for name in names} - self.unreadable):
            self.unreadable.add(name)
            print(f"left out, as it cannot be decoded: {name}", file=sys.stderr, flush=True)
        tolerate(self.unreadable, self._max_unreadable, f"images of {self.info.title}")
