"""The complete schema of configs: every field, its type by its default, and what it means.

Each config begins with `get_config` or with a shipped config (`begin_with`) and changes a few fields; any field can be
set on the command line, such as `--config.train.epochs=20`. Unknown fields, values of another type, and what a run
would ignore are refused. A run saved before a field existed gets its default here, so the default of a new field must
leave things as they were.
"""

import difflib
import os
import runpy
from pathlib import Path

from ml_collections import ConfigDict

from onebnet_jax.errors import UserError

# The configs that come with the package: inside it where it is installed, in a clone beside it.
SHIPPED = next(path for above in Path(__file__).parents[1:3] if (path := above / "configs").is_dir())

STAGES = ("train", "step1", "step2")


def stage(**changes) -> ConfigDict:
    """The fields of one stage of training; the first five as the paper's section A.3 has them for small images."""
    fields = dict(
        batch_size=256,  # global, over all devices of all hosts
        epochs=400,
        optimizer="adam",  # "adam", "adamw", "sgd" (Nesterov's momentum) or "lion": see onebnet_jax/runs/optim.py
        learning_rate=1e-3,  # in the first epoch, or after the warm-up
        schedule="poly",  # "poly" (lr x (1 - epoch / epochs), the paper's), "cosine" or "constant"; moves by epoch
        warmup_epochs=0,  # in which the learning rate grows to its highest
        weight_decay=0.0,  # of the parameters named in onebnet_jax/runs/optim.py
        momentum=0.9,  # of "sgd"
        centre_weights=False,  # subtract the mean over input channels from binarized convolutions, as XNOR-Net's code
        label_smoothing=0.2,  # the paper's for small images (A.3)
        label_weight=1.0,  # of the cross entropy with the labels
        teacher_weight=0.0,  # of the distribution loss, the cross entropy with the teacher's softmax
        temperature=1.0,  # of both softmaxes in the distribution loss
        attention_weight=0.0,  # beside it, of the attention loss, between the maps behind the two networks' blocks
        other_loss="none",  # one that your config's file adds to LOSSES of onebnet_jax/ops/losses.py
        other_weight=0.0,  # of it
        binarize_activations=True,
        binarize_weights=True,
    )
    return ConfigDict(fields | changes)


