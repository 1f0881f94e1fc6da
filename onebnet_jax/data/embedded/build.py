"""Builds fashion_mnist_mini.npz: python -m onebnet_jax.data.embedded.build [FOLDER of the original FashionMNIST]

Of every class it holds the first images in the order of a seeded permutation of the whole set, in their original order.
"""

import sys
from pathlib import Path

import numpy as np

from onebnet_jax.data import load as data

FILE = Path(__file__).parent / "fashion_mnist_mini.npz"


def part(full: data.Dataset) -> dict[str, np.ndarray]:
    """The arrays of the file, by name."""
    arrays = {}
    for split, per_class in (("train", 400), ("test", 100)):
        images, labels = getattr(full, f"{split}_images"), getattr(full, f"{split}_labels")
        order = np.random.RandomState(0).permutation(len(labels))  # NumPy promises that its streams never change
        chosen = np.sort(np.concatenate([order[labels[order] == x][:per_class] for x in np.unique(labels)]))
        arrays[f"{split}_images"] = images[chosen, ..., 0]
        arrays[f"{split}_labels"] = labels[chosen].astype(np.uint8)
        arrays[f"{split}_indices"] = chosen.astype(np.uint16)
    return arrays


if __name__ == "__main__":
    np.savez_compressed(FILE, **part(data.open("fashion_mnist", "files", *sys.argv[1:])))
