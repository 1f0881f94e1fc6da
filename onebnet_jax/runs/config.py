"""Reading configs: from a file with overrides, or from a run's config.json; checked as a whole before any work."""

import dataclasses
import difflib
import inspect
import json
import os
import re
import runpy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from onebnet_jax.errors import Unknown, UserError, local, own_line
from onebnet_jax.networks import families
from onebnet_jax.networks.structure import Binarization
from onebnet_jax.runs import bucket, schema
from onebnet_jax.runs import check as config_check
from onebnet_jax.runs.check import SCHEMA
from onebnet_jax.runs.experiment import Data, Experiment, Optimizer, Stage
from onebnet_jax.surroundings import in_short

MEASURED = ("classes", "mean", "std")  # fields of `data` that a run keeps of a folder of images
OPTIONS = "fields are set as --config.field=value"
_NAMED = re.compile(r"--?(?:no)?config\.([^=]*)")  # the field that a word of the command line sets


def load(path: str, overrides: Sequence[str] = (), run: str | Path | None = None, assumed: int = 0) -> ConfigDict:
    """The config of a file, with overrides such as "--config.train.epochs=2".

    For a folder of images it has its classes, mean and std too: those that the run in the folder `run`, if one is
    there, began with, or those found. Unless `assumed` is 0, so many classes, in colour, are supposed of a folder that
    data.dir does not name.

    path is a file, which comes first, or the name of a shipped config, as `schema.shipped` takes it; an argument for
    its get_config follows behind a colon: imagenet:TypeI, configs/imagenet.py:TypeI. Raises UserError for a missing
    file, an argument that it does not take, what `override` refuses, or what the run would ignore.
    """
    local("The config", path)
    file, arguments = _split(path)
    file = file if os.path.isfile(file) else str(schema.shipped(file))
    try:
        get_config = runpy.run_path(file)["get_config"]
        if arguments and not inspect.signature(get_config).parameters:
            raise UserError(f"{file} takes no argument such as {arguments[0]!r}; leave out what follows the colon.")
        config = get_config(*arguments)
        if not isinstance(config, ConfigDict):
            raise TypeError(f"get_config() gives a {type(config).__name__}, not a ConfigDict")
    except UserError:
        raise
    except ImportError as error:
        remedy = "; schema.begin_with('NAME') begins with a shipped config, whatever else is called configs"
        own = remedy if re.search(r"\bconfigs\b", str(error)) else "; install it, or name its folder by PYTHONPATH"
        raise UserError(f"{file} imports what is not there: {_one_line(error)}{own}.") from error
    except Exception as error:  # whatever a file that is no config may raise
        raise UserError(f"{file} is not a config: {_one_line(error)}{own_line(error)}.") from error
    config, default = _overridden(config, overrides), flat(schema.get_config())
    given = [named[1] for named in map(_NAMED.match, overrides) if named]
    for check_fields in (config_check.types, config_check.values):  # before a folder is read
        check_fields(flat(config), default)
    folder = config.data.name == "folder"
    if folder and run is not None:
        with bucket.copied(run, "config.json", new=True) as place:
            if (place / "config.json").exists():
                kept = load_json(place / "config.json").data
                config.data.update({name: config.data[name] or kept[name] for name in MEASURED})
    if folder and assumed and not config.data.dir:
        supposed = {"classes": tuple(f"class {index + 1}" for index in range(assumed)), "mean": (0.5,) * 3}
        supposed["std"] = (0.25,) * len(config.data.mean or supposed["mean"])
        config.data.update({name: config.data[name] or supposed[name] for name in MEASURED})
    config_check.nothing_ignored(flat(config), default, given)
    check(config)
    if folder:
        info = Data(**config.data).info
        config.data.update(classes=info.class_names, mean=info.mean, std=info.std)
    return config


def name(path: str) -> str:
    """A name for what is made of a config: "quickstart" of configs/quickstart.py; an argument follows with a "_"."""
    file, arguments = _split(path)
    return "_".join([Path(file).stem, *arguments])


def own_code(path: str) -> bytes | None:
    """What the file of a config holds, with code of a user's own perhaps; None of one that comes with the package."""
    file = Path(_split(path)[0])
    if not file.is_file() or file.resolve().parent == schema.SHIPPED.resolve():
        return None
    return file.read_bytes()


def _split(path: str) -> tuple[str, list[str]]:
    """The file or the name of a config, and a list of the argument if there is one."""
    path = os.path.expanduser(path)
    with_argument = re.fullmatch(r"(.*?\.py|(?:configs/)?\w+):(.*)", path, re.DOTALL)
    if with_argument and not os.path.isfile(path):
        return with_argument[1], [with_argument[2]]
    return path, []


