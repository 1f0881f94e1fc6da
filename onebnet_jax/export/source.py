"""What is converted: a run's checkpoint, or an untrained network of a config. Reads work directories; no TensorFlow."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from onebnet_jax import checkpoint, data_info, stage
from onebnet_jax import config as config_lib
from onebnet_jax.errors import UserError
from onebnet_jax.export.untrained import random_variables
from onebnet_jax.layers import Binarization
from onebnet_jax.structure import Structure


@dataclasses.dataclass(frozen=True)
class Source:
    """A network with its variables and its data set.

    Attributes:
      config: of the run.
      structure, binarization, variables: of the network; variables are NumPy arrays.
      origin: where the variables come from, for the model's card: workdir, stage, checkpoint and step, or untrained
        and seed.
      metrics: what the run measured at the checkpoint; empty if untrained.
    """

    config: ConfigDict
    structure: Structure
    binarization: Binarization
    variables: dict
    origin: dict
    metrics: dict

    @property
    def info(self) -> data_info.Info:
        """What is known of the data set, with the shape that its images have here."""
        return dataclasses.replace(data_info.DATASETS[self.config.data.name], shape=config_lib.input_shape(self.config))

    @property
    def title(self) -> str:
        """In words."""
        if "workdir" in self.origin:
            return "{workdir} (stage {stage}, {checkpoint} checkpoint, step {step})".format(**self.origin)
        return f"an untrained network (random parameters, seed {self.origin['seed']})"


def from_run(workdir: Path, which: str) -> Source:
    """The "best" or "last" checkpoint of a run's latest stage. Raises UserError where there is none."""
    run = stage.check_run(checkpoint.load_run(workdir, which), workdir)
    origin = {"workdir": str(workdir), "stage": run.stage, "checkpoint": which, "step": run.step}
    return Source(run.config, run.structure, run.binarization, run.variables, origin, run.metrics)


def from_config(config: ConfigDict) -> Source:
    """The network of a config with random variables, drawn with the config's seed."""
    structure = config_lib.structure(config)
    variables = random_variables(structure, config_lib.input_shape(config), config.seed)
    origin = {"untrained": True, "seed": config.seed}
    return Source(config, structure, config_lib.binarization(config, config.stages[-1]), variables, origin, {})


def from_card(card: dict) -> Source:
    """The network that a converted file was made from. Raises UserError if it is there no more."""
    origin = card["source"]
    if "workdir" not in origin:
        return from_config(config_lib.from_json(json.dumps(card["config"]), "The config in the model's card"))
    source = from_run(Path(origin["workdir"]), origin["checkpoint"])
    if any(source.origin[key] != origin[key] for key in ("stage", "step")):
        there, made_from = ("step {step} of stage {stage}".format(**facts) for facts in (source.origin, origin))
        raise UserError(
            f"The {origin['checkpoint']} checkpoint of {origin['workdir']} is of {there}, but the model was made from "
            f"{made_from}: convert it again."
        )
    return source


def normalize(pixels: np.ndarray, info: data_info.Info) -> np.ndarray:
    """Pixels 0..255 as the network takes them, as `augment.normalize` does it: float32 [N, H, W, C]."""
    mean, std = np.float32(info.mean), np.float32(info.std)
    return (pixels.astype(np.float32) / 255 - mean) / std
