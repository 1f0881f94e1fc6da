"""Small FashionMNIST and CIFAR-10 files in the published formats, for the tests."""

import dataclasses
import functools
import gzip
import io
import os
import struct
import tarfile
import tempfile
import types
from pathlib import Path
from unittest import mock

import numpy as np

from onebnet_jax.data.catalog import DATASETS


def random_arrays(shape, train=30, test=10, seed=0):
    """Random images and labels of both splits, in the order of `formats.Arrays`."""
    rng = np.random.default_rng(seed)
    return tuple(
        array
        for count in (train, test)
        for array in (rng.integers(0, 256, (count, *shape), np.uint8), rng.permutation(np.arange(count) % 10))
    )


FASHION_MNIST = random_arrays((28, 28, 1))
CIFAR10 = random_arrays((32, 32, 3))
ARRAYS = {"fashion_mnist": FASHION_MNIST, "cifar10": CIFAR10}


def isolate(tmp_path, monkeypatch):
    """Makes a test independent of the data on this machine and of the network."""
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds_default"))
    for name in ARRAYS:
        originals = ((f"http://127.0.0.1:9/{name}.gz", "0" * 64),)
        info = dataclasses.replace(DATASETS[name], folders=(str(tmp_path / "system"),), originals=originals)
        monkeypatch.setitem(DATASETS, name, info)


def assert_holds(dataset, arrays, any_order=False):
    """Fails unless `dataset` holds exactly `arrays`; TFDS shuffles, so its order may be free."""
    read = dataset.train_images, dataset.train_labels, dataset.test_images, dataset.test_labels
    assert [array.dtype for array in read] == [np.uint8, np.int32] * 2
    for images, labels, expected_images, expected_labels in (read[:2] + arrays[:2], read[2:] + arrays[2:]):
        assert images.shape == expected_images.shape
        rows, expected = (
            [(image.tobytes(), int(label)) for image, label in zip(*pair, strict=True)]
            for pair in ((images, labels), (expected_images, expected_labels))
        )
        if any_order:
            rows, expected = sorted(rows), sorted(expected)
        assert rows == expected


def idx(array):
    """An IDX file of bytes: magic number, big-endian sizes, data."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_fashion_mnist(folder, arrays, packed=True):
    folder.mkdir(parents=True, exist_ok=True)
    for (split, kind), array in zip(
        [(split, kind) for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")], arrays, strict=True
    ):
        content = idx(array[..., 0] if kind == "images-idx3" else array)
        name = f"{split}-{kind}-ubyte"
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(content) if packed else content)
    return folder


def _planes(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


def binary_batch(images, labels):
    return np.concatenate([labels.astype(np.uint8)[:, np.newaxis], _planes(images)], 1).tobytes()


def python_batch(images, labels):
    """The bytes that Python 2's cPickle writes for a batch (protocol 2), opcode by opcode."""

    def text(value):
        return b"U" + bytes([len(value)]) + value

    array = (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x10cnumpy\nndarray\nq\x11K\x00\x85" + text(b"b") + b"\x87Rq\x12"
        b"(K\x01" + b"M" + struct.pack("<H", len(images)) + b"M" + struct.pack("<H", 3072) + b"\x86"
        b"cnumpy\ndtype\nq\x13" + text(b"u1") + b"K\x00K\x01\x87Rq\x14"
        b"(K\x03" + text(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<I", images.size) + _planes(images).tobytes() + b"tb"
    )
    label_list = b"]q\x15(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return (
        b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03"
        + text(b"labels") + b"q\x04" + label_list + text(b"data") + b"q\x05" + array + b"u."
    )  # fmt: skip


