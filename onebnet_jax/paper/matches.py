"""Which runs are rows of the paper's tables: the same network on the same images, with or without a teacher."""

import dataclasses
import re
from collections.abc import Iterable

from ml_collections import ConfigDict

from onebnet_jax.paper import numbers
from onebnet_jax.runs import config as config_lib
from onebnet_jax.runs import schema
from onebnet_jax.runs.history import History

# The paper says neither padding nor the stem's activation, and the data set decides on the rest.
FREE = ("pad_value", "stem_relu", "padding", "num_classes", "channels")
SLUGS = {"FP32 ResNet18": "fp32", "ReActNet18": "reactnet"}  # of networks whose configs have other names


@dataclasses.dataclass(frozen=True)
class Match:
    """What a run measured after its last epoch so far."""

    run: str  # name of its work directory
    top1: float  # percent, of the test images; so top5
    top5: float | None
    best: float  # Top-1 of the best epoch, chosen by the test images
    epochs: int  # trained, of all stages; `asked` of its config
    asked: int


def key(config: ConfigDict) -> tuple:
    """What makes two runs the same row: data set, structure, binarization, teacher."""
    run = config_lib.experiment(config)
    recipe = tuple(item for item in run.structure.recipe if item[0] not in FREE)
    return run.data.name, recipe, run.binarized, any(stage.teacher_weight for stage in run.stages)


def matches(runs: Iterable[History]) -> dict[tuple, Match]:
    """For each key of a run the one with the most epochs, of equals the first; runs without an evaluation are none."""
    found = {}
    for run in runs:
        last = run.lines[run.config.stages[-1]]
        tests = [line for line in last if line["split"] == "test"]
        if not tests:
            continue
        best = max(line["top1"] for line in tests)
        epochs = sum(max((line["epoch"] for line in lines), default=0) for lines in run.lines.values())
        asked = sum(run.config[stage].epochs for stage in run.config.stages)
        match = Match(run.name, tests[-1]["top1"], tests[-1].get("top5"), best, epochs, asked)
        row = key(run.config)
        if row not in found or epochs > found[row].epochs:
            found[row] = match
    return found


def config_name(dataset: str, label: str) -> str | None:
    """The shipped config of a network by the paper's name: ("cifar10", "TypeI") -> "cifar10_typeI".

    It may have an argument, as in "cifar10_baseline:birealnet". None where there is none: the network is not part of
    this project.
    """

    def plain(text):
        return re.sub(r"[^a-z0-9+]", "", text.lower())

    known = {plain(path.stem): path.stem for path in schema.SHIPPED.glob("*.py")}
    baseline = known.get(plain(f"{dataset}_baseline"))
    others = f"{baseline}:{numbers.FAMILIES[label]}" if baseline and label in numbers.FAMILIES else None
    return known.get(plain(f"{dataset}_{SLUGS.get(label, label)}"), others)
