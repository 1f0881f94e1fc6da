"""Builds fashion_mnist_mini.npz from the full FashionMNIST and prints the statistics kept in onebnet_jax/data.py.

    python -m onebnet_jax.data.embedded.build [--directory=FOLDER]

FOLDER holds the original files; without it, Debian's package dataset-fashion-mnist is read. The choice is a fixed rule:
of every class, the first images in the order of a seeded permutation of the whole set, kept in their original order.
"""

import argparse

import numpy as np

from onebnet_jax.data import load as data

SEED = 0
TRAIN_PER_CLASS = 400
TEST_PER_CLASS = 100


def choose(labels: np.ndarray, per_class: int) -> np.ndarray:
    """Sorted indices of `per_class` images of every class; labels: [N].

    RandomState, because NumPy promises that its streams never change.
    """
    order = np.random.RandomState(SEED).permutation(len(labels))
    chosen = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return np.sort(np.concatenate(chosen))


def statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation per channel over all pixels of uint8 images [N, H, W, C], scaled to 0..1."""
    counts = [np.bincount(images[..., channel].ravel(), minlength=256) for channel in range(images.shape[-1])]
    values = np.arange(256) / 255
    means = np.array([np.average(values, weights=count) for count in counts])
    variances = [np.average((values - mean) ** 2, weights=count) for mean, count in zip(means, counts, strict=True)]
    return means, np.sqrt(variances)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--directory", default="", help="folder of the original files")
    full = data.load("fashion_mnist", "files", parser.parse_args().directory)
    train = choose(full.train_labels, TRAIN_PER_CLASS)
    test = choose(full.test_labels, TEST_PER_CLASS)
    np.savez_compressed(
        data.EMBEDDED_FILE,
        train_images=full.train_images[train, ..., 0],
        train_labels=full.train_labels[train].astype(np.uint8),
        train_indices=train.astype(np.uint16),
        test_images=full.test_images[test, ..., 0],
        test_labels=full.test_labels[test].astype(np.uint8),
        test_indices=test.astype(np.uint16),
    )
    print(full.source)
    print(f"{data.EMBEDDED_FILE}: {data.EMBEDDED_FILE.stat().st_size} bytes")
    for title, images in (("full training set", full.train_images), ("chosen part", full.train_images[train])):
        mean, std = statistics(images)
        print(f"{title}: mean {np.round(mean, 4)}, std {np.round(std, 4)}")


if __name__ == "__main__":
    main()
