"""What is converted: a run's checkpoint, or an untrained network of a config. Reads work directories; no TensorFlow."""

import dataclasses
import json
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from onebnet_jax.data import catalog as data_info
from onebnet_jax.errors import UserError
from onebnet_jax.export.untrained import random_variables
from onebnet_jax.networks.layers import Binarization
from onebnet_jax.networks.structure import Structure
from onebnet_jax.runs import checkpoint
from onebnet_jax.runs import config as config_lib
from onebnet_jax.training import stage


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

    @property
    def notes(self) -> list[str]:
        """What a user of the file would not expect of a binarized network, or of its measured Top-1."""
        result, binary = [], self.structure.block == "onebnet"
        kinds = ("activations", "weights")
        float_kinds = [kind for kind in kinds if not (binary and getattr(self.binarization, kind))]
        if float_kinds:
            result.append(f"float {' and '.join(float_kinds)}: an ordinary network, no convolution of it is binarized")
        dtype = self.config.model.dtype
        if dtype != "float32":
            result.append(f"trained in {dtype}, in which its Top-1 was measured too; the file computes in float32")
        return result


def from_run(workdir: Path, which: str, of_stage: str | None = None) -> Source:
    """The "best" or "last" checkpoint of a stage of a run, by default of the latest that has one.

    Raises UserError where there is none.
    """
    run = stage.check_run(checkpoint.load_run(workdir, which, of_stage), workdir)
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
    source = from_run(Path(origin["workdir"]), origin["checkpoint"], origin["stage"])
    if source.origin["step"] != origin["step"]:
        raise UserError(
            f"The {origin['checkpoint']} checkpoint of stage {origin['stage']} in {origin['workdir']} is of step "
            f"{source.origin['step']}, but the model was made from step {origin['step']}: convert it again."
        )
    return source


def normalize(pixels: np.ndarray, info: data_info.Info) -> np.ndarray:
    """Pixels 0..255 as the network takes them, as `augment.normalize` does it: float32 [N, H, W, C]."""
    mean, std = np.float32(info.mean), np.float32(info.std)
    return (pixels.astype(np.float32) / 255 - mean) / std
