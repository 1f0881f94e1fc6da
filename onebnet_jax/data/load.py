"""Reads the small data sets into memory; ImageNet does not fit there, `onebnet_jax.imagenet` streams it.

Cheap to import: tensorflow-datasets is imported here only when `load` needs it, JAX and TensorFlow never.
"""

import dataclasses
import hashlib
import http.client
import os
import sys
import urllib.request
from pathlib import Path

import numpy as np

from onebnet_jax.data import formats as data_formats
from onebnet_jax.data.catalog import DATASETS, Info
from onebnet_jax.data.formats import Arrays, Missing
from onebnet_jax.errors import UserError

SOURCES = ("tfds", "files", "download")  # in the order in which "auto" tries them
DEBIAN_FOLDER = "/usr/share/datasets/fashion-mnist"
EMBEDDED_FILE = Path(__file__).parent / "embedded" / "fashion_mnist_mini.npz"
_TIMEOUT_SECONDS = 30


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory.

    Attributes:
      info: its entry of `data_info.DATASETS`.
      train_images: uint8 [N, H, W, C], in the order of the source: TFDS shuffles once, the original files do not.
      train_labels: int32 [N].
      test_images, test_labels: the same of the test set.
      source: what was read and from where, for the log.
    """

    info: Info
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str


def load(name: str, source: str = "auto", directory: str = "") -> Dataset:
    """Reads the data set `name` of `data_info.DATASETS`.

    Args:
      name: "fashion_mnist", "cifar10", or "fashion_mnist_mini", which is shipped in this package.
      source: "tfds", a prepared TFDS data directory; "files", the original files in a folder; "download", the
        original files fetched into a folder first; "auto", the first of these three that is there.
      directory: the TFDS data directory or the folder of the files. "" means the usual places: $TFDS_DATA_DIR or
        ~/tensorflow_datasets for "tfds", and its downloads/NAME for "download"; that and, for FashionMNIST, Debian's
        /usr/share/datasets/fashion-mnist for "files".

    Raises:
      UserError: for an unknown name or source, a data set that is streamed, data that are missing (with all ways to get
        them), or files that are damaged (with the name of the file).
    """
    if name not in DATASETS:
        raise UserError(f"data.name={name!r} is unknown; it must be one of {', '.join(map(repr, DATASETS))}.")
    if source not in ("auto", *SOURCES):
        raise UserError(f"data.source={source!r} is unknown; it must be one of 'auto', {str(SOURCES)[1:-1]}.")
    info = DATASETS[name]
    if info.streamed:
        raise UserError(f"data.name={name!r} does not fit into memory; this command takes the small data sets only.")
    if name == "fashion_mnist_mini":
        if source != "auto" or directory:
            raise UserError(
                f"data.name={name!r} is shipped in this package, so data.source must be 'auto' and data.dir empty; "
                "the full set is data.name='fashion_mnist'."
            )
        return _dataset(info, _read_embedded(), "shipped with the package")
    directory = os.path.expanduser(directory)
    if directory and source != "download" and not os.path.isdir(directory):
        raise UserError(f"data.dir={directory!r} is not a folder.")
    readers = {"tfds": _read_tfds, "files": _read_files, "download": _download}
    missing = []
    for candidate in SOURCES if source == "auto" else (source,):
        try:
            return _dataset(info, *readers[candidate](name, directory))
        except Missing as error:
            missing.append(str(error))
        except OSError as error:
            raise UserError(f"{info.title} cannot be read: {error}.") from error
    raise UserError(f"{info.title} was not found ({'; '.join(missing)}): {info.remedy}.")


def _dataset(info: Info, arrays: Arrays, origin: str) -> Dataset:
    """Checks what was read against `info`; the number of images is free, but told where it is not the official one."""
    for split, images, labels in (("training", *arrays[:2]), ("test", *arrays[2:])):
        if images.shape != (len(labels), *info.shape) or images.dtype != np.uint8:
            raise UserError(
                f"{info.title}, {origin}: the {split} set has images of {images.dtype} {images.shape} for "
                f"{len(labels)} labels, where uint8 {(len(labels), *info.shape)} is needed."
            )
        if not len(labels):
            raise UserError(f"{info.title}, {origin}: the {split} set is empty.")
        if labels.min() < 0 or labels.max() >= info.num_classes:
            raise UserError(
                f"{info.title}, {origin}: the labels of the {split} set run from {labels.min()} to {labels.max()}, "
                f"where 0 to {info.num_classes - 1} are the classes."
            )
    sizes = len(arrays[0]), len(arrays[2])
    source = f"{info.title}, {sizes[0]} training and {sizes[1]} test images, {origin}"
    if sizes != (info.train_size, info.test_size):
        source += f" (NOT the full set, which has {info.train_size} and {info.test_size})"
    train_images, train_labels, test_images, test_labels = arrays
    return Dataset(info, train_images, train_labels.astype(np.int32), test_images, test_labels.astype(np.int32), source)


def _read_embedded() -> Arrays:
    with np.load(EMBEDDED_FILE, allow_pickle=False) as file:
        images = [file[f"{split}_images"][..., np.newaxis] for split in ("train", "test")]
        return images[0], file["train_labels"], images[1], file["test_labels"]


def tfds_directory(directory: str) -> Path:
    """The TFDS data directory; TFDS's own default where none is given."""
    return Path(directory or os.path.expanduser(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"))


def _downloads(name: str, directory: str) -> Path:
    return Path(directory) if directory else tfds_directory("") / "downloads" / name


def _read_tfds(name: str, directory: str) -> tuple[Arrays, str]:
    folder = data_formats.find_tfds(tfds_directory(directory), name)
    return data_formats.read_tfds(folder), f"from the TFDS directory {folder}"


def _read_files(name: str, directory: str) -> tuple[Arrays, str]:
    folders = [_downloads(name, directory)]
    if name == "fashion_mnist" and not directory:
        folders.insert(0, Path(DEBIAN_FOLDER))
    read = {"fashion_mnist": data_formats.read_fashion_mnist, "cifar10": data_formats.read_cifar10}[name]
    missing = []
    for folder in folders:
        try:
            arrays, path = read(folder)
        except Missing as error:
            missing.append(str(error))
        else:
            return arrays, f"from the original files in {path}"
    raise Missing("; ".join(missing))


def _download(name: str, directory: str) -> tuple[Arrays, str]:
    """Fetches the original files, where they are not there already, and reads them.

    Addresses and SHA-256 sums are those that TFDS records. TFDS itself could not prepare them: its builders of these
    data sets read files and encode images with TensorFlow.
    """
    folder = _downloads(name, directory)
    for url, sha256 in _originals(name).items():
        path = folder / url.rpartition("/")[2]
        try:
            if path.exists():
                if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
                    raise UserError(
                        f"{path} is not the file that data.source='download' would put there; move it away, or "
                        "set data.source='files' to read it."
                    )
                continue
            print(f"Downloading {url} to {folder}", file=sys.stderr, flush=True)
            with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:
                content = response.read()
            if hashlib.sha256(content).hexdigest() != sha256:
                raise UserError(f"{url} gave a file with another SHA-256 sum than TFDS records; it was not kept.")
            folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}.part")
            partial.write_bytes(content)
            partial.replace(path)
        except (OSError, http.client.HTTPException) as error:
            raise Missing(f"the download of {url} to {folder} failed: {error}") from error
    arrays, _ = _read_files(name, str(folder))
    return arrays, f"from the original files downloaded to {folder}"


def _originals(name: str) -> dict[str, str]:
    """Address -> SHA-256 of every original file of a data set, as TFDS records them."""
    import tensorflow_datasets as tfds

    return {url: record.checksum for url, record in tfds.builder_cls(name).url_infos.items()}
