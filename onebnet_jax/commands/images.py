"""The images of a network's data set, for commands that need some of them."""

from collections.abc import Iterator

import numpy as np

from onebnet_jax.data import load
from onebnet_jax.data.formats import Missing
from onebnet_jax.data.imagenet.reader import Share
from onebnet_jax.errors import UserError
from onebnet_jax.runs.trained import Trained

BATCH_SIZE = 16

Batch = tuple[np.ndarray, np.ndarray]  # images uint8 [N, H, W, C] and their labels int [N]


def opened(network: Trained, otherwise: str = ""):
    """A network's data set: see `data.load.open`.

    Raises UserError where it is missing, which ends with what one can do `otherwise`.
    """
    try:
        return network.data.open()
    except UserError as error:
        if not (isinstance(error.__cause__, Missing) or "data.dir=" in str(error)):  # as of damaged files
            raise
        raise UserError(f"{error} (--config.data.dir=FOLDER names it here{otherwise}.)") from error


def of_test(stored, count: int) -> tuple[int, Iterator[Batch] | list[Batch]]:
    """At most `count` test images (0 for all): how many, broken ones among them, and in batches without these."""
    count = min(count or stored.test_size, stored.test_size)
    if stored.info.streamed:
        return count, _readable(stored.test_batches(Share(BATCH_SIZE)), count)
    return count, [(stored.test_images[:count], stored.test_labels[:count])]


def of_training(network: Trained, stored, count: int) -> np.ndarray:
    """At most `count` images that a run trained on, drawn at random but always the same: uint8 [N, H, W, C]."""
    stored = load.with_validation(stored, network.data.validation, network.config["seed"])
    count = min(count, stored.train_size)
    if stored.info.streamed:
        batches = _readable(stored.train_batches(Share(BATCH_SIZE), seed=0, epoch=0), count)
        return np.concatenate([images for images, _ in batches])
    chosen = np.random.default_rng(0).choice(stored.train_size, count, replace=False)
    return stored.train_images[np.sort(chosen)]


def of_noise(network: Trained, count: int) -> tuple[int, Iterator[tuple[np.ndarray, None]]]:
    """As many images of random pixels, 1000 where `count` is 0, without labels."""
    count = count or 1000
    rng = np.random.default_rng(0)
    sizes = [min(BATCH_SIZE, count - first) for first in range(0, count, BATCH_SIZE)]
    return count, ((rng.integers(0, 256, (size, *network.info.shape), np.uint8), None) for size in sizes)


def _readable(batches, left: int) -> Iterator[Batch]:
    """The first `left` images of a streamed data set that could be decoded."""
    for batch in batches:
        whole = batch["mask"].nonzero()[0][:left]
        if len(whole):
            yield batch["images"][whole], batch["labels"][whole]
        left -= len(whole)
        if not left:
            return
