"""Which images of a data set are for training, for validation and for testing."""

import hashlib
import unicodedata
from collections.abc import Sequence

import numpy as np

from onebnet_jax.errors import UserError

FEW = 100  # images, of which one more or less is at least a point of Top-1
# Split -> paths [N] and labels int32 [N], and of a folder the images' names within their classes [N].
Files = dict[str, tuple[np.ndarray, ...]]


def by_name(names: Sequence[str], share: float, purpose: str) -> np.ndarray:
    """Which of the images [N] of a class are held out for a purpose: those whose names have a hash below the share.

    So it is *about* the share, but what becomes of an image does not depend on the others, and more can be added. Only
    where this would hold out none of two or more, or all, it holds out the one with the lowest hash, or all but the one
    with the highest.
    """
    keys = (f"{purpose}/{unicodedata.normalize('NFC', name)}".encode(errors="surrogateescape") for name in names)
    hashes = np.array([int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64 for key in keys])
    held = hashes < share
    if len(held) > 1 and not held.any():
        held[hashes.argmin()] = True
    if held.all():
        held[hashes.argmax()] = False
    return held


def for_validation(
    labels: np.ndarray, share: float, seed: int, names: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """Which of the training images [N] a share of each class is, chosen by the seed; and in words, for the log.

    By their names [N] where they have any, see `by_name`, and else by their places. Raises UserError where that is
    none, as no class has two images.
    """
    rng, held = np.random.default_rng(seed), np.zeros(len(labels), bool)
    classes, counts = np.unique(labels, return_counts=True)
    for label in classes:
        places = np.flatnonzero(labels == label)
        if names is None:
            held[rng.permutation(places)[: _portion(share, len(places))]] = True
        else:
            held[places] = by_name(names[places], share, f"validation {seed}")
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


def _portion(share: float, count: int) -> int:
    """How many of `count` a share of them is: one at least, and not all."""
    return min(max(round(share * count), 1), count - 1)
