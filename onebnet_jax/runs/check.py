"""Checks of the fields of a config, given by their full names such as "train.epochs"; each raises UserError."""

from collections.abc import Iterable
from typing import Any

from onebnet_jax import surroundings
from onebnet_jax.data.catalog import DATASETS
from onebnet_jax.data.photos import RESIZES
from onebnet_jax.errors import UserError, local, one_of
from onebnet_jax.networks import families
from onebnet_jax.ops.binarize import ESTIMATORS, SCALES
from onebnet_jax.ops.losses import LOSSES
from onebnet_jax.runs.optim import OPTIMIZERS, SCHEDULES
from onebnet_jax.runs.schema import STAGES

DTYPES = ("float32", "bfloat16")
# By the last word of a field's name, the same in all stages; what depends on the data set is in `values`.
CHOICES = {"family": families.FAMILIES, "weight_scale": SCALES, "optimizer": OPTIMIZERS, "schedule": SCHEDULES}
CHOICES |= {"name": DATASETS, "estimator": ESTIMATORS, "weight_estimator": ESTIMATORS, "dtype": DTYPES}
CHOICES |= {"resize": RESIZES, "other_loss": LOSSES, "soft_sign": ("none", "tanh")}
RANGES = {"seed": (0, 2**31 - 1), "batch_size": (1, 2**20), "warmup_epochs": (0, 10**6), "checkpoint_seconds": (0, 1e9)}
RANGES |= {"image_size": (0, 1024), "lighting": (0, 10), "max_unreadable": (0, 10**7), "validation": (0, 0.9)}
RANGES |= {"rotate": (0, 180), "brightness": (0, 0.99)}
RANGES |= {"epochs": (1, 10**6), "eval_every_epochs": (1, 10**6), "bn_batches": (0, 10**6)}
RANGES |= dict.fromkeys(("window", "temperature"), (1e-3, 1e3))
RANGES |= dict.fromkeys(("momentum", "label_smoothing"), (0, 1))
RANGES |= dict.fromkeys(
    ("learning_rate", "weight_decay", "label_weight", "teacher_weight", "attention_weight", "other_weight"), (0, 1e3)
)
SCHEMA = "onebnet_jax/runs/schema.py lists every field and its type"
OF_BINARIZED = {
    "activations": ("pad_value", "estimator", "window"),
    "weights": ("weight_estimator", "weight_scale", "centre_weights"),
}

ITEMS = dict.fromkeys(("model.conv_1d", "model.ds_1d"), (int, "whole numbers, such as (256, 512)"))
ITEMS |= dict.fromkeys(("data.mean", "data.std"), (float, "one or three numbers, such as (0.48, 0.46, 0.41)"))
ITEMS |= {"data.classes": (str, "names, such as ('bolt', 'nut')")}

Fields = dict[str, Any]


def types(fields: Fields, schema: Fields) -> None:
    """Refuses other fields than those of the schema, and other types than there; a file or JSON may have such."""
    if differing := sorted(fields.keys() ^ schema.keys()):
        raise UserError(f"The fields of the config are not those of the schema, first {differing[0]}; {SCHEMA}.")
    for field, default in schema.items():
        if type(fields[field]) is not type(default):
            raise UserError(f"{field}={fields[field]!r} must be of type {type(default).__name__}; {SCHEMA}.")
    for field, (kind, words) in ITEMS.items():
        if any(type(item) is not kind for item in fields[field]):
            raise UserError(f"{field}={fields[field]!r} must hold {words}.")


