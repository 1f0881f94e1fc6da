"""Opens the data sets of `catalog`. TFDS and TensorFlow are imported only when data need them, JAX never."""

import dataclasses
import gzip
import hashlib
import http.client
import os
import sys
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from etils import epath

from onebnet_jax.data import folder, parts, photos, stream, tfds
from onebnet_jax.data.catalog import DATASETS, Info
from onebnet_jax.data.formats import Arrays, Missing
from onebnet_jax.data.imagenet import reader
from onebnet_jax.errors import UserError, local


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set in memory, in the order of the source: TFDS shuffles once, the original files do not."""

    info: Info
    train_images: np.ndarray  # uint8 [N, H, W, C]
    train_labels: np.ndarray  # int32 [N]
    test_images: np.ndarray
    test_labels: np.ndarray
    source: str  # what was read and from where, for the log
    validation_images: np.ndarray | None = None  # None where there are none
    validation_labels: np.ndarray | None = None
    files: parts.Files | None = None  # of a folder: where these images are from, by split
    photos: dict | None = None  # of a folder: see `folder.Found`

    @property
    def train_size(self) -> int:
        return len(self.train_labels)

    @property
    def test_size(self) -> int:
        return len(self.test_labels)

    @property
    def validates(self) -> bool:
        return self.validation_labels is not None

    def held_out(self, share: float, seed: int) -> "Dataset":
        """See `with_validation`."""
        images, labels, files = self.train_images, self.train_labels, self.files
        held, words = parts.for_validation(labels, share, seed, files and files["train"][2])
        return dataclasses.replace(
            self,
            train_images=images[~held],
            train_labels=labels[~held],
            validation_images=images[held],
            validation_labels=labels[held],
            source=self.source + words,
            files=files and parts.split(files, held),
        )


def with_validation(dataset, share: float, seed: int):
    """The same data set with a share of each class's training images, chosen by the seed, held out for validation.

    One of a class at least, and not all; of a folder by name, see `parts.by_name`. Of records, whose labels are known
    only once they are read, whole files are held out, over which the classes are spread by chance. Raises UserError
    where the data set has validation images of its own, or all its records in one file.
    """
    if not share:
        return dataset
    if dataset.validates:
        raise UserError(f"data.validation={share} must be 0: {dataset.info.title} has validation images of its own.")
    return dataset.held_out(share, seed)


def open(name: str, source: str = "auto", directory: str = "", **options):
    """Finds a data set of the catalog: a `Dataset`, or where it is streamed (`info.streamed`) one that has batches.

    `source` is "tfds", a prepared TFDS data directory; "files", the original files in a folder; "download", these
    fetched into a folder first; or "auto", the first of `info.sources` that is there. `directory` is that directory or
    folder; "" means $TFDS_DATA_DIR or ~/tensorflow_datasets for "tfds", and `info.folders` and then downloads/NAME in
    that directory for "files". The options are those of `imagenet.reader.Streamed` or of `_of_folder`.

    Raises UserError for a source that the data set does not have, data that are missing (with all ways to get them),
    and files that are damaged (with the name of the file).
    """
    info = DATASETS[name]
    if source not in ("auto", *info.sources):
        choices = ", ".join(map(repr, ("auto", *info.sources)))
        raise UserError(f"data.source={source!r} will not do for {info.title}; it must be one of {choices}.")
    wanted = info.sources if source == "auto" else (source,)
    local("data.dir", directory)
    directory = os.path.expanduser(directory)
    if directory and source != "download" and not os.path.isdir(directory):
        fault = "a file, not a folder" if os.path.exists(directory) else "not there"
        raise UserError(f"data.dir={directory!r} is {fault}; --config.data.dir=FOLDER says where the data are.")
    finders = {"tfds": _read_tfds, "files": _read_files, "download": _download}
    if info.streamed:
        finders = {"tfds": reader.Records, "files": reader.Folders}
    try:
        if not info.num_classes:
            return _of_folder(info, directory, **options)
        found = _first_found(lambda each: finders[each](info, directory), wanted)
    except Missing as error:
        raise UserError(f"{info.title} was not found ({error}): {info.remedy}.") from error
    except OSError as error:
        raise UserError(f"{info.title} cannot be read: {error}.") from error
    return reader.Streamed(info, found, **options) if info.streamed else _in_memory(info, *found)


def _first_found(find: Callable, places: Iterable):
    """What is found in the first place where `find` does not raise Missing; raises it where all do."""
    missing = []
    for place in places:
        try:
            return find(place)
        except Missing as error:
            missing.append(str(error))
    raise Missing("; ".join(missing))


def _in_memory(info: Info, arrays: Arrays, origin: str) -> Dataset:
    """Checks what was read against `info`; the number of images is free, but told where it is not the official one."""
    channels = info.shape[2]
    if not len(info.mean) == len(info.std) == channels or min(info.std) <= 0:
        words = f"{channels} values each in mean and std, above 0 in std, one for each channel of {info.shape}"
        raise UserError(f"{info.title} must have {words}, not {info.mean} and {info.std}.")
    if len(info.class_names) not in (0, info.num_classes):
        raise UserError(f"{info.title} has {len(info.class_names)} class_names for {info.num_classes} classes.")
    for split, images, labels in (("training", *arrays[:2]), ("test", *arrays[2:])):
        if labels.ndim != 1 or images.shape != (len(labels), *info.shape) or images.dtype != np.uint8:
            fault = f"images of {images.dtype} {images.shape} for {labels.size} labels, not of uint8 {info.shape}"
        elif not len(labels):
            fault = "no images"
        elif not np.issubdtype(labels.dtype, np.integer):
            fault = f"labels of {labels.dtype}, not whole numbers"
        elif labels.min() < 0 or labels.max() >= info.num_classes:
            fault = f"labels from {labels.min()} to {labels.max()}, where 0 to {info.num_classes - 1} are the classes"
        else:
            continue
        raise UserError(f"{info.title}, {origin}: the {split} set has {fault}.")
    arrays = [array.astype(np.int32) if array.ndim == 1 else array for array in arrays]
    return Dataset(info, *arrays, info.describe(len(arrays[1]), len(arrays[3]), origin))


def _of_folder(
    info: Info,
    directory: str,
    image_size: int,
    classes=(),
    mean=(),
    std=(),
    resize="crop",
    max_unreadable=10,
    **augmentation,
) -> Dataset | stream.Streamed:
    """A folder of images: see `folder.find`; streamed if it would take half of the memory, as it lies there twice.

    An empty mean or std stands for that of its training images.
    """
    if not directory:
        raise Missing("data.dir is empty")
    found = folder.find(directory, classes, len(mean))
    shape = image_size, image_size, found.channels
    fits = 4 * sum(len(paths) for paths, *_ in found.files.values()) * np.prod(shape) <= photos.memory()
    known = dict(num_classes=len(found.classes), class_names=found.classes, streamed=not fits)
    info = dataclasses.replace(info, shape=shape, **known)
    if fits:
        arrays = found.read(image_size, resize, max_unreadable)
        images = arrays["train"][0]
        validation = arrays.get("validation", (None, None))
        known = found.describe(), *validation, found.files, found.photos
        dataset = Dataset(info, *arrays["train"], *arrays["test"], *known)
    else:
        words = f"{found.describe()}; streamed, as memory is too small"
        dataset = stream.Streamed(info, found.files, words, resize, max_unreadable, found.photos, **augmentation)
        images = dataset.train_images()
    if not (mean and std):
        measured = photos.statistics(images)
        mean, std = mean or measured[0], std or measured[1]
    return dataclasses.replace(dataset, info=dataclasses.replace(info, mean=mean, std=std))


def _read_tfds(info: Info, directory: str) -> tuple[Arrays, str]:
    folder = tfds.find(directory, info.name)
    unseen = "; the checksums of its records are not looked at" if any(folder.glob("*.tfrecord*")) else ""
    return tfds.read(folder), f"from the TFDS directory {folder} (no published SHA-256 to compare with{unseen})"


def _folders(info: Info, directory: str) -> list[epath.Path]:
    """Where the original files may lie; downloads go to the last."""
    if directory:
        return [epath.Path(directory)]
    return [*map(epath.Path, info.folders), tfds.root("") / "downloads" / info.name]


def _read_files(info: Info, directory: str) -> tuple[Arrays, str]:
    arrays, path = _first_found(info.read, _folders(info, directory))
    return arrays, f"from the original files in {path} ({_verified(info, Path(path))})"


def _verified(info: Info, place: Path) -> str:
    """What the published SHA-256 sums say of the file, or of the files in a folder, that a data set was read from."""
    published, known, others = dict(info.published), 0, []
    for path in sorted(place.iterdir()) if place.is_dir() else [place]:
        name, unpack = (path.name, bytes) if path.name in published else (path.stem, gzip.decompress)
        if name in published and (unpack is bytes or path.suffix == ".gz"):
            known += 1
            if hashlib.sha256(unpack(path.read_bytes())).hexdigest() != published[name]:
                others.append(path.name)
    if others:
        return f"NOT those that were published, by SHA-256: {', '.join(others)}"
    return "as published, by SHA-256" if known else "no published SHA-256 to compare with"


def _download(info: Info, directory: str) -> tuple[Arrays, str]:
    """Fetches the original files, where they are not there already, and reads them: TFDS would need TensorFlow."""
    folder = _folders(info, directory)[-1]
    for url, sha256 in info.originals:
        path = folder / url.rpartition("/")[2]
        try:
            if there := path.exists():
                content = path.read_bytes()
            else:
                print(f"Downloading {url}", file=sys.stderr, flush=True)
                with urllib.request.urlopen(url, timeout=30) as response:  # seconds
                    content = response.read()
            if hashlib.sha256(content).hexdigest() != sha256:
                done = "not replaced; move it away, or set data.source='files' to read it" if there else "not kept"
                raise UserError(f"{path if there else url} has another SHA-256 sum than it should, so it was {done}.")
            if not there:
                folder.mkdir(parents=True, exist_ok=True)
                partial = path.with_name(f"{path.name}.{os.getpid()}.part")
                partial.write_bytes(content)
                partial.replace(path)
        except (OSError, http.client.HTTPException) as error:
            raise Missing(f"the download of {url} to {folder} failed: {error}") from error
    return info.read(folder)[0], f"from the original files downloaded to {folder}"
