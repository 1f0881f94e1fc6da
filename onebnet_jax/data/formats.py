"""Readers of original files, by format: from a folder to `Arrays` and where in it they were.

They raise `Missing` where there is nothing to read and UserError, naming the file, where one is damaged. Nothing is
extracted to disk, and nothing that a file names is run.
"""

import contextlib
import gzip
import io
import pickle
import struct
import tarfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from onebnet_jax.errors import UserError

# Training images uint8 [N, H, W, C] and labels [N], test images and labels.
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


class Missing(UserError):
    """The data are not in this place; its message says what was looked for and where."""


def tolerate(unreadable: Collection[str], most: int, what: str) -> None:
    """Raises UserError where more of `what`, such as "images of DIR", cannot be decoded than `most`: their names."""
    if len(unreadable) > most:
        fault = f"{len(unreadable)} {what} cannot be decoded, such as {min(unreadable)}, where {most} may be left out"
        raise UserError(f"{fault}; get these again, save them in another format, or allow more by data.max_unreadable.")


def read_npz(folder: Path, name: str) -> tuple[Arrays, Path]:
    """An .npz file of {train,test}_images, uint8 [N, H, W] or [N, H, W, C], and {train,test}_labels [N]."""
    path = folder / name
    if not path.is_file():
        raise Missing(f"no {name} in {folder}")
    with naming(path), np.load(path, allow_pickle=False) as file:
        arrays = [file[f"{split}_{part}"] for split in ("train", "test") for part in ("images", "labels")]
    return tuple(array[..., np.newaxis] if array.ndim == 3 else array for array in arrays), path


def read_idx(folder: Path, subfolder: str) -> tuple[Arrays, Path]:
    """The four IDX files (http://yann.lecun.com/exdb/mnist), plain or .gz, in `folder` or torchvision's `subfolder`."""
    names = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    for place in (folder, folder / subfolder):
        if contents := _contents(place, names):
            arrays = [_parse_idx(data, rank, place / name) for data, rank, name in zip(contents, 2 * (3, 1), names)]
            return (arrays[0][..., np.newaxis], arrays[1], arrays[2][..., np.newaxis], arrays[3]), place
    raise Missing(f"no {names[0]}[.gz] in {folder}")


def _parse_idx(data: bytes, rank: int, path: Path) -> np.ndarray:
    header = 4 + 4 * rank
    if len(data) < header or data[:4] != bytes((0, 0, 8, rank)):  # 8: unsigned byte
        raise UserError(f"{path} is not an IDX file of {rank}-D bytes (magic number {data[:4].hex() or 'missing'}).")
    shape = struct.unpack_from(f">{rank}I", data, 4)
    size = int(np.prod(shape, dtype=object))
    if len(data) != header + size:
        raise UserError(f"{path} announces {size} bytes of {shape} but holds {len(data) - header}; get it again.")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)


def read_cifar10(folder: Path) -> tuple[Arrays, Path]:
    """CIFAR-10's binary or python version, https://www.cs.toronto.edu/~kriz/cifar.html, as archive, folder or files."""
    kinds = ("bin", "binary", ".bin", _parse_binary_batch), ("py", "python", "", _parse_python_batch)
    for kind, version, suffix, parse in kinds:
        subfolder = f"cifar-10-batches-{kind}"
        names = [*(f"data_batch_{index}{suffix}" for index in range(1, 6)), f"test_batch{suffix}"]
        for place in (folder / subfolder, folder / f"cifar-10-{version}.tar.gz", folder):
            if contents := _contents(place, names, subfolder):
                batches = [parse(content, place / name) for content, name in zip(contents, names)]
                images = [np.ascontiguousarray(x.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)) for x, _ in batches]
                labels = [labels for _, labels in batches]
                return (np.concatenate(images[:5]), np.concatenate(labels[:5]), images[5], labels[5]), place
    raise Missing(f"no CIFAR-10 batches or archive in {folder}")


def _parse_binary_batch(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Colour planes uint8 [N, 3072] and labels [N] of records of one label and 3072 pixel bytes."""
    if not data or len(data) % 3073:
        raise UserError(f"{path} has {len(data)} bytes, not a multiple of a record's 3073; get the file again.")
    records = np.frombuffer(data, np.uint8).reshape(-1, 3073)
    return records[:, 1:], records[:, 0]


def _parse_python_batch(data: bytes, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The same of a Python 2 pickle of a dict with a uint8 matrix b"data" [N, 3072] and a list b"labels"."""
    try:
        batch = _InertUnpickler(io.BytesIO(data), encoding="bytes").load()
        _, shape, dtype, is_fortran, pixels = batch[b"data"].state  # as numpy.ndarray.__setstate__ takes them
        labels = np.array(batch[b"labels"], np.int64)
        if dtype.arguments[0] not in (b"u1", "u1") or tuple(shape) != (*labels.shape, 3072):
            raise ValueError(f"data of type {dtype.arguments[0]} {shape} for {labels.size} labels; u1 (N, 3072) needed")
        images = np.frombuffer(pixels, np.uint8).reshape(shape, order="F" if is_fortran else "C")
    except Exception as error:  # unpickling damaged bytes raises nearly anything
        raise UserError(f"{path} is not a python batch of CIFAR-10: {error!r}.") from error
    return images, labels


class _Inert:
    """In the place of every class and function that a pickle names: keeps what it is given and does nothing."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __setstate__(self, state):
        self.state = state


class _InertUnpickler(pickle.Unpickler):
    def find_class(self, module, name):
        return _Inert


@contextlib.contextmanager
def naming(path: Path):
    """Turns whatever a damaged file or folder raises into a UserError that names it."""
    try:
        yield
    except UserError:
        raise
    except OSError as error:  # gzip's has no number
        remedy = "" if error.errno else "; get it again"
        raise UserError(f"{path} cannot be read: {error.strerror or error}{remedy}.") from error
    except Exception as error:
        raise UserError(f"{path} cannot be read: {error!r}; get it again.") from error


def _contents(place: Path, names: list[str], prefix: str = "") -> list[bytes]:
    """What is in files of a folder, plain or .gz, or of `prefix` in a .tar.gz; [] for none, Missing if some lack."""
    found = {}
    if place.is_file():
        # Unpacked as a whole, because tarfile alone would not read on to gzip's checksum.
        with naming(place), tarfile.open(fileobj=io.BytesIO(gzip.decompress(place.read_bytes())), mode="r:") as tar:
            wanted = {f"{prefix}/{name}": name for name in names}
            found = {wanted[m.name]: tar.extractfile(m).read() for m in tar if m.isreg() and m.name in wanted}
    for name in names:
        for path, unpack in ((place / name, bytes), (place / f"{name}.gz", gzip.decompress)):
            if name not in found and path.is_file():
                with naming(path):
                    found[name] = unpack(path.read_bytes())
    lacking = [name for name in names if name not in found]
    if found and lacking:
        raise Missing(f"{place} lacks {', '.join(lacking)}")
    return [] if lacking else [found[name] for name in names]
