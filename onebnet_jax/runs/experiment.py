"""What a run does, as plain data. `config.experiment` makes it of a checked config; nothing below reads a config."""

import dataclasses

from onebnet_jax.data import load
from onebnet_jax.data.catalog import DATASETS, Info
from onebnet_jax.networks.structure import Binarization, Structure
from onebnet_jax.runs.optim import Optimizer

AUGMENTATION = "crop_padding", "flip", "rotate", "brightness"  # of training images, the fields of `Data`


@dataclasses.dataclass(frozen=True)
class Data:
    """A data set, and what is done with its images."""

    name: str  # in `data.catalog.DATASETS`
    source: str = "auto"  # where it is, see `data.load.open`; so dir
    dir: str = ""
    image_size: int = 0  # height and width; 0 for the data set's own
    resize: str = "crop"  # of a folder, see `data.photos.decode`
    classes: tuple[str, ...] = ()  # of a folder, in the order of the labels; so mean and std; () asks the folder
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    crop_padding: int = 0  # augmentation of training images, see `data.augment`; so what follows
    flip: bool = False
    rotate: float = 0.0
    brightness: float = 0.0
    lighting: float = 0.0  # of ImageNet, see `data.imagenet.reader`; so max_unreadable
    max_unreadable: int = 10
    validation: float = 0.0  # share of the training images on which `best` is chosen

    @property
    def info(self) -> Info:
        """What is known of the data set, with the shape that its images have here; a folder is read where it is not."""
        info, size = DATASETS[self.name], self.image_size
        if info.num_classes:
            return dataclasses.replace(info, shape=(size, size, info.shape[2])) if size else info
        if not (self.classes and self.mean and self.std):
            return self.open().info
        known = dict(class_names=self.classes, mean=self.mean, std=self.std, num_classes=len(self.classes))
        return dataclasses.replace(info, shape=(size, size, len(self.mean)), **known)

    def open(self):
        """The data set, in memory or streamed: see `data.load.open`. Raises UserError where it is missing."""
        info = DATASETS[self.name]
        of_streamed_folder = () if info.num_classes else AUGMENTATION
        options = {name: getattr(self, name) for name in (*info.fields, *of_streamed_folder)}
        return load.open(self.name, self.source, self.dir, **options)


@dataclasses.dataclass(frozen=True)
class Stage:
    """One stage of training."""

    name: str  # of its folder and its fields in the config
    batch_size: int  # global, over all devices of all hosts
    epochs: int
    binarization: Binarization
    optimizer: Optimizer  # each stage begins with a fresh one
    label_weight: float = 1.0  # of the cross entropy with the labels; so label_smoothing
    label_smoothing: float = 0.0
    teacher_weight: float = 0.0  # of the distribution loss; so temperature
    temperature: float = 1.0
    attention_weight: float = 0.0  # of the attention loss
    other_loss: str = "none"  # of `losses.LOSSES`
    other_weight: float = 0.0  # of it


@dataclasses.dataclass(frozen=True)
class Experiment:
    """A whole run; the comments in `schema` explain its fields."""

    seed: int
    structure: Structure
    dtype: str
    data: Data
    stages: tuple[Stage, ...]
    teacher: str = ""
    init: str = ""
    checkpoint_seconds: float = 300.0
    eval_every_epochs: int = 1
    bn_batches: int = 0
    diagnostics: bool = False

    @property
    def binarized(self) -> bool:
        """Whether the trained network's binary units have both weights and activations of 1 bit."""
        last = self.stages[-1].binarization
        return self.structure.binary and last.activations and last.weights
