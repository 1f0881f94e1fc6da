"""A small OneBNet on a folder of photographs, DIR/CLASS/* or DIR/train/CLASS/* and DIR/val/CLASS/*.

    onebnet train --config=folder --config.data.dir=DIR
    onebnet convert --workdir=runs/folder --output=model.tflite
    onebnet predict model.tflite PHOTO.jpg
    onebnet train --config=folder:fp32 --config.data.dir=DIR

A ResNet10 of half the width that shrinks the photographs early, so that a CPU trains it in minutes. `best` is chosen on
a tenth of the training photographs. Where there are only a few hundred a class, --config.init=RUN begins with what this
network learned of others, in the work directory RUN. docs/your_images.md has the choices. `folder:fp32` is the FP32
counterpart, for `onebnet convert --int8` and for a comparison.
"""

from onebnet_jax.errors import one_of
from onebnet_jax.runs import schema


def get_config(kind="onebnet"):
    one_of("the argument of folder", kind, ("onebnet", "fp32"))
    config = schema.get_config()
    config.model.depth = 10
    config.model.width_multiplier = 0.5
    config.model.ds_1d = (256, 512)
    config.model.stem = "imagenet"
    config.data.name = "folder"
    config.data.image_size = 64
    config.data.crop_padding = 8
    config.data.flip = True
    config.data.validation = 0.1
    config.train.batch_size = 64
    config.train.epochs = 40
    return schema.fp32(config) if kind == "fp32" else config
