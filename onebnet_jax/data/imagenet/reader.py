"""ImageNet as batches of NumPy arrays.

The order of an epoch and every random choice in it follow from the seed, the epoch and the position of an image in the
epoch, so training goes on at any step as if it had never stopped. TensorFlow is imported when an `ImageNet` is made.
"""

import copy
import dataclasses
import os
import re
import sys
from collections.abc import Iterator

import numpy as np

from onebnet_jax.data.imagenet import sources
from onebnet_jax.errors import UserError

Batch = dict[str, np.ndarray]


class ImageNet:
    """The training and validation images of ImageNet, decoded, augmented and sharded by process.

    Training: torchvision's RandomResizedCrop (scale 0.08 to 1, ratio 3/4 to 4/3) and a horizontal flip, as ReActNet
    does. Evaluation: torchvision's Resize and CenterCrop, 256 and 224 or in that ratio. Both resize bilinearly with
    antialiasing, as torchvision does with Pillow's images; only the needed part of a JPEG is decoded.

    A batch is a dict: "images" uint8 [N, H, W, 3], "labels" int32 [N] and "mask" float32 [N], which is 0 where the last
    batch is filled up and where an image cannot be decoded. Every epoch has every image once.

    Image folders are shuffled as a whole, and a global batch does not depend on the number of processes. TFDS records
    can only be read one after another: they are shuffled by shard and then in windows of `imagenet_sources.WINDOW`, and
    each process reads its own part of them, so another number of processes means another order.

    Attributes:
      train_size, test_size: number of images, over all processes.
      source: what is read and from where, for the log.
      unreadable: the names of the images that could not be decoded so far.
    """

    def __init__(
        self,
        source: str = "auto",
        directory: str = "",
        *,
        batch_size: int,
        seed: int = 0,
        image_size: int = sources.INFO.shape[0],
        process_index: int = 0,
        process_count: int = 1,
        lighting: float = 0.0,
        max_unreadable: int = 10,
        threads: int = 0,
    ):
        """Finds the data; nothing is read before the first batch is asked for.

        Args:
          source: "tfds", imagenet2012 as TFDS prepares it; "files", the folders train/CLASS and val/CLASS, the
            classes being their sorted names; "auto", the first of these that is there.
          directory: the TFDS data directory ("": $TFDS_DATA_DIR or ~/tensorflow_datasets), or the folder that holds
            train and val.
          batch_size: of this process.
          seed: of order and augmentation.
          image_size: height and width of the images.
          process_index, process_count: this process and how many share the data, as jax.process_index() says.
          lighting: standard deviation of AlexNet's colour noise, 0.1 in its paper; ReActNet's code adds that noise to
            pixels of 0..255 as if they were 0..1, which changes them by 1 at most, so 0 stands for it.
          max_unreadable: how many images may be left out because they cannot be decoded. Each process counts those that
            it met since it was started: N processes may leave out N times as many, and a resumed run begins at 0.
          threads: for reading and decoding; 0 for as many as there are cores for this process.

        Raises:
          UserError: for an unknown source, data that are missing (with all ways to get them), class folders that cannot
            be right, or where TensorFlow is not installed.
        """
        self._data = sources.find(source, os.path.expanduser(directory))
        self._pipeline = _import_pipeline()
        self._share = sources.Share(batch_size, process_index, process_count)
        self._seed, self._image_size, self._lighting = seed, image_size, lighting
        self._max_unreadable, self._threads = max_unreadable, threads or len(os.sched_getaffinity(0))
        self.train_size, self.test_size = (self._data.size(split) for split in ("train", "validation"))
        self.source = f"ImageNet, {self.train_size} training and {self.test_size} test images, {self._data.origin}"
        if (self.train_size, self.test_size) != (sources.INFO.train_size, sources.INFO.test_size):
            self.source += f" (NOT the full set, which has {sources.INFO.train_size} and {sources.INFO.test_size})"
        self.unreadable: set[str] = set()

    def rebatched(self, batch_size: int, seed: int) -> "ImageNet":
        """The same data in batches of another size and in the order of another seed; they are not looked for again."""
        other = copy.copy(self)
        other._share, other._seed = dataclasses.replace(self._share, batch_size=batch_size), seed
        return other

    def train_batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on. What comes before is not decoded, and at most a window of it is read.

        Raises UserError where files cannot be read or too many images cannot be decoded, with their names.
        """
        return self._batches("train", (self._seed, epoch), first_step)

    def test_batches(self) -> Iterator[Batch]:
        """The validation images in their stored order, each in one batch of one process. Raises as `train_batches`."""
        return self._batches("validation", None, 0)

    def _batches(self, split: str, key: tuple[int, int] | None, first_step: int) -> Iterator[Batch]:
        share, size = self._share, self._data.size(split)
        batches = self._pipeline.batches(
            self._data.examples(self._pipeline, split, key, share, first_step, self._threads),
            share.positions(size, first_step),
            key,
            batch_size=share.batch_size,
            image_size=self._image_size,
            lighting=self._lighting,
            threads=self._threads,
        )
        for _ in range(first_step, share.steps(size)):
            try:
                batch = next(batches, None)
            except self._pipeline.Error as error:
                raise UserError(f"ImageNet {self._data.origin} cannot be read: {_essence(error)}.") from error
            if batch is None:  # only other processes have images left
                shape = (share.batch_size, self._image_size, self._image_size, 3)
                yield _masked(np.zeros(shape, np.uint8), np.zeros(shape[0], np.int32), np.zeros(shape[0], bool))
                continue
            self._report(batch["name"][~batch["readable"]])
            lacking = share.batch_size - len(batch["label"])
            fields = (batch[name] for name in ("image", "label", "readable"))
            yield _masked(*(np.pad(field, [(0, lacking)] + [(0, 0)] * (field.ndim - 1)) for field in fields))

    def _report(self, names: np.ndarray) -> None:
        """Counts images that could not be decoded, each once however often it comes."""
        for name in sorted({name.decode() for name in names} - self.unreadable):
            self.unreadable.add(name)
            print(f"left out, as it cannot be decoded: {name}", file=sys.stderr, flush=True)
        if len(self.unreadable) > self._max_unreadable:
            raise UserError(
                f"{len(self.unreadable)} images of ImageNet cannot be decoded, such as {sorted(self.unreadable)[0]}, "
                f"where {self._max_unreadable} may be left out; get them again, or allow more by data.max_unreadable."
            )


def _masked(images: np.ndarray, labels: np.ndarray, mask: np.ndarray) -> Batch:
    return {"images": images, "labels": labels, "mask": mask.astype(np.float32)}


def _essence(error) -> str:
    """What a tf.errors.OpError says, without the operations that it came through."""
    line = re.sub(r"\{\{.*?\}\} |\[Op:.*", "", error.message.splitlines()[0])
    return re.sub(r"^Error in .* iterator: Iterator::\S+: ", "", line).strip()


def _import_pipeline():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come as exceptions
    try:
        from onebnet_jax.data.imagenet import pipeline as imagenet_pipeline
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        raise UserError(
            "ImageNet is read with TensorFlow, which is not installed: pip install tensorflow==2.21.0"
        ) from error
    return imagenet_pipeline
