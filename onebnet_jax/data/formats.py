"""Readers of the formats in which FashionMNIST and CIFAR-10 are published, all without TensorFlow.

Every reader returns `Arrays` and raises `Missing` where there is nothing to read, UserError where a file is damaged.
Files are data and no more: nothing is extracted to disk, CIFAR-10's pickles cannot call anything, and TFDS imports
nothing that a directory names.
"""

import gzip
import io
import pickle
import re
import struct
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from onebnet_jax.data import tfds as tfds_builder
from onebnet_jax.errors import UserError

# Training images uint8 [N, H, W, C] and labels [N], test images and labels.
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]

_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError)  # what gzip and tarfile raise for damaged files
_CIFAR10_BATCHES = (*(f"data_batch_{index}" for index in range(1, 6)), "test_batch")


class Missing(UserError):
    """The data are not in this place; its message says what was looked for and where."""


# FashionMNIST: IDX files, http://yann.lecun.com/exdb/mnist (section "file formats").


def read_fashion_mnist(folder: Path) -> tuple[Arrays, Path]:
    """Reads the four IDX files, plain or .gz, of `folder` or of torchvision's FashionMNIST/raw in it.

    Returns the arrays and the folder in which they were.
    """
    for place in (folder, folder / "FashionMNIST" / "raw"):
        names = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
        paths = [_first_file(place / name, place / f"{name}.gz") for name in names]
        if all(paths):
            arrays = [_read_idx(path, rank) for path, rank in zip(paths, (3, 1, 3, 1), strict=True)]
            return (arrays[0][..., np.newaxis], arrays[1], arrays[2][..., np.newaxis], arrays[3]), place
        if any(paths):
            lacking = [name for name, path in zip(names, paths, strict=True) if path is None]
            raise Missing(f"{place} lacks {', '.join(lacking)}")
    raise Missing(f"no train-images-idx3-ubyte[.gz] in {folder}")


def _first_file(*paths: Path) -> Path | None:
    return next((path for path in paths if path.is_file()), None)


def _read_idx(path: Path, rank: int) -> np.ndarray:
    """uint8 array of `rank` dimensions from an IDX file."""
    try:
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
    except _DAMAGE as error:
        raise UserError(f"{path} cannot be read: {error}; get the file again.") from error
    header = 4 + 4 * rank
    if len(data) < header or data[:4] != bytes((0, 0, 8, rank)):  # 8: unsigned byte
        raise UserError(f"{path} is not an IDX file of {rank}-D bytes (magic number {data[:4].hex() or 'missing'}).")
    shape = struct.unpack_from(f">{rank}I", data, 4)
    size = int(np.prod(shape, dtype=object))
    if len(data) != header + size:
        raise UserError(f"{path} announces {size} bytes of {shape} but holds {len(data) - header}; get it again.")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


# CIFAR-10: binary and python versions, https://www.cs.toronto.edu/~kriz/cifar.html.


def read_cifar10(folder: Path) -> tuple[Arrays, Path]:
    """Reads the binary or the python version, packed or unpacked, of `folder`.

    Looks for cifar-10-batches-bin, cifar-10-batches-py, cifar-10-binary.tar.gz and cifar-10-python.tar.gz, and for the
    batches in `folder` itself. Returns the arrays and the folder or archive in which they were.
    """
    versions = (
        ("cifar-10-batches-bin", "cifar-10-binary.tar.gz", ".bin", _parse_binary_batch),
        ("cifar-10-batches-py", "cifar-10-python.tar.gz", "", _parse_python_batch),
    )
    for subfolder, archive, suffix, parse in versions:
        names = [f"{batch}{suffix}" for batch in _CIFAR10_BATCHES]
        for place in (folder / subfolder, folder / archive, folder):
            files = _archive_members(place, subfolder) if place == folder / archive else _folder_files(place, names)
            if not files:
                continue
            lacking = [name for name in names if name not in files]
            if lacking:
                raise Missing(f"{place} lacks {', '.join(lacking)}")
            batches = [parse(files[name], f"{place}/{name}") for name in names]
            train_images, train_labels = (np.concatenate(parts) for parts in zip(*batches[:-1], strict=True))
            return (train_images, train_labels, *batches[-1]), place
    raise Missing(f"no CIFAR-10 batches or archive in {folder}")


def _folder_files(folder: Path, names: list[str]) -> dict[str, bytes]:
    try:
        return {name: (folder / name).read_bytes() for name in names if (folder / name).is_file()}
    except OSError as error:
        raise UserError(f"{folder} cannot be read: {error}.") from error


def _archive_members(archive: Path, prefix: str) -> dict[str, bytes]:
    """File name -> content of the regular files in the archive's folder `prefix`; {} where there is no archive."""
    if not archive.is_file():
        return {}
    try:
        # Unpacked as a whole, because tarfile alone would not read on to gzip's checksum.
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(archive.read_bytes())), mode="r:") as tar:
            return {
                member.name.removeprefix(f"{prefix}/"): tar.extractfile(member).read()
                for member in tar
                if member.isreg() and member.name.startswith(f"{prefix}/")
            }
    except _DAMAGE as error:
        raise UserError(f"{archive} cannot be read: {error}; get the file again.") from error


