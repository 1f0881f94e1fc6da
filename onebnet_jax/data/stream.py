"""A folder of images that is too large for memory, decoded batch by batch; to be used as `imagenet.reader.Streamed`."""

import dataclasses
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from onebnet_jax.data import parts, photos
from onebnet_jax.data.catalog import Info
from onebnet_jax.data.formats import tolerate

Batch = dict[str, np.ndarray]


@dataclasses.dataclass
class Streamed:
    """Batches as those of `imagenet.reader.Streamed`, of files by Pillow.

    The order of an epoch, its crops and flips follow from the seed, the epoch, and the place of an image in it, however
    many processes share a batch. A mask is 0 where the last batch is filled up and where an image cannot be decoded.
    """

    info: Info
    files: parts.Files
    source: str  # what is read and from where, for the log
    resize: str
    max_unreadable: int
    photos: dict  # see `folder.Found`
    crop_padding: int = 0  # as `augment` does it; so what follows
    flip: bool = False
    rotate: float = 0.0
    brightness: float = 0.0
    unreadable: set[str] = dataclasses.field(default_factory=set)

    def __post_init__(self):
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    @property
    def train_size(self) -> int:
        return len(self.train_labels)

    @property
    def train_labels(self) -> np.ndarray:
        return self.files["train"][1]

    @property
    def test_size(self) -> int:
        return len(self.files["test"][1])

    @property
    def validates(self) -> bool:
        return "validation" in self.files

    def held_out(self, share: float, seed: int) -> "Streamed":
        """See `load.with_validation`."""
        held, words = parts.for_validation(self.train_labels, share, seed, self.files["train"][2])
        return dataclasses.replace(self, files=parts.split(self.files, held), source=self.source + words)

    def train_batches(self, share, seed: int, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """A process's batches of an epoch from a step on; share: `imagenet.reader.Share`."""
        return self._batches("train", share, (seed, epoch), first_step)

    def test_batches(self, share, split: str = "test") -> Iterator[Batch]:
        """The images of a split in their stored order, each in one batch of one process."""
        return self._batches(split, share, None, 0)

    def train_images(self) -> Iterator[np.ndarray]:
        """Those that can be decoded, in their stored order, with a bar: uint8 [H, W, C] each."""
        decoded = self._pool.map(self._decode, self.files["train"][0])
        for image in tqdm(decoded, "measuring", self.train_size, unit="img", mininterval=1.0):
            if image is not None:
                yield image

    def _batches(self, split: str, share, key: tuple[int, int] | None, first_step: int) -> Iterator[Batch]:
        paths, labels, _ = self.files[split]
        size, padding, side = len(paths), self.crop_padding, self.info.shape[0]
        order, draws = np.arange(size), np.tile((padding, padding, 0), (size, 1))
        turns = np.tile((0.0, 1.0), (size, 1))
        if key is not None:
            rng = np.random.default_rng(key)
            order, draws = rng.permutation(size), rng.integers(0, (2 * padding + 1, 2 * padding + 1, 2), (size, 3))
            turns += rng.uniform(-1, 1, (size, 2)) * (self.rotate, self.brightness)
        for step in range(first_step, share.steps(size)):
            begin = share.begin(step)
            places = np.arange(begin, max(begin, min(begin + share.batch_size, size)))
            chosen, images = order[places], np.zeros((share.batch_size, *self.info.shape), np.uint8)
            found = self._pool.map(self._decode, paths[chosen], *turns[places].T)
            mask, of_images = np.zeros(share.batch_size, np.float32), np.zeros(share.batch_size, np.int32)
            of_images[: len(places)] = labels[chosen]
            for slot, (image, (top, left, flipped)) in enumerate(zip(found, draws[places])):
                if image is not None:
                    padded = np.pad(image, ((padding, padding), (padding, padding), (0, 0)))
                    image = padded[top : top + side, left : left + side]
                    images[slot], mask[slot] = image[:, ::-1] if flipped and self.flip else image, 1
            tolerate(self.unreadable, self.max_unreadable, "images")
            yield {"images": images, "labels": of_images, "mask": mask}

    def _decode(self, path: str, angle: float = 0.0, factor: float = 1.0) -> np.ndarray | None:
        try:
            image = photos.decode(path, self.info.shape[:2], self.info.shape[2], self.resize)
            return image if (angle, factor) == (0, 1) else photos.turn(image, angle, factor)
        except Exception as error:  # Pillow's decoders raise nearly anything for damaged files
            if path not in self.unreadable:
                self.unreadable.add(path)
                print(f"left out, as it cannot be decoded: {path}: {error}", file=sys.stderr, flush=True)
            return None
