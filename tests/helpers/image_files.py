"""Small real image files in the layouts in which ImageNet comes, for the tests."""

import importlib.util
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

CLASSES = ("n01440764", "n01443537", "n01484850")  # the first three of ImageNet
needs_tensorflow = pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
LEVELS = 5  # of red and of green, by which an image is told from others of its class


def encode(pixels, image_format="JPEG", mode="RGB", **options):
    """Encoded bytes of uint8 pixels [H, W, 3]."""
    file = io.BytesIO()
    options = {"quality": 95, **options} if image_format == "JPEG" else options
    Image.fromarray(pixels).convert(mode).save(file, image_format, **options)
    return file.getvalue()


def photo(height, width, seed=0):
    """Something with structure at all scales: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 128.0)
    for cells in (2, 5, 13, 31):
        for channel in range(3):
            noise = Image.fromarray(rng.normal(size=(cells, cells)).astype(np.float32))
            image[..., channel] += 70 / cells**0.5 * np.asarray(noise.resize((width, height), Image.BICUBIC))
    return np.clip(image, 0, 255).astype(np.uint8)


def plain(label, index, height=40, width=50):
    """An image of one colour, which tells label and index whatever is cut out of it."""
    colour = [20 + 50 * (index % LEVELS), 20 + 50 * (index // LEVELS), 20 + 80 * label]
    return np.broadcast_to(np.array(colour, np.uint8), (height, width, 3))


def identify(image):
    """(label, index) of a `plain` image, however cropped."""
    mean = image.reshape(-1, 3).mean(0)
    assert np.abs(image - mean).max() < 6
    red, green, blue = mean
    return round((blue - 20) / 80), round((red - 20) / 50) + LEVELS * round((green - 20) / 50)


def images(counts):
    """[(class, index, file content)] with counts[label] images in each class."""
    return [
        (label, index, encode(plain(label, index, 30 + index, 60 - index)))
        for label, count in enumerate(counts)
        for index in range(count)
    ]


def write_folders(root, train_counts, val_counts):
    """The layout of torchvision's ImageFolder."""
    for split, counts in (("train", train_counts), ("val", val_counts)):
        for label, index, content in images(counts):
            folder = root / split / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{CLASSES[label]}_{index:02}.JPEG").write_bytes(content)


def _add(tar, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def write_tars(folder, train_counts, val_images):
    """ILSVRC2012_img_train.tar, a tar of a tar per class, and ILSVRC2012_img_val.tar with contents in their order."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as outer:
        for label, count in enumerate(train_counts):
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w") as inner:
                for index in range(count):
                    content = encode(plain(label, index, 30 + index, 60 - index))
                    _add(inner, f"{CLASSES[label]}_{index}.JPEG", content)
            _add(outer, f"{CLASSES[label]}.tar", packed.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as tar:
        for index, content in enumerate(val_images):
            _add(tar, f"ILSVRC2012_val_{index + 1:08}.JPEG", content)
