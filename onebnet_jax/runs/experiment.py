"""What a run does, as plain data. `config.experiment` makes it of a checked config; nothing below reads a config."""

import dataclasses

from onebnet_jax.data import load
from onebnet_jax.data.catalog import DATASETS, Info
from onebnet_jax.networks.structure import Binarization, Structure
from onebnet_jax.runs.optim import Optimizer


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, and what is done with its images.

    Attributes:
      name: in `data.catalog.DATASETS`.
      source, dir: where it is, see `data.load.open`.
      image_size: height and width; 0 for the data set's own.
      crop_padding, flip: the augmentation of training images, see `data.augment`.
      lighting, max_unreadable: of ImageNet, see `data.imagenet.reader`.
    """

    name: str
    source: str = "auto"
    dir: str = ""
    image_size: int = 0
    crop_padding: int = 0
    flip: bool = False
    lighting: float = 0.0
    max_unreadable: int = 10

    @property
    def info(self) -> Info:
        """What is known of the data set, with the shape that its images have here."""
        info = DATASETS[self.name]
        size = self.image_size
        return dataclasses.replace(info, shape=(size, size, info.shape[2])) if size else info

    def open(self):
        """The data set, in memory or streamed: see `data.load.open`. Raises UserError where it is missing."""
        return load.open(
            self.name,
            self.source,
            self.dir,
            image_size=self.image_size,
            lighting=self.lighting,
            max_unreadable=self.max_unreadable,
        )


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training.

    Attributes:
      name: of its folder and its fields in the config.
      batch_size: global, over all devices of all hosts.
      epochs: how often it sees every image.
      binarization: what it binarizes, and how.
      optimizer: of the parameters; each stage begins with a fresh one.
      label_weight, label_smoothing: of the cross entropy with the labels.
      teacher_weight, temperature: of the distribution loss.
    """

    name: str
    batch_size: int
    epochs: int
    binarization: Binarization
    optimizer: Optimizer
    label_weight: float = 1.0
    label_smoothing: float = 0.0
    teacher_weight: float = 0.0
    temperature: float = 1.0


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A whole run.

    Attributes:
      seed: of the first weights, the shuffling and the augmentation.
      structure: of the network.
      dtype: of activations and convolutions, "float32" or "bfloat16".
      data: what it learns.
      stages: trained one after the other, each beginning with the last parameters of the one before.
      teacher: work directory of a network, for stages with a teacher_weight; "" for none.
      checkpoint_seconds: a checkpoint at least this often, besides the one after each epoch.
      eval_every_epochs: how often the test images are scored.
    """

    seed: int
    structure: Structure
    dtype: str
    data: Data
    stages: tuple[Stage, ...]
    teacher: str = ""
    checkpoint_seconds: float = 300.0
    eval_every_epochs: int = 1

    def stage(self, name: str) -> Stage:
        """The stage of a name."""
        return next(stage for stage in self.stages if stage.name == name)