def cifar10_files(arrays, kind):
    """File name -> content of the six batches; kind: "bin" or "py"."""
    train_images, train_labels, test_images, test_labels = arrays
    write, suffix = {"bin": (binary_batch, ".bin"), "py": (python_batch, "")}[kind]
    files = {
        f"data_batch_{index + 1}{suffix}": write(images, labels)
        for index, (images, labels) in enumerate(
            zip(np.array_split(train_images, 5), np.array_split(train_labels, 5), strict=True)
        )
    }
    files[f"test_batch{suffix}"] = write(test_images, test_labels)
    files["batches.meta.txt"] = "\n".join(DATASETS["cifar10"].class_names).encode() + b"\n\n"
    return files


def write_cifar10(folder, arrays, kind, packed):
    """Writes the archive or the unpacked folder of one version into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    files = cifar10_files(arrays, kind)
    if not packed:
        (folder / f"cifar-10-batches-{kind}").mkdir()
        for name, content in files.items():
            (folder / f"cifar-10-batches-{kind}" / name).write_bytes(content)
        return folder
    archive = folder / {"bin": "cifar-10-binary.tar.gz", "py": "cifar-10-python.tar.gz"}[kind]
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-{kind}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return folder


def write_tfds_originals(name, folder):
    """Writes the files that TFDS's builder of `name` would find after its download and extraction."""
    if name == "fashion_mnist":
        return write_fashion_mnist(folder, FASHION_MNIST, packed=False)
    return write_cifar10(folder, CIFAR10, "bin", packed=False)


def prepare_tfds(name, folder, originals, file_format, tensorflow=False):
    """Lets TFDS's own builder prepare original files into the TFDS data directory `folder`.

    Replaced are the download, whose result the files in `originals` are, and the sizes that the builder takes for
    granted; without TensorFlow also the three small things that the builder would use it for: opening a file, encoding
    a PNG image and, for tfrecord, writing a record.
    """
    import tensorflow_datasets as tfds
    import tensorflow_datasets.image_classification as builders
    from PIL import Image
    from tensorboardX.record_writer import RecordWriter
    from tensorflow_datasets.core import file_adapters
    from tensorflow_datasets.core.features import image_feature

    def download_and_extract(_, urls):
        if isinstance(urls, dict):
            return {key: str(originals / os.path.basename(url).removesuffix(".gz")) for key, url in urls.items()}
        return str(originals)

    def encode_png(_, image):
        file = io.BytesIO()
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
        return file.getvalue()

    def write_records(path, records):
        writer = RecordWriter(str(path))
        for _, record in records:
            writer.write(record)
        writer.close()

    mnist, cifar = builders.mnist, builders.cifar
    patches = [
        mock.patch.object(tfds.download.DownloadManager, "download_and_extract", download_and_extract),
        mock.patch.object(mnist, "_TRAIN_EXAMPLES", len(FASHION_MNIST[0])),
        mock.patch.object(mnist, "_TEST_EXAMPLES", len(FASHION_MNIST[2])),
    ]
    if not tensorflow:
        gfile = types.SimpleNamespace(io=types.SimpleNamespace(gfile=types.SimpleNamespace(GFile=open)))
        patches += [
            mock.patch.object(mnist, "tf", gfile),
            mock.patch.object(cifar, "tf", gfile),
            mock.patch.object(image_feature._ImageEncoder, "_encode_image", encode_png),
            mock.patch.object(file_adapters.TfRecordFileAdapter, "write_examples", staticmethod(write_records)),
        ]
    for patch in patches:
        patch.start()
    try:
        builder = tfds.builder(name, data_dir=str(folder))
        config = tfds.download.DownloadConfig(try_download_gcs=False)
        builder.download_and_prepare(file_format=file_format, download_config=config)
    finally:
        for patch in patches:
            patch.stop()
    return folder


_TEMPORARY = tempfile.TemporaryDirectory(prefix="onebnet_tfds_")  # removed when Python ends


@functools.cache
def tfds_directory(name, file_format):
    """A TFDS data directory of `ARRAYS[name]`, prepared once by TFDS's own builder."""
    folder = Path(_TEMPORARY.name) / f"{name}_{file_format}"
    return prepare_tfds(name, folder, write_tfds_originals(name, folder / "originals"), file_format)
