"""A data set too large for memory, as batches of NumPy arrays. TensorFlow is imported when a `Streamed` is made."""

import dataclasses
import os
import re
import sys
from collections.abc import Iterator

import numpy as np

from onebnet_jax.data.catalog import Info
from onebnet_jax.data.imagenet.sources import Folders, Records, Share
from onebnet_jax.errors import UserError

Batch = dict[str, np.ndarray]


class Streamed:
    """Training and test images that are decoded and augmented when their batch is asked for.

    Every epoch has every image once. Its order and every random choice follow from the seed, the epoch and the position
    of an image in the epoch, so training goes on at any step as if it had never stopped. Training: torchvision's
    RandomResizedCrop (scale 0.08 to 1, ratio 3/4 to 4/3) and a horizontal flip, as ReActNet does. Test: torchvision's
    Resize and CenterCrop, 256 and 224 or in that ratio. Both resize as torchvision does with Pillow's images.

    A batch is a dict: "images" uint8 [N, H, W, 3], "labels" int32 [N] and "mask" float32 [N], which is 0 where the last
    batch is filled up and where an image cannot be decoded. `info.shape` is that of the images here, and `unreadable`
    has the names of those that could not be decoded so far.
    """

    def __init__(
        self, info: Info, stored: Folders | Records, image_size: int, lighting: float, max_unreadable: int, threads: int
    ):
        """Reads nothing before the first batch is asked for. Raises UserError where TensorFlow is not installed.

        Args:
          image_size: height and width that the images get; 0 for those of `info`.
          lighting: standard deviation of AlexNet's colour noise, 0.1 in its paper; ReActNet's code adds that noise to
            pixels of 0..255 as if they were 0..1, which changes them by 1 at most, so 0 stands for it.
          max_unreadable: how many undecodable images may be left out, by each process and since it was started.
          threads: for reading and decoding; 0 for as many as there are cores for this process.
        """
        self._stored, self._pipeline = stored, _import_pipeline()
        self._lighting, self._max_unreadable = lighting, max_unreadable
        self._threads = threads or len(os.sched_getaffinity(0))
        size = image_size or info.shape[0]
        self.info = dataclasses.replace(info, shape=(size, size, 3))
        self.train_size, self.test_size = stored.size("train"), stored.size("validation")
        self.source = info.describe(self.train_size, self.test_size, stored.origin)
        self.unreadable: set[str] = set()

    def train_batches(self, share: Share, seed: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """One process's batches of an epoch from a step on; what comes before is not decoded.

        Raises UserError where files cannot be read or too many images cannot be decoded, with their names.
        """
        return self._batches("train", share, (seed, epoch), first_step)

    def test_batches(self, share: Share) -> Iterator[Batch]:
        """The test images in their stored order, each in one batch of one process. Raises as `train_batches`."""
        return self._batches("validation", share, None, 0)

    def _batches(self, split: str, share: Share, key: tuple[int, int] | None, first_step: int) -> Iterator[Batch]:
        stored, size = self._stored, self._stored.size(split)
        examples = stored.examples(self._pipeline, split, key, share, first_step, self._threads)
        order = examples, share.positions(size, first_step), key
        options = share.batch_size, self.info.shape[0], self._lighting, self._threads
        batches = self._pipeline.batches(*order, *options)
        none = {"labels": np.zeros(0, np.int32), "mask": np.zeros(0, np.float32), "names": np.zeros(0, object)}
        none["images"] = np.zeros((0, *self.info.shape), np.uint8)
        for _ in range(first_step, share.steps(size)):
            try:
                batch = next(batches, none)  # there is none where only other processes have images left
            except self._pipeline.Error as error:
                raise UserError(f"{self.info.title} {stored.origin} cannot be read: {_essence(error)}.") from error
            self._report(batch["names"][batch["mask"] == 0])
            lacking = share.batch_size - len(batch["labels"])
            fields = {name: batch[name] for name in ("images", "labels", "mask")}
            yield {name: np.pad(field, [(0, lacking)] + [(0, 0)] * (field.ndim - 1)) for name, field in fields.items()}

    def _report(self, names: np.ndarray) -> None:
        """Counts images that could not be decoded, each once however often it comes."""
        for name in sorted({name.decode() for name in names} - self.unreadable):
            self.unreadable.add(name)
            print(f"left out, as it cannot be decoded: {name}", file=sys.stderr, flush=True)
        if len(self.unreadable) > self._max_unreadable:
            raise UserError(
                f"{len(self.unreadable)} images of {self.info.title} cannot be decoded, such as {min(self.unreadable)},"
                f" where {self._max_unreadable} may be left out; get them again, or allow more by data.max_unreadable."
            )


def _essence(error) -> str:
    """What a tf.errors.OpError says, without the operations that it came through."""
    line = re.sub(r"\{\{.*?\}\} |\[Op:.*", "", error.message.splitlines()[0])
    return re.sub(r"^Error in .* iterator: Iterator::\S+: ", "", line).strip()


def _import_pipeline():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # errors come as exceptions
    try:
        from onebnet_jax.data.imagenet import pipeline
    except ModuleNotFoundError as error:
        if error.name != "tensorflow":
            raise
        remedy = "pip install tensorflow==2.21.0"
        raise UserError(f"Images are streamed by TensorFlow, which is not installed: {remedy}") from error
    return pipeline