def _from_planes(planes: np.ndarray) -> np.ndarray:
    """[N, 3072], three colour planes of 32x32 each, to [N, 32, 32, 3]."""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _parse_binary_batch(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Records of one label and 3072 pixel bytes."""
    if not data or len(data) % 3073:
        raise UserError(f"{where} has {len(data)} bytes, not a multiple of a record's 3073; get the file again.")
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return _from_planes(records[:, 1:]), records[:, 0]


def _parse_python_batch(data: bytes, where: str) -> tuple[np.ndarray, np.ndarray]:
    """A Python 2 pickle of a dict with a uint8 matrix b"data" [N, 3072] and a list b"labels"."""
    try:
        batch = _BatchUnpickler(io.BytesIO(data), encoding="bytes").load()
        images, labels = batch[b"data"].matrix, np.array(batch[b"labels"], np.int64)
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        raise UserError(f"{where} is not a python batch of CIFAR-10: {error!r}.") from error
    if images.shape != (len(labels), 3072):
        raise UserError(f"{where} holds data of shape {images.shape} for {len(labels)} labels; (N, 3072) is needed.")
    return _from_planes(images), labels


class _PickledMatrix:
    """Takes the place of numpy.ndarray in a batch's pickle: a uint8 matrix from plain bytes, and nothing else."""

    def __init__(self, *_):
        """Called as numpy's _reconstruct(ndarray, (0,), b"b"), which only makes an empty array."""

    def __setstate__(self, state):
        _, shape, dtype, is_fortran, data = state
        if dtype.args[:1] not in ((b"u1",), ("u1",)):
            raise ValueError(f"an array of dtype {dtype.args[:1]}")
        self.matrix = np.frombuffer(data, np.uint8).reshape(shape, order="F" if is_fortran else "C")


class _PickledDtype:
    """Takes the place of numpy.dtype in a batch's pickle."""

    def __init__(self, *args):
        self.args = args

    def __setstate__(self, state):
        """Byte order and the like: without meaning for bytes."""


class _BatchUnpickler(pickle.Unpickler):
    """Builds plain Python values and, through the stand-ins above, uint8 matrices; refuses every other name."""

    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledMatrix,
        ("numpy._core.multiarray", "_reconstruct"): _PickledMatrix,
        ("numpy", "ndarray"): _PickledMatrix,
        ("numpy", "dtype"): _PickledDtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR-10 batch needs")
        return self._ALLOWED[module, name]


# TFDS: prepared data directories, https://www.tensorflow.org/datasets.


def find_tfds(directory: Path, name: str) -> Path:
    """The newest version of the prepared data set `name` in a TFDS data directory, such as DIRECTORY/cifar10/3.0.2."""
    versions = {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in directory.glob(f"{name}/*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    if not versions:
        raise Missing(f"no prepared {name} in the TFDS data directory {directory}")
    return versions[max(versions)]


def read_tfds(folder: Path) -> Arrays:
    """Reads both splits of one prepared version, in array_record, parquet or tfrecord format.

    TFDS reads the first two without TensorFlow. Of the third, its default, TFDS only decodes the records; their frames
    are read here.
    """
    try:
        builder = tfds_builder.open_directory(folder)
        is_tfrecord = builder.info.file_format.value == "tfrecord"
        examples = _tfrecord_examples if is_tfrecord else _random_access_examples
        arrays = []
        for split in ("train", "test"):
            pairs = [(example["image"], example["label"]) for example in examples(builder, split)]
            count = builder.info.splits[split].num_examples
            if len(pairs) != count:
                raise UserError(
                    f"{folder} announces {count} examples of '{split}' but holds {len(pairs)}; prepare it again."
                )
            images, labels = zip(*pairs, strict=True)
            arrays += [np.stack(images), np.array(labels, np.int64)]
    except UserError:
        raise
    except Exception as error:  # TFDS documents no exceptions for damaged files
        raise UserError(f"The TFDS data in {folder} cannot be read: {error!r}.") from error
    return tuple(arrays)


def _random_access_examples(builder, split: str) -> Iterator[dict]:
    source = builder.as_data_source(split)
    for start in range(0, len(source), 1000):  # in blocks, which is faster than one by one
        yield from source.__getitems__(list(range(start, min(start + 1000, len(source)))))


def _tfrecord_examples(builder, split: str) -> Iterator[dict]:
    """Decoded examples of a split in TFRecord files.

    A record is its length (uint64), 4 bytes of checksum, the data and 4 bytes of checksum, little-endian. The checksums
    are not verified, which is slow in Python: damage to an image is noticed by PNG's own, damage to a label only where
    it is no class any more.
    """
    for path in builder.info.splits[split].filepaths:
        data, position = Path(path).read_bytes(), 0
        while position < len(data):
            end = position + 12 + int.from_bytes(data[position : position + 8], "little")
            if end + 4 > len(data):
                raise UserError(f"{path} ends in the middle of a record; prepare the data set again.")
            yield builder.info.features.deserialize_example_np(data[position + 12 : end])
            position = end + 4
