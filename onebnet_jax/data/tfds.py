"""Reads prepared TFDS data directories (https://www.tensorflow.org/datasets), without TensorFlow or code of theirs."""

import json
import os
import re
from collections.abc import Iterator

import numpy as np
from etils import epath

from onebnet_jax.data.formats import Arrays, Missing, naming
from onebnet_jax.errors import UserError, local

_FEATURES = "tensorflow_datasets.core.features."
_NAMES = ("pythonClassName", "python_class_name", "type")  # the last in files of TFDS before 4.6


def root(directory: str) -> epath.Path:
    """The TFDS data directory; TFDS's own default where none is given, in the current folder where there is no home.

    Raises UserError for one in a bucket.
    """
    if not directory and (directory := os.environ.get("TFDS_DATA_DIR", "")):
        local("TFDS_DATA_DIR", directory)
    return epath.Path(os.path.expanduser(directory or "~/tensorflow_datasets").removeprefix("~/"))


def find(directory: str, name: str) -> epath.Path:
    """The newest version of the prepared data set `name`, such as DIRECTORY/cifar10/3.0.2. Raises Missing."""
    versions = {
        tuple(map(int, path.parent.name.split("."))): path.parent
        for path in root(directory).glob(f"{name}/*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    if not versions:
        raise Missing(f"no prepared {name} in the TFDS data directory {root(directory)}")
    return versions[max(versions)]


def open_directory(folder: epath.Path):
    """The TFDS builder of one prepared version. Raises UserError for damaged files and for features not TFDS's own."""
    import tensorflow_datasets as tfds

    with naming(folder):  # TFDS imports any module that features.json names, such as one in the current folder
        path = folder / "features.json"
        foreign = [name for name in class_names(path.read_text()) if not name.startswith(_FEATURES)]
        if foreign:
            raise UserError(f"{path} asks for the code of {foreign[0]!r}, which is not run; prepare the data set anew.")
        return tfds.builder_from_directory(folder)


def class_names(value) -> Iterator[str]:
    """All names of feature classes in a JSON text or its values, also in JSON that lies in their strings."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return
    if isinstance(value, dict):
        yield from (item for name, item in value.items() if name in _NAMES and isinstance(item, str))
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from class_names(item)


def read(folder: epath.Path) -> Arrays:
    """Both splits of a prepared version. TFDS reads its formats without TensorFlow, but for tfrecord, its default."""
    builder = open_directory(folder)
    arrays = []
    with naming(folder):
        examples = _of_records if builder.info.file_format.value == "tfrecord" else _of_random_access
        for split in ("train", "test"):
            found, count = list(examples(builder, split)), builder.info.splits[split].num_examples
            if len(found) != count:
                raise UserError(f"{folder} announces {count} examples of '{split}', not {len(found)}; prepare it anew.")
            arrays += [np.stack([x["image"] for x in found]), np.array([x["label"] for x in found], np.int64)]
    return tuple(arrays)


def _of_random_access(builder, split: str) -> Iterator[dict]:
    source = builder.as_data_source(split)
    for start in range(0, len(source), 1000):  # in blocks, which is faster than one by one
        yield from source.__getitems__(list(range(start, min(start + 1000, len(source)))))


def _of_records(builder, split: str) -> Iterator[dict]:
    # A record is its length (uint64, little-endian), 4 bytes of checksum, the data, and 4 bytes of checksum. These are
    # not verified, which is slow in Python: damage to an image is noticed by PNG's own.
    for path in builder.info.splits[split].filepaths:
        data = memoryview(epath.Path(path).read_bytes())
        while data:
            end = 12 + int.from_bytes(data[:8], "little")
            if end + 4 > len(data):
                raise UserError(f"{path} ends in the middle of a record; prepare the data set again.")
            yield builder.info.features.deserialize_example_np(bytes(data[12:end]))
            data = data[end + 4 :]