def get_config() -> ConfigDict:
    config = ConfigDict()
    config.seed = 0  # of the initial weights, the shuffling and the augmentation

    config.model = dict(
        # Shape of the network: onebnet_jax/networks/structure.py; what trains better: results/README.md.
        # "onebnet", "resnet" (FP32), "birealnet", "xnornet", "reactnet_a" or "realtobin": see networks/families.py
        family="onebnet",
        depth=18,  # 10, 18 or 34 with four stages; 8, 14, 20, ... (6n + 2) with three
        conv_1d=(),  # stages with 1-D convolutions, `1-D Conv` of Table 1, such as (256, 512)
        ds_1d=(),  # stages with 1-D downsampling, `1-D DS` of Table 1, such as (256, 512)
        width_multiplier=1.0,  # m of Table 7
        stem="cifar",  # "cifar" (3x3/1) or "imagenet" (7x7/2 and 3x3/2 max pool; in "reactnet_a" 3x3/2)
        stem_relu=False,  # a ReLU after the stem's BN, as in ResNet; none, as in ReActNet's code, trains better
        pad_value=1,  # 0 or 1, what surrounds a binarized map; 1 trains a little better
        padding="same",  # "same", or "torch" (symmetric; for torchvision's FP32 weights)
        # What the backward pass takes for the derivative of the sign: see onebnet_jax/ops/binarize.py.
        estimator="poly",  # of activations: "poly" (Bi-Real, ReActNet), "clip" (the paper's words), "tanh", "reste"
        window=1.0,  # half width of the estimator's window
        weight_estimator="clip",  # of weights, with a window of 1
        weight_scale="mean",  # of binarized weights: "mean" |w| of each output channel (XNOR-Net), or "none"
        soft_sign="none",  # what stands for the sign where activations are float: "none" or "tanh" (Real-to-Bin)
        dtype="float32",  # "float32" or "bfloat16" for activations and convolutions
    )

    config.data = dict(
        name="fashion_mnist",  # or "cifar10", "imagenet2012", "fashion_mnist_mini" (shipped in the package), "folder"
        source="auto",  # "tfds", "files", "download", or "auto": the first of these three that is there
        dir="",  # folder of the TFDS data or of the original files; "" looks in the usual places
        image_size=0,  # ImageNet, folder: height and width of the images; 0 for ImageNet's 224
        resize="crop",  # folder: "crop" (the centre), "pad" (all, in black) or "stretch"; onebnet_jax/data/photos.py
        # What a run keeps of a folder; () asks the folder.
        classes=(),  # names of the class folders, in the order of the labels
        mean=(),  # per channel, of pixels in 0..1; one number makes the images grey
        std=(),
        crop_padding=0,  # pixels of zero padding on each side before a random crop back to size (CIFAR-10: 4)
        flip=False,  # random horizontal flip
        rotate=0.0,  # degrees, up to 180, by which it is turned at random, to either side, with black from outside
        brightness=0.0,  # share, below 1, by which it is made brighter or darker at random
        lighting=0.0,  # ImageNet: standard deviation of AlexNet's colour noise; ReActNet's is in effect 0
        max_unreadable=10,  # ImageNet, folder: undecodable images that may be left out, by each process since its start
        validation=0.0,  # share of the training images held out, by the seed, to choose `best` on; 0: the test images
    )

    # The stages that are trained one after the other, each beginning with the last parameters of the one before and a
    # fresh optimizer. A run in one stage uses `train`; the two-stage training of section 4 uses `step1` and `step2`.
    config.stages = ("train",)
    config.train = stage()
    config.step1 = stage(binarize_weights=False, weight_decay=1e-5)
    config.step2 = stage()
    config.teacher = ""  # work directory of a network, such as an FP32 one, for stages with a teacher_weight
    config.init = ""  # work directory of a network of the same body, to begin with; for other classes the head is new

    config.checkpoint_seconds = 300.0  # a checkpoint at least this often, besides the one after each epoch
    config.eval_every_epochs = 1  # evaluation on the test images; the last epoch always ends with one
    # Over how many batches of training images BN's statistics are taken, such as 40: for each evaluation, for `best`,
    # and for `last` at a stage's end. With 0 they are the running ones, which lag and waver with the last batches.
    config.bn_batches = 0
    config.diagnostics = False  # of signs and gradients, once an epoch: onebnet_jax/training/diagnostics.py
    return config.lock()  # so that a misspelt field in another config is an error


def fp32(config: ConfigDict) -> ConfigDict:
    """Makes the network of a config its FP32 counterpart."""
    config.model.update(family="resnet", stem_relu=True, conv_1d=(), ds_1d=(), pad_value=1)
    return config


def baseline(config: ConfigDict, family: str) -> ConfigDict:
    """Makes the network of a config one of a family that the paper compares with, with its estimator and its scale.

    All else stays the config's, such as padding and label smoothing: docs/train.md says how authors' code differs.
    """
    config.model.update(family=family, conv_1d=(), ds_1d=())
    if family == "reactnet_a":
        config.model.depth = get_config().model.depth  # has no meaning there
    if family in ("xnornet", "realtobin"):
        config.model.estimator = "clip"
    if family == "realtobin":
        config.model.weight_scale = "none"
    return config


def two_stage(config: ConfigDict, teacher: str, epochs: int) -> ConfigDict:
    """Makes a config train in the two stages of section 4, `epochs` each, on the teacher's answers alone.

    What was set for `config.train`, such as its batch size, is not theirs: set it for `config.step1` and `step2`.
    """
    config.stages = ("step1", "step2")
    config.teacher = teacher
    for name in config.stages:
        config[name].update(epochs=epochs, label_weight=0.0, teacher_weight=1.0)
    return config


def shipped(path: str) -> Path:
    """The file of a config that comes with the package: quickstart, quickstart.py or configs/quickstart.py.

    Raises UserError, naming the most similar one, if there is none of that name.
    """
    known = {file.stem: file for file in SHIPPED.glob("*.py")}
    name = path.removeprefix("configs/").removesuffix(".py")
    if name not in known:
        close = difflib.get_close_matches(Path(name).name, known, 1, cutoff=0)[0]
        closest = f"--config={path}.py is here" if os.path.isfile(f"{path}.py") else f"the closest is {close}"
        raise UserError(f"There is no config file {path}, nor does onebnet_jax come with one; {closest}.")
    return known[name]


def begin_with(name: str, *arguments: str) -> ConfigDict:
    """A shipped config for another config to change, such as begin_with("imagenet", "TypeI")."""
    return runpy.run_path(str(shipped(name)))["get_config"](*arguments)
