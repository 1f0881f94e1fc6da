"""A small OneBNet on a folder of photographs, DIR/CLASS/* or DIR/train/CLASS/* and DIR/val/CLASS/*.

    onebnet train --config=folder --config.data.dir=DIR
    onebnet convert --workdir=runs/folder --output=model.tflite
    onebnet predict model.tflite PHOTO.jpg

A ResNet10 of half the width that shrinks the photographs early, so that a CPU trains it in minutes. `best` is chosen on
a tenth of the training photographs. Where there are only a few hundred a class, --config.init=RUN begins with what this
network learned of others, in the work directory RUN. docs/your_images.md has the choices.
"""

from onebnet_jax.runs import schema


def get_config():
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
    return config
