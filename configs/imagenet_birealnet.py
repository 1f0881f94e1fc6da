"""Bi-RealNet with ResNet18 on ImageNet, in one stage without a teacher: 56.4 % Top-1, 79.5 % Top-5 (paper, Table 2).

    onebnet train --config=imagenet_birealnet --config.data.dir=DIR

Its storage is 4.00 MiB (Table 3), its OPs are 164.0 M. The recipe is that of its authors' PyTorch code
(https://github.com/liuzechun/Bi-Real-net): Adam, a linear schedule, batches of 512, 256 epochs.
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.get_config()
    config.model.family = "birealnet"
    config.model.stem = "imagenet"
    config.model.pad_value = 0
    config.data.name = "imagenet2012"
    config.data.flip = True
    config.train.batch_size = 512
    config.train.epochs = 256
    config.train.label_smoothing = 0.1
    return config
