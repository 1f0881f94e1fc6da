"""Reading configs: from a file with overrides, or from a run's config.json; checked as a whole before any work."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from onebnet_jax import data
from onebnet_jax.binarize import ESTIMATORS
from onebnet_jax.errors import UserError
from onebnet_jax.layers import Binarization
from onebnet_jax.structure import Structure

DTYPES = ("float32", "bfloat16")
SOURCES = ("auto", "tfds", "files", "download")


def load(path: str, overrides: Sequence[str] = ()) -> ConfigDict:
    """The config of a file such as configs/quickstart.py, with overrides such as "--config.train.epochs=2".

    Raises UserError for a missing file, an unknown field, a value of another type, or values that `check` refuses.
    """
    if not Path(path).is_file():
        raise UserError(f"There is no config file {path}; the configs are in configs/.")
    values, argv = flags.FlagValues(), ["onebnet_jax", f"--config={path}", *overrides]
    config_flags.DEFINE_config_file("config", lock_config=True, flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)[1:]
        config = values.config
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError, SyntaxError) as error:
        raise UserError(f"{_one_line(error)} (configs/default.py lists every field and its type.)") from error
    if rest:
        raise UserError(f"{rest[0]!r} is not an option; fields are set as --config.field=value.")
    check(config)
    return config


def _one_line(error: Exception) -> str:
    """The first line of a library's message, as a sentence."""
    text = str(error)
    meant = re.search(r'Did you mean "(\w+)" instead of "(\w+)"', text)
    if meant:
        return f"There is no field {meant[2]!r}; did you mean {meant[1]!r}?"
    if isinstance(error, KeyError | AttributeError):
        return f"There is no field {error.args[0]}."
    return text.splitlines()[0].rstrip(".") + "."


def load_json(path: Path) -> ConfigDict:
    """The config that a run saved. Raises UserError where it is missing or broken."""
    try:
        config = ConfigDict(json.loads(path.read_text()))
        check(config)
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {path.parent} is not the work directory of a run.") from None
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not a config that this version understands: {_one_line(error)}") from error
    return config


def check(config: ConfigDict) -> None:
    """Raises UserError with one sentence for the first field that cannot be."""
    one_of = {
        "data.name": tuple(data.DATASETS),
        "data.source": SOURCES,
        "model.estimator": tuple(ESTIMATORS),
        "model.dtype": DTYPES,
    }
    for field, allowed in one_of.items():
        if _get(config, field) not in allowed:
            raise UserError(f"{field}={_get(config, field)!r} is unknown; it must be one of {', '.join(allowed)}.")
    ranges = {
        "seed": (0, 2**31 - 1),
        "model.window": (1e-3, 1e3),
        "data.crop_padding": (0, min(data.DATASETS[config.data.name].shape[:2])),
        "train.batch_size": (1, 2**20),
        "train.epochs": (1, 10**6),
        "train.learning_rate": (0.0, 1e3),
        "train.label_smoothing": (0.0, 1.0),
        "train.weight_decay": (0.0, 1e3),
        "checkpoint_seconds": (0.0, 1e9),
        "eval_every_epochs": (1, 10**6),
    }
    for field, (low, high) in ranges.items():
        if not low <= _get(config, field) <= high:
            raise UserError(f"{field}={_get(config, field)} must lie between {low} and {high}.")
    structure(config)


def _get(config, field):
    for name in field.split("."):
        config = config[name]
    return config


def structure(config: ConfigDict) -> Structure:
    """The shape of the network. Raises UserError for one that cannot be built."""
    model = config.model
    return Structure(
        depth=model.depth,
        block=model.block,
        conv_1d=tuple(model.conv_1d),
        ds_1d=tuple(model.ds_1d),
        width_multiplier=model.width_multiplier,
        num_classes=data.DATASETS[config.data.name].num_classes,
        stem=model.stem,
        stem_relu=model.stem_relu,
        pad_value=model.pad_value,
        padding=model.padding,
    )


def binarization(config: ConfigDict) -> Binarization:
    """What is binarized, and the straight-through estimator."""
    return Binarization(estimator=config.model.estimator, window=config.model.window)


def input_shape(config: ConfigDict) -> tuple[int, int, int]:
    """(H, W, C) of an image."""
    return data.DATASETS[config.data.name].shape