def values(fields: Fields, schema: Fields) -> None:
    """Refuses fields, of the right types, whose values cannot be, or have no meaning for the network's family."""
    for field in ("data.dir", "teacher", "init"):
        if field == "data.dir" or not surroundings.in_bucket(fields[field]):
            local(field, fields[field])
    one_of("data.name", fields["data.name"], DATASETS)
    info, stages = DATASETS[fields["data.name"]], fields["stages"]
    choices = CHOICES | {"source": ("auto", *info.sources)}
    side = min(info.shape[:2]) or fields["data.image_size"]
    ranges = RANGES | {"crop_padding": (0, side)}
    if not info.num_classes:
        _folder(fields)
    for field, value in fields.items():
        name = field.rpartition(".")[2]
        if name in choices:
            one_of(field, value, choices[name])
        low, high = ranges.get(name, (0, 0))
        if name in ranges and not low <= value <= high:
            of_images = f", for images {side} pixels wide" if name == "crop_padding" else ""
            raise UserError(f"{field}={value} must lie between {low} and {high}{of_images}.")
    family = fields["model.family"]
    if lacking := {"num_classes", "channels"}.difference(families.parameters(family)):
        raise UserError(f"The function of model.family={family!r} must take {' and '.join(sorted(lacking))} too.")
    of_families = set().union(*map(families.parameters, families.FAMILIES))
    for field in sorted(f"model.{name}" for name in of_families.difference(families.parameters(family))):
        value, default = fields[field], schema[field]
        if value != default:
            raise UserError(f"{field}={value!r} has no meaning for model.family={family!r}; set {default!r}.")
    stages_known(fields)
    for name in stages:
        if fields[f"{name}.warmup_epochs"] >= fields[f"{name}.epochs"]:
            raise UserError(f"{name}.warmup_epochs must be less than {name}.epochs={fields[f'{name}.epochs']}.")
        if not fields[f"{name}.label_weight"] and not fields[f"{name}.teacher_weight"]:
            raise UserError(f"{name}.label_weight and {name}.teacher_weight are both 0: nothing to learn; set one.")
        if (fields[f"{name}.other_loss"] == "none") == bool(fields[f"{name}.other_weight"]):
            raise UserError(f"{name}.other_loss and {name}.other_weight belong together; set both or neither.")
    for field, value in {"data.crop_padding": 0, "data.flip": True, "data.rotate": 0, "data.brightness": 0}.items():
        if info.streamed and fields[field] != value:
            raise UserError(f"{field}={fields[field]} must be {value} for {info.title}, which has its own.")


def stages_known(fields: Fields) -> None:
    """Refuses stages that there are not."""
    stages = fields["stages"]
    if not stages or any(stages.count(name) > 1 or name not in STAGES for name in stages):
        raise UserError(f"stages={stages} must name one or more of {', '.join(STAGES)}, each once.")


def _folder(fields: Fields) -> None:
    """Refuses fields that no folder of images can have."""
    classes, mean, std = (fields[f"data.{name}"] for name in ("classes", "mean", "std"))
    if not fields["data.image_size"]:
        raise UserError("data.image_size=0 must be the height and width to which a folder's images are brought, as 64.")
    if len(set(classes)) != len(classes) or len(classes) == 1:
        raise UserError(f"data.classes={classes} must name two classes or more, each once; () takes the folder's.")
    if len(mean) not in (0, 1, 3) or (mean and std and len(mean) != len(std)) or not all(0 < x < 10 for x in std):
        raise UserError(f"data.mean={mean} and data.std={std} must have one or three numbers, std above 0; or be ().")


def nothing_ignored(fields: Fields, schema: Fields, given: Iterable[str]) -> None:
    """Refuses what a run would ignore, of fields that can be; `given` are the names of those set on a command line."""
    stages, info = fields["stages"], DATASETS[fields["data.name"]]
    for field in given:
        if reason := _why_ignored(field, fields):
            raise UserError(f"{field} would have no effect: {reason}.")
    if fields["teacher"] and not any(fields[f"{stage}.teacher_weight"] for stage in stages):
        remedy = f"set {stages[-1]}.teacher_weight too, or leave teacher empty"
        raise UserError(f"teacher={fields['teacher']!r} would have no effect: {remedy}.")
    of_others = {name for each in DATASETS.values() for name in each.fields} - {*info.fields}
    for field in sorted(f"data.{name}" for name in of_others):
        if fields[field] != schema[field]:
            raise UserError(f"{field}={fields[field]} would have no effect on {info.title}; set {schema[field]}.")


def _why_ignored(field: str, fields: Fields) -> str | None:
    """Why a run of these fields would ignore one of them; None where it would not."""
    stages = fields["stages"]
    stage, _, name = field.partition(".")
    if stage in STAGES and stage not in stages:
        return f"the stages of this run are {', '.join(stages)}"
    for kind, names in OF_BINARIZED.items():
        if (name in (*names, f"binarize_{kind}") or field == "diagnostics") and fields["model.family"] == "resnet":
            return "model.family='resnet' is a network in which nothing is binarized"
        if name in names and not any(fields[f"{stage}.binarize_{kind}"] for stage in stages):
            return f"no stage of this run binarizes {kind}"
    if name == "momentum" and fields[f"{stage}.optimizer"] != "sgd":
        return f"{stage}.optimizer is {fields[f'{stage}.optimizer']!r}, and only 'sgd' has it"
    if name == "soft_sign" and all(fields[f"{stage}.binarize_activations"] for stage in stages):
        return "every stage of this run binarizes activations"
    of_teacher = dict.fromkeys(("temperature", "attention_weight"), "teacher_weight")
    for name, weight in {"label_smoothing": "label_weight", **of_teacher}.items():
        if field == f"{stage}.{name}" and not fields[f"{stage}.{weight}"]:
            return f"{stage}.{weight} is 0"
    return None
