"""ResNet18 OneBNet TypeII on ImageNet without a teacher, in one stage: Table 2, 63.9 % Top-1, 84.5 % Top-5 (paper).

onebnet train --config=imagenet_typeII_scratch --config.data.dir=DIR
"""

from onebnet_jax.runs import schema


def get_config():
    config = schema.begin_with("imagenet_typeII")
    config.stages = ("train",)
    config.teacher = ""
    config.train.epochs = 256
    config.train.label_smoothing = 0.1  # the paper names none; this is that of Bi-Real Net's code
    return config
