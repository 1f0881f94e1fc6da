"""Where ImageNet is, which images a process takes, and in which order; without TensorFlow."""

import dataclasses
import os
from collections.abc import Iterator

import numpy as np
from etils import epath

from onebnet_jax.data import catalog as data_info
from onebnet_jax.data import formats as data_formats
from onebnet_jax.data import load as data
from onebnet_jax.data import tfds as tfds_builder
from onebnet_jax.data.formats import Missing
from onebnet_jax.errors import UserError

INFO = data_info.DATASETS["imagenet2012"]
SOURCES = ("tfds", "files")  # in the order in which "auto" tries them
WINDOW = 4096  # records that are shuffled among themselves, about 0.45 GB of JPEGs
_SUFFIXES = (".jpeg", ".jpg", ".png")


@dataclasses.dataclass(frozen=True)
class Share:
    """One process's part of every global batch: `batch_size` images beginning at process_index * batch_size."""

    batch_size: int
    process_index: int = 0
    process_count: int = 1

    def steps(self, size: int) -> int:
        """Global batches that it takes to see `size` images once, the last one perhaps filled up."""
        return -(-size // (self.batch_size * self.process_count))

    def positions(self, size: int, first_step: int = 0) -> np.ndarray:
        """This process's places in the order of an epoch, from a step on: int64, ascending, all below `size`."""
        steps = np.arange(first_step, self.steps(size))
        first = (steps * self.process_count + self.process_index) * self.batch_size
        positions = (first[:, None] + np.arange(self.batch_size)).ravel()
        return positions[positions < size]


def find(source: str, directory: str):
    """Finds the data; see `onebnet_jax.imagenet.ImageNet` for arguments and errors.

    What is returned has `origin`, for the log, size(split), and examples(pipeline, split, key, share, first_step,
    threads): a process's undecoded images of an epoch from a step on, as a tf.data.Dataset made by
    `onebnet_jax.imagenet_pipeline`. key is the seed and the epoch, or None for the stored order.
    """
    if source not in ("auto", *SOURCES):
        raise UserError(
            f"data.source={source!r} will not do for ImageNet; it must be one of 'auto', {str(SOURCES)[1:-1]}."
        )
    missing = []
    for candidate in SOURCES if source == "auto" else (source,):
        try:
            return {"tfds": _Records, "files": _Folders}[candidate](directory)
        except Missing as error:
            missing.append(str(error))
        except OSError as error:
            raise UserError(f"ImageNet cannot be read: {error}.") from error
    raise UserError(f"ImageNet was not found ({'; '.join(missing)}): {INFO.remedy}.")


class _Folders:
    """train/CLASS/* and val/CLASS/* as torchvision's ImageFolder has them."""

    def __init__(self, directory: str):
        if not directory:
            raise Missing("data.dir names no folder of train and val")
        for name in ("train", "val"):
            if not os.path.isdir(os.path.join(directory, name)):
                raise Missing(f"no folder {name} in {directory}")
        self.origin = f"from the folders train and val in {directory}"
        self._files, classes = {}, {}
        for split, name in (("train", "train"), ("validation", "val")):
            root = os.path.join(directory, name)
            classes[split] = sorted(entry.name for entry in os.scandir(root) if entry.is_dir())
            listed = [_images(os.path.join(root, c)) for c in classes[split]]
            labels = np.repeat(np.arange(len(listed), dtype=np.int32), [len(paths) for paths in listed])
            self._files[split] = np.array([path for paths in listed for path in paths], object), labels
            if not len(labels):
                raise UserError(f"{root} has no class folders with images such as {root}/n01440764/*.JPEG.")
        if classes["train"] != classes["validation"]:
            differing = sorted(set(classes["train"]) ^ set(classes["validation"]))
            raise UserError(
                f"{directory}/train and {directory}/val do not have the same class folders: {differing[0]} is in one "
                "of them only, so the labels would not fit."
            )
        if len(classes["train"]) > INFO.num_classes:
            raise UserError(f"{directory}/train has {len(classes['train'])} classes, where {INFO.num_classes} may be.")

    def size(self, split: str) -> int:
        return len(self._files[split][1])

    def examples(self, pipeline, split: str, key, share: Share, first_step: int, threads: int):
        paths, labels = self._files[split]
        chosen = share.positions(len(labels), first_step)
        if key is not None:
            chosen = np.random.default_rng(key).permutation(len(labels))[chosen]
        return pipeline.read_files(paths[chosen], labels[chosen], threads)


def _images(folder: str) -> list[str]:
    return sorted(entry.path for entry in os.scandir(folder) if entry.name.lower().endswith(_SUFFIXES))


class _Records:
    """TFRecord files of a prepared TFDS data directory, which may lie in a bucket (gs://...)."""

    def __init__(self, directory: str):
        root = epath.Path(directory) if directory else data.tfds_directory("")
        folder = data_formats.find_tfds(root, "imagenet2012")
        try:
            self._info = tfds_builder.open_directory(folder).info
            self._splits = {split: self._info.splits[split] for split in ("train", "validation")}
            file_format = self._info.file_format.value
        except UserError:
            raise
        except Exception as error:  # TFDS documents no exceptions for damaged metadata
            raise UserError(f"The TFDS data in {folder} cannot be read: {error!r}; prepare them again.") from error
        if file_format != "tfrecord":
            raise UserError(f"{folder} is in {file_format} format, but only tfrecord, TFDS's default, can be read.")
        self.origin = f"from the TFDS directory {folder}"

    def size(self, split: str) -> int:
        return self._splits[split].num_examples

    def examples(self, pipeline, split: str, key, share: Share, first_step: int, threads: int):
        counts = [
            len(dataclasses.replace(share, process_index=index).positions(self.size(split)))
            for index in range(share.process_index + 1)
        ]
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

        return pipeline.read_records(windows, self._info.features)


def windows_of(
    lengths: np.ndarray, key: tuple[int, int] | None, start: int, stop: int, first: int, size: int
) -> Iterator[tuple[list[tuple[int, int, int]], np.ndarray]]:
    """Cuts the records start, ..., stop - 1 of a row of shards into windows, and shuffles each.

    Args:
      lengths: records of each shard.
      key: of the shuffling; None leaves the records in order.
      start, stop: the records that are asked for, counted over all shards.
      first: the first of these that is still wanted; whole windows before it do not come.
      size: of a window.

    Yields ([(shard, first record, number of records), ...], order): the stretches that make up a window, and the places
    in it [M] of the records in the order in which they are wanted.
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
        # One more than begin, as trailing zeros of a seed do not count.
        order = (
            np.arange(end - begin) if key is None else np.random.default_rng((*key, begin + 1)).permutation(end - begin)
        )
        yield pieces, order[max(first - begin, 0) :]