def override(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    """A config with overrides such as "--config.train.epochs=2".

    Raises UserError for an unknown field, a value of another type, or values that `check` refuses.
    """
    config = _overridden(config, overrides)
    check(config)
    return config


def _overridden(config: ConfigDict, overrides: Sequence[str]) -> ConfigDict:
    fields = flat(config)
    for word in overrides:
        named = _NAMED.match(word)
        if named and named[1] not in fields:
            raise UserError(f"There is no field {named[1]!r}{_did_you_mean(named[1], fields)}; {SCHEMA}.")
        if re.match(r"--|-[a-z]", word) and not named:  # absl has options of its own, such as --flagfile
            raise UserError(f"{word!r} is not an option; {OPTIONS}{_meant(word, fields)}.")
    values = flags.FlagValues()
    argv = ["onebnet_jax", *overrides]
    config_flags.DEFINE_config_dict("config", config, lock_config=True, flag_values=values, sys_argv=argv)
    try:
        rest = values(argv)[1:]
    except (RecursionError, MemoryError) as error:  # of Python's parser
        raise UserError(f"{max(overrides, key=len)[:80]} ... is nested too deeply to be read; {SCHEMA}.") from error
    except (flags.Error, ValueError, TypeError) as error:
        illegal = re.match(r"flag --config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)
        wanted = illegal and f"{illegal[1]}={illegal[2]!r} must be of type {type(fields[illegal[1]]).__name__}"
        raise UserError(f"{wanted or _one_line(error)}; {SCHEMA}.") from error
    if rest:
        raise UserError(f"{rest[0]!r} is not an option; {OPTIONS}.")
    return values.config


def flat(config: Mapping | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """All fields by their full names, such as "train.epochs"."""
    fields = {}
    for name, value in config.items():
        fields |= flat(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else {prefix + name: value}
    return fields


def _did_you_mean(field: str, fields: dict[str, Any]) -> str:
    """A hint at the most similar field, or nothing."""
    last = {name.rpartition(".")[2]: name for name in reversed(fields)}
    close = difflib.get_close_matches(field, fields, 1) or difflib.get_close_matches(field.rpartition(".")[2], last, 1)
    return f" (did you mean {last.get(close[0], close[0])!r}?)" if close else ""


def _meant(word: str, fields: dict[str, Any]) -> str:
    """For an option such as --epochs=3 or --data=DIR how the field is set that it may mean, or nothing."""
    name, _, value = word.lstrip("-").partition("=")
    places = ("", *(f"{stage}." for stage in fields["stages"][-1:]), "data.", "model.")
    meant = [place + field for field in (name, "dir" if name == "data" else name) for place in places]
    field = next((field for field in meant if field in fields), None)
    return f", here perhaps --config.{field}={value}" if field else ""


def _one_line(error: Exception) -> str:
    """An exception in a few words, for the end of a sentence."""
    if unknown := re.search(r'Key "(\w+)" does not exist', str(error)):  # ConfigDict goes on with all that does exist
        return f"there is no field {unknown[1]}"
    if isinstance(error, KeyError):
        return f"there is no {str(error.args[0]).splitlines()[0]}"
    return in_short(error)


def load_json(path: Path, built: bool = True) -> ConfigDict:
    """The config that a run saved; built as in `from_json`. Raises UserError where it is missing or broken."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} is missing: {path.parent} is not the work directory of a run.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    return from_json(text, str(path), built)


def from_json(text: str | bytes, where: str, built: bool = True) -> ConfigDict:
    """The config that JSON holds; fields that it lacks, as they came later, have their defaults.

    built: whether its network is to be built, so that all values must be known here. One that is only to be compared
    may name an estimator or a network that a user's own code added. Raises UserError, naming `where`.
    """
    config = schema.get_config()
    try:
        config.update(json.loads(text))
        if built:
            check(config)
        else:
            config_check.types(flat(config), flat(schema.get_config()))
            config_check.stages_known(flat(config))
    except Unknown as error:
        own = Path(where.removesuffix("config.json"), "config.py")  # see `workdir`
        own = own if where.endswith("config.json") and own.is_file() else "FILE.py"
        remedy = f"if code of your own adds it, say --import={own}, or in Python import that first"
        raise UserError(f"{where}: {str(error).rstrip('.')}; {remedy}.") from error
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{where} is not a config that this version understands: {_one_line(error)}.") from error
    return config


def check(config: ConfigDict) -> None:
    """Raises UserError with one sentence for the first field that cannot be."""
    fields, default = flat(config), flat(schema.get_config())
    config_check.types(fields, default)
    config_check.values(fields, default)
    run = experiment(config)
    size, least = run.data.image_size, max(run.structure.reduction)
    if 0 < size < least:  # a network's strides would leave nothing of it
        raise UserError(f"data.image_size={size} is too small for the network; it must be 0 or at least {least}.")


def experiment(config: ConfigDict) -> Experiment:
    """What a checked config asks for, as plain data. Raises UserError for a network that cannot be built."""
    model, data = config.model, Data(**config.data)
    taken = {name: model[name] for name in families.parameters(model.family) if name in model}
    structure = families.build(model.family, **taken, num_classes=data.info.num_classes, channels=data.info.shape[2])
    stages = tuple(_stage(config.model, name, config[name]) for name in config.stages)
    return _made(Experiment, config, structure=structure, dtype=model.dtype, data=data, stages=stages)


def _stage(model: ConfigDict, name: str, asked: ConfigDict) -> Stage:
    signs = _made(Binarization, model, activations=asked.binarize_activations, weights=asked.binarize_weights)
    return _made(Stage, asked, name=name, binarization=signs, optimizer=_made(Optimizer, asked, name=asked.optimizer))


def _made(kind: type, config: ConfigDict, **others: Any) -> Any:
    """A dataclass of these values, and of the fields of a config that have the names of its other fields."""
    names = [field.name for field in dataclasses.fields(kind) if field.name in config]
    return kind(**{name: config[name] for name in names} | others)
