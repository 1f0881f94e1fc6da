"""Builds fashion_mnist_mini.npz from the full FashionMNIST.

    python -m onebnet_jax.data.embedded.build [FOLDER]

FOLDER holds the original files; without it, Debian's package dataset-fashion-mnist is read. The choice is a fixed rule:
of every class, the first images in the order of a seeded permutation of the whole set, kept in their original order.
"""

import sys
from pathlib import Path

import numpy as np

from onebnet_jax.data import load as data

FILE = Path(__file__).parent / "fashion_mnist_mini.npz"
SEED = 0
PER_CLASS = {"train": 400, "test": 100}


def choose(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Sorted indices of `per_class` images of every class; labels: [N].

    RandomState, because NumPy promises that its streams never change.
    """
    order = np.random.RandomState(SEED).permutation(len(labels))
    chosen = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def part(full: data.Dataset) -> dict[str, np.ndarray]:
    """The arrays of the file, by name."""
    arrays = {}
    for split, per_class in PER_CLASS.items():
        images, labels = getattr(full, f"{split}_images"), getattr(full, f"{split}_labels")
        chosen = choose(labels, per_class)
        arrays[f"{split}_images"] = images[chosen, ..., 0]
        arrays[f"{split}_labels"] = labels[chosen].astype(np.uint8)
        arrays[f"{split}_indices"] = chosen.astype(np.uint16)
    return arrays


if __name__ == "__main__":
    np.savez_compressed(FILE, **part(data.open("fashion_mnist", "files", *sys.argv[1:])))
