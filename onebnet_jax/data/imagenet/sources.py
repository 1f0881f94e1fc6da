"""Where the images of a streamed data set are, which of them a process takes, and in which order; without TensorFlow.

`Folders` and `Records` have the same methods; the splits are "train" and "validation". `examples` gives a process's
undecoded images of an epoch from a step on, as a tf.data.Dataset made by the module `pipeline`, in the order that
follows from a key (seed, epoch), or as they are stored where it is None.

Folders are shuffled as a whole, so that a global batch does not depend on the number of processes. Of records, which
can only be read in turn, each process shuffles its own part, by file and then in windows of `WINDOW`.
"""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from onebnet_jax.data import tfds
from onebnet_jax.data.catalog import Info
from onebnet_jax.data.formats import Missing, naming
from onebnet_jax.errors import UserError

WINDOW = 4096  # records that are shuffled among themselves, about 0.45 GB of JPEGs
_FOLDERS = {"train": "train", "validation": "val"}
_SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclasses.dataclass(frozen=True)
class Share:
    """One process's part of every global batch: `batch_size` images beginning at process_index * batch_size."""

    batch_size: int  # of this process
    process_index: int = 0
    process_count: int = 1

    def steps(self, size: int) -> int:
        """Global batches in an epoch of `size` images, the last one perhaps filled up."""
        return -(-size // (self.batch_size * self.process_count))

    def positions(self, size: int, first_step: int = 0) -> np.ndarray:
        """This process's places in the order of an epoch, from a step on: int64, ascending, all below `size`."""
        steps = np.arange(first_step, self.steps(size))
        first = (steps * self.process_count + self.process_index) * self.batch_size
        positions = (first[:, None] + np.arange(self.batch_size)).ravel()
        return positions[positions < size]


def _list_images(root: str) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Sorted names of classes, paths [N] of ROOT/CLASS/*.jpeg (or .jpg, .png), and labels int32 [N]."""
    classes = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
    folders = (os.scandir(os.path.join(root, name)) for name in classes)
    listed = [sorted(file.path for file in files if file.name.lower().endswith(_SUFFIXES)) for files in folders]
    labels = np.repeat(np.arange(len(listed), dtype=np.int32), [len(paths) for paths in listed])
    if not len(labels):
        raise UserError(f"{root} has no class folders with images such as {root}/n01440764/*.JPEG.")
    return classes, np.array([path for paths in listed for path in paths], object), labels


class Folders:
    """Image files in train/CLASS and val/CLASS, as torchvision's ImageFolder has them."""

    def __init__(self, info: Info, directory: str):
        roots = {split: os.path.join(directory, name) for split, name in _FOLDERS.items()}
        if not directory or not all(map(os.path.isdir, roots.values())):
            raise Missing(f"no folders train and val in {directory or 'data.dir, which is empty'}")
        self.origin = f"from the folders train and val in {directory}"
        listed = {split: _list_images(root) for split, root in roots.items()}
        self._files = {split: (paths, labels) for split, (_, paths, labels) in listed.items()}
        classes, others = (set(names) for names, _, _ in listed.values())
        if classes != others:
            raise UserError(f"{directory} has a class folder {min(classes ^ others)} in only one of train and val.")
        if len(classes) > info.num_classes:
            raise UserError(f"{directory}/train has {len(classes)} classes, where {info.num_classes} may be.")

    def size(self, split: str) -> int:
        return len(self._files[split][1])

    def examples(self, pipeline, split: str, key, share: Share, first_step: int, threads: int):
        paths, labels = self._files[split]
        chosen = share.positions(len(labels), first_step)
        if key is not None:
            chosen = np.random.default_rng(key).permutation(len(labels))[chosen]
        return pipeline.read_files(paths[chosen], labels[chosen], threads)


class Records:
    """TFRecord files of a prepared TFDS data directory, which may lie in a bucket (gs://...)."""

    def __init__(self, info: Info, directory: str):
        folder = tfds.find(directory, info.name)
        builder = tfds.open_directory(folder)
        with naming(folder):
            self._splits = {split: builder.info.splits[split] for split in _FOLDERS}
            self._features, file_format = builder.info.features, builder.info.file_format.value
        if file_format != "tfrecord":
            raise UserError(f"{folder} is in {file_format} format, but only tfrecord, TFDS's default, can be read.")
        self.origin = f"from the TFDS directory {folder}"

    def size(self, split: str) -> int:
        return self._splits[split].num_examples

    def examples(self, pipeline, split: str, key, share: Share, first_step: int, threads: int):
        shares = (dataclasses.replace(share, process_index=index) for index in range(share.process_index + 1))
        counts = [len(each.positions(self.size(split))) for each in shares]
        start, stop = sum(counts[:-1]), sum(counts)
        first = start + first_step * share.batch_size
        paths = np.array([str(path) for path in self._splits[split].filepaths], object)
        lengths = np.array(self._splits[split].shard_lengths)
        if key is not None:
            order = np.random.default_rng(key).permutation(len(paths))
            paths, lengths = paths[order], lengths[order]

        def windows():
            for pieces, order in windows_of(lengths, key, start, stop, first, WINDOW):
                shards, skips, takes = np.array(pieces, np.int64).T
                yield paths[shards], skips, takes, order

        return pipeline.read_records(windows, self._features)


def windows_of(
    lengths: np.ndarray, key: tuple[int, int] | None, start: int, stop: int, first: int, size: int
) -> Iterator[tuple[list[tuple[int, int, int]], np.ndarray]]:
    """Cuts the records start, ..., stop - 1 of a row of shards into windows of `size`, and shuffles each by the key.

    Records are counted over all shards, of which `lengths` has the numbers; those before `first` are left out. Yields
    ([(shard, first record, number of records), ...], order): the stretches that make up a window, and the places in it
    [M] of the records in the order in which they are wanted.
    """
    ends = np.cumsum(lengths)
    for begin in range(start + (first - start) // size * size, stop, size):
        end = min(begin + size, stop)
        pieces, position = [], begin
        while position < end:
            shard = int(np.searchsorted(ends, position, side="right"))
            take = min(end, int(ends[shard])) - position
            pieces.append((shard, position - int(ends[shard] - lengths[shard]), take))
            position += take
        order = np.arange(end - begin)
        if key is not None:  # one more than begin, as trailing zeros of a seed do not count
            order = np.random.default_rng((*key, begin + 1)).permutation(end - begin)
        yield pieces, order[max(first - begin, 0) :]
