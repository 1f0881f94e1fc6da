"""Opens prepared TFDS data directories, whoever made them, without running code that they name."""

import json
from collections.abc import Iterator
from typing import Any

from onebnet_jax.errors import UserError

FEATURES = "tensorflow_datasets.core.features."
_NAMES = ("pythonClassName", "python_class_name", "type")  # the last in files of TFDS before 4.6


def open_directory(folder):
    """The TFDS builder of one prepared version, such as DIRECTORY/cifar10/3.0.2; folder is any path with `/`.

    TFDS imports the module of every feature that features.json names, which may be any module that Python finds, also
    one in the current folder. Raises UserError for features that are not TFDS's own; where files are missing or
    damaged, whatever TFDS raises, which documents nothing.
    """
    import tensorflow_datasets as tfds

    path = folder / "features.json"
    foreign = [name for name in class_names(json.loads(path.read_text())) if not name.startswith(FEATURES)]
    if foreign:
        raise UserError(f"{path} asks for the code of {foreign[0]!r}, which is not run; prepare the data set anew.")
    return tfds.builder_from_directory(folder)


def class_names(value: Any) -> Iterator[str]:
    """All names of feature classes in JSON values, also in JSON that lies in their strings."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return
    if isinstance(value, dict):
        yield from (item for name, item in value.items() if name in _NAMES and isinstance(item, str))
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from class_names(item)
